/* softmax_rows: softmax over the rows of an s8 or s16 array, as an op by itself.
 *
 * Over one row x[0..n), by one of the methods of softmax.h:
 *   Delta  = max_j x - x[j]                                    (the zero point of x cancels)
 *   P, L   = the method's weights of Delta, and what they are to be divided by
 *   y[j]   = clamp(rnu(P[j], m_r, s_r) + z_y, quant_min, quant_max)
 *   t = (multiplier << 32) / L,  b = bitlen(t),  m_r = t >> (b - 31),  s_r = shift + 63 - b
 * with requant = dyadic(1 / s_y): the normalisation of attention.h, with 1 in the place of s_v.
 *
 * operand  shape    layout
 * x        rows, n  s8 or s16, contiguous
 * y        rows, n  s8 or s16, contiguous; may be x itself (same type) or not overlap it
 *
 * Edges: rows = 0 or n = 0 is a no-op. No element is excluded, so that a row has a maximum. Rows
 * whose weights are all 0 (a table of a file may say so) give P = 0, L = 1, hence y = clamp(z_y).
 *
 * Bounds. Delta <= 65535. sum P <= 2^31 - 1 is checked, by the method's bound for n scores; L is
 * then at most twice that (SOLE), below 2^32. P < 2^15 and m_r < 2^31: P * m_r < 2^46. s_r in
 * [1, 62] for every L that can be: checked, so P * m_r + 2^(s_r - 1) < 2^62. From s_r = 47 on every
 * y is clamp(z_y): 2^46 + 2^46 is not above 2^47. Relative error of m_r below 2^-30.
 *
 * Source: docs/numerics/softmax_rows.md. Specification: tests/spec/softmax_rows.py.
 */
#ifndef PYQUANT_SOFTMAX_ROWS_H
#define PYQUANT_SOFTMAX_ROWS_H

#include "pyquant/exec.h"
#include "pyquant/softmax.h"
#include "pyquant/types.h"

typedef struct pq_softmax_rows_args {
    size_t rows, n;
    pq_dtype x_type, y_type; /* PQ_S8 or PQ_S16 each */
    const void *x;
    void *y;
    pq_softmax softmax;
    pq_dyadic requant; /* of 1 / s_y */
    pq_clamp out;
} pq_softmax_rows_args;

/* Every rule above that depends on constants and sizes (not on data). */
PQ_NODISCARD pq_status pq_softmax_rows_check(const pq_exec *exec, const pq_softmax_rows_args *args);

/* Checks, then runs; workspace is allocated inside (one block a call). */
PQ_NODISCARD pq_status pq_softmax_rows(const pq_exec *exec, const pq_softmax_rows_args *args);

/* The same with the caller's workspace of pq_softmax_rows_workspace bytes (64-byte aligned). */
size_t pq_softmax_rows_workspace(const pq_exec *exec, const pq_softmax_rows_args *args);
PQ_NODISCARD pq_status pq_softmax_rows_in(const pq_exec *exec, const pq_softmax_rows_args *args,
                                          void *workspace, size_t workspace_size);

#endif
