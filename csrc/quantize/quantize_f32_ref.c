/* The definition. */
#include "quantize/quantize_f32_loop.h"

static bool quantize(size_t n, const float *x, const float *scale, size_t scale_step, pq_grid grid,
                     void *q) {
    return pq_quantize_loop(0, n, x, scale, scale_step, grid, q);
}

static bool fake_quantize(size_t n, const float *x, const float *scale, size_t scale_step,
                          pq_grid grid, float *x_hat) {
    return pq_fake_quantize_loop(0, n, x, scale, scale_step, grid, x_hat);
}

static void dequantize(size_t n, const void *q, const float *scale, size_t scale_step,
                       pq_grid grid, float *x) {
    pq_dequantize_loop(0, n, q, scale, scale_step, grid, x);
}

const struct pq_quantize_f32_kernel pq_quantize_f32_ref = {
    .quantize = quantize, .fake_quantize = fake_quantize, .dequantize = dequantize};
