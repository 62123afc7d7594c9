/* The largest magnitude of a run is at an end of its range, infinity too. NaN leaves no trace
 * there, since vminps(v, low) is `low` then; one comparison finds it in two vectors, and the
 * reference says which it was.
 *
 * Four streams, one from each quarter: memory gives one core more bytes a second where several
 * pages are read side by side, and vminps, of a latency of 4 cycles, has four accumulators. */
#include <math.h>

#include "core/simd_avx2.h"
#include "core/unroll.h"
#include "observe/observe_minmax_kernel.h"

static uint32_t larger(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static uint32_t largest_u32x8(__m256i v) {
    uint32_t lanes[8], largest = 0;
    _mm256_storeu_si256((__m256i *)(void *)lanes, v);
    for (int i = 0; i < 8; i++) {
        largest = larger(largest, lanes[i]);
    }
    return largest;
}

static __m256i magnitude(__m256 x) {
    return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
}

static uint32_t run(size_t n, const float *x, float *minimum, float *maximum) {
    const size_t quarter = n / 64 * 16, whole = 4 * quarter;
    if (whole == 0) {
        return pq_observe_minmax_ref.run(n, x, minimum, maximum);
    }
    __m256 low[4], high[4], nan = _mm256_setzero_ps();
    PQ_UNROLL
    for (int j = 0; j < 4; j++) {
        low[j] = _mm256_set1_ps(INFINITY);
        high[j] = _mm256_set1_ps(-INFINITY);
    }
    for (size_t i = 0; i < quarter; i += 16) {
        PQ_UNROLL
        for (int j = 0; j < 4; j++) {
            const float *at = x + (size_t)j * quarter + i;
            const __m256 v = _mm256_loadu_ps(at), w = _mm256_loadu_ps(at + 8);
            low[j] = _mm256_min_ps(w, _mm256_min_ps(v, low[j]));
            high[j] = _mm256_max_ps(w, _mm256_max_ps(v, high[j]));
            nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, w, _CMP_UNORD_Q));
        }
    }
    if (_mm256_movemask_ps(nan) != 0) {
        return pq_observe_minmax_ref.run(n, x, minimum, maximum);
    }
    const __m256 lowest =
        _mm256_min_ps(_mm256_min_ps(low[0], low[1]), _mm256_min_ps(low[2], low[3]));
    const __m256 highest =
        _mm256_max_ps(_mm256_max_ps(high[0], high[1]), _mm256_max_ps(high[2], high[3]));
    float lanes[16], first = INFINITY, last = -INFINITY;
    _mm256_storeu_ps(lanes, lowest);
    _mm256_storeu_ps(lanes + 8, highest);
    for (int i = 0; i < 8; i++) {
        first = lanes[i] < first ? lanes[i] : first;
        last = lanes[8 + i] > last ? lanes[8 + i] : last;
    }
    *minimum = first < *minimum ? first : *minimum;
    *maximum = last > *maximum ? last : *maximum;
    return larger(larger(pq_magnitude_bits(first), pq_magnitude_bits(last)),
                  pq_observe_minmax_ref.run(n - whole, x + whole, minimum, maximum));
}

static uint32_t each(size_t n, const float *x, float *minimum, float *maximum) {
    __m256i bits = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i);
        _mm256_storeu_ps(minimum + i, _mm256_min_ps(v, _mm256_loadu_ps(minimum + i)));
        _mm256_storeu_ps(maximum + i, _mm256_max_ps(v, _mm256_loadu_ps(maximum + i)));
        bits = _mm256_max_epu32(bits, magnitude(v));
    }
    return larger(largest_u32x8(bits),
                  pq_observe_minmax_ref.each(n - i, x + i, minimum + i, maximum + i));
}

const struct pq_observe_minmax_kernel pq_observe_minmax_avx2 = {.run = run, .each = each};
