/* Sums of at most 32767 s16 fit in s32, also with the zero points taken off (elementwise.h). */
#include "core/unroll.h"
#include "elementwise/elementwise_kernel.h"
#include "elementwise/elementwise_neon.h"
#include "elementwise/mean_kernel.h"

/* 8 * COUNT columns: the sums stay in registers over all rows. */
static inline __attribute__((always_inline)) void columns(const pq_mean_args *args,
                                                          const pq_neon_output *out, int count,
                                                          size_t x_begin, size_t y_begin) {
    const int32x4_t multiplier = vdupq_n_s32(args->requant.multiplier);
    const int64x2_t shift = vdupq_n_s64(-args->requant.shift);
    const int32x4_t start = vdupq_n_s32(-(int32_t)args->reduce * args->x_zero_point);
    pq_s32x8 sums[4];
    PQ_UNROLL
    for (int j = 0; j < count; j++) {
        sums[j] = (pq_s32x8){start, start};
    }
    for (size_t r = 0; r < args->reduce; r++) {
        PQ_UNROLL
        for (int j = 0; j < count; j++) {
            const int16x8_t v =
                pq_neon_load_8(args->x_type, args->x, x_begin + r * args->inner + 8 * (size_t)j);
            sums[j].low = vaddw_s16(sums[j].low, vget_low_s16(v));
            sums[j].high = vaddw_high_s16(sums[j].high, v);
        }
    }
    PQ_UNROLL
    for (int j = 0; j < count; j++) {
        pq_requantize_8(out, sums[j], multiplier, shift, args->y_type, args->y,
                        y_begin + 8 * (size_t)j);
    }
}

/* inner = 1: one contiguous row. A pair sum is at most 2^16 in size and a lane adds 2^12 of them.
 */
static int32_t row_sum(pq_dtype type, const void *x, size_t begin, size_t n) {
    int32x4_t sums = vdupq_n_s32(0);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        sums = vpadalq_s16(sums, pq_neon_load_8(type, x, begin + i));
    }
    int32_t sum = vaddvq_s32(sums);
    for (; i < n; i++) {
        sum += pq_load(type, x, begin + i);
    }
    return sum;
}

static void run(const pq_mean_args *args, size_t outer, size_t inner_begin, size_t inner_end) {
    const size_t x_row = outer * args->reduce * args->inner, y_row = outer * args->inner;
    if (args->inner == 1) {
        const int32_t sum = row_sum(args->x_type, args->x, x_row, args->reduce) -
                            (int32_t)args->reduce * args->x_zero_point;
        pq_store(args->y_type, args->y, y_row,
                 pq_requantize(sum, args->requant.multiplier, args->requant.shift, args->out));
        return;
    }
    const pq_neon_output out = pq_neon_output_of(args->out);
    size_t i = inner_begin;
    for (; i + 32 <= inner_end; i += 32) {
        columns(args, &out, 4, x_row + i, y_row + i);
    }
    for (; i + 8 <= inner_end; i += 8) {
        columns(args, &out, 1, x_row + i, y_row + i);
    }
    pq_mean_ref.run(args, outer, i, inner_end);
}

const struct pq_mean_kernel pq_mean_neon = {.run = run};
