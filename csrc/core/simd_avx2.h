/* The only header through which *_avx2.c files see intrinsics. */
#ifndef PYQUANT_CORE_SIMD_AVX2_H
#define PYQUANT_CORE_SIMD_AVX2_H

#include <immintrin.h>

#endif
