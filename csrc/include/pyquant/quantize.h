/* quantize_f32, dequantize: the float boundary of a program, and of a simulated edge.
 *
 * quantize    q = clamp(rne(x / scale) + zero_point, quant_min, quant_max)         f32 -> s8 / s16
 * dequantize  x = fl32((q - zero_point) * scale)                                s8 / s16 -> f32
 *
 * x / scale is the correctly rounded float32 quotient (a bare reciprocal differs in 13 % of ties);
 * the clamp is done in float before the conversion, then the zero point is added: x = +-inf
 * saturates, NaN is PQ_ERR_NAN and nothing is promised about q then. dequantize is one float32
 * multiplication of an exactly representable integer (|q - z| < 2^24).
 *
 * Operands are aligned to their elements; input and output may not overlap, except where said.
 * Per-axis form: element i uses scale[(i / inner) % channels]; channels = 1 is per tensor. One
 * zero point, quant_min, quant_max for all channels.
 *
 * Recovery: for |q - z| < 2^22, quantize(dequantize(q)) = q: the product has relative error
 * 2^-24 and the quotient another, together below 2^-22.9 * 2^22 < 1/2.
 * Source: docs/numerics/quantize.md.
 */
#ifndef PYQUANT_QUANTIZE_H
#define PYQUANT_QUANTIZE_H

#include <stddef.h>
#include <stdint.h>

#include "pyquant/exec.h"
#include "pyquant/types.h"

typedef struct pq_quantize_args {
    size_t n;
    pq_dtype q_type; /* PQ_S8 or PQ_S16 */
    const float *scale;
    size_t channels, inner; /* 1, 1 for per tensor */
    int32_t zero_point, quant_min, quant_max;
} pq_quantize_args;

PQ_NODISCARD pq_status pq_quantize_f32(const pq_exec *exec, const pq_quantize_args *args,
                                       const float *x, void *q);
PQ_NODISCARD pq_status pq_dequantize_f32(const pq_exec *exec, const pq_quantize_args *args,
                                         const void *q, float *x);
/* x_hat = dequantize(quantize(x)) in one pass; x_hat may be x. */
PQ_NODISCARD pq_status pq_fake_quantize_f32(const pq_exec *exec, const pq_quantize_args *args,
                                            const float *x, float *x_hat);

/* Scale in [2^-100, 2^100], range inside the type, zero point inside the range. */
PQ_NODISCARD pq_status pq_affine_check(const pq_exec *exec, const char *op, const char *operand,
                                       pq_affine affine);

#endif
