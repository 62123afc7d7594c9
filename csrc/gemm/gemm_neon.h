/* What follows the sums in the NEON gemm kernels: bias, requantization, store. Their `lanes` is 1,
 * so that the 64-bit shifts stand in column order. The rounding shift and saturating narrowings
 * (core/neon_output.h) make low, high, round and post unnecessary.
 */
#ifndef PYQUANT_GEMM_GEMM_NEON_H
#define PYQUANT_GEMM_GEMM_NEON_H

#include <string.h>

#include "core/neon_output.h"
#include "gemm/gemm_s8s8_kernel.h"

enum { PQ_GEMM_NEON_COLUMNS = 16 }; /* of a panel and of a tile of sums */

/* The constants of four columns; shifts are negative. */
typedef struct pq_gemm_columns_4 {
    int32x4_t bias, multiplier;
    int64x2_t shift_01, shift_23;
} pq_gemm_columns_4;

static inline pq_gemm_columns_4 pq_gemm_columns_at(const pq_gemm_weights *weights, size_t j) {
    const int64_t *shift = (const int64_t *)weights->shift + j;
    return (pq_gemm_columns_4){vld1q_s32(weights->bias + j), vld1q_s32(weights->multiplier + j),
                               vnegq_s64(vld1q_s64(shift)), vnegq_s64(vld1q_s64(shift + 2))};
}

/* rnu(acc), saturated. */
static inline int32x4_t pq_gemm_rescale_4(const pq_gemm_columns_4 *c, const int32_t *sums) {
    const int32x4_t acc = vaddq_s32(vld1q_s32(sums), c->bias);
    return pq_neon_round_4(vmull_s32(vget_low_s32(acc), vget_low_s32(c->multiplier)),
                           vmull_high_s32(acc, c->multiplier), c->shift_01, c->shift_23);
}

/* Columns j .. j + 7 of a tile, `columns` of them wanted, in all rows: the constants stay in
 * registers. */
static inline void pq_gemm_finish_8(const pq_gemm_weights *weights, size_t j, size_t rows,
                                    size_t columns, const int32_t *sums, char *y, size_t y_stride) {
    const pq_gemm_columns_4 low = pq_gemm_columns_at(weights, j);
    const pq_gemm_columns_4 high = pq_gemm_columns_at(weights, j + 4);
    const pq_neon_output out = pq_neon_output_of(weights->out);
    const size_t size = pq_dtype_size(weights->y_type);
    for (size_t i = 0; i < rows; i++, sums += PQ_GEMM_NEON_COLUMNS, y += y_stride) {
        const int16x8_t v = pq_neon_clamp_8(&out, pq_gemm_rescale_4(&low, sums),
                                            pq_gemm_rescale_4(&high, sums + 4));
        if (columns >= 8) {
            pq_neon_store_8(weights->y_type, y, 0, v);
        } else {
            int16_t partial[8];
            pq_neon_store_8(weights->y_type, partial, 0, v);
            memcpy(y, partial, columns * size);
        }
    }
}

/* The same where y is the accumulator itself. */
static inline void pq_gemm_finish_s32(const pq_gemm_weights *weights, size_t j, size_t rows,
                                      size_t columns, const int32_t *sums, char *y,
                                      size_t y_stride) {
    for (size_t i = 0; i < rows; i++, sums += PQ_GEMM_NEON_COLUMNS, y += y_stride) {
        int32_t row[PQ_GEMM_NEON_COLUMNS];
        for (size_t c = 0; c < PQ_GEMM_NEON_COLUMNS; c += 4) {
            vst1q_s32(row + c, vaddq_s32(vld1q_s32(sums + c), vld1q_s32(weights->bias + j + c)));
        }
        memcpy(y, row, columns * sizeof *row);
    }
}

/* One tile of sums, `rows` x `columns` of it wanted, to row `row` of the block and column j of y.
 */
static inline void pq_gemm_finish_tile(const pq_gemm_weights *weights, const pq_gemm_block *block,
                                       size_t row, size_t rows, size_t j, size_t columns,
                                       const int32_t *sums) {
    const size_t size = pq_dtype_size(weights->y_type), stride = block->ldy * size;
    char *const y = (char *)block->y + (row * block->ldy + j - block->column_begin) * size;
    if (weights->y_type == PQ_S32) {
        pq_gemm_finish_s32(weights, j, rows, columns, sums, y, stride);
        return;
    }
    pq_gemm_finish_8(weights, j, rows, columns, sums, y, stride);
    if (columns > 8) {
        pq_gemm_finish_8(weights, j + 8, rows, columns - 8, sums + 8, y + 8 * size, stride);
    }
}

#endif
