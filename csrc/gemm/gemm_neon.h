/* What the NEON gemm kernels share: a tile of sums over a range of k, and what follows the sums
 * (bias, requantization, store). The rounding shift and the saturating narrowings of
 * core/neon_output.h make low, high, round and post unnecessary.
 */
#ifndef PYQUANT_GEMM_GEMM_NEON_H
#define PYQUANT_GEMM_GEMM_NEON_H

#include <string.h>

#include "core/neon_dot.h"
#include "core/neon_output.h"
#include "gemm/gemm_s8s8_kernel.h"

enum {
    PQ_GEMM_NEON_LANES = 4,
    PQ_GEMM_NEON_TILE = PQ_DOT_ROWS * PQ_DOT_COLUMNS /* sums */
};

/* A register tile of core/neon_dot.h of one type: not inlined, so that it has all registers. */
typedef void pq_gemm_multiply_fn(size_t rows, const pq_dot_tile *tile);

/* sums = from + x * w over k, `from` as in pq_dot_tile. x is read in place; only the last k % 16 of
 * a row are copied, so that nothing behind it is read. */
static inline void pq_gemm_sum_tile(pq_gemm_multiply_fn *multiply, size_t rows, const int8_t *x,
                                    size_t ldx, const int8_t *w, size_t k, const int32_t *from,
                                    size_t from_stride, int32_t *sums) {
    const size_t steps = k / PQ_DOT_STEP, tail = k % PQ_DOT_STEP;
    int8_t padded[PQ_DOT_ROWS * PQ_DOT_STEP];
    if (tail > 0) {
        memset(padded, 0, sizeof padded);
        for (size_t i = 0; i < rows; i++) {
            memcpy(padded + i * PQ_DOT_STEP, x + i * ldx + steps * PQ_DOT_STEP, tail);
        }
    }
    const pq_dot_tile tile = {.a = x,
                              .lda = ldx,
                              .a_step = PQ_DOT_STEP,
                              .steps = steps,
                              .a_tail = padded,
                              .tail_groups = (tail + 3) / 4,
                              .w = w,
                              .from = from,
                              .from_stride = from_stride,
                              .to = sums,
                              .to_stride = PQ_DOT_COLUMNS};
    multiply(rows, &tile);
}

/* The constants of four columns; shifts are negative. */
typedef struct pq_gemm_columns_4 {
    int32x4_t bias, multiplier;
    int64x2_t shift_01, shift_23;
} pq_gemm_columns_4;

static inline pq_gemm_columns_4 pq_gemm_columns_at(const pq_gemm_weights *weights, size_t j) {
    const int64_t *shift = (const int64_t *)weights->shift + j; /* even columns, odd columns */
    const int64x2_t even = vnegq_s64(vld1q_s64(shift)), odd = vnegq_s64(vld1q_s64(shift + 2));
    return (pq_gemm_columns_4){vld1q_s32(weights->bias + j), vld1q_s32(weights->multiplier + j),
                               vzip1q_s64(even, odd), vzip2q_s64(even, odd)};
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
    for (size_t i = 0; i < rows; i++, sums += PQ_DOT_COLUMNS, y += y_stride) {
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
    for (size_t i = 0; i < rows; i++, sums += PQ_DOT_COLUMNS, y += y_stride) {
        int32_t row[PQ_DOT_COLUMNS];
        for (size_t c = 0; c < PQ_DOT_COLUMNS; c += 4) {
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
