/* Four accumulators a statistic in `run`: they hide the latency of fmin and fmax. */
#include "core/simd_neon.h"
#include "core/unroll.h"
#include "observe/observe_minmax_kernel.h"

static inline uint32x4_t magnitude(float32x4_t x) {
    return vreinterpretq_u32_f32(vabsq_f32(x)); /* clears the sign, of NaN too */
}

static uint32_t larger(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static uint32_t run(size_t n, const float *x, float *minimum, float *maximum) {
    float32x4_t low[4], high[4];
    uint32x4_t bits = vdupq_n_u32(0);
    PQ_UNROLL
    for (int j = 0; j < 4; j++) {
        low[j] = vdupq_n_f32(*minimum);
        high[j] = vdupq_n_f32(*maximum);
    }
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        PQ_UNROLL
        for (int j = 0; j < 4; j++) {
            const float32x4_t v = vld1q_f32(x + i + 4 * j);
            low[j] = vminq_f32(low[j], v);
            high[j] = vmaxq_f32(high[j], v);
            bits = vmaxq_u32(bits, magnitude(v));
        }
    }
    *minimum = vminvq_f32(vminq_f32(vminq_f32(low[0], low[1]), vminq_f32(low[2], low[3])));
    *maximum = vmaxvq_f32(vmaxq_f32(vmaxq_f32(high[0], high[1]), vmaxq_f32(high[2], high[3])));
    const uint32_t largest = vmaxvq_u32(bits);
    return larger(largest, pq_observe_minmax_ref.run(n - i, x + i, minimum, maximum));
}

static uint32_t each(size_t n, const float *x, float *minimum, float *maximum) {
    uint32x4_t bits = vdupq_n_u32(0);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const float32x4_t v = vld1q_f32(x + i);
        vst1q_f32(minimum + i, vminq_f32(vld1q_f32(minimum + i), v));
        vst1q_f32(maximum + i, vmaxq_f32(vld1q_f32(maximum + i), v));
        bits = vmaxq_u32(bits, magnitude(v));
    }
    const uint32_t largest = vmaxvq_u32(bits);
    return larger(largest, pq_observe_minmax_ref.each(n - i, x + i, minimum + i, maximum + i));
}

const struct pq_observe_minmax_kernel pq_observe_minmax_neon = {.run = run, .each = each};
