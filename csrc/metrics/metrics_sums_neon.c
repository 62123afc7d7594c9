/* Twenty accumulators of the 32 registers. The last elements are padded with zeros, as on AVX2. */
#include <string.h>

#include "core/simd_neon.h"
#include "core/unroll.h"
#include "metrics/metrics_sums_kernel.h"
#include "metrics/metrics_sums_load.h"

typedef struct sums {
    float32x4_t xx[4], yy[4], xy[4], dd[4], largest[4];
} sums;

static inline void step(sums *s, const float *x, const float *y) {
    PQ_UNROLL
    for (int j = 0; j < 4; j++) {
        const float32x4_t a = vld1q_f32(x + 4 * j), b = vld1q_f32(y + 4 * j);
        const float32x4_t d = vsubq_f32(a, b);
        s->xx[j] = vaddq_f32(s->xx[j], vmulq_f32(a, a));
        s->yy[j] = vaddq_f32(s->yy[j], vmulq_f32(b, b));
        s->xy[j] = vaddq_f32(s->xy[j], vmulq_f32(a, b));
        s->dd[j] = vaddq_f32(s->dd[j], vmulq_f32(d, d));
        s->largest[j] = vmaxq_f32(s->largest[j], vabsq_f32(d));
    }
}

static void block(size_t n, const float *x, const float *y, pq_metrics_lanes *lanes) {
    sums s;
    PQ_UNROLL
    for (int j = 0; j < 4; j++) {
        s.xx[j] = s.yy[j] = s.xy[j] = s.dd[j] = s.largest[j] = vdupq_n_f32(0.0F);
    }
    size_t i = 0;
    for (; i + PQ_METRICS_LANES <= n; i += PQ_METRICS_LANES) {
        step(&s, x + i, y + i);
    }
    if (i < n) {
        float last_x[PQ_METRICS_LANES] = {0}, last_y[PQ_METRICS_LANES] = {0};
        memcpy(last_x, x + i, (n - i) * sizeof(float));
        memcpy(last_y, y + i, (n - i) * sizeof(float));
        step(&s, last_x, last_y);
    }
    PQ_UNROLL
    for (int j = 0; j < 4; j++) {
        vst1q_f32(lanes->xx + 4 * j, s.xx[j]);
        vst1q_f32(lanes->yy + 4 * j, s.yy[j]);
        vst1q_f32(lanes->xy + 4 * j, s.xy[j]);
        vst1q_f32(lanes->dd + 4 * j, s.dd[j]);
        vst1q_f32(lanes->largest + 4 * j, s.largest[j]);
    }
}

const struct pq_metrics_sums_kernel pq_metrics_sums_neon = {
    .block = block, .from_s8 = from_s8, .from_s16 = from_s16};
