#include "observe/observe_minmax_kernel.h"

static uint32_t each(size_t n, const float *x, float *minimum, float *maximum) {
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = pq_magnitude_bits(x[i]);
        largest = bits > largest ? bits : largest;
        minimum[i] = x[i] < minimum[i] ? x[i] : minimum[i];
        maximum[i] = x[i] > maximum[i] ? x[i] : maximum[i];
    }
    return largest;
}

static uint32_t run(size_t n, const float *x, float *minimum, float *maximum) {
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = each(1, x + i, minimum, maximum);
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

const struct pq_observe_minmax_kernel pq_observe_minmax_ref = {.run = run, .each = each};
