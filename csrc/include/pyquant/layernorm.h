/* layernorm: LayerNorm and RMSNorm of s8 or s16 rows, by one of the methods of pq_norm_method.
 *
 * PQ_NORM_EXACT, exact to half a unit of Q16. Over one row x[0..C) (LayerNorm; RMSNorm uses x - z_x, S1 = 0, see below):
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
 *
 * PQ_NORM_IBERT, PQ_NORM_IVIT, PQ_NORM_IVIT_PUBLISHED: the root of the variance by integer Newton
 * steps k <- floor((k + floor(n / k)) / 2). m is the rounded mean (RMSNorm: z_x):
 *   m = floor((2 S1 + C) / (2 C)),  y = x - m,  var = max(sum y^2, 1),  std ~ sqrt(var)
 *   z = floor(y * floor(F / std) / 2)             the normalised value times 2^30 / sqrt(C)
 * and rnu_affine as above, with gain ~ gamma * sqrt(C) / s_y * 2^(s-30). With b the bits of var:
 *   IBERT           from 2^ceil(b/2) until k falls no more: floor(sqrt(var)); F = 2^31
 *   IVIT            from 2^ceil(b/2), `iterations` steps: converged after 5; F = 2^31 - 1
 *   IVIT_PUBLISHED  from 2^16, 10 steps: too large by up to 63 where std is below 256, and by up to
 *                   3e-5 of itself where var passes 2^45; F = 2^31 - 1
 * None has an epsilon: it must be 0. Bounds: |y| <= 65535, so var <= 2^15 * 2^32 = 2^47. A step
 * from any k >= 1 ends at floor(sqrt(var)) or above, the starts 2^ceil(b/2) are above already; so
 * |y| <= floor(sqrt(var)) <= std and |y| * F / std <= 2^31: |z| <= 2^30 and |z * gain| <= 2^61.
 *
 * PQ_NORM_PTF, powers-of-two factors: each channel is brought to 8 bits on a scale s1 * 2^alpha of
 * its own first, and the row's scale has a mantissa of 8 bits. With gain[c] signed:
 *   X = clamp(rnu(x - z_x, requant of shift + alpha[c]), -128 - z8, 127 - z8) << alpha[c]
 *   S1 = sum X (RMSNorm: 0),  V = C * sum X^2 - S1^2
 *   k = clz64(V) & ~1,  m_r as above of W = V,  h = k/2  (V = 0: m_r = 0, h = 6)
 *   u = floor((2^21 S1 + C) / (2 C))                         the mean of X in 2^-20
 *   a = |gain[c]| * m_r >> 32                                A = |gamma| s1 / (std s_y) ~ a / 2^t
 *   N = clamp(exponent[c] + 9 - h - (a >= 2^29), 0, 31),  d = exponent[c] + 30 - h - N
 *   T = (a >> d) * X - ((u * a + 2^(19+d)) >> (20 + d))      M X - A mean 2^N, M = floor(A 2^N)
 *   B = (offset[c] + 2^(31-N)) >> (32 - N)
 *   y = clamp(((sign(gain[c]) * T + B + floor(2^(N-1))) >> N) + z_y)
 * The shift must be 32. A row without variance gives its offset. Bounds: |X| <= 255 << 3 = 2040,
 * |S1| < 2^26, V < 2^15 * 2^15 * 2^22 = 2^52, hence h >= 6; |u| <= 2040 * 2^20 < 2^31; a < 2^30. d
 * is 21 or 22 where N is not clamped (M is 8 bits long), at most 36 + 30 - 6 - 31 = 29 where N is
 * 31, at least 1 + 30 - 31 = 0 where N is 0 (M then keeps the whole part of A, below 2^30). |T| <
 * 2^30 * 2^11 + 2^61 / 2^20 + 1 < 2^43, |B| <= 2^61: the sum fits in int64.
 *
 * x may be normalised by any method in place. Sources: I-BERT, arXiv:2101.01321, Alg. 4; I-ViT,
 * arXiv:2207.01405, I-LayerNorm; FQ-ViT, arXiv:2111.13824, Powers-of-Two Factor; derived in
 * docs/numerics/layernorm.md and layernorm_methods.md. Specifications: tests/spec/layernorm.py and
 * norm_methods.py. Statuses: PQ_ERR_VALUE, PQ_ERR_OVERFLOW (sizes).
 */
#ifndef PYQUANT_LAYERNORM_H
#define PYQUANT_LAYERNORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pyquant/exec.h"
#include "pyquant/types.h"

/* In the order of the registry (method.h), and as programs store them. */
typedef enum pq_norm_method {
    PQ_NORM_EXACT = 0,
    PQ_NORM_IBERT,
    PQ_NORM_IVIT,
    PQ_NORM_IVIT_PUBLISHED,
    PQ_NORM_PTF,
    PQ_NORM_METHOD_COUNT
} pq_norm_method;

#define PQ_NORM_ITERATIONS_MAX 16
#define PQ_NORM_ALPHA_MAX 3
#define PQ_NORM_EXPONENT_MAX 36
#define PQ_NORM_PTF_SHIFT 32

typedef struct pq_layernorm_args {
    size_t rows, channels;
    pq_dtype x_type, y_type; /* PQ_S8 or PQ_S16 each */
    const void *x;
    void *y;
    bool rms;
    int32_t x_zero_point; /* used by RMSNorm and by PTF only */
    uint64_t epsilon;     /* E, <= 2^61; EXACT only */
    const int32_t *gain;  /* C */
    const int64_t *offset; /* C */
    int32_t shift;        /* s in [1, 62] */
    pq_clamp out;
    pq_norm_method method;
    int32_t iterations; /* IVIT: [1, 16]; others 0 */
    /* PTF only, else 0 and NULL. |gain| is 0 or in [2^30, 2^31). */
    const uint8_t *alpha;    /* C, [0, 3] */
    const uint8_t *exponent; /* C, [1, 36] */
    pq_dyadic requant;       /* s_x / s1; multiplier in [2^30, 2^31), shift in [1, 59] */
    int32_t zero_point;      /* z8, in [-128, 127] */
} pq_layernorm_args;

PQ_NODISCARD pq_status pq_layernorm_check(const pq_exec *exec, const pq_layernorm_args *args);
PQ_NODISCARD pq_status pq_layernorm(const pq_exec *exec, const pq_layernorm_args *args);

#endif
