/* As on AVX2: the largest magnitude of a run is at an end of its range, and NaN, which leaves no
 * trace there, is found by one comparison in two vectors; four streams, one from each quarter. The
 * last elements are done under a mask. */
#include <math.h>

#include "core/simd_avx512.h"
#include "core/unroll.h"
#include "observe/observe_minmax_kernel.h"

static uint32_t larger(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static __mmask16 mask_16(size_t left) {
    return (__mmask16)(left >= 16 ? 0xffff : (1u << left) - 1);
}

static uint32_t run(size_t n, const float *x, float *minimum, float *maximum) {
    const __m512 none_low = _mm512_set1_ps(INFINITY), none_high = _mm512_set1_ps(-INFINITY);
    __m512 low[4] = {none_low, none_low, none_low, none_low};
    __m512 high[4] = {none_high, none_high, none_high, none_high};
    uint32_t nan = 0;
    const size_t quarter = n / 128 * 32;
    for (size_t k = 0; k < quarter; k += 32) {
        PQ_UNROLL
        for (int j = 0; j < 4; j++) {
            const float *at = x + (size_t)j * quarter + k;
            const __m512 v = _mm512_loadu_ps(at), w = _mm512_loadu_ps(at + 16);
            low[j] = _mm512_min_ps(w, _mm512_min_ps(v, low[j]));
            high[j] = _mm512_max_ps(w, _mm512_max_ps(v, high[j]));
            nan |= (uint32_t)_mm512_cmp_ps_mask(v, w, _CMP_UNORD_Q);
        }
    }
    size_t i = 4 * quarter;
    for (; i < n; i += 16) {
        const __mmask16 mask = mask_16(n - i);
        const __m512 v = _mm512_maskz_loadu_ps(mask, x + i);
        low[0] = _mm512_mask_min_ps(low[0], mask, v, low[0]);
        high[0] = _mm512_mask_max_ps(high[0], mask, v, high[0]);
        nan |= (uint32_t)_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    }
    if (nan != 0 || n == 0) {
        return pq_observe_minmax_ref.run(n, x, minimum, maximum);
    }
    const float first = _mm512_reduce_min_ps(
        _mm512_min_ps(_mm512_min_ps(low[0], low[1]), _mm512_min_ps(low[2], low[3])));
    const float last = _mm512_reduce_max_ps(
        _mm512_max_ps(_mm512_max_ps(high[0], high[1]), _mm512_max_ps(high[2], high[3])));
    *minimum = first < *minimum ? first : *minimum;
    *maximum = last > *maximum ? last : *maximum;
    return larger(pq_magnitude_bits(first), pq_magnitude_bits(last));
}

static uint32_t each(size_t n, const float *x, float *minimum, float *maximum) {
    const __m512i absolute = _mm512_set1_epi32(0x7fffffff);
    __m512i bits = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 mask = mask_16(n - i);
        const __m512 v = _mm512_maskz_loadu_ps(mask, x + i);
        const __m512 low = _mm512_maskz_loadu_ps(mask, minimum + i);
        const __m512 high = _mm512_maskz_loadu_ps(mask, maximum + i);
        _mm512_mask_storeu_ps(minimum + i, mask, _mm512_min_ps(v, low));
        _mm512_mask_storeu_ps(maximum + i, mask, _mm512_max_ps(v, high));
        bits = _mm512_max_epu32(bits, _mm512_and_si512(_mm512_castps_si512(v), absolute));
    }
    return _mm512_reduce_max_epu32(bits);
}

const struct pq_observe_minmax_kernel pq_observe_minmax_avx512 = {.run = run, .each = each};
