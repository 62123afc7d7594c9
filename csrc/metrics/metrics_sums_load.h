/* How variants get at their operands.
 *
 * Integers to floats, one rounding each: nothing depends on the width, so that every variant
 * compiles the same loop with its own flags. */
#ifndef PYQUANT_METRICS_SUMS_LOAD_H
#define PYQUANT_METRICS_SUMS_LOAD_H

#include <stddef.h>
#include <stdint.h>

#include "pyquant/metrics.h"

/* Not in emulated builds, whose -O1 has no vectorizer and where clang then warns. */
#if defined(_OPENMP) && !defined(PQ_SIMDE)
#define PQ_LOAD_SIMD _Pragma("omp simd")
#else
#define PQ_LOAD_SIMD
#endif

/* Asks for what lies one block further, which is read next: two arrays at 8 bytes an element leave
 * the loop waiting for memory, and the hardware's own prefetch ends at each page. 0.46 -> 0.35 ns
 * an element at 32 MB an array (Sapphire Rapids). Behind the end nothing is read. */
static inline void prefetch_next_block(const float *p) {
    __builtin_prefetch((const void *)((uintptr_t)p + sizeof(float) * PQ_METRICS_BLOCK));
}

static void from_s8(size_t n, const int8_t *q, int32_t zero_point, float scale, float *y) {
    PQ_LOAD_SIMD
    for (size_t i = 0; i < n; i++) {
        y[i] = (float)(q[i] - zero_point) * scale;
    }
}

static void from_s16(size_t n, const int16_t *q, int32_t zero_point, float scale, float *y) {
    PQ_LOAD_SIMD
    for (size_t i = 0; i < n; i++) {
        y[i] = (float)(q[i] - zero_point) * scale;
    }
}

#endif
