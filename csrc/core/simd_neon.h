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

#endif
#endif
