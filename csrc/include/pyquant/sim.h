/* sim: an integer op between float edges, as the prepared model runs it.
 *
 * An edge carries float32 values fl32((q - zero_point) * scale). Each function recovers q
 * (quantize_f32: values off the grid are thereby quantized), derives the integer constants
 * (derive.h), calls the integer entry point, and returns dequantize(q_out). There is no other
 * arithmetic here: this is why a simulation cannot differ from the engine.
 *
 * All tensors contiguous float32 unless strides are given. A pq_affine whose range lies in
 * [-128, 127] is carried as s8, else as s16. Scratch memory is allocated inside (PQ_ERR_NOMEM).
 * Statuses: those of quantize, derive and the op.
 */
#ifndef PYQUANT_SIM_H
#define PYQUANT_SIM_H

#include "pyquant/attention.h"
#include "pyquant/derive_unary.h"
#include "pyquant/exec.h"
#include "pyquant/types.h"

/* x [m, k] (s8), w [n, k], bias [n] or NULL, y [m, n]. w_scale [n] is raised to |bias| / (s_x *
 * 2^30) where that is larger (derive.h); NULL means absmax. With group_size > 0 (w_bits <= 4) it is
 * [n, ceil(k / group_size)], the scales that groups of weights want. Up to four bits run as
 * gemm_s8s4. */
PQ_NODISCARD pq_status pq_sim_linear(const pq_exec *exec, size_t m, size_t n, size_t k,
                                     const float *x, pq_affine x_q, const float *w,
                                     const float *bias, const float *w_scale, int w_bits,
                                     size_t group_size, pq_affine y_q, float *y);

typedef struct pq_sim_attention_args {
    size_t batch, heads, kv_heads, q_len, k_len, head_dim;
    const float *q, *k, *v; /* [batch, heads, len, d], strides >= 0 in elements, d contiguous */
    ptrdiff_t q_strides[3], k_strides[3], v_strides[3];
    pq_affine q_q, k_q, v_q, y_q;
    const uint8_t *keep; /* or NULL: [batch, heads, q_len, k_len] with strides (0 broadcasts) */
    ptrdiff_t keep_strides[4];
    /* or NULL: additive, the same; not both. The constants are derived with has_mask wherever there
     * is one, whatever it holds: they may not depend on which samples share a batch. */
    const float *mask;
    ptrdiff_t mask_strides[4];
    bool causal;
    double softmax_scale;
    pq_method method; /* of the softmax */
    float *y; /* contiguous [batch, heads, q_len, d] */
} pq_sim_attention_args;

PQ_NODISCARD pq_status pq_sim_attention(const pq_exec *exec, const pq_sim_attention_args *args);

/* x [rows, channels]; gamma, beta [channels] or NULL; method of the registry's "norm"; x_range
 * [2, channels] for method ptf, otherwise it may be NULL (pq_derive_norm). */
PQ_NODISCARD pq_status pq_sim_layernorm(const pq_exec *exec, size_t rows, size_t channels,
                                        const float *x, pq_affine x_q, const float *gamma,
                                        const float *beta, double epsilon, bool rms,
                                        const pq_method *method, const float *x_range,
                                        pq_affine y_q, float *y);

/* x [rows, n], softmax over n. */
PQ_NODISCARD pq_status pq_sim_softmax(const pq_exec *exec, size_t rows, size_t n, const float *x,
                                      pq_affine x_q, const pq_method *method, pq_affine y_q,
                                      float *y);

/* x must be s8. */
PQ_NODISCARD pq_status pq_sim_unary(const pq_exec *exec, size_t n, const float *x, pq_affine x_q,
                                    pq_unary function, const pq_method *method, pq_affine y_q,
                                    float *y);

/* b repeats with `period` (divides n). */
PQ_NODISCARD pq_status pq_sim_add(const pq_exec *exec, size_t n, size_t period, const float *a,
                                  pq_affine a_q, const float *b, pq_affine b_q, pq_affine y_q,
                                  float *y);

PQ_NODISCARD pq_status pq_sim_mean(const pq_exec *exec, size_t outer, size_t reduce, size_t inner,
                                   const float *x, pq_affine x_q, pq_affine y_q, float *y);

PQ_NODISCARD pq_status pq_sim_requantize(const pq_exec *exec, size_t n, const float *x,
                                         pq_affine x_q, pq_affine y_q, float *y);

#endif
