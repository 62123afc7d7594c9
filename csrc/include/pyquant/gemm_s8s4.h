/* gemm_s8s4: gemm_s8s8 with weights of four bits, and optionally a small multiplier a group of k.
 *
 *   acc[i][j] = sum_g f[j][g] * (sum over p in group g of (x[i][p] - z_x) * w[j][p]) + bias[j]
 *   y[i][j]   as in gemm.h                                                         (int32, exact)
 *
 * operand           shape               layout
 * w                 n, k                u8 [n][ceil(k / 2)]: two weights of [-8, 7] in two's
 * complement to a byte, the even k in the low half. A row begins at a byte; the half behind an odd
 * k is 0 group_multiplier  n, groups           u8 in [1, 255], groups = ceil(k / group_size) all
 * others                            as in gemm.h
 *
 * Groups are runs of group_size k, a multiple of 4; the last one may be short. group_size 0 is one
 * scale a column: no multipliers, f = 1. A group's weights are s_w * f * w as real numbers: the
 * factor stands for the scale of the group, and there is still one requantization a column.
 *
 * Edges: as gemm.h. With k = 0 there are no groups, and group_multiplier is not read.
 *
 * Overflow. |acc| <= |bias[j]| + 255 * sum_p f[j][g(p)] * |w[j][p]|, and packing refuses
 * (PQ_ERR_OVERFLOW) a column where that passes 2^31 - 1. derive.h chooses factors that keep to it.
 *
 * Rounding: rnu.h. Source: docs/numerics/gemm.md.
 */
#ifndef PYQUANT_GEMM_S8S4_H
#define PYQUANT_GEMM_S8S4_H

#include "pyquant/gemm.h"

typedef struct pq_gemm_s8s4_pack_args {
    size_t n, k;
    const uint8_t *w;  /* n, ceil(k / 2) contiguous */
    size_t group_size; /* 0, or a multiple of 4 */
    const uint8_t
        *group_multiplier;     /* n, ceil(k / group_size); NULL exactly where group_size is 0 */
    const int32_t *bias;       /* n, or NULL */
    const int32_t *multiplier; /* n, or NULL if y_type is PQ_S32 */
    const uint8_t *shift;      /* n, or NULL if y_type is PQ_S32 */
    int32_t x_zero_point;      /* in [-128, 127] */
    pq_dtype y_type;           /* PQ_S8, PQ_S16 or PQ_S32 */
    pq_clamp out;              /* ignored for PQ_S32 */
} pq_gemm_s8s4_pack_args;

/* Checks every constant and packs for the best eligible kernel: weights for pq_gemm_s8s8 and all
 * others of gemm.h that take packed ones. PQ_ERR_VALUE (a group size, multiplier, shift, zero point
 * or clamp out of range, a half byte that is not 0), PQ_ERR_OVERFLOW (accumulator bound, names the
 * column), PQ_ERR_NOMEM. *weights is NULL on failure. */
PQ_NODISCARD pq_status pq_gemm_s8s4_pack(const pq_exec *exec, const pq_gemm_s8s4_pack_args *args,
                                         pq_gemm_weights **weights);

/* Only the checks of pq_gemm_s8s4_pack (the program validator calls it). */
PQ_NODISCARD pq_status pq_gemm_s8s4_check(const pq_exec *exec, const pq_gemm_s8s4_pack_args *args);

/* Bytes of a row of k weights, and groups of k where group_size > 0. */
static inline size_t pq_s4_row_size(size_t k) {
    return k / 2 + k % 2;
}

static inline size_t pq_s4_groups(size_t k, size_t group_size) {
    return k / group_size + (k % group_size != 0);
}

/* Weight p of a row. */
static inline int pq_s4_get(const uint8_t *row, size_t p) {
    const int half = row[p / 2] >> (p % 2 * 4) & 15;
    return (half ^ 8) - 8;
}

#endif
