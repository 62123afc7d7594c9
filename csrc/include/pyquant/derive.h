/* derive: from scales, zero points and float weights to the integer constants of an op.
 *
 * The only place where a multiplier, an integer weight or a table comes from: calibration, QAT,
 * simulation and convert all call it, hence agree. Everything in float64 in the order written;
 * no result depends on threads or ISA. Sources: docs/numerics and the
 * family headers. Specification: tests/spec/. All return PQ_ERR_VALUE for scales outside
 * [2^-100, 2^100] or not finite, PQ_ERR_NAN for NaN weights (PQ_ERR_VALUE for
 * infinite ones), PQ_ERR_OVERFLOW for a multiplier too large to encode.
 */
#ifndef PYQUANT_DERIVE_H
#define PYQUANT_DERIVE_H

#include "pyquant/attention.h"
#include "pyquant/exec.h"
#include "pyquant/layernorm.h"
#include "pyquant/method.h"
#include "pyquant/softmax.h"
#include "pyquant/types.h"

/* M = f * 2^e, f in [1/2, 1): m = rne(f * 2^31), s = 31 - e; m == 2^31 becomes (2^30, e + 1).
 * M too small (s > 62) is (2^30, 62), which gives 0 for every int32; s < 1 is PQ_ERR_OVERFLOW;
 * M must be > 0 and finite. */
PQ_NODISCARD pq_status pq_derive_dyadic(const pq_exec *exec, double real, pq_dyadic *dyadic);

/* Weight scales, one per output channel: s_w = max(absmax / quant_max, |bias| / (s_x * 2^30)),
 * 1 if both are 0, rounded to float32 and kept in [2^-100, 2^100]; quant_max = 2^(bits-1) - 1,
 * bits in [2, 8]. bias may be NULL. */
PQ_NODISCARD pq_status pq_derive_weight_scale(const pq_exec *exec, size_t n, size_t k,
                                              const float *w, const float *bias, float x_scale,
                                              int bits, float *w_scale);

/* w_q = clamp(rne(w / s_w), -quant_max, quant_max) (float32 division, as quantize_f32);
 * bias_q = rne(bias / (s_x * s_w)) (float64), PQ_ERR_OVERFLOW outside int32 or if
 * |bias_q| + 255 * sum |w_q| > 2^31 - 1; (multiplier, shift) = dyadic((s_x * s_w) / s_y). */
PQ_NODISCARD pq_status pq_derive_gemm(const pq_exec *exec, size_t n, size_t k, const float *w,
                                      const float *bias, const float *w_scale, int bits,
                                      float x_scale, float y_scale, int8_t *w_q, int32_t *bias_q,
                                      int32_t *multiplier, uint8_t *shift);

/* Weights in groups (gemm_s8s4.h): one scale a column, and a small multiplier for each of its
 * groups = ceil(k / group_size) runs of k; group_size > 0 is a multiple of 4, bits in [2, 4].
 * A group's own scale is r = absmax / quant_max, or `wanted` (n, groups; in [2^-100, 2^100]) where
 * that is not NULL. The widest group gets the largest multiplier:
 *     F = max(min(255, (2^30 - 1) / (255 * quant_max * k)), 1)      k products stay below 2^30
 *     s_w = max(max_g r / F, |bias| / (s_x * 2^30)), then as pq_derive_weight_scale
 *     f_g = clamp(rne(r / s_w), 1, F)                                with s_w as rounded to float32
 * w_scale: n; group_multiplier: n, groups. */
PQ_NODISCARD pq_status pq_derive_group_scale(const pq_exec *exec, size_t n, size_t k,
                                             size_t group_size, const float *w, const float *bias,
                                             const float *wanted, float x_scale, int bits,
                                             float *w_scale, uint8_t *group_multiplier);

/* pq_derive_gemm with bits in [2, 4] and weights packed two to a byte (gemm_s8s4.h). A group's
 * weights are quantized on the float32 product s_w * f_g; group_size 0 goes without multipliers,
 * and its numbers are those of pq_derive_gemm. w_q: n, ceil(k / 2). */
PQ_NODISCARD pq_status pq_derive_gemm_s8s4(const pq_exec *exec, size_t n, size_t k,
                                           size_t group_size, const float *w, const float *bias,
                                           const float *w_scale, const uint8_t *group_multiplier,
                                           int bits, float x_scale, float y_scale, uint8_t *w_q,
                                           int32_t *bias_q, int32_t *multiplier, uint8_t *shift);

/* The constants of a softmax (softmax.h) over at most `keys` >= 1 scores, of which one unit is worth
 * `unit` > 0 in the exponent of e. delta_bound bounds the distance of two scores. vmax >= 1 bounds
 * what weights are multiplied by: (sum P) * vmax stays below 2^31. exponentials has room for
 * PQ_SOFTMAX_ENTRIES_MAX and is what softmax->exponentials points to afterwards, or unused (NULL
 * then).
 *
 * M = unit / (the method's step), in float64: unit * log2(e) * 32 for TABLE16 and TABLE8.
 * shift is the largest s in [1, 31] for which
 *     m = rne(M * 2^s) in [1, 2^32),  delta_max = min(ceil(end * 2^s / m), delta_bound)  and
 *     delta_max * m + 2^(s-1) < 2^32   (end = 480, or entries - 1);
 * no such s (M of 2^31 or more) is PQ_ERR_OVERFLOW. If M * 2^31 rounds to 0, no Delta is worth
 * half a step: m = 0, delta_max = 0, s = 31, uniform weights.
 * pmax = min(16383, (2^31 - 1) / (vmax * keys)) for TABLE16; others have theirs from the method.
 * PQ_ERR_OVERFLOW where keys are too many for the method. T[j] = rne(2 * pmax * 2^(-j/32)).
 * Exponentials end where they no longer change. */
PQ_NODISCARD pq_status pq_derive_softmax(const pq_exec *exec, const char *op,
                                         const pq_method *method, double unit,
                                         uint64_t delta_bound, size_t keys, int vmax,
                                         int32_t *exponentials, pq_softmax *softmax);

/* unit = s_q * s_k * softmax_scale (left to right, in float64). head_dim <= 32767 and has_mask bound
 * Delta by 2 * 255 * 128 * head_dim (+ 2^25 with an additive mask). keys bounds k_len (0 counts as
 * 1). vmax = max(127 - z_v, 128 + z_v) over all of int8, whatever v's own range.
 * requant = dyadic(s_v / s_y); PQ_ERR_OVERFLOW if s_r of attention.h could pass 62 (s_v << s_y). */
PQ_NODISCARD pq_status pq_derive_attention(const pq_exec *exec, const pq_method *method,
                                           pq_affine q, pq_affine k, pq_affine v, pq_affine y,
                                           double softmax_scale, size_t head_dim, size_t keys,
                                           bool has_mask, int32_t *exponentials,
                                           pq_softmax *softmax, pq_dyadic *requant);

/* The constants of softmax_rows.h for rows of at most n scores on the grid x (int8 or int16):
 * unit = s_x, delta_bound = 65535, vmax = 1. requant = dyadic(1 / s_y); PQ_ERR_OVERFLOW if s_r could
 * pass 62 (s_y far above 1). */
PQ_NODISCARD pq_status pq_derive_softmax_rows(const pq_exec *exec, const pq_method *method,
                                              pq_affine x, pq_affine y, size_t n,
                                              int32_t *exponentials, pq_softmax *softmax,
                                              pq_dyadic *requant);

/* An additive float mask as integers. mask <= -1e30 (-inf, finfo.min) is an exclusion: keep = 0
 * and mask_add = 0. Otherwise keep = 1 and mask_add = rne(mask / (s_q * s_k * softmax_scale))
 * clamped to
 * +-2^24. *any_add, *any_excluded tell whether an array is needed at all. */
PQ_NODISCARD pq_status pq_derive_mask(const pq_exec *exec, size_t n, const float *mask,
                                      float q_scale, float k_scale, double softmax_scale,
                                      int32_t *mask_add, uint8_t *keep, bool *any_add,
                                      bool *any_excluded);

/* E = rne(C^2 * eps / s_x^2), PQ_ERR_OVERFLOW above 2^61. gain[c] = rne(gamma[c] / s_y * 2^(s-16)),
 * offset[c] = rne(beta[c] / s_y * 2^s), with s the largest in [1, 62] for which every |gain| < 2^31
 * and every |offset| < 2^61. gamma NULL is ones, beta NULL zeros. */
PQ_NODISCARD pq_status pq_derive_layernorm(const pq_exec *exec, size_t channels, const float *gamma,
                                           const float *beta, double epsilon, float x_scale,
                                           float y_scale, uint64_t *epsilon_q, int32_t *gain,
                                           int64_t *offset, int32_t *shift);

/* The constants of any method of LayerNorm (layernorm.h). The arrays are the caller's, C elements
 * each; alpha and exponent are written for PTF only and may be NULL otherwise. */
typedef struct pq_norm_constants {
    pq_norm_method method;
    uint64_t epsilon;
    int32_t iterations, shift, zero_point;
    pq_dyadic requant;
    int32_t *gain;
    int64_t *offset;
    uint8_t *alpha, *exponent;
} pq_norm_constants;

/* method is one of the registry's "norm" (method.h).
 *
 *   exact               pq_derive_layernorm
 *   ibert, ivit, ...  gain[c] = rne((gamma[c] * sqrt(C)) / s_y * 2^(s-30)), offset and s as there;
 *                     epsilon is checked and not used: the published methods have none
 *   ptf               from x_range [2, C], least and greatest value of each channel in real units
 *                     (PQ_ERR_VALUE if NULL or not finite, as before any calibration), with
 *                     low = min(0, least of all), high = max(0, greatest of all):
 *       scale8 = max((high - low) / 255, s_x / 2^20),  s1 = scale8 / 8
 *       z8 = clamp(-128 - rne(low / scale8), -128, 127)
 *       requant = dyadic(s_x / s1), its shift at most 59
 *       alpha[c] = the least of 0, 1, 2 for which both ends of the channel's range lie within half
 *                  a step of the 8-bit range at s1 * 2^alpha, else 3
 *       |gain[c]| / 2^exponent[c] = dyadic((|gamma[c]| * C) / s_y); below 2^-6, where it can move
 *                  y by at most 2^-6 of a step, gain 0 and exponent 36. PQ_ERR_OVERFLOW at 2^30
 *       offset[c] = rne(beta[c] / s_y * 2^32), PQ_ERR_OVERFLOW at 2^61;  shift = 32 */
PQ_NODISCARD pq_status pq_derive_norm(const pq_exec *exec, const pq_method *method, size_t channels,
                                      const float *gamma, const float *beta, double epsilon,
                                      float x_scale, float y_scale, const float *x_range,
                                      pq_norm_constants *constants);

/* s_a / s_y and s_b / s_y on one shift: the larger by pq_derive_dyadic, the other rne(M * 2^s). */
PQ_NODISCARD pq_status pq_derive_add(const pq_exec *exec, float a_scale, float b_scale,
                                     float y_scale, int32_t *a_multiplier, int32_t *b_multiplier,
                                     int32_t *shift);

/* Any real function tabulated over an int8 grid:
 * table[q + 128] = clamp(rne(f((q - z_x) * s_x) / s_y) + z_y, quant_min, quant_max), in float64.
 * f NaN is PQ_ERR_NAN. */
typedef enum pq_unary {
    PQ_UNARY_IDENTITY = 0,
    PQ_UNARY_RELU,
    PQ_UNARY_GELU,       /* x/2 * (1 + erf(x / sqrt 2)) */
    PQ_UNARY_GELU_TANH,  /* the tanh approximation of torch */
    PQ_UNARY_QUICK_GELU, /* x * sigmoid(1.702 x) */
    PQ_UNARY_SILU,
    PQ_UNARY_SIGMOID,
    PQ_UNARY_TANH,
    PQ_UNARY_HARDSWISH,
    PQ_UNARY_HARDSIGMOID,
    PQ_UNARY_RELU6,
    PQ_UNARY_ELU, /* alpha = 1 */
    PQ_UNARY_MISH,
    PQ_UNARY_SOFTPLUS,
    PQ_UNARY_EXP,
    PQ_UNARY_ABS,
    PQ_UNARY_SQUARE,
    PQ_UNARY_COUNT
} pq_unary;

/* "identity", "relu", "gelu", ...; NULL outside the enum. */
const char *pq_unary_name(pq_unary function);
double pq_unary_value(pq_unary function, double x);
PQ_NODISCARD pq_status pq_derive_table(const pq_exec *exec, pq_unary function, pq_affine x,
                                       pq_affine y, int8_t table[256]);
/* The same from 256 given real values f((q - z_x) * s_x), q = -128..127 (any user function). */
PQ_NODISCARD pq_status pq_derive_table_values(const pq_exec *exec, const double values[256],
                                              pq_affine y, int8_t table[256]);

#endif
