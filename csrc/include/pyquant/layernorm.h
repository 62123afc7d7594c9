/* layernorm: LayerNorm and RMSNorm of s8 or s16 rows, exact to half a unit of Q16.
 *
 * Over one row x[0..C) (LayerNorm; RMSNorm uses x - z_x, S1 = 0, see below):
 *   S1 = sum x,   V = C * sum x^2 - S1^2,   W = max(V + E, 1),   E = rne(C^2 * eps / s_x^2)
 *   k = clz64(W) & ~1,   r = isqrt(W << k)  (floor, 32 bits),   m_r = min(2^62 / r, 2^31 - 1)
 *   z = rnu(C * x - S1, m_r, 46 - k/2)                      the normalised value in Q16, |z| < 2^24
 *   y = clamp(((z * gain[c] + offset[c] + 2^(s-1)) >> s) + z_y, quant_min, quant_max)  "rnu_affine"
 *
 * LayerNorm does not see the input's zero point: C * x - S1 is invariant to it.
 * RMSNorm: V = C * sum (x - z_x)^2 and z = rnu(C * (x - z_x), ...).
 *
 * operand  shape     layout
 * x        rows, C   s8 or s16, contiguous
 * gain     C         s32; derive makes rne(gamma / s_y * 2^(s-16))
 * offset   C         s64; derive makes rne(beta / s_y * 2^s), |offset| < 2^61
 * y        rows, C   s8 or s16, contiguous; may be x itself (same type) or not overlap it
 *
 * Edges: rows = 0 is a no-op; C in [1, 32767].
 *
 * Bounds. |x| <= 2^15 (RMSNorm |x - z_x| <= 2^16): sum x^2 <= 2^15 * 2^30 (2^47), V <= C * sum x^2
 * < 2^60 (2^62), and E <= 2^61 is checked, so W < 2^63. W << k lies in [2^62, 2^64), so r is in
 * [2^31, 2^32) and m_r in [2^30, 2^31). |C * x - S1| <= C * 65535 < 2^31 (RMSNorm: symmetric s16 or
 * s8 demanded by |x - z_x| <= 2^16 - 1, the same bound). s of rnu is 46 - k/2 in [15, 46].
 * |z * gain| < 2^55, |offset| < 2^61, 2^(s-1) <= 2^61: the sum fits in int64.
 *
 * A plain floor(sqrt(V)) is wrong for small variance (sqrt(3) -> 1); here W is normalised first.
 * Source: docs/numerics/layernorm.md. Specification: tests/spec/layernorm.py.
 */
#ifndef PYQUANT_LAYERNORM_H
#define PYQUANT_LAYERNORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pyquant/exec.h"
#include "pyquant/types.h"

typedef struct pq_layernorm_args {
    size_t rows, channels;
    pq_dtype x_type, y_type; /* PQ_S8 or PQ_S16 each */
    const void *x;
    void *y;
    bool rms;
    int32_t x_zero_point; /* used by RMSNorm only */
    uint64_t epsilon;     /* E, <= 2^61 */
    const int32_t *gain;  /* C */
    const int64_t *offset; /* C */
    int32_t shift;        /* s in [1, 62] */
    pq_clamp out;
} pq_layernorm_args;

PQ_NODISCARD pq_status pq_layernorm_check(const pq_exec *exec, const pq_layernorm_args *args);
PQ_NODISCARD pq_status pq_layernorm(const pq_exec *exec, const pq_layernorm_args *args);

#endif
