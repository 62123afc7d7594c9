/* table_s8 with 16 vpshufb of 16 entries each.
 *
 * vpshufb gives 0 where bit 7 of the index is set and else looks at the low 4 bits only. So with
 * stored tables D_0 = T_0, D_t = T_t ^ T_{t-1} and for 0 <= i < 128,
 *     D_0[i] ^ D_1[i - 16] ^ .. ^ D_7[i - 112] = T_{i >> 4}[i & 15]:
 * terms with 16 t > i have a negative index and drop out, the others telescope. Both halves of the
 * table are looked up by the low 7 bits of x, with the same indices, and its sign picks one.
 *
 * More blends in place of the chain (by bits 6 and 7: 36 instructions instead of 39 for 32
 * elements) came out even on Zen 1, where vpblendvb has one port; with 16 vpshufb at one a cycle
 * the limit there is half a cycle an element.
 */
#include "core/simd_avx2.h"
#include "core/unroll.h"
#include "elementwise/table_s8_kernel.h"

/* vxorps where vpxor is meant: gcc sees through the latter, turns the chain into a tree, and then
 * has more terms alive than there are registers (measured: 1.25 times the time on Zen 1). */
static inline __m256i opaque_xor(__m256i a, __m256i b) {
    return _mm256_castps_si256(_mm256_xor_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)));
}

static __m256i load_twice(const int8_t *p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)p));
}

static void run(size_t n, const int8_t *x, const int8_t table[256], int8_t *y) {
    __m256i negative[8], positive[8]; /* D of x < 0 and of x >= 0 */
    for (int t = 0; t < 8; t++) {
        negative[t] = load_twice(table + 16 * t);
        positive[t] = load_twice(table + 128 + 16 * t);
    }
    for (int t = 7; t > 0; t--) {
        negative[t] = _mm256_xor_si256(negative[t], negative[t - 1]);
        positive[t] = _mm256_xor_si256(positive[t], positive[t - 1]);
    }
    const __m256i sixteen = _mm256_set1_epi8(16), low_bits = _mm256_set1_epi8(127);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
        __m256i index = _mm256_and_si256(v, low_bits);
        __m256i p = _mm256_shuffle_epi8(positive[0], index);
        __m256i q = _mm256_shuffle_epi8(negative[0], index);
        PQ_UNROLL
        for (int t = 1; t < 8; t++) {
            index = _mm256_subs_epi8(index, sixteen); /* at least -112: nothing saturates */
            p = opaque_xor(p, _mm256_shuffle_epi8(positive[t], index));
            q = opaque_xor(q, _mm256_shuffle_epi8(negative[t], index));
        }
        _mm256_storeu_si256((__m256i *)(void *)(y + i), _mm256_blendv_epi8(p, q, v));
    }
    for (; i < n; i++) {
        y[i] = table[x[i] + 128];
    }
}

const struct pq_table_s8_kernel pq_table_s8_avx2 = {.run = run};
