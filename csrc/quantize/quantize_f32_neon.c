/* quantize_f32 and its inverse on NEON.
 *
 * fdiv, not a reciprocal: the quotient is correctly rounded by definition. fcvtns rounds half to
 * even and, unlike a float rounding, cannot leave a -0 for the way back. fmaxnm takes the number
 * where the other operand is NaN, so that NaN becomes quant_min, as in the scalar code.
 */
#include "core/neon_output.h"
#include "quantize/quantize_f32_loop.h"

#define INLINE static inline __attribute__((always_inline))

/* What does not change in a run. */
typedef struct run {
    const float *scale;
    size_t step;
    float32x4_t uniform, low, high;
    int32x4_t zero_point;
} run;

INLINE run make_run(const float *scale, size_t step, pq_grid grid) {
    return (run){.scale = scale,
                 .step = step,
                 .uniform = vdupq_n_f32(scale[0]),
                 .low = vdupq_n_f32((float)(grid.quant_min - grid.zero_point)),
                 .high = vdupq_n_f32((float)(grid.quant_max - grid.zero_point)),
                 .zero_point = vdupq_n_s32(grid.zero_point)};
}

INLINE float32x4_t scale_at(const run *r, size_t i) {
    return r->step == 0 ? r->uniform : vld1q_f32(r->scale + i);
}

/* q - z of 4 elements; lanes of `ordered` stay set while no NaN was met. */
INLINE int32x4_t steps(const run *r, float32x4_t x, float32x4_t scale, uint32x4_t *ordered) {
    *ordered = vandq_u32(*ordered, vceqq_f32(x, x));
    const float32x4_t v = vmaxnmq_f32(vdivq_f32(x, scale), r->low);
    return vcvtnq_s32_f32(vminnmq_f32(v, r->high));
}

INLINE int32x4_t quantize_4(const run *r, const float *x, size_t i, uint32x4_t *ordered) {
    return vaddq_s32(steps(r, vld1q_f32(x + i), scale_at(r, i), ordered), r->zero_point);
}

static bool any_nan(uint32x4_t ordered) {
    return vminvq_u32(ordered) == 0;
}

/* After the clamp no narrowing loses anything. */
static bool quantize(size_t n, const float *x, const float *scale, size_t scale_step, pq_grid grid,
                     void *q) {
    if (n == 0) {
        return false;
    }
    const run r = make_run(scale, scale_step, grid);
    uint32x4_t ordered = vdupq_n_u32(UINT32_MAX);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const int16x4_t low = vmovn_s32(quantize_4(&r, x, i, &ordered));
        const int32x4_t high = quantize_4(&r, x, i + 4, &ordered);
        pq_neon_store_8(grid.q_type, q, i, vmovn_high_s32(low, high));
    }
    const bool rest = pq_quantize_loop(i, n, x, scale, scale_step, grid, q);
    return rest || any_nan(ordered);
}

static bool fake_quantize(size_t n, const float *x, const float *scale, size_t scale_step,
                          pq_grid grid, float *x_hat) {
    if (n == 0) {
        return false;
    }
    const run r = make_run(scale, scale_step, grid);
    uint32x4_t ordered = vdupq_n_u32(UINT32_MAX);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const float32x4_t s = scale_at(&r, i);
        const int32x4_t q = steps(&r, vld1q_f32(x + i), s, &ordered);
        vst1q_f32(x_hat + i, vmulq_f32(vcvtq_f32_s32(q), s));
    }
    const bool rest = pq_fake_quantize_loop(i, n, x, scale, scale_step, grid, x_hat);
    return rest || any_nan(ordered);
}

static void dequantize(size_t n, const void *q, const float *scale, size_t scale_step, pq_grid grid,
                       float *x) {
    if (n == 0) {
        return;
    }
    const run r = make_run(scale, scale_step, grid);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const int16x8_t v = pq_neon_load_8(grid.q_type, q, i);
        const int32x4_t low = vsubq_s32(vmovl_s16(vget_low_s16(v)), r.zero_point);
        const int32x4_t high = vsubq_s32(vmovl_high_s16(v), r.zero_point);
        vst1q_f32(x + i, vmulq_f32(vcvtq_f32_s32(low), scale_at(&r, i)));
        vst1q_f32(x + i + 4, vmulq_f32(vcvtq_f32_s32(high), scale_at(&r, i + 4)));
    }
    pq_dequantize_loop(i, n, q, scale, scale_step, grid, x);
}

const struct pq_quantize_f32_kernel pq_quantize_f32_neon = {
    .quantize = quantize, .fake_quantize = fake_quantize, .dequantize = dequantize};
