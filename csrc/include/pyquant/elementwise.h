/* Element by element: table, residual add, requantize, mean.
 *
 * table_s8   y[i] = table[(uint8)(x[i] + 128)]            any int8 -> int8 function, 256 bytes
 * requantize y[i] = clamp(rnu(x[i] - z_x, m, s) + z_y)    s8/s16 -> s8/s16
 * add        y[i] = clamp((((a[i] - z_a) * m_a + (b[i % period] - z_b) * m_b + 2^(s-1)) >> s) + z_y)
 *            "rnu2": two terms, one rounding; s8/s16 each, any mix
 * mean       y[o][i] = clamp(rnu(sum_r (x[o][r][i] - z_x), m, s) + z_y)      s8/s16 -> s8/s16
 *
 * All operands contiguous. y may be exactly x (or a, or b if period == n; for mean only if
 * reduce = 1) where the types agree; otherwise outputs may not overlap inputs. A zero point lies
 * inside its operand's type. n = 0 (or outer, inner = 0) is a no-op.
 *
 * Bounds. |x - z| <= 65535 < 2^16 for s16 (z is any s16). rnu: 2^16 * 2^31. add: the larger of
 * m_a, m_b lies in [2^30, 2^31), the other in [0, 2^31): |sum| <= 2 * 2^16 * 2^31 = 2^48, and with
 * 2^61 (s <= 62) it stays below 2^63.
 * mean: reduce in [1, 32767], |sum| < 2^31.
 * Rounding: half up. Source: docs/numerics/elementwise.md.
 */
#ifndef PYQUANT_ELEMENTWISE_H
#define PYQUANT_ELEMENTWISE_H

#include <stddef.h>
#include <stdint.h>

#include "pyquant/exec.h"
#include "pyquant/types.h"

PQ_NODISCARD pq_status pq_table_s8(const pq_exec *exec, size_t n, const int8_t *x,
                                   const int8_t table[256], int8_t *y);

typedef struct pq_requantize_args {
    size_t n;
    pq_dtype x_type, y_type;
    const void *x;
    void *y;
    int32_t x_zero_point;
    pq_dyadic requant;
    pq_clamp out;
} pq_requantize_args;

PQ_NODISCARD pq_status pq_requantize_check(const pq_exec *exec, const pq_requantize_args *args);
PQ_NODISCARD pq_status pq_requantize_n(const pq_exec *exec, const pq_requantize_args *args);

typedef struct pq_add_args {
    size_t n;
    size_t period; /* b repeats: period divides n; period == n is the plain add */
    pq_dtype a_type, b_type, y_type;
    const void *a, *b;
    void *y;
    int32_t a_zero_point, b_zero_point;
    int32_t a_multiplier, b_multiplier; /* >= 0; the larger in [2^30, 2^31) */
    int32_t shift;                      /* in [1, 62] */
    pq_clamp out;
} pq_add_args;

PQ_NODISCARD pq_status pq_add_check(const pq_exec *exec, const pq_add_args *args);
PQ_NODISCARD pq_status pq_add(const pq_exec *exec, const pq_add_args *args);

typedef struct pq_mean_args {
    size_t outer, reduce, inner; /* x is [outer, reduce, inner], y is [outer, inner] */
    pq_dtype x_type, y_type;
    const void *x;
    void *y;
    int32_t x_zero_point;
    pq_dyadic requant; /* of s_x / (reduce * s_y) */
    pq_clamp out;
} pq_mean_args;

PQ_NODISCARD pq_status pq_mean_check(const pq_exec *exec, const pq_mean_args *args);
PQ_NODISCARD pq_status pq_mean(const pq_exec *exec, const pq_mean_args *args);

#endif
