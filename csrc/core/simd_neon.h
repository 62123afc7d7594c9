/* The only header through which *_neon*.c files see intrinsics.
 *
 * Natively it is arm_neon.h. Under -DPQ_SIMDE (the emulated test build on x86-64) the names map to
 * SIMDe, and what SIMDe 0.7.4 lacks is written out here, by the macros of simd_lanes.h.
 *
 * A kernel that needs one more intrinsic: call it; if the emulated build does not know it, one
 * entry below; then one row in tests/test_simd_*neon*.c, which a structure test demands.
 */
#ifndef PYQUANT_CORE_SIMD_NEON_H
#define PYQUANT_CORE_SIMD_NEON_H

#if !defined(PQ_SIMDE)

#include <arm_neon.h>

#else

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/arm/neon.h>

#include "core/simd_lanes.h"

/* Floats that no integer fits become the nearest one, NaN becomes 0. */
static inline int32_t pq_f64_s32_saturating(double value) {
    return value >= 0x1p31    ? INT32_MAX
           : value >= -0x1p31 ? (int32_t)value
           : value < 0        ? INT32_MIN
                              : 0;
}

#define vcvtnq_s32_f32 pq_vcvtnq_s32_f32
PQ_MAP1(int32x4_t, s32, vcvtnq_s32_f32, float32x4_t, pq_f64_s32_saturating(rint((double)x.f32[i])))
#define vdivq_f32 pq_vdivq_f32
PQ_MAP2(float32x4_t, f32, vdivq_f32, float32x4_t, float32x4_t, x.f32[i] / y.f32[i])

/* SIMDe's own are wrong: for some negative products, for shifts by the width and beyond, by one
 * rounding too many, and with NaN. */
static inline int64_t pq_shift_rounding(int64_t value, int by) {
    const int right = by < -63 ? 63 : -by - 1; /* all but one bit of the shift */
    return by > 63 ? 0 : by >= 0 ? (int64_t)((uint64_t)value << by) : ((value >> right) + 1) >> 1;
}

static inline int16_t pq_mul_rounding(int16_t a, int16_t b) {
    const int product = (a * b + 0x4000) >> 15;
    return (int16_t)(product > INT16_MAX ? INT16_MAX : product);
}

static inline float pq_higher(float a, float b) {
    return isnan(a) || isnan(b) ? NAN : a == b ? (signbit(a) ? b : a) : a > b ? a : b;
}

#undef vqrdmulhq_s16
#define vqrdmulhq_s16 pq_vqrdmulhq_s16
PQ_MAP2(int16x8_t, s16, vqrdmulhq_s16, int16x8_t, int16x8_t, pq_mul_rounding(x.s16[i], y.s16[i]))
#undef vqrdmulhq_n_s16
#define vqrdmulhq_n_s16 pq_vqrdmulhq_n_s16
PQ_MAP2(int16x8_t, s16, vqrdmulhq_n_s16, int16x8_t, int16_t, pq_mul_rounding(x.s16[i], y.s16[0]))
#undef vrshlq_s64
#define vrshlq_s64 pq_vrshlq_s64
PQ_MAP2(int64x2_t, s64, vrshlq_s64, int64x2_t, int64x2_t,
        pq_shift_rounding(x.s64[i], (int8_t)y.s64[i]))
#undef vfmaq_f32
#define vfmaq_f32 pq_vfmaq_f32
PQ_MAP3(float32x4_t, f32, vfmaq_f32, float32x4_t, float32x4_t, float32x4_t,
        fmaf(y.f32[i], z.f32[i], x.f32[i]))
#undef vmaxvq_f32
#define vmaxvq_f32 pq_vmaxvq_f32
PQ_REDUCE(float, f32, vmaxvq_f32, float32x4_t, pq_higher(a, b))

#endif
#endif
