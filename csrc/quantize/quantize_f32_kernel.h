/* Kernels of quantize_f32, dequantize_f32 and fake_quantize_f32: contiguous runs of elements.
 *
 * Element i of a run uses scale[i * scale_step]: step 0 is one scale for the run, step 1 one for
 * each element (the channel is the last axis). Every variant returns the bits of `ref`.
 */
#ifndef PYQUANT_QUANTIZE_QUANTIZE_F32_KERNEL_H
#define PYQUANT_QUANTIZE_QUANTIZE_F32_KERNEL_H

#include <stdbool.h>

#include "pyquant/cpu.h"
#include "pyquant/quantize.h"

typedef struct pq_grid {
    pq_dtype q_type;
    int32_t zero_point, quant_min, quant_max;
} pq_grid;

struct pq_quantize_f32_kernel {
    /* These two return true if x holds NaN. */
    bool (*quantize)(size_t n, const float *x, const float *scale, size_t scale_step, pq_grid grid,
                     void *q);
    bool (*fake_quantize)(size_t n, const float *x, const float *scale, size_t scale_step,
                          pq_grid grid, float *x_hat);
    void (*dequantize)(size_t n, const void *q, const float *scale, size_t scale_step,
                       pq_grid grid, float *x);
};

#endif
