/* What the AVX-512 variants of attention share. They differ in the multiply-add and, with it, in
 * how many elements a 32-bit unit holds: two s16 (vpmaddwd, vpdpwssd) or four bytes (vpdpbusd). A
 * step of any of them multiplies a unit of the left operand, broadcast, with a vector of 16 units,
 * so that one driver, one tile and one layout serve them all:
 *
 *   keys    [k/16][d / unit][16][unit]     values  [d/16][k / unit][16][unit]
 *   tile    6 rows x up to 4 vectors: 24 sums, 4 loads and a broadcast in 32 registers
 *
 * One query by itself takes the AVX2 path: it waits for memory. */
#ifndef PYQUANT_ATTENTION_ATTENTION_AVX512_H
#define PYQUANT_ATTENTION_ATTENTION_AVX512_H

#include "attention/attention_direct_avx2.h"
#include "core/simd_avx512.h"

enum {
    PQ_TILE_ROWS = 6,
    PQ_TILE_VECTORS = 4,
    PQ_LANES = 16,
    PQ_VECTOR = 64 /* bytes */
};

/* One product: rows x (16 * vectors) sums, 64 bytes apart from vector to vector. */
typedef struct pq_product {
    const char *a; /* units of the left operand, rows `a_stride` bytes apart */
    size_t a_stride;
    const char *b; /* packed vectors, blocks of 16 columns `b_stride` bytes apart */
    size_t b_stride;
    size_t steps;
    const int32_t *bias; /* of each column, or NULL */
    int32_t *sums;
    size_t sums_stride; /* s32 */
} pq_product;

typedef void pq_multiply_fn(size_t rows, size_t vectors, const pq_product *product);

/* What the scores with 16 packed keys begin with. */
typedef void pq_bias_fn(const pq_attention_args *args, const char *block, size_t steps,
                        int32_t *bias);

/* How a variant (and a softmax method) works. */
typedef struct pq_attention_form {
    size_t key_unit, value_unit; /* elements of 32 bits */
    pq_bias_fn *bias;            /* where key_unit is 4, else NULL */
    pq_multiply_fn *scores, *output;
    pq_softmax_panel_fn *softmax; /* weights as value_unit wants them */
} pq_attention_form;

typedef struct pq_attention_shape {
    size_t key_blocks, key_steps;     /* of 16 keys, of units of d */
    size_t value_blocks, value_steps; /* of 16 elements of d, of units of keys */
    size_t bias_size, keys_size;      /* bytes of what lies before the values */
    size_t panel_stride;              /* s32 */
    size_t q_stride;                  /* bytes */
    size_t rows;
} pq_attention_shape;

/* As on AVX2: rows of scores stay in L2, and a block stays short. */
static inline size_t pq_block_rows(const pq_attention_args *args) {
    if (pq_is_direct(args)) {
        return 1;
    }
    if (args->k_len * PQ_ATTENTION_ROWS_MAX <= (size_t)1 << 16) {
        return PQ_ATTENTION_ROWS_MAX;
    }
    const size_t rows = ((size_t)1 << 26) / (args->k_len * args->head_dim + 1);
    return rows < 1 ? 1 : rows < PQ_TILE_ROWS ? rows : PQ_TILE_ROWS;
}

static inline pq_attention_shape pq_shape_of(const pq_attention_args *args,
                                             const pq_attention_form *form) {
    const size_t key_blocks = pq_round_up(args->k_len, PQ_LANES) / PQ_LANES;
    const size_t key_steps = pq_round_up(args->head_dim, form->key_unit) / form->key_unit;
    const size_t panel = pq_round_up(args->k_len, 2 * PQ_SOFTMAX_STEP);
    return (pq_attention_shape){
        .key_blocks = key_blocks,
        .key_steps = key_steps,
        .value_blocks = pq_round_up(args->head_dim, PQ_LANES) / PQ_LANES,
        .value_steps = pq_round_up(args->k_len, form->value_unit) / form->value_unit,
        .bias_size = form->key_unit == 4 ? key_blocks * PQ_VECTOR : 0,
        .keys_size = key_blocks * key_steps * PQ_VECTOR,
        /* an odd number of cache lines, so that rows do not fall on one set */
        .panel_stride = panel + 16,
        .q_stride = pq_round_up(args->head_dim * 4 / form->key_unit, PQ_VECTOR) + PQ_VECTOR,
        .rows = pq_block_rows(args),
    };
}

static inline size_t pq_packed_bytes(const pq_attention_args *args, const pq_attention_form *form) {
    const pq_attention_shape s = pq_shape_of(args, form);
    return pq_is_direct(args)
               ? 0
               : s.bias_size + s.keys_size + s.value_blocks * s.value_steps * PQ_VECTOR;
}

static inline size_t pq_scratch_bytes(const pq_attention_args *args,
                                      const pq_attention_form *form) {
    const pq_attention_shape s = pq_shape_of(args, form);
    return pq_is_direct(args) ? pq_direct_scratch(args)
                              : s.rows * (s.panel_stride * sizeof(int32_t) + s.q_stride);
}

/* Rows of 16 units to vectors of the 16 rows' units. */
PQ_INLINE void pq_transpose_16(__m512i r[16]) {
    __m512i t[16];
    PQ_UNROLL
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    PQ_UNROLL
    for (int i = 0; i < 4; i++) { /* r[4i + u]: unit u of each 128 bits, of rows 4i .. 4i + 3 */
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    PQ_UNROLL
    for (int u = 0; u < 4; u++) { /* a 4 x 4 transpose of 128-bit parts */
        const __m512i a = _mm512_shuffle_i32x4(r[u], r[u + 4], 0x44);
        const __m512i b = _mm512_shuffle_i32x4(r[u], r[u + 4], 0xee);
        const __m512i c = _mm512_shuffle_i32x4(r[u + 8], r[u + 12], 0x44);
        const __m512i d = _mm512_shuffle_i32x4(r[u + 8], r[u + 12], 0xee);
        t[u] = _mm512_shuffle_i32x4(a, c, 0x88);
        t[u + 4] = _mm512_shuffle_i32x4(a, c, 0xdd);
        t[u + 8] = _mm512_shuffle_i32x4(b, d, 0x88);
        t[u + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
    memcpy(r, t, sizeof t);
}

/* Up to `width` (at most 64) bytes and then zeros. */
PQ_INLINE __m512i pq_load_bytes(const int8_t *at, size_t count, size_t width) {
    const size_t n = count < width ? count : width;
    return _mm512_maskz_loadu_epi8(n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1, at);
}

/* Keys [begin, end) of whole blocks of 16, filled up with zero keys (whose scores are excluded). */
static inline void pq_pack_keys_512(const pq_attention_args *args, const pq_attention_form *form,
                                    const pq_attention_shape *s, const int8_t *k, size_t begin,
                                    size_t end, char *packed) {
    const size_t d = args->head_dim, wide = form->key_unit * PQ_LANES; /* elements a transpose */
    for (size_t j = begin; j < end; j += PQ_LANES) {
        char *const block = packed + j / PQ_LANES * s->key_steps * PQ_VECTOR;
        for (size_t c = 0; c < d; c += wide) {
            __m512i unit[16];
            for (size_t i = 0; i < PQ_LANES; i++) {
                unit[i] = _mm512_setzero_si512();
                if (j + i < args->k_len) {
                    const int8_t *const row = k + (ptrdiff_t)(j + i) * args->k_strides.token + c;
                    const __m512i bytes = pq_load_bytes(row, d - c, wide);
                    unit[i] = form->key_unit == 4
                                  ? bytes
                                  : _mm512_cvtepi8_epi16(_mm512_castsi512_si256(bytes));
                }
            }
            pq_transpose_16(unit);
            const size_t first = c / form->key_unit;
            for (size_t i = 0; i < PQ_LANES && first + i < s->key_steps; i++) {
                _mm512_store_si512(block + (first + i) * PQ_VECTOR, unit[i]);
            }
        }
    }
}

/* Values [begin, end); begin is a multiple of the unit. A key beyond the end has weight 0. */
static inline void pq_pack_values_512(const pq_attention_args *args, const pq_attention_form *form,
                                      const pq_attention_shape *s, const int8_t *v, size_t begin,
                                      size_t end, char *packed) {
    const __m256i zero_point = _mm256_set1_epi16((int16_t)args->v_zero_point);
    const size_t unit = form->value_unit;
    for (size_t j = begin; j < end; j += unit) {
        const int8_t *row[4];
        for (size_t i = 0; i < 4; i++) {
            const size_t token = j + i < args->k_len ? j + i : j;
            row[i] = v + (ptrdiff_t)token * args->v_strides.token;
        }
        for (size_t block = 0; block < s->value_blocks; block++) {
            const size_t c = block * PQ_LANES, left = args->head_dim - c;
            char *const to = packed + (block * s->value_steps + j / unit) * PQ_VECTOR;
            const __m128i r0 = pq_load_s8(row[0] + c, left), r1 = pq_load_s8(row[1] + c, left);
            const __m128i low = _mm_unpacklo_epi8(r0, r1), high = _mm_unpackhi_epi8(r0, r1);
            if (unit == 2) { /* less the zero point, so that nothing is left to take off */
                pq_store_256(to, _mm256_sub_epi16(_mm256_cvtepi8_epi16(low), zero_point));
                pq_store_256(to + 32, _mm256_sub_epi16(_mm256_cvtepi8_epi16(high), zero_point));
                continue;
            }
            const __m128i r2 = pq_load_s8(row[2] + c, left), r3 = pq_load_s8(row[3] + c, left);
            const __m128i low_2 = _mm_unpacklo_epi8(r2, r3), high_2 = _mm_unpackhi_epi8(r2, r3);
            __m128i *const quads = (__m128i *)(void *)to;
            _mm_store_si128(quads, _mm_unpacklo_epi16(low, low_2));
            _mm_store_si128(quads + 1, _mm_unpackhi_epi16(low, low_2));
            _mm_store_si128(quads + 2, _mm_unpacklo_epi16(high, high_2));
            _mm_store_si128(quads + 3, _mm_unpackhi_epi16(high, high_2));
        }
    }
}

/* Keys and values [begin, end) of one key head; begin is a multiple of 16. */
static inline void pq_pack_512(const pq_attention_args *args, const pq_attention_form *form,
                               const pq_attention_shape *s, const int8_t *k, const int8_t *v,
                               size_t begin, size_t end, char *packed) {
    char *const keys = packed + s->bias_size;
    assert(begin % PQ_LANES == 0);
    pq_pack_keys_512(args, form, s, k, begin, end, keys);
    for (size_t j = begin; form->bias != NULL && j < end; j += PQ_LANES) {
        form->bias(args, keys + j / PQ_LANES * s->key_steps * PQ_VECTOR, s->key_steps,
                   (int32_t *)(void *)packed + j);
    }
    pq_pack_values_512(args, form, s, v, begin, end, keys + s->keys_size);
}

/* The query as key_unit wants it: q - z_q in s16, or q + 128 in u8 (whose 128 and z_q are in the
 * bias of the keys). Beyond d anything: keys are zero there. */
static inline void pq_prepare_query(const pq_attention_args *args, const pq_attention_form *form,
                                    const int8_t *q, char *to) {
    if (form->key_unit == 2) {
        pq_widen_query(args, q, (int16_t *)(void *)to);
        return;
    }
    const __m512i sign = _mm512_set1_epi8(-128);
    for (size_t c = 0; c < args->head_dim; c += PQ_VECTOR) {
        const __m512i bytes = pq_load_bytes(q + c, args->head_dim - c, PQ_VECTOR);
        _mm512_store_si512(to + c, _mm512_xor_si512(bytes, sign));
    }
}

/* Scores of a block of rows with its first `keys` keys, and a little beyond. */
static inline void pq_score_rows(const pq_attention_form *form, const pq_attention_shape *s,
                                 size_t count, size_t keys, const char *q, const char *packed,
                                 int32_t *panel) {
    for (size_t j = 0; j < keys; j += PQ_LANES * PQ_TILE_VECTORS) {
        const size_t left = (keys - j + PQ_LANES - 1) / PQ_LANES;
        for (size_t i = 0; i < count; i += PQ_TILE_ROWS) {
            const pq_product product = {
                .a = q + i * s->q_stride,
                .a_stride = s->q_stride,
                .b = packed + s->bias_size + j / PQ_LANES * s->key_steps * PQ_VECTOR,
                .b_stride = s->key_steps * PQ_VECTOR,
                .steps = s->key_steps,
                .bias = s->bias_size == 0 ? NULL : (const int32_t *)(const void *)packed + j,
                .sums = panel + i * s->panel_stride + j,
                .sums_stride = s->panel_stride,
            };
            form->scores(count - i < PQ_TILE_ROWS ? count - i : PQ_TILE_ROWS,
                         left < PQ_TILE_VECTORS ? left : PQ_TILE_VECTORS, &product);
        }
    }
}

/* Sixteen sums of a row to s8 (attention_avx2.h), as many as there are columns. */
PQ_INLINE void pq_write_sums(const pq_attention_args *args, __m512i x, const pq_row_scale *r,
                             int8_t *y, size_t columns) {
    const __m512i limit = _mm512_set1_epi32(r->limit), m = _mm512_set1_epi32(r->multiplier);
    const __m512i before = _mm512_set1_epi64(r->before);
    const __m128i shift = _mm_cvtsi32_si128(r->shift);
    x = _mm512_min_epi32(_mm512_max_epi32(x, _mm512_sub_epi32(_mm512_setzero_si512(), limit)),
                         limit);
    __m512i even = _mm512_add_epi64(_mm512_mul_epi32(x, m), before);
    __m512i odd = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(x, 32), m), before);
    even = _mm512_srl_epi64(even, shift);
    odd = _mm512_slli_epi64(_mm512_srl_epi64(odd, shift), 32);
    x = _mm512_add_epi32(_mm512_mask_blend_epi32(0xaaaa, even, odd), _mm512_set1_epi32(r->after));
    x = _mm512_max_epi32(x, _mm512_set1_epi32(args->out.quant_min));
    x = _mm512_min_epi32(x, _mm512_set1_epi32(args->out.quant_max));
    const unsigned mask = columns >= PQ_LANES ? 0xffffu : (1u << columns) - 1;
    _mm_mask_storeu_epi8(y, (__mmask16)mask, _mm512_cvtepi32_epi8(x));
}

/* Weights times values, requantized. y is the first row of the block; `weights` are the sums of weights. */
static inline void pq_output_rows(const pq_attention_args *args, const pq_attention_form *form,
                                  const pq_attention_shape *s, size_t count, size_t keys,
                                  const int32_t *panel, const char *values, const uint32_t *weights,
                                  const uint32_t *divisors, int8_t *y) {
    pq_row_scale scale[PQ_ATTENTION_ROWS_MAX];
    for (size_t i = 0; i < count; i++) {
        scale[i] = pq_make_row_scale(args, divisors[i]);
    }
    for (size_t block = 0; block < s->value_blocks; block += PQ_TILE_VECTORS) {
        const size_t left = s->value_blocks - block;
        const size_t vectors = left < PQ_TILE_VECTORS ? left : PQ_TILE_VECTORS;
        for (size_t i = 0; i < count; i += PQ_TILE_ROWS) {
            _Alignas(64) int32_t sums[PQ_TILE_ROWS * PQ_TILE_VECTORS * PQ_LANES];
            const size_t rows = count - i < PQ_TILE_ROWS ? count - i : PQ_TILE_ROWS;
            const pq_product product = {
                .a = (const char *)(panel + i * s->panel_stride),
                .a_stride = s->panel_stride * sizeof(int32_t),
                .b = values + block * s->value_steps * PQ_VECTOR,
                .b_stride = s->value_steps * PQ_VECTOR,
                .steps = (keys + form->value_unit - 1) / form->value_unit,
                .sums = sums,
                .sums_stride = PQ_TILE_VECTORS * PQ_LANES,
            };
            form->output(rows, vectors, &product);
            for (size_t r = i; r < i + rows; r++) {
                /* |O - z_v * sum P| < 2^31 (attention.h): the difference may wrap on the way */
                const uint32_t offset =
                    form->value_unit == 4 ? (uint32_t)args->v_zero_point * weights[r] : 0;
                for (size_t v = 0; v < vectors; v++) {
                    const int32_t *const sum = sums + ((r - i) * PQ_TILE_VECTORS + v) * PQ_LANES;
                    const size_t c = (block + v) * PQ_LANES;
                    pq_write_sums(args,
                                  _mm512_sub_epi32(_mm512_load_si512(sum),
                                                   _mm512_set1_epi32((int32_t)offset)),
                                  &scale[r], y + (ptrdiff_t)r * args->y_strides.token + c,
                                  args->head_dim - c);
                }
            }
        }
    }
}

static inline void pq_run_512(const pq_attention_args *args, const pq_attention_form *form,
                              const pq_attention_rows *rows, const void *packed, void *scratch) {
    if (pq_is_direct(args)) {
        pq_direct_row(args, rows, scratch);
        return;
    }
    const pq_attention_shape s = pq_shape_of(args, form);
    const size_t count = rows->end - rows->begin;
    const size_t keys = pq_visible_keys(args, rows->end - 1); /* no row of the block sees more */
    int32_t *const panel = scratch;
    char *const q = (char *)(panel + s.rows * s.panel_stride);
    uint32_t weights[PQ_ATTENTION_ROWS_MAX], divisors[PQ_ATTENTION_ROWS_MAX];
    assert(0 < count && count <= s.rows && s.rows <= PQ_ATTENTION_ROWS_MAX);
    for (size_t i = 0; i < count; i++) {
        pq_prepare_query(args, form,
                         args->q + pq_token_offset(args->q_strides, rows->batch, rows->group,
                                                   rows->head, rows->begin + i),
                         q + i * s.q_stride);
    }
    pq_score_rows(form, &s, count, keys, q, packed, panel);
    pq_weigh_rows(args, rows, keys, 2 * PQ_SOFTMAX_STEP, form->softmax, panel, s.panel_stride, weights,
                  divisors);
    pq_output_rows(args, form, &s, count, keys, panel,
                   (const char *)packed + s.bias_size + s.keys_size, weights, divisors,
                   args->y + pq_token_offset(args->y_strides, rows->batch, rows->group, rows->head,
                                             rows->begin));
}

#endif
