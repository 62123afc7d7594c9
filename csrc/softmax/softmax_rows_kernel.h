/* What a variant of softmax_rows is, and what the wide ones share: blocks of rows become panels of
 * scores in scratch memory, a method turns them into weights there, and each row of weights is
 * requantized with its own factor. */
#ifndef PYQUANT_SOFTMAX_SOFTMAX_ROWS_KERNEL_H
#define PYQUANT_SOFTMAX_SOFTMAX_ROWS_KERNEL_H

#include "core/elements.h"
#include "core/sizes.h"
#include "pyquant/softmax_rows.h"
#include "softmax/softmax_method.h"

struct pq_softmax_rows_kernel {
    /* Bytes that run() scribbles on, one piece for each slot: a multiple of 64. */
    size_t (*scratch_size)(const pq_softmax_rows_args *args);
    /* Rows [begin, end) of checked arguments, n > 0; scratch is aligned to 64 bytes. */
    void (*run)(const pq_softmax_rows_args *args, size_t begin, size_t end, void *scratch);
};

extern const struct pq_softmax_rows_kernel pq_softmax_rows_ref, pq_softmax_rows_avx2,
    pq_softmax_rows_avx512, pq_softmax_rows_neon;

/* Requantization of weights, which are below 2^15, without 64 bits. With m = high * 2^16 + low and
 * s >= 17, half of 2^s is a multiple of 2^16, so that
 *     (P * m + 2^(s-1)) >> s = (P * high + ((P * low) >> 16) + 2^(s-17)) >> (s - 16).
 * Up to s = 46 the sum is below 2^30 + 2^15 + 2^29; from 47 on the result is 0, as it is for m = 0.
 */
typedef struct pq_weight_scale {
    uint16_t high, low;
    int32_t half;
    int shift; /* s - 16 */
} pq_weight_scale;

/* False for s <= 16, where a weight of 1 is 2^14 steps of the output: no calibrated grid is so fine.
 */
static inline bool pq_weight_scale_of(pq_dyadic factor, pq_weight_scale *scale) {
    if (factor.shift < 17) {
        return false;
    }
    const bool none = factor.shift > 46;
    scale->high = (uint16_t)(none ? 0 : factor.multiplier >> 16);
    scale->low = (uint16_t)(none ? 0 : factor.multiplier & 0xffff);
    scale->shift = none ? 30 : factor.shift - 16;
    scale->half = INT32_C(1) << (scale->shift - 1);
    return true;
}

/* Rows of a panel: enough to share a method's constants, few enough to stay in a first-level cache.
 */
enum { PQ_SOFTMAX_ROWS_MOST = 16, PQ_SOFTMAX_ROWS_SCORES = 1 << 12 };

/* s32 from one row of a panel to the next: whole steps, and whole lines of cache. */
static inline size_t pq_softmax_rows_stride(const pq_softmax_rows_args *args, size_t step) {
    return pq_round_up(args->n, step);
}

static inline size_t pq_softmax_rows_block(const pq_softmax_rows_args *args, size_t step) {
    const size_t rows = PQ_SOFTMAX_ROWS_SCORES / pq_softmax_rows_stride(args, step);
    return rows < 1 ? 1 : pq_min_size(rows, PQ_SOFTMAX_ROWS_MOST);
}

static inline size_t pq_softmax_rows_scratch(const pq_softmax_rows_args *args, size_t step) {
    const size_t scores =
        pq_softmax_rows_block(args, step) * pq_softmax_rows_stride(args, step);
    return scores * sizeof(int32_t);
}

/* Scores of a row: n elements of x, then excluded ones up to `stride`. */
typedef void pq_softmax_widen_fn(const pq_softmax_rows_args *args, size_t row, size_t stride,
                                 int32_t *scores);
/* Outputs of a row from the weights that the method left at `weights`. */
typedef void pq_softmax_write_fn(const pq_softmax_rows_args *args, size_t row, pq_dyadic factor,
                                 const int32_t *weights);

/* A variant's run, with what is its own; x86 has methods that take panels. */
static inline void pq_softmax_rows_panels(const pq_softmax_rows_args *args, size_t begin,
                                          size_t end, int32_t *scratch, size_t step,
                                          pq_softmax_panel_fn *method, pq_softmax_widen_fn *widen,
                                          pq_softmax_write_fn *write) {
    const size_t stride = pq_softmax_rows_stride(args, step);
    const size_t block = pq_softmax_rows_block(args, step);
    const bool by_octaves = pq_softmax_by_octaves(args->softmax.method);
    uint32_t sums[PQ_SOFTMAX_ROWS_MOST], divisors[PQ_SOFTMAX_ROWS_MOST];
    size_t plain[PQ_SOFTMAX_ROWS_MOST];
    for (size_t i = 0; i < PQ_SOFTMAX_ROWS_MOST; i++) {
        plain[i] = args->n;
    }
    for (size_t first = begin; first < end; first += block) {
        const size_t count = pq_min_size(end - first, block);
        for (size_t i = 0; i < count; i++) {
            widen(args, first + i, stride, scratch + i * stride);
        }
        const pq_softmax_panel panel = {.rows = count,
                                        .n = stride,
                                        .stride = stride,
                                        .scores = scratch,
                                        .plain = plain,
                                        .sums = sums,
                                        .divisors = divisors};
        method(&args->softmax, &panel);
        for (size_t i = 0; i < count; i++) {
            const uint32_t l = !by_octaves ? divisors[i] : sums[i] == 0 ? 1 : sums[i];
            write(args, first + i, pq_softmax_normalizer(args->requant, l), scratch + i * stride);
        }
    }
}

#endif
