/* As on AVX2, 4 at a time. */
#include <assert.h>
#include <math.h>

#include "core/simd_neon.h"
#include "observe/observe_histogram_kernel.h"

typedef struct range {
    float32x4_t low, high;
    uint32x4_t largest; /* magnitude bits, of the piece */
} range;

static inline int32x4_t step(float32x4_t x, float scale, range *seen) {
    const float32x4_t zero = vdupq_n_f32(0.0F);
    seen->low = vminq_f32(x, seen->low);
    seen->high = vmaxq_f32(x, seen->high);
    seen->largest = vmaxq_u32(seen->largest, vreinterpretq_u32_f32(vabsq_f32(x)));
    const float32x4_t v = vmulq_f32(x, vdupq_n_f32(scale));
    const float32x4_t below = vaddq_f32(v, vdupq_n_f32(-0x1p-126F));
    const float32x4_t chosen = vbslq_f32(vcltq_f32(x, zero), below, v);
    return vaddq_s32(vcvtq_s32_f32(vrndmq_f32(chosen)), vdupq_n_s32(PQ_HISTOGRAM_HALF));
}

static size_t count(size_t n, const float *x, int32_t exponent,
                    uint32_t tables[PQ_HISTOGRAM_TABLES][PQ_HISTOGRAM_ROW], float *minimum,
                    float *maximum) {
    assert(n <= UINT32_MAX);
    if (exponent < PQ_HISTOGRAM_FLOAT_LEAST) {
        return pq_observe_histogram_ref.count(n, x, exponent, tables, minimum, maximum);
    }
    const float scale = pq_histogram_scale(exponent);
    const uint32_t limit = pq_histogram_limit(exponent);
    float32x4_t low = vdupq_n_f32(INFINITY), high = vdupq_n_f32(-INFINITY);
    size_t begin = 0;
    for (; begin + PQ_HISTOGRAM_PIECE <= n; begin += PQ_HISTOGRAM_PIECE) {
        int32_t bins[PQ_HISTOGRAM_PIECE];
        range seen = {low, high, vdupq_n_u32(0)};
        for (size_t i = 0; i < PQ_HISTOGRAM_PIECE; i += 4) {
            vst1q_s32(bins + i, step(vld1q_f32(x + begin + i), scale, &seen));
        }
        if (vmaxvq_u32(seen.largest) >= limit) {
            break;
        }
        low = seen.low;
        high = seen.high;
        pq_histogram_add(bins, tables);
    }
    const float first = vminvq_f32(low), last = vmaxvq_f32(high);
    *minimum = first < *minimum ? first : *minimum;
    *maximum = last > *maximum ? last : *maximum;
    if (n - begin >= PQ_HISTOGRAM_PIECE) {
        return begin;
    }
    return begin + pq_observe_histogram_ref.count(n - begin, x + begin, exponent, tables, minimum,
                                                  maximum);
}

const struct pq_observe_histogram_kernel pq_observe_histogram_neon = {.count = count};
