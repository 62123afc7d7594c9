/* Sums over signed bytes, eight at a time in a 64-bit word: packing and checks of weights go through
 * all of them, at every forward of a simulation.
 *
 * sum: w + 128 is unsigned; its even and odd bytes are added in lanes of 16 bits. size: |w| of a
 * byte is (w ^ s) + m with s = 255 and m = 1 where w < 0, at most 128, without a carry to the next
 * byte. A step adds at most 2 * 255 to a lane, so that 128 steps stay below 2^16. */
#ifndef PYQUANT_CORE_BYTE_SUMS_H
#define PYQUANT_CORE_BYTE_SUMS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/sizes.h"

#define PQ_LOW_BYTES UINT64_C(0x00ff00ff00ff00ff)
enum { PQ_BYTE_STEPS = 128 };

static inline uint64_t pq_byte_pairs(uint64_t bytes) {
    return (bytes & PQ_LOW_BYTES) + (bytes >> 8 & PQ_LOW_BYTES);
}

static inline uint64_t pq_fold_lanes(uint64_t lanes) {
    return (lanes & 0xffff) + (lanes >> 16 & 0xffff) + (lanes >> 32 & 0xffff) + (lanes >> 48);
}

/* The sum of n weights and, through `size`, of their magnitudes. */
static inline int64_t pq_byte_sums(size_t n, const int8_t *w, uint64_t *size) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const size_t words = n / 8;
    int64_t sum = -(int64_t)(words * 8 * 128);
    uint64_t total = 0;
    for (size_t i = 0; i < words;) {
        const size_t end = pq_min_size(words, i + PQ_BYTE_STEPS);
        uint64_t offset = 0, magnitude = 0;
        for (; i < end; i++) {
            uint64_t v;
            memcpy(&v, w + 8 * i, sizeof v);
            const uint64_t minus = v >> 7 & ones;
            offset += pq_byte_pairs(v ^ ones << 7);
            magnitude += pq_byte_pairs((v ^ ((minus << 8) - minus)) + minus);
        }
        sum += (int64_t)pq_fold_lanes(offset);
        total += pq_fold_lanes(magnitude);
    }
    for (size_t i = 8 * words; i < n; i++) {
        sum += w[i];
        total += (uint64_t)(w[i] < 0 ? -w[i] : w[i]);
    }
    *size = total;
    return sum;
}

#endif
