/* The register tile of the NEON dot-product files: up to 6 rows x 16 columns of s32 sums.
 *
 *   to[i][j] = from[i][j] + sum_p a[i][p] * w[p][j]          modulo 2^32
 *
 * a is read in place, 16 bytes of a row at a time: its lanes are four groups of four k. w is packed
 * as [k / 4][16 columns][4], so that a vector is four k of four columns; with four bits a weight,
 * two columns share a byte (pq_dot_type). 24 sums, 6 vectors of a and up to 2 of w fill the 32
 * registers: 22 loads for 96 dot products of vectors. Other tiles: 8 x 12 loads 20 for 96, but
 * wants a repacked, and 12 divides neither head sizes nor most widths; 4 x 16 loads 20 for 64.
 */
#ifndef PYQUANT_CORE_NEON_DOT_H
#define PYQUANT_CORE_NEON_DOT_H

#include <stddef.h>

#include "core/simd_neon.h"
#include "core/unroll.h"

#define PQ_DOT_INLINE static inline __attribute__((always_inline))

typedef enum pq_dot_type {
    PQ_DOT_S8, /* a and w: s8 */
    PQ_DOT_U8, /* a and w: u8 */
    /* a: s8, w: s4 as [k / 4][2][4 columns][4 k], columns 8v + c in the low and 8v + 4 + c in the
     * high half of a byte, in two's complement: shifts extend the sign and need no constant, for
     * which there is no register left. */
    PQ_DOT_S8S4
} pq_dot_type;

enum {
    PQ_DOT_ROWS = 6,
    PQ_DOT_COLUMNS = 16,
    PQ_DOT_STEP = 16, /* k of a vector of a */
};

/* Strides in elements. */
typedef struct pq_dot_tile {
    const int8_t *a; /* steps of 16 k, a_step apart */
    size_t lda, a_step, steps;
    const int8_t *a_tail; /* rows of 16: then `tail_groups` (0 .. 4) of four k */
    size_t tail_groups;
    const int8_t *w;
    const int32_t *from; /* stride 0: one row for all */
    size_t from_stride;
    int32_t *to;
    size_t to_stride;
} pq_dot_tile;

/* Sums that begin at zero: from, with stride 0. */
static const int32_t pq_dot_zeros[PQ_DOT_COLUMNS];

/* Bytes of four k of w. */
PQ_DOT_INLINE size_t pq_dot_group_size(pq_dot_type type) {
    return type == PQ_DOT_S8S4 ? 2 * PQ_DOT_COLUMNS : 4 * PQ_DOT_COLUMNS;
}

/* Columns 4c .. 4c + 3 of the group at w. */
PQ_DOT_INLINE int8x16_t pq_dot_weights(pq_dot_type type, const int8_t *w, int c) {
    if (type != PQ_DOT_S8S4) {
        return vld1q_s8(w + 16 * c);
    }
    const int8x16_t both = vld1q_s8(w + c / 2 * 16);
    return vshrq_n_s8(c % 2 == 0 ? vshlq_n_s8(both, 4) : both, 4);
}

/* One group of four k: the lane is part of the instruction, hence the macro. */
#define PQ_DOT_GROUP(lane) \
    PQ_UNROLL \
    for (int c = 0; c < 4; c++) { \
        const int8x16_t b = pq_dot_weights(type, w + (lane)*pq_dot_group_size(type), c); \
        PQ_UNROLL \
        for (int i = 0; i < rows; i++) { \
            acc[i][c] = type == PQ_DOT_U8 \
                            ? vreinterpretq_s32_u32(vdotq_laneq_u32( \
                                  vreinterpretq_u32_s32(acc[i][c]), vreinterpretq_u8_s8(b), \
                                  vreinterpretq_u8_s8(v[i]), lane)) \
                            : vdotq_laneq_s32(acc[i][c], b, v[i], lane); \
        } \
    }

/* `rows` and `type` are constants where this is inlined, so that the sums are registers. */
PQ_DOT_INLINE void pq_dot_fixed(int rows, pq_dot_type type, const pq_dot_tile *t) {
    int32x4_t acc[PQ_DOT_ROWS][4];
    int8x16_t v[PQ_DOT_ROWS];
    const int8_t *a = t->a, *w = t->w;
    const size_t lda = t->lda, a_step = t->a_step;
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        PQ_UNROLL
        for (int c = 0; c < 4; c++) {
            acc[i][c] = vld1q_s32(t->from + (size_t)i * t->from_stride + 4 * c);
        }
    }
    for (size_t p = t->steps; p > 0; p--) {
        PQ_UNROLL
        for (int i = 0; i < rows; i++) {
            v[i] = vld1q_s8(a + (size_t)i * lda);
        }
        PQ_DOT_GROUP(0)
        PQ_DOT_GROUP(1)
        PQ_DOT_GROUP(2)
        PQ_DOT_GROUP(3)
        a += a_step;
        w += 4 * pq_dot_group_size(type);
    }
    if (t->tail_groups > 0) {
        PQ_UNROLL
        for (int i = 0; i < rows; i++) {
            v[i] = vld1q_s8(t->a_tail + i * PQ_DOT_STEP);
        }
        PQ_DOT_GROUP(0)
        if (t->tail_groups > 1) {
            PQ_DOT_GROUP(1)
        }
        if (t->tail_groups > 2) {
            PQ_DOT_GROUP(2)
        }
        if (t->tail_groups > 3) {
            PQ_DOT_GROUP(3)
        }
    }
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        PQ_UNROLL
        for (int c = 0; c < 4; c++) {
            vst1q_s32(t->to + (size_t)i * t->to_stride + 4 * c, acc[i][c]);
        }
    }
}

/* One body for each number of rows, 1 .. 6. */
PQ_DOT_INLINE void pq_dot_rows(size_t rows, pq_dot_type type, const pq_dot_tile *t) {
    switch (rows) {
    case 1: pq_dot_fixed(1, type, t); break;
    case 2: pq_dot_fixed(2, type, t); break;
    case 3: pq_dot_fixed(3, type, t); break;
    case 4: pq_dot_fixed(4, type, t); break;
    case 5: pq_dot_fixed(5, type, t); break;
    default: pq_dot_fixed(6, type, t); break;
    }
}

#endif
