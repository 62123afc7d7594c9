/* Ten accumulators, two vectors for each sum: enough to hide the latency of an addition, and they
 * leave registers for x, y and d. The last elements are padded with zeros, which change no sum: a
 * sum that began as +0 is never -0. */
#include <string.h>

#include "core/simd_avx2.h"
#include "core/unroll.h"
#include "metrics/metrics_sums_kernel.h"
#include "metrics/metrics_sums_load.h"

typedef struct sums {
    __m256 xx[2], yy[2], xy[2], dd[2], largest[2];
} sums;

static inline void step(sums *s, const float *x, const float *y) {
    const __m256 absolute = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    PQ_UNROLL
    for (int j = 0; j < 2; j++) {
        const __m256 a = _mm256_loadu_ps(x + 8 * j), b = _mm256_loadu_ps(y + 8 * j);
        const __m256 d = _mm256_sub_ps(a, b);
        s->xx[j] = _mm256_add_ps(s->xx[j], _mm256_mul_ps(a, a));
        s->yy[j] = _mm256_add_ps(s->yy[j], _mm256_mul_ps(b, b));
        s->xy[j] = _mm256_add_ps(s->xy[j], _mm256_mul_ps(a, b));
        s->dd[j] = _mm256_add_ps(s->dd[j], _mm256_mul_ps(d, d));
        s->largest[j] = _mm256_max_ps(_mm256_and_ps(d, absolute), s->largest[j]);
    }
}

static void block(size_t n, const float *x, const float *y, pq_metrics_lanes *lanes) {
    sums s;
    PQ_UNROLL
    for (int j = 0; j < 2; j++) {
        s.xx[j] = s.yy[j] = s.xy[j] = s.dd[j] = s.largest[j] = _mm256_setzero_ps();
    }
    size_t i = 0;
    for (; i + PQ_METRICS_LANES <= n; i += PQ_METRICS_LANES) {
        prefetch_next_block(x + i);
        prefetch_next_block(y + i);
        step(&s, x + i, y + i);
    }
    if (i < n) {
        float last_x[PQ_METRICS_LANES] = {0}, last_y[PQ_METRICS_LANES] = {0};
        memcpy(last_x, x + i, (n - i) * sizeof(float));
        memcpy(last_y, y + i, (n - i) * sizeof(float));
        step(&s, last_x, last_y);
    }
    PQ_UNROLL
    for (int j = 0; j < 2; j++) {
        _mm256_storeu_ps(lanes->xx + 8 * j, s.xx[j]);
        _mm256_storeu_ps(lanes->yy + 8 * j, s.yy[j]);
        _mm256_storeu_ps(lanes->xy + 8 * j, s.xy[j]);
        _mm256_storeu_ps(lanes->dd + 8 * j, s.dd[j]);
        _mm256_storeu_ps(lanes->largest + 8 * j, s.largest[j]);
    }
}

const struct pq_metrics_sums_kernel pq_metrics_sums_avx2 = {
    .block = block, .from_s8 = from_s8, .from_s16 = from_s16};
