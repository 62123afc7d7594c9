/* What a variant of metrics_sums is: the float32 part of a block (pyquant/metrics.h). */
#ifndef PYQUANT_METRICS_SUMS_KERNEL_H
#define PYQUANT_METRICS_SUMS_KERNEL_H

#include "pyquant/metrics.h"

typedef struct pq_metrics_lanes {
    float xx[PQ_METRICS_LANES], yy[PQ_METRICS_LANES], xy[PQ_METRICS_LANES], dd[PQ_METRICS_LANES];
    float largest[PQ_METRICS_LANES]; /* anything where a difference is NaN */
} pq_metrics_lanes;

struct pq_metrics_sums_kernel {
    /* n <= PQ_METRICS_BLOCK */
    void (*block)(size_t n, const float *x, const float *y, pq_metrics_lanes *lanes);
    /* y = (q - zero_point) * scale */
    void (*from_s8)(size_t n, const int8_t *q, int32_t zero_point, float scale, float *y);
    void (*from_s16)(size_t n, const int16_t *q, int32_t zero_point, float scale, float *y);
};

extern const struct pq_metrics_sums_kernel pq_metrics_sums_ref, pq_metrics_sums_avx2,
    pq_metrics_sums_avx512, pq_metrics_sums_neon;

#endif
