#include "softmax/softmax_method.h"

#include <assert.h>

/* "rnu32": the product and the rounding stay below 2^32 by the check of delta_max. */
static uint32_t softmax_index(const pq_softmax *softmax, uint32_t delta) {
    const uint32_t clamped = delta < softmax->delta_max ? delta : softmax->delta_max;
    const uint32_t half = UINT32_C(1) << (softmax->shift - 1);
    const uint32_t u = (clamped * softmax->multiplier + half) >> softmax->shift;
    return u < PQ_SOFTMAX_INDEX_END ? u : PQ_SOFTMAX_INDEX_END;
}

/* The table holds 2 * P, so that its own rounding and that of the octave are one bit apart. At
 * u = 480 the formula gives 0 by itself: T + 2^15 < 2^16. */
static uint16_t softmax_weight(const pq_softmax *softmax, uint32_t u) {
    const uint32_t octave = u >> 5;
    return (uint16_t)((softmax->table[u & 31] + (UINT32_C(1) << octave)) >> (octave + 1));
}

uint16_t pq_softmax_table_weight(const pq_softmax *softmax, uint32_t delta) {
    return softmax_weight(softmax, softmax_index(softmax, delta));
}

pq_softmax_sums pq_softmax_table_ref(const pq_softmax *softmax, size_t n, const int32_t *score,
                                     const uint8_t *keep, uint16_t *p) {
    int32_t highest = INT32_MIN;
    for (size_t j = 0; j < n; j++) {
        if (keep[j] && score[j] > highest) {
            highest = score[j];
        }
    }
    uint32_t sum = 0;
    for (size_t j = 0; j < n; j++) {
        p[j] = 0;
        if (keep[j]) {
            const uint32_t delta = (uint32_t)highest - (uint32_t)score[j];
            p[j] = pq_softmax_table_weight(softmax, delta);
            assert(p[j] <= softmax->pmax);
            sum += p[j];
        }
    }
    return (pq_softmax_sums){.weights = sum, .divisor = sum == 0 ? 1 : sum};
}
