/* gemm_s8s8: s8 activations times s8 weights, requantized per output column.
 *
 *   acc[i][j] = sum_p (x[i][p] - z_x) * w[j][p] + bias[j]                          (int32, exact)
 *   y[i][j]   = clamp(rnu(acc[i][j], multiplier[j], shift[j]) + z_y, quant_min, quant_max)
 *   y[i][j]   = acc[i][j]                                         where y_type is PQ_S32
 *
 * operand     shape   layout                                             aliasing
 * x           m, k    s8, rows ldx elements apart (ldx >= k)             may not overlap y
 * w           n, k    s8, the layout of torch.nn.Linear, packed once     -
 * bias        n       s32, or NULL for zeros; NOT compensated: packing folds -z_x * sum(w) itself
 * multiplier  n       s32 in [2^30, 2^31)                                unused for PQ_S32
 * shift       n       u8 in [1, 62]                                      unused for PQ_S32
 * y           m, n    s8, s16 or s32, rows ldy elements apart            may not overlap x
 *
 * y is aligned to its elements. Gaps between rows are neither read nor written.
 *
 * Edges: m = 0 is a no-op; n = 0 too; k = 0 gives the bias. All m, n, k are allowed within sizes.
 *
 * Overflow. With |x - z_x| <= 255, |acc| <= |bias[j]| + 255 * sum_p |w[j][p]|, and packing refuses
 * (PQ_ERR_OVERFLOW) a column where that passes 2^31 - 1. Kernels may split the sum as
 * sum x*w + (bias - z_x * sum w), or with u8 activations x + 128: each piece is computed modulo
 * 2^32 (uint32 in C, wrapping in SIMD), and the final value is in range, hence exact.
 *
 * Rounding: rnu.h. Source: docs/numerics/gemm.md.
 */
#ifndef PYQUANT_GEMM_H
#define PYQUANT_GEMM_H

#include <stddef.h>
#include <stdint.h>

#include "pyquant/cpu.h"
#include "pyquant/elementwise.h"
#include "pyquant/exec.h"
#include "pyquant/types.h"

/* Weights packed for one kernel of this machine, with bias, compensation and requantization in
 * the kernel's own layout. Immutable after packing: any number of threads may use one. */
typedef struct pq_gemm_weights pq_gemm_weights;

typedef struct pq_gemm_pack_args {
    size_t n, k;
    const int8_t *w;           /* n, k contiguous */
    const int32_t *bias;       /* n, or NULL */
    const int32_t *multiplier; /* n, or NULL if y_type is PQ_S32 */
    const uint8_t *shift;      /* n, or NULL if y_type is PQ_S32 */
    int32_t x_zero_point;      /* in [-128, 127] */
    pq_dtype y_type;           /* PQ_S8, PQ_S16 or PQ_S32 */
    pq_clamp out;              /* ignored for PQ_S32 */
    bool once;                 /* for one product: packing does not look for what many repay */
} pq_gemm_pack_args;

/* Checks every constant and packs for the best eligible kernel. PQ_ERR_VALUE (a multiplier, shift,
 * zero point or clamp out of range), PQ_ERR_OVERFLOW (accumulator bound, names the column),
 * PQ_ERR_NOMEM. *weights is NULL on failure; free with pq_gemm_weights_free (NULL allowed). */
PQ_NODISCARD pq_status pq_gemm_s8s8_pack(const pq_exec *exec, const pq_gemm_pack_args *args,
                                         pq_gemm_weights **weights);
void pq_gemm_weights_free(pq_gemm_weights *weights);

/* The same in chains (docs/numerics/gemm.md), for the best eligible kernel of those. pack does so
 * only where the best kernel of all has a form for chains and they save multiplies. The bits of y
 * are the same: this is for tests and benchmarks. */
PQ_NODISCARD pq_status pq_gemm_s8s8_pack_chains(const pq_exec *exec, const pq_gemm_pack_args *args,
                                                pq_gemm_weights **weights);

/* The kernel that the weights were packed for. */
pq_kernel_row pq_gemm_weights_kernel(const pq_gemm_weights *weights);

/* Only the checks of pq_gemm_s8s8_pack (the program validator calls it). */
PQ_NODISCARD pq_status pq_gemm_s8s8_check(const pq_exec *exec, const pq_gemm_pack_args *args);

/* y = x times packed weights. x: m rows, ldx elements apart; y: of the packed y_type. */
PQ_NODISCARD pq_status pq_gemm_s8s8(const pq_exec *exec, size_t m, const int8_t *x, size_t ldx,
                                    const pq_gemm_weights *weights, void *y, size_t ldy);

/* The same with the caller's workspace of pq_gemm_workspace bytes (64-byte aligned; the size
 * depends on the weights and on exec->num_threads, not on m): no allocation in a call. */
size_t pq_gemm_workspace(const pq_exec *exec, const pq_gemm_weights *weights);
PQ_NODISCARD pq_status pq_gemm_s8s8_in(const pq_exec *exec, size_t m, const int8_t *x, size_t ldx,
                                       const pq_gemm_weights *weights, void *y, size_t ldy,
                                       void *workspace, size_t workspace_size);

/* What follows the product, done on each block of it while the block is in cache: the bits are
 * those of the ops one after the other (elementwise.h), the product itself is not written out.
 * At most one of table and add is given.
 *
 *   table   256 bytes; the product is PQ_S8:        y = table[(uint8)(product + 128)]
 *   add     constants of y = add(product, b): of the struct's fields n, period, a, b and y are not
 *           read; a_type is the product's y_type (PQ_S8 or PQ_S16), y has add->y_type
 *   b       m, n of add->b_type, rows ldb elements apart; y may be b where types and ld agree */
typedef struct pq_gemm_epilogue {
    const int8_t *table;
    const pq_add_args *add;
    const void *b;
    size_t ldb;
} pq_gemm_epilogue;

/* pq_gemm_s8s8_in with an epilogue (NULL: none). The workspace is larger by what
 * pq_gemm_fused_workspace says, which depends on the same things and on whether add is given. */
size_t pq_gemm_fused_workspace(const pq_exec *exec, const pq_gemm_weights *weights,
                               const pq_gemm_epilogue *epilogue);
PQ_NODISCARD pq_status pq_gemm_s8s8_fused_in(const pq_exec *exec, size_t m, const int8_t *x,
                                             size_t ldx, const pq_gemm_weights *weights,
                                             const pq_gemm_epilogue *epilogue, void *y, size_t ldy,
                                             void *workspace, size_t workspace_size);

#endif
