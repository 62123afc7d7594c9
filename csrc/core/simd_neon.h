/* The only header through which *_neon*.c files see intrinsics. */
#ifndef PYQUANT_CORE_SIMD_NEON_H
#define PYQUANT_CORE_SIMD_NEON_H

#if !defined(PQ_SIMDE)

#include <arm_neon.h>

#else

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/arm/neon.h>

#endif
#endif
