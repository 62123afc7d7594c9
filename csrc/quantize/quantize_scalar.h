/* One float onto a grid: the arithmetic of pq_quantize_f32 (quantize.h), for whoever handles single
 * values: the reference loop, tails of the SIMD loops, and derive's weights.
 *
 *   q = clamp(rne(x / scale), quant_min - z, quant_max - z) + z
 *
 * The quotient is clamped before it is rounded: the bounds are integers, so the two commute, and
 * what is left lies within +-2^17. There, adding 1.5 * 2^23 rounds to the nearest even integer
 * (one unit in the last place of the sum is 1) without a libm call, which baseline x86-64 needs for
 * nearbyintf. It relies on the default rounding mode, as everything here does.
 * x = +-inf saturates. NaN gives quant_min and has to be found by the caller.
 */
#ifndef PYQUANT_QUANTIZE_SCALAR_H
#define PYQUANT_QUANTIZE_SCALAR_H

#include <stdint.h>

static inline int32_t pq_quantize_scalar(float x, float scale, int32_t zero_point,
                                         int32_t quant_min, int32_t quant_max) {
    const float low = (float)(quant_min - zero_point), high = (float)(quant_max - zero_point);
    const float magic = 12582912.0f; /* 1.5 * 2^23 */
    float v = x / scale;
    v = v > low ? v : low; /* in this order NaN becomes `low`, as vmaxps(v, low) does */
    v = v < high ? v : high;
    return (int32_t)((v + magic) - magic) + zero_point;
}

#endif
