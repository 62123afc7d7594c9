/* What a variant of observe_histogram is: one pass that finds the range and counts.
 *
 * A piece of PQ_HISTOGRAM_PIECE values becomes bins in a buffer first. It is counted only if all of
 * it has |x| < 2^exponent, so that what a larger value, infinity or NaN makes of its bin is never
 * used; the caller then grows the exponent, and goes on from the start of that piece.
 *
 * Bins by float32. The scale s = 2^(10 - e) is a normal float32 for -117 <= e <= 128 (below, the
 * reference in float64 counts). v = x s is exact, since only the exponent changes, unless |v| <
 * 2^-126: there it may have become 0, with which floor would be 0 for a negative x too. So -2^-126
 * is added where x < 0:
 *     v = 0 or subnormal      the sum lies in [-2^-125, -2^-126], floor -1 as it should be
 *     v an integer <= -1      the spacing of floats there is >= 2^-24: the sum rounds back to v
 *     else k < v < k + 1      v - k >= 2^-24 for k <= -2, and for k = -1 where v <= -1/2; rounding
 *                             is monotone, so that k <= the sum <= v, and floor is k. For k = -1
 *                             and v > -1/2 the sum is in (-1, 0).
 * No step has a subnormal operand that matters, so that a mode which flushes them changes nothing.
 */
#ifndef PYQUANT_OBSERVE_HISTOGRAM_KERNEL_H
#define PYQUANT_OBSERVE_HISTOGRAM_KERNEL_H

#include "core/unroll.h"
#include "observe/observe_minmax_kernel.h"
#include "pyquant/observe.h"

#define PQ_HISTOGRAM_PIECE 512
#define PQ_HISTOGRAM_HALF (PQ_HISTOGRAM_BINS / 2)
#define PQ_HISTOGRAM_HALF_BITS 10
#define PQ_HISTOGRAM_FLOAT_LEAST (-117) /* the least exponent for which float32 does */

/* By turns: an increment that follows one of the same counter waits some 5 cycles for its store.
 * Tables a multiple of 4 KiB apart would wait for each other likewise, where values repeat: stores
 * are told from loads by 12 bits of the address. Eight tables are no faster on data that vary, and
 * slower where they leave the first cache. */
#define PQ_HISTOGRAM_ROW (PQ_HISTOGRAM_BINS + 16)
#define PQ_HISTOGRAM_TABLES 4

struct pq_observe_histogram_kernel {
    /* Adds values to the tables, whose sum alone matters, and merges them into *minimum and
     * *maximum, up to the first piece with a value of |x| >= 2^exponent or NaN. Returns how many
     * that are: n, or a multiple of the piece. n < 2^32; exponent in [-148, 128]. */
    size_t (*count)(size_t n, const float *x, int32_t exponent,
                    uint32_t tables[PQ_HISTOGRAM_TABLES][PQ_HISTOGRAM_ROW], float *minimum,
                    float *maximum);
};

extern const struct pq_observe_histogram_kernel pq_observe_histogram_ref, pq_observe_histogram_avx2,
    pq_observe_histogram_avx512, pq_observe_histogram_neon;

/* Magnitude bits of 2^exponent: those of every |x| below are smaller, of infinity and NaN not. */
static inline uint32_t pq_histogram_limit(int32_t exponent) {
    return exponent > -127 ? (uint32_t)(exponent + 127) << 23 : UINT32_C(1) << (exponent + 149);
}

/* The float 2^(10 - exponent). */
static inline float pq_histogram_scale(int32_t exponent) {
    const uint32_t bits = (uint32_t)(127 + PQ_HISTOGRAM_HALF_BITS - exponent) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

/* Counts the bins of one piece. */
static inline void pq_histogram_add(const int32_t bins[PQ_HISTOGRAM_PIECE],
                                    uint32_t tables[PQ_HISTOGRAM_TABLES][PQ_HISTOGRAM_ROW]) {
    for (int i = 0; i < PQ_HISTOGRAM_PIECE; i += 8) {
        PQ_UNROLL
        for (int j = 0; j < 8; j++) {
            tables[j % PQ_HISTOGRAM_TABLES][(uint32_t)bins[i + j]]++;
        }
    }
}

#endif
