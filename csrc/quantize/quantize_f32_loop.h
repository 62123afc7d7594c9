/* The definition as loops over [begin, n): all of `ref`, and what is left behind whole vectors. */
#ifndef PYQUANT_QUANTIZE_QUANTIZE_F32_LOOP_H
#define PYQUANT_QUANTIZE_QUANTIZE_F32_LOOP_H

#include "quantize/quantize_f32_kernel.h"
#include "quantize/quantize_scalar.h"

static inline int32_t pq_quantize_on(float x, float scale, pq_grid grid) {
    return pq_quantize_scalar(x, scale, grid.zero_point, grid.quant_min, grid.quant_max);
}

/* |q - z| < 2^17: the conversion is exact, the product is the one rounding. */
static inline float pq_dequantize_on(int32_t q, float scale, pq_grid grid) {
    return (float)(q - grid.zero_point) * scale;
}

static inline bool pq_quantize_loop(size_t begin, size_t n, const float *x, const float *scale,
                                    size_t scale_step, pq_grid grid, void *q) {
    bool nan = false;
    for (size_t i = begin; i < n; i++) {
        const int32_t value = pq_quantize_on(x[i], scale[i * scale_step], grid);
        nan |= x[i] != x[i];
        if (grid.q_type == PQ_S8) {
            ((int8_t *)q)[i] = (int8_t)value;
        } else {
            ((int16_t *)q)[i] = (int16_t)value;
        }
    }
    return nan;
}

static inline bool pq_fake_quantize_loop(size_t begin, size_t n, const float *x,
                                         const float *scale, size_t scale_step, pq_grid grid,
                                         float *x_hat) {
    bool nan = false;
    for (size_t i = begin; i < n; i++) {
        const float s = scale[i * scale_step];
        nan |= x[i] != x[i];
        x_hat[i] = pq_dequantize_on(pq_quantize_on(x[i], s, grid), s, grid);
    }
    return nan;
}

static inline void pq_dequantize_loop(size_t begin, size_t n, const void *q, const float *scale,
                                      size_t scale_step, pq_grid grid, float *x) {
    for (size_t i = begin; i < n; i++) {
        const int32_t value =
            grid.q_type == PQ_S8 ? ((const int8_t *)q)[i] : ((const int16_t *)q)[i];
        x[i] = pq_dequantize_on(value, scale[i * scale_step], grid);
    }
}

#endif
