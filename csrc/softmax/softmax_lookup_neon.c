/* Methods whose exponentials are a table. NEON has no gather, and the index takes less time than the
 * load behind it: plain code, which leaves the bytes of weights where the NEON products want them. */
#include "softmax/softmax_bank.h"
#include "softmax/softmax_neon.h"

#include <assert.h>

/* The low bytes of 16 weights and then the high bytes: 32 bytes at 2j, after 64 at 4j were read. */
static uint32_t weigh_16(const pq_softmax *softmax, uint32_t sum, const int32_t *e, uint8_t *p) {
    uint32_t weights = 0;
    uint8_t bytes[2 * PQ_SOFTMAX_BYTES_STEP];
    for (size_t i = 0; i < PQ_SOFTMAX_BYTES_STEP; i++) {
        const uint16_t weight = pq_softmax_weight(softmax, sum, (uint32_t)e[i]);
        bytes[i] = (uint8_t)weight;
        bytes[PQ_SOFTMAX_BYTES_STEP + i] = (uint8_t)(weight >> 8);
        weights += weight;
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        p[i] = bytes[i];
    }
    return weights;
}

pq_softmax_sums pq_softmax_lookup_neon(const pq_softmax *softmax, size_t n, size_t plain,
                                       int32_t *row) {
    const uint32_t half = UINT32_C(1) << (softmax->shift - 1), end = softmax->entries - 1;
    int32_t highest = INT32_MIN;
    uint32_t sum = 0, weights = 0;
    (void)plain;
    assert(n % PQ_SOFTMAX_BYTES_STEP == 0);
    for (size_t j = 0; j < n; j++) {
        highest = row[j] > highest ? row[j] : highest;
    }
    for (size_t j = 0; j < n; j++) {
        const uint32_t delta = (uint32_t)highest - (uint32_t)row[j];
        const uint32_t clamped = delta < softmax->delta_max ? delta : softmax->delta_max;
        const uint32_t u = (clamped * softmax->multiplier + half) >> softmax->shift;
        row[j] = row[j] == PQ_SCORE_EXCLUDED ? 0 : softmax->exponentials[u < end ? u : end];
        sum += (uint32_t)row[j];
    }
    for (size_t j = 0; j < n; j += PQ_SOFTMAX_BYTES_STEP) {
        weights += weigh_16(softmax, sum, row + j, (uint8_t *)row + 2 * j);
    }
    return (pq_softmax_sums){.weights = weights, .divisor = pq_softmax_row_of(softmax, sum).divisor};
}
