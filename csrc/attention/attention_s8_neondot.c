/* Both products run on dot products of bytes, 16 multiply-adds an instruction, in the register tile
 * of core/neon_dot.h:
 *
 *   q k    s8 x s8; the zero point of q is -z_q * sum_d k[j][d], where the sums of a key begin
 *   P v    u8 x u8: v' = v + 128, and P in bytes, P = 256 * high + low. Two passes over v' (one if
 *          pmax is a byte) are still twice as fast as multiply-adds of s16.
 *          O - z_v * sum P = sum P v' - (128 + z_v) * sum P
 *
 * All of it modulo 2^32, with results that fit (attention.h). Keys lie as [k/16][d/4][16][4],
 * values as [d/16][k/4][16][4].
 *
 * A block of rows owns a panel of scores, rows x k_len x 4 bytes: the row maximum is exact, and the
 * weights overwrite the scores they come from. */
#include "attention/attention_s8_kernel.h"
#include "softmax/softmax_neon.h"

#include <assert.h>
#include <string.h>

#include "core/neon_dot.h"
#include "core/neon_output.h"

enum {
    ROWS = PQ_DOT_ROWS,
    COLUMNS = PQ_DOT_COLUMNS,
    STEP = PQ_DOT_STEP,
    GROUP_SIZE = 4 * COLUMNS, /* bytes of four k of a packed panel */
    STEP_SIZE = 4 * GROUP_SIZE,
    P_STEP = 2 * STEP, /* 16 low bytes, 16 high bytes */
    TILE = ROWS * COLUMNS,
    BLOCK_TILES = 4 /* row tiles that share a packed panel while it is in L1 */
};

/* Derived sizes. */
typedef struct shape {
    size_t d_steps, key_steps; /* of 16 */
    size_t panel_stride;       /* s32 */
    size_t q_stride;           /* bytes */
    size_t rows;
} shape;

/* What a packed unit holds, in this order. */
typedef struct unit {
    int8_t *keys, *values;
    int32_t *start; /* a key: -z_q * sum of its elements */
} unit;

/* Four tiles while 24 rows of scores stay in L2 (2^16 scores are 256 KB), else one. A row over very
 * many keys is a few milliseconds of work by itself (2^26 keys x d): then fewer rows, so that a
 * block, which cannot be interrupted, stays short. */
static size_t block_rows(const pq_attention_args *args) {
    if (args->k_len * ROWS * BLOCK_TILES <= (size_t)1 << 16) {
        return ROWS * BLOCK_TILES;
    }
    const size_t rows = ((size_t)1 << 26) / (args->k_len * args->head_dim + 1);
    return rows < 1 ? 1 : rows < ROWS ? rows : ROWS;
}

static shape shape_of(const pq_attention_args *args) {
    const size_t d = pq_round_up(args->head_dim, STEP);
    return (shape){
        .d_steps = d / STEP,
        .key_steps = pq_round_up(args->k_len, STEP) / STEP,
        /* an odd number of cache lines, so that rows do not fall on one set */
        .panel_stride = pq_round_up(args->k_len, PQ_SOFTMAX_BYTES_STEP) + 16,
        .q_stride = pq_round_up(d, 64) + 64,
        .rows = block_rows(args),
    };
}

static unit unit_at(const shape *s, const void *packed) {
    int8_t *const keys = (int8_t *)packed;
    const size_t size = s->key_steps * s->d_steps * STEP_SIZE;
    return (unit){keys, keys + size, (int32_t *)(void *)(keys + 2 * size)};
}

static size_t packed_size(const pq_attention_args *args) {
    const shape s = shape_of(args);
    return s.key_steps * (2 * s.d_steps * STEP_SIZE + STEP * sizeof(int32_t));
}

static size_t scratch_size(const pq_attention_args *args) {
    const shape s = shape_of(args);
    return s.rows * (s.panel_stride * sizeof(int32_t) + s.q_stride);
}

/* Elements c .. c + 15 of token j of k or v; zeros beyond the last element and the last token. */
static inline int8x16_t load_token(const pq_attention_args *args, const int8_t *x, ptrdiff_t stride,
                                   size_t j, size_t c) {
    if (j >= args->k_len) {
        return vdupq_n_s8(0);
    }
    const int8_t *const at = x + (ptrdiff_t)j * stride + c;
    if (args->head_dim - c >= 16) {
        return vld1q_s8(at);
    }
    int8_t padded[16] = {0};
    memcpy(padded, at, args->head_dim - c);
    return vld1q_s8(padded);
}

/* 4 keys x 16 d: unit g of every key, four bytes, goes to group g. */
static inline void store_keys(const int8x16_t key[4], int8_t *packed) {
    int32x4_t v[4];
    PQ_UNROLL
    for (int i = 0; i < 4; i++) {
        v[i] = vreinterpretq_s32_s8(key[i]);
    }
    const int64x2_t a = vreinterpretq_s64_s32(vtrn1q_s32(v[0], v[1]));
    const int64x2_t b = vreinterpretq_s64_s32(vtrn1q_s32(v[2], v[3]));
    const int64x2_t c = vreinterpretq_s64_s32(vtrn2q_s32(v[0], v[1]));
    const int64x2_t d = vreinterpretq_s64_s32(vtrn2q_s32(v[2], v[3]));
    vst1q_s8(packed, vreinterpretq_s8_s64(vtrn1q_s64(a, b)));
    vst1q_s8(packed + GROUP_SIZE, vreinterpretq_s8_s64(vtrn1q_s64(c, d)));
    vst1q_s8(packed + 2 * GROUP_SIZE, vreinterpretq_s8_s64(vtrn2q_s64(a, b)));
    vst1q_s8(packed + 3 * GROUP_SIZE, vreinterpretq_s8_s64(vtrn2q_s64(c, d)));
}

/* Keys j .. j + 3, and where their scores begin. */
static void pack_keys(const pq_attention_args *args, const int8_t *k, size_t j, const shape *s,
                      const unit *to) {
    int8_t *const panel = to->keys + j / COLUMNS * s->d_steps * STEP_SIZE + j % COLUMNS * 4;
    int32_t sum[4] = {0};
    for (size_t step = 0; step < s->d_steps; step++) {
        int8x16_t key[4];
        PQ_UNROLL
        for (size_t i = 0; i < 4; i++) {
            key[i] = load_token(args, k, args->k_strides.token, j + i, step * STEP);
            sum[i] += vaddlvq_s8(key[i]);
        }
        store_keys(key, panel + step * STEP_SIZE);
    }
    for (size_t i = 0; i < 4; i++) {
        to->start[j + i] = -args->q_zero_point * sum[i];
    }
}

/* Values j .. j + 3; those beyond the last meet weights of 0. */
static void pack_values(const pq_attention_args *args, const int8_t *v, size_t j, const shape *s,
                        const unit *to) {
    const uint8x16_t offset = vdupq_n_u8(128);
    for (size_t step = 0; step < s->d_steps; step++) {
        uint8x16x4_t value;
        PQ_UNROLL
        for (size_t i = 0; i < 4; i++) {
            const int8x16_t x = load_token(args, v, args->v_strides.token, j + i, step * STEP);
            value.val[i] = veorq_u8(vreinterpretq_u8_s8(x), offset);
        }
        int8_t *const panel = to->values + step * s->key_steps * STEP_SIZE;
        vst4q_u8((uint8_t *)panel + j / 4 * GROUP_SIZE, value);
    }
}

static void pack(const pq_attention_args *args, size_t batch, size_t group, size_t kv_head,
                 size_t begin, size_t end, void *packed) {
    const shape s = shape_of(args);
    const unit to = unit_at(&s, packed);
    const int8_t *k = args->k + pq_token_offset(args->k_strides, batch, group, kv_head, 0);
    const int8_t *v = args->v + pq_token_offset(args->v_strides, batch, group, kv_head, 0);
    assert(begin % STEP == 0);
    for (size_t j = begin; j < pq_round_up(end, STEP); j += 4) {
        pack_keys(args, k, j, &s, &to);
        pack_values(args, v, j, &s, &to);
    }
}

/* The register tile of each type, not inlined, so that it has all registers. */
static __attribute__((noinline)) void multiply_s8(size_t rows, const pq_dot_tile *tile) {
    pq_dot_rows(rows, PQ_DOT_S8, tile);
}
static __attribute__((noinline)) void multiply_u8(size_t rows, const pq_dot_tile *tile) {
    pq_dot_rows(rows, PQ_DOT_U8, tile);
}

/* What turns the sums of one row into outputs; the shift is negative. */
typedef struct row_scale {
    int32_t multiplier, shift;
    uint32_t offset; /* (128 + z_v) * sum P */
} row_scale;

static row_scale make_row_scale(const pq_attention_args *args, pq_softmax_sums sums) {
    const pq_dyadic scale = pq_softmax_normalizer(args->requant, sums.divisor);
    return (row_scale){scale.multiplier, -scale.shift,
                       (uint32_t)(128 + args->v_zero_point) * sums.weights};
}

/* Four outputs before the zero point, from sums over the low and the high bytes of P. */
static inline int32x4_t normalize(const int32_t *low, const int32_t *high, const row_scale *scale) {
    const int32x4_t sum = vaddq_s32(vshlq_n_s32(vld1q_s32(high), 8), vld1q_s32(low));
    const uint32x4_t o = vsubq_u32(vreinterpretq_u32_s32(sum), vdupq_n_u32(scale->offset));
    const int32x4_t x = vreinterpretq_s32_u32(o), m = vdupq_n_s32(scale->multiplier);
    const int64x2_t shift = vdupq_n_s64(scale->shift);
    return pq_neon_round_4(vmull_s32(vget_low_s32(x), vget_low_s32(m)), vmull_high_s32(x, m), shift,
                           shift);
}

static void store_outputs(const pq_neon_output *out, const int32_t *low, const int32_t *high,
                          const row_scale *scale, int8_t *y, size_t columns) {
    int16x8_t half[2];
    PQ_UNROLL
    for (int h = 0; h < 2; h++) {
        half[h] = pq_neon_clamp_8(out, normalize(low + 8 * h, high + 8 * h, scale),
                                  normalize(low + 8 * h + 4, high + 8 * h + 4, scale));
    }
    const int8x16_t bytes = vmovn_high_s16(vmovn_s16(half[0]), half[1]);
    if (columns >= COLUMNS) {
        vst1q_s8(y, bytes);
    } else {
        int8_t all[COLUMNS];
        vst1q_s8(all, bytes);
        memcpy(y, all, columns);
    }
}

/* 16 columns of `rows` rows of y, from the weights p and a panel of values. */
static void output_tile(size_t rows, const pq_attention_args *args, const shape *s, const int8_t *p,
                        const int8_t *values, size_t steps, const row_scale *scale, int8_t *y,
                        size_t columns) {
    int32_t low[TILE], high[TILE] = {0};
    pq_dot_tile tile = {.a = p,
                        .lda = s->panel_stride * sizeof(int32_t),
                        .a_step = P_STEP,
                        .steps = steps,
                        .w = values,
                        .from = pq_dot_zeros,
                        .to = low,
                        .to_stride = COLUMNS};
    multiply_u8(rows, &tile);
    if (args->softmax.pmax > 255) {
        tile.a = p + STEP;
        tile.to = high;
        multiply_u8(rows, &tile);
    }
    const pq_neon_output out = pq_neon_output_of(args->out);
    for (size_t i = 0; i < rows; i++) {
        store_outputs(&out, low + i * COLUMNS, high + i * COLUMNS, &scale[i],
                      y + (ptrdiff_t)i * args->y_strides.token, columns);
    }
}

static void add_mask(const int32_t *mask, ptrdiff_t stride, size_t n, int32_t *row) {
    size_t j = 0;
    for (; stride == 1 && j + 4 <= n; j += 4) {
        vst1q_s32(row + j, vaddq_s32(vld1q_s32(row + j), vld1q_s32(mask + j)));
    }
    for (; j < n; j++) {
        row[j] = (int32_t)((uint32_t)row[j] + (uint32_t)mask[(ptrdiff_t)j * stride]);
    }
}

static void exclude(const uint8_t *keep, ptrdiff_t stride, size_t n, int32_t *row) {
    const int32x4_t excluded = vdupq_n_s32(PQ_SCORE_EXCLUDED);
    size_t j = 0;
    for (; stride == 1 && j + 8 <= n; j += 8) {
        const uint16x8_t bytes = vmovl_u8(vld1_u8(keep + j));
        const uint32x4_t low = vceqzq_u32(vmovl_u16(vget_low_u16(bytes)));
        const uint32x4_t high = vceqzq_u32(vmovl_high_u16(bytes));
        vst1q_s32(row + j, vbslq_s32(low, excluded, vld1q_s32(row + j)));
        vst1q_s32(row + j + 4, vbslq_s32(high, excluded, vld1q_s32(row + j + 4)));
    }
    for (; j < n; j++) {
        if (keep[(ptrdiff_t)j * stride] == 0) {
            row[j] = PQ_SCORE_EXCLUDED;
        }
    }
}

/* Masks and softmax of query i over a panel row of which `keys` scores exist. */
static pq_softmax_sums weigh_row(const pq_attention_args *args, const pq_attention_rows *rows,
                                 size_t i, size_t keys, int32_t *row) {
    const size_t visible = pq_visible_keys(args, i);
    const size_t n = pq_round_up(keys, PQ_SOFTMAX_BYTES_STEP);
    if (args->mask_add != NULL) {
        add_mask(args->mask_add + pq_mask_offset(args->mask_strides, rows, i),
                 args->mask_strides[4], visible, row);
    }
    if (args->keep != NULL) {
        exclude(args->keep + pq_mask_offset(args->keep_strides, rows, i), args->keep_strides[4],
                visible, row);
    }
    for (size_t j = visible; j < n; j++) {
        row[j] = PQ_SCORE_EXCLUDED;
    }
    pq_softmax_bytes_fn *const softmax = pq_softmax_by_octaves(args->softmax.method)
                                             ? pq_softmax_table_neon
                                             : pq_softmax_lookup_neon;
    return softmax(&args->softmax, n, args->keep != NULL ? 0 : visible, row);
}

/* Rows of the block into the scratch, filled up to whole steps: what stands beyond d meets keys of
 * zeros. */
static void copy_queries(const pq_attention_args *args, const pq_attention_rows *rows,
                         const shape *s, int8_t *q) {
    for (size_t i = rows->begin; i < rows->end; i++, q += s->q_stride) {
        const ptrdiff_t at =
            pq_token_offset(args->q_strides, rows->batch, rows->group, rows->head, i);
        memset(q + (s->d_steps - 1) * STEP, 0, STEP);
        memcpy(q, args->q + at, args->head_dim);
    }
}

static size_t tile_rows(size_t count, size_t tile) {
    return count - tile < ROWS ? count - tile : ROWS;
}

static void run(const pq_attention_args *args, const pq_attention_rows *rows, const void *packed,
                void *scratch) {
    const shape s = shape_of(args);
    const unit from = unit_at(&s, packed);
    const size_t count = rows->end - rows->begin;
    const size_t keys = pq_visible_keys(args, rows->end - 1); /* no row of the block sees more */
    int32_t *const panel = scratch;
    int8_t *const q = (int8_t *)(panel + s.rows * s.panel_stride);
    row_scale scale[ROWS * BLOCK_TILES];
    assert(0 < count && count <= s.rows && s.rows <= ROWS * BLOCK_TILES);

    copy_queries(args, rows, &s, q);
    for (size_t j = 0; j < keys; j += COLUMNS) {
        for (size_t i = 0; i < count; i += ROWS) {
            const pq_dot_tile tile = {.a = q + i * s.q_stride,
                                      .lda = s.q_stride,
                                      .a_step = STEP,
                                      .steps = s.d_steps,
                                      .w = from.keys + j * s.d_steps * STEP,
                                      .from = from.start + j,
                                      .to = panel + i * s.panel_stride + j,
                                      .to_stride = s.panel_stride};
            multiply_s8(tile_rows(count, i), &tile);
        }
    }
    for (size_t i = 0; i < count; i++) {
        scale[i] = make_row_scale(
            args, weigh_row(args, rows, rows->begin + i, keys, panel + i * s.panel_stride));
    }
    int8_t *const y = args->y + pq_token_offset(args->y_strides, rows->batch, rows->group,
                                                rows->head, rows->begin);
    const size_t steps = (keys + STEP - 1) / STEP;
    for (size_t c = 0; c < args->head_dim; c += COLUMNS) {
        const int8_t *values = from.values + c * s.key_steps * STEP;
        for (size_t i = 0; i < count; i += ROWS) {
            output_tile(tile_rows(count, i), args, &s, (const int8_t *)(panel + i * s.panel_stride),
                        values, steps, scale + i, y + (ptrdiff_t)i * args->y_strides.token + c,
                        args->head_dim - c);
        }
    }
}

const struct pq_attention_s8_kernel pq_attention_s8_neondot = {
    .rows = block_rows,
    .packed_size = packed_size,
    .scratch_size = scratch_size,
    .pack = pack,
    .run = run,
    .pack_step = STEP,
    .macs_per_ms = 8 * 1000 * 1000, /* an in-order core at 1 GHz: 8 multiply-adds a cycle */
};
