/* Four accumulators a statistic in `run`: vminps has a latency of 4 cycles and two ports. */
#include "core/simd_avx2.h"
#include "observe/observe_minmax_kernel.h"

static uint32_t largest_u32x8(__m256i v) {
    uint32_t lanes[8], largest = 0;
    _mm256_storeu_si256((__m256i *)lanes, v);
    for (int i = 0; i < 8; i++) {
        largest = lanes[i] > largest ? lanes[i] : largest;
    }
    return largest;
}

static __m256i magnitude(__m256 x) {
    return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
}

static uint32_t larger(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static uint32_t run(size_t n, const float *x, float *minimum, float *maximum) {
    size_t i = 0;
    uint32_t largest = 0;
    if (n >= 32) {
        __m256 low[4], high[4];
        __m256i bits = _mm256_setzero_si256();
        for (int j = 0; j < 4; j++) {
            low[j] = _mm256_set1_ps(*minimum);
            high[j] = _mm256_set1_ps(*maximum);
        }
        for (; i + 32 <= n; i += 32) {
            for (int j = 0; j < 4; j++) {
                const __m256 v = _mm256_loadu_ps(x + i + 8 * j);
                low[j] = _mm256_min_ps(v, low[j]);
                high[j] = _mm256_max_ps(v, high[j]);
                bits = _mm256_max_epu32(bits, magnitude(v));
            }
        }
        float lanes[64];
        for (int j = 0; j < 4; j++) {
            _mm256_storeu_ps(lanes + 8 * j, low[j]);
            _mm256_storeu_ps(lanes + 32 + 8 * j, high[j]);
        }
        for (int j = 0; j < 32; j++) {
            *minimum = lanes[j] < *minimum ? lanes[j] : *minimum;
            *maximum = lanes[32 + j] > *maximum ? lanes[32 + j] : *maximum;
        }
        largest = largest_u32x8(bits);
    }
    return larger(largest, pq_observe_minmax_ref.run(n - i, x + i, minimum, maximum));
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
