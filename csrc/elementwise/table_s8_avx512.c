/* table_s8 with four vpermi2w for 64 elements.
 *
 * Word j of the stored table holds the entries of x = j (low byte) and x = j - 128 (high byte),
 * j < 128. vpermi2w looks up 64 words by the low 6 bits of each word and ignores the others, so the
 * even elements are looked up by x as it stands and the odd ones by x >> 8; bit 6 picks one of two
 * results, the sign one of two bytes. (16 vpshufb, as on AVX2, would need three times as many
 * instructions; vpermi2b would need AVX512-VBMI.)
 */
#include "core/simd_avx512.h"
#include "elementwise/table_s8_kernel.h"

/* Words base .. base + 31: their low bytes from x >= 0, their high bytes from x < 0. */
static __m512i words(const int8_t *table, int base) {
    const __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(table + base));
    const __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)(table + 128 + base));
    return _mm512_or_si512(_mm512_cvtepu8_epi16(low),
                           _mm512_slli_epi16(_mm512_cvtepu8_epi16(high), 8));
}

static void run(size_t n, const int8_t *x, const int8_t table[256], int8_t *y) {
    const __m512i t0 = words(table, 0), t1 = words(table, 32);
    const __m512i t2 = words(table, 64), t3 = words(table, 96);
    const __m512i bit_6 = _mm512_set1_epi16(0x40);
    const __mmask64 odd_bytes = UINT64_C(0xaaaaaaaaaaaaaaaa);
    for (size_t i = 0; i < n; i += 64) {
        const __mmask64 mask = n - i >= 64 ? UINT64_MAX : (UINT64_C(1) << (n - i)) - 1;
        const __m512i even = _mm512_maskz_loadu_epi8(mask, x + i);
        const __m512i odd = _mm512_srli_epi16(even, 8);
        const __m512i p = _mm512_mask_blend_epi16(_mm512_test_epi16_mask(even, bit_6),
                                                  _mm512_permutex2var_epi16(t0, even, t1),
                                                  _mm512_permutex2var_epi16(t2, even, t3));
        const __m512i q = _mm512_mask_blend_epi16(_mm512_test_epi16_mask(odd, bit_6),
                                                  _mm512_permutex2var_epi16(t0, odd, t1),
                                                  _mm512_permutex2var_epi16(t2, odd, t3));
        /* Of p and q, both low bytes and both high bytes. */
        const __m512i positive = _mm512_mask_blend_epi8(odd_bytes, p, _mm512_slli_epi16(q, 8));
        const __m512i negative = _mm512_mask_blend_epi8(odd_bytes, _mm512_srli_epi16(p, 8), q);
        _mm512_mask_storeu_epi8(
            y + i, mask, _mm512_mask_blend_epi8(_mm512_movepi8_mask(even), positive, negative));
    }
}

const struct pq_table_s8_kernel pq_table_s8_avx512 = {.run = run};
