/* What a variant of observe_minmax is.
 *
 * Both functions return the largest |x| as a bit pattern: patterns of non-negative floats are
 * ordered as the floats are, infinity is 0x7f800000 and NaN lies above. With that in hand it does
 * not matter what min and max make of a NaN: the caller throws the result away. The sign of a zero
 * among them does not matter either: the caller makes it +0. */
#ifndef PYQUANT_OBSERVE_MINMAX_KERNEL_H
#define PYQUANT_OBSERVE_MINMAX_KERNEL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PQ_INFINITY_BITS UINT32_C(0x7f800000)

struct pq_observe_minmax_kernel {
    /* Merges n values into one *minimum and one *maximum. */
    uint32_t (*run)(size_t n, const float *x, float *minimum, float *maximum);
    /* Merges x[i] into minimum[i] and maximum[i]. */
    uint32_t (*each)(size_t n, const float *x, float *minimum, float *maximum);
};

extern const struct pq_observe_minmax_kernel pq_observe_minmax_ref, pq_observe_minmax_avx2,
    pq_observe_minmax_avx512, pq_observe_minmax_neon;

static inline uint32_t pq_magnitude_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & UINT32_C(0x7fffffff);
}

#endif
