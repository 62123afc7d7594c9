/* derive_unary: from a function, a method and two grids to the integer constants of unary.h.
 *
 *   method  gives                                                           parameters
 *   table   every function: the exact table, one rounding (derive.h)
 *   ibert   gelu, gelu_tanh by i-erf; silu, sigmoid, tanh, exp by i-exp     n, x_bits, bits
 *   ivit    gelu, gelu_tanh, quick_gelu, silu, sigmoid, exp by ShiftExp     n, bits, division,
 *                                                                           x_bits
 *   poly    gelu, gelu_tanh on erf; quick_gelu, silu, sigmoid, tanh on      x_bits
 *           tanh
 *   nnlut   every function                                                  entries, bits
 *
 * GELU by tanh is GELU within 5e-4, less than any of these errors: a method's GELU serves both.
 * sigmoid(x) = (1 + tanh(x / 2)) / 2 joins the two halves of poly's row.
 *
 * The unit. A curve of x takes gain * x: 1 / sqrt(2) for erf in GELU, 1.702 for the sigmoid in
 * ShiftGELU and quick_gelu (half of it for tanh), 2 for tanh by a sigmoid, 1/2 for a sigmoid by
 * tanh, else 1. Its integers count in
 *     S = clamp(gain * s_x, 2^-24, 2^7) * 2^-up,
 * up >= 0 the least for which a characteristic length has at least 2^x_bits units: the -b of erf
 * (1.769), the octave of exp (ln 2 for ibert; 1 for ivit, whose x is in log2), the beta of poly.
 * With x_bits = 0, up is 0: the integers as published, where a coarse grid leaves the constants a
 * bit or two. (The papers compute from accumulators, or retrain; s_x of 4 bits is near 1.)
 * The clamp changes no result that an int8 could show. Beyond 2^7 every v other than 0 is past the
 * top of erf, and exp(-128) < 2^-184; exp(128) is beyond every grid. Below 2^-24, |x| < 2^-16, and
 * no curve moves by more than 2^-16 of itself.
 *
 * Constants, in float64 in the order written:
 *   ibert erf  a = -0.2888, b = floor(-1.769 / S), c = floor(1 / (a * (S * S))), n the parameter or
 *              the least above it with (-c) >> n <= 2^22, S_L = a * (S * S) * 2^n,
 *              one = floor(1 / S_L)
 *   ibert exp  unit = ceil(ln2 / S), b = floor((0.96963238 / 0.35815147) / S),
 *              c = max(floor((1 / 0.35815147) / (S * S)), 1), clip = 30. Coefficients and clip are
 *              those of the released code: exp(0) is 1, and the error 1.9e-3, where the rounded
 *              ones of the paper, 0.3585 (p + 1.353)^2 + 0.344, have 2.1e-3
 *   ivit exp   unit = ceil(1 / S), clip = shift = min(n, 30 - bits of unit)
 *   poly       a, beta fitted (below), b = floor(-beta / S), square the least with
 *              (b * b) >> square < 2^15, U = ((S * S) * (S * S)) * 2^(2 square),
 *              c = floor(1 / (a * U)), n the least with (-c) >> n <= 2^22, S_L = a * U * 2^n, one
 *              as for erf
 *   shift      of ibert's sigmoid 30 - bits of c, so that exp(0) < 2^30; of exp itself such that
 *              2^31 - 1 stands for more than the top of y's grid, by at most three bits
 *   requant    dyadic of (unit of the result) / s_y; from 2^30 on (2^31 - 1, 1), with which
 *              everything but 0 saturates, as it must
 *
 * poly's fit. Over the points t_i = |v| * clamp(gain * s_x, 2^-24, 2^7) of x's grid, but for v = 0,
 * one weight each:
 *     minimise sum_i (1 + a * (min(t_i, beta) - beta)^4 - target(t_i))^2.
 * For a beta, a is a quotient of two sums, kept within a quarter of -1 / beta^4 (which makes L
 * continuous at 0). beta is the best of 33 steps of 1/16 in [2, 4], then of 33 steps of 1/256
 * around it: for erf and tanh, over every range tried, the error has one minimum there.
 *
 * nnlut's fit. The targets g_i = clamp(f(v * s_x) / s_y) are steps of y's grid. The best cut of x's
 * grid into at most `entries` runs, each with its line of least squares, by dynamic programming.
 * slope = rne(2^s * ...), intercept likewise, s in [0, 24] the largest with
 * |slope| < 2^(bits - 1) and |intercept| < 2^(bits + 7). The paper trains a network of one hidden
 * layer with ReLU, which is such a table; the table itself is fitted here.
 */
#ifndef PYQUANT_DERIVE_UNARY_H
#define PYQUANT_DERIVE_UNARY_H

#include <stdbool.h>

#include "pyquant/derive.h"
#include "pyquant/method.h"
#include "pyquant/unary.h"

/* Rows of method_unary.c. */
typedef enum pq_unary_method {
    PQ_UNARY_TABLE = 0,
    PQ_UNARY_IBERT,
    PQ_UNARY_IVIT,
    PQ_UNARY_POLY,
    PQ_UNARY_NNLUT,
    PQ_UNARY_METHOD_COUNT
} pq_unary_method;

/* Whether a method (its code) has the function. */
bool pq_unary_gives(int32_t method, pq_unary function);

/* PQ_ERR_VALUE for a function that the method does not give (the sentence lists those it does), and
 * for PQ_UNARY_TABLE, which has no such constants. */
PQ_NODISCARD pq_status pq_derive_unary(const pq_exec *exec, pq_unary function,
                                       const pq_method *method, pq_affine x, pq_affine y,
                                       pq_unary_constants *constants);

/* table[q + 128] = pq_unary_apply(q), or pq_derive_table for PQ_UNARY_TABLE. */
PQ_NODISCARD pq_status pq_derive_unary_table(const pq_exec *exec, pq_unary function,
                                             const pq_method *method, pq_affine x, pq_affine y,
                                             int8_t table[256]);

#endif
