/* table_s8 with 16 vpshufb of 16 entries each.
 *
 * vpshufb gives 0 where bit 7 of the index is set and else looks at the low 4 bits only. So with
 * stored tables D_0 = T_0, D_t = T_t ^ T_{t-1} and for 0 <= i < 128,
 *     D_0[i] ^ D_1[i - 16] ^ .. ^ D_7[i - 112] = T_{i >> 4}[i & 15]:
 * terms with 16 t > i have a negative index and drop out, the others telescope. Negative i must
 * stay negative through the subtractions, hence the saturating vpsubsb. The half x >= 0 is looked
 * up by x, the half x < 0 by x ^ 0x80; each is 0 where the other applies.
 */
#include "core/simd_avx2.h"
#include "elementwise/table_s8_kernel.h"

static void run(size_t n, const int8_t *x, const int8_t table[256], int8_t *y) {
    __m256i low[8], high[8]; /* D of x < 0 and of x >= 0 */
    for (int t = 0; t < 8; t++) {
        __m128i a = _mm_loadu_si128((const __m128i *)(table + 16 * t));
        __m128i b = _mm_loadu_si128((const __m128i *)(table + 128 + 16 * t));
        if (t > 0) {
            a = _mm_xor_si128(a, _mm_loadu_si128((const __m128i *)(table + 16 * t - 16)));
            b = _mm_xor_si128(b, _mm_loadu_si128((const __m128i *)(table + 128 + 16 * t - 16)));
        }
        low[t] = _mm256_broadcastsi128_si256(a);
        high[t] = _mm256_broadcastsi128_si256(b);
    }
    const __m256i sixteen = _mm256_set1_epi8(16), flip = _mm256_set1_epi8(-128);
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        __m256i p = _mm256_loadu_si256((const __m256i *)(x + i));
        __m256i q = _mm256_loadu_si256((const __m256i *)(x + i + 32));
        __m256i p_low = _mm256_xor_si256(p, flip), q_low = _mm256_xor_si256(q, flip);
        __m256i p_sum = _mm256_setzero_si256(), q_sum = _mm256_setzero_si256();
        for (int t = 0; t < 8; t++) {
            p_sum = _mm256_xor_si256(p_sum, _mm256_shuffle_epi8(high[t], p));
            q_sum = _mm256_xor_si256(q_sum, _mm256_shuffle_epi8(high[t], q));
            p_sum = _mm256_xor_si256(p_sum, _mm256_shuffle_epi8(low[t], p_low));
            q_sum = _mm256_xor_si256(q_sum, _mm256_shuffle_epi8(low[t], q_low));
            p = _mm256_subs_epi8(p, sixteen);
            q = _mm256_subs_epi8(q, sixteen);
            p_low = _mm256_subs_epi8(p_low, sixteen);
            q_low = _mm256_subs_epi8(q_low, sixteen);
        }
        _mm256_storeu_si256((__m256i *)(y + i), p_sum);
        _mm256_storeu_si256((__m256i *)(y + i + 32), q_sum);
    }
    for (; i < n; i++) {
        y[i] = table[x[i] + 128];
    }
}

const struct pq_table_s8_kernel pq_table_s8_avx2 = {.run = run};
