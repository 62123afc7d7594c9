/* The only header through which *_avx2.c files see intrinsics: AVX2 is not emulated, every x86-64
 * machine that builds pyquant's tests has it. */
#ifndef PYQUANT_CORE_SIMD_AVX2_H
#define PYQUANT_CORE_SIMD_AVX2_H

#include <immintrin.h>

#endif
