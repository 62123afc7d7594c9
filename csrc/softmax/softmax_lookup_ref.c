#include "softmax/softmax_bank.h"
#include "softmax/softmax_method.h"

#include <assert.h>

/* "rnu32", as pq_softmax_table_ref has it; then the table. */
static uint32_t exponential(const pq_softmax *softmax, uint32_t delta) {
    const uint32_t clamped = delta < softmax->delta_max ? delta : softmax->delta_max;
    const uint32_t half = UINT32_C(1) << (softmax->shift - 1);
    const uint32_t u = (clamped * softmax->multiplier + half) >> softmax->shift;
    return (uint32_t)softmax->exponentials[u < softmax->entries ? u : softmax->entries - 1];
}

pq_softmax_sums pq_softmax_lookup_ref(const pq_softmax *softmax, size_t n, const int32_t *score,
                                      const uint8_t *keep, uint16_t *p) {
    int32_t highest = INT32_MIN;
    for (size_t j = 0; j < n; j++) {
        if (keep[j] && score[j] > highest) {
            highest = score[j];
        }
    }
    uint32_t sum = 0;
    for (size_t j = 0; j < n; j++) {
        sum += keep[j] ? exponential(softmax, (uint32_t)highest - (uint32_t)score[j]) : 0;
    }
    uint32_t weights = 0;
    for (size_t j = 0; j < n; j++) {
        p[j] = 0;
        if (keep[j]) {
            const uint32_t e = exponential(softmax, (uint32_t)highest - (uint32_t)score[j]);
            p[j] = pq_softmax_weight(softmax, sum, e);
            assert(p[j] <= softmax->pmax);
            weights += p[j];
        }
    }
    return (pq_softmax_sums){.weights = weights, .divisor = pq_softmax_row_of(softmax, sum).divisor};
}
