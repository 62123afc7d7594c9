/* What a variant of attention_online64_s8 is, and the factor that entry and variants share.
 *
 * An item of work is a block of rows of one query head. It reads keys and values as they are: a
 * variant that wants them packed packs a few blocks of 64 for all its rows, in its scratch.
 */
#ifndef PYQUANT_ATTENTION_ATTENTION_ONLINE64_S8_KERNEL_H
#define PYQUANT_ATTENTION_ATTENTION_ONLINE64_S8_KERNEL_H

#include "attention/attention_s8_kernel.h"
#include "pyquant/attention_online.h"

struct pq_attention_online64_s8_kernel {
    /* Queries that run() takes at once; it is given at most that many. */
    size_t (*rows)(const pq_attention_args *args);
    /* Bytes that run() scribbles on, one piece for each slot: a multiple of 64, free of k_len. */
    size_t (*scratch_size)(const pq_attention_args *args);
    void (*run)(const pq_attention_args *args, const pq_attention_rows *rows, void *scratch);
    /* Multiply-adds of a millisecond, roughly: sets the grain. */
    size_t macs_per_ms;
};

/* rne(2^15 * 2^(-j/32)) */
static const uint16_t pq_online_factors[33] = {
    32768, 32066, 31379, 30706, 30048, 29405, 28774, 28158, 27554, 26964, 26386,
    25821, 25268, 24726, 24196, 23678, 23170, 22674, 22188, 21713, 21247, 20792,
    20347, 19911, 19484, 19066, 18658, 18258, 17867, 17484, 17109, 16743, 16384,
};

/* The factor of a maximum that moves by delta: alpha and 15 + h of the header. */
static inline pq_dyadic pq_online_factor(const pq_softmax *softmax, uint32_t delta) {
    const uint32_t clamped = delta < softmax->delta_max ? delta : softmax->delta_max;
    const uint32_t product = clamped * softmax->multiplier;
    const uint32_t half = UINT32_C(1) << (softmax->shift - 1);
    if ((product + half) >> softmax->shift >= PQ_SOFTMAX_INDEX_END) {
        return (pq_dyadic){.multiplier = 0, .shift = 15};
    }
    const uint64_t x = ((uint64_t)product << 15) >> softmax->shift;
    const size_t j = x >> 15 & 31;
    const int32_t here = pq_online_factors[j], fall = here - pq_online_factors[j + 1];
    return (pq_dyadic){.multiplier = here - ((fall * (int32_t)(x & 32767) + (1 << 14)) >> 15),
                       .shift = (uint8_t)(15 + (x >> 20))};
}

#endif
