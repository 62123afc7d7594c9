/* levels: float32 onto a codebook, the common form of all quantizers whose steps are not equal.
 *
 *     v     = fl32(x / scale[c])                  c = (i / inner) % channels
 *     code  = number of thresholds t with t <= v
 *     x_hat = fl32(levels[code] * scale[c])
 *
 * | operand    | shape        | rule                                                            |
 * | levels     | [count]      | strictly ascending, |L| <= 2^24, 1 <= count <= 256              |
 * | thresholds | [count - 1]  | strictly ascending, |T| <= 2^24                                 |
 * | scale      | [channels]   | in [2^-100, 2^100]; channels, inner >= 1 where n > 0            |
 * | x, x_hat   | n floats     | x_hat may be x, else they do not overlap                        |
 * | mask       | (n + 7) / 8  | bit i % 8 of byte i / 8: levels[0] <= v <= levels[count - 1];    |
 * |            |              | the bits behind the last are 0; NULL where nobody wants it       |
 * | codes      | n bytes      |                                                                 |
 *
 * A value on a threshold belongs above it. Whoever derives a codebook puts each threshold at the
 * least float32 that its paper's rounding sends up, so that a tie that rounds down is the next
 * float (pyquant/quantizers/codebooks.py). -0 is 0. x = +-inf saturates and is outside; NaN is
 * PQ_ERR_NAN, naming its index (but where the output has replaced it), and nothing is promised
 * about the outputs then. No product overflows: 2^124.
 *
 * Gradients (g is dL/dx_hat):
 *     straight through  dx = g inside the mask, else +0 (pq_fake_backward)
 *     learned scale     dx likewise, and with d = fl32(levels[code] - v) inside, levels[0] below,
 *                       levels[count - 1] above (the derivative of x_hat to the scale, with the
 *                       rounding held straight through: LSQ, arXiv 1902.08153, eq. 3)
 *                       dscale[c] = factor * sum fl32(g * d)   in float64, rounded to float32 once
 *
 * The sum of a channel does not depend on threads or instruction set. Terms are float32, and with
 * inner > 1 or channels = 1 a channel's elements lie in runs of `inner` (or n):
 *     block   PQ_LEVELS_BLOCK elements of a run; element i of it is added to lane i % 16, in order,
 *             in float32; lanes are added in float64: lane i to lane i + 8, then + 4, + 2, + 1
 *     piece   PQ_LEVELS_PIECE elements of a run, or of a channel with shorter runs the next
 *             PQ_LEVELS_PIECE / inner whole runs: its blocks in order in float64
 * With inner = 1 and channels > 1 a block is PQ_LEVELS_ROWS elements of a column, added in order in
 * float32. Blocks, or pieces, are added in order in float64. A lane holds at most 128 terms, so
 * with u = 2^-24 the error is below (1 + 1 + 127) u / (1 - 129 u) = 7.7e-6 of sum |g d|: the
 * rounding of d, of the product and of the additions. A block whose float32 sum overflows is
 * infinite: g of 2^100 has no use. NaN and infinity in g go through, into dx and dscale.
 *
 * Statuses: PQ_ERR_VALUE, PQ_ERR_NAN, PQ_ERR_OVERFLOW, PQ_ERR_NOMEM, PQ_ERR_INTERRUPTED. Messages
 * begin with args->op, or the entry's own name.
 */
#ifndef PYQUANT_LEVELS_H
#define PYQUANT_LEVELS_H

#include <stddef.h>
#include <stdint.h>

#include "pyquant/exec.h"

#define PQ_LEVELS_MOST 256
#define PQ_LEVELS_LANES 16
#define PQ_LEVELS_BLOCK 2048
#define PQ_LEVELS_PIECE 65536
#define PQ_LEVELS_ROWS 128

typedef struct pq_levels_args {
    const char *op; /* what a message begins with, or NULL */
    size_t n;
    const float *scale;
    size_t channels, inner; /* 1, 1 for per tensor */
    const float *levels, *thresholds;
    size_t count;
} pq_levels_args;

PQ_NODISCARD pq_status pq_levels_values(const pq_exec *exec, const pq_levels_args *args,
                                        const float *x, float *x_hat, uint8_t *mask);
PQ_NODISCARD pq_status pq_levels_codes(const pq_exec *exec, const pq_levels_args *args,
                                       const float *x, uint8_t *codes);
/* dscale [channels] is written only on success. dx may be g or x. */
PQ_NODISCARD pq_status pq_levels_learned(const pq_exec *exec, const pq_levels_args *args,
                                         double factor, const float *x, const float *g, float *dx,
                                         float *dscale);

#endif
