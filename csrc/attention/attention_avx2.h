/* What the AVX2 paths of attention share, and the AVX-512 ones for a single query: loads, masks and
 * softmax of a panel of scores, and the requantization of rows. */
#ifndef PYQUANT_ATTENTION_ATTENTION_AVX2_H
#define PYQUANT_ATTENTION_ATTENTION_AVX2_H

#include <assert.h>
#include <string.h>

#include "attention/attention_s8_kernel.h"
#include "softmax/softmax_method.h"
#include "core/simd_avx2.h"
#include "core/unroll.h"

#define PQ_INLINE static inline __attribute__((always_inline))

enum { PQ_ATTENTION_ROWS_MAX = 24 }; /* of one panel */

PQ_INLINE void pq_store_256(void *at, __m256i x) {
    _mm256_store_si256((__m256i *)at, x);
}
PQ_INLINE __m256i pq_load_256(const void *at) {
    return _mm256_load_si256((const __m256i *)at);
}

/* Sixteen elements, or as many as there are and then zeros. */
PQ_INLINE __m128i pq_load_s8(const int8_t *at, size_t count) {
    if (count >= 16) {
        return _mm_loadu_si128((const __m128i *)(const void *)at);
    }
    int8_t padded[16] = {0};
    memcpy(padded, at, count);
    return _mm_loadu_si128((const __m128i *)(const void *)padded);
}

/* q - z_q as s16. Beyond d, up to a multiple of 16, it is -z_q: keys must be zero there. */
static inline void pq_widen_query(const pq_attention_args *args, const int8_t *q, int16_t *wide) {
    const __m256i zero_point = _mm256_set1_epi16((int16_t)args->q_zero_point);
    for (size_t c = 0; c < args->head_dim; c += 16) {
        const __m256i x = _mm256_cvtepi8_epi16(pq_load_s8(q + c, args->head_dim - c));
        pq_store_256(wide + c, _mm256_sub_epi16(x, zero_point));
    }
}

static inline void pq_add_mask(const int32_t *mask, ptrdiff_t stride, size_t n, int32_t *row) {
    size_t j = 0;
    for (; stride == 1 && j + 8 <= n; j += 8) {
        const __m256i add = _mm256_loadu_si256((const __m256i *)(const void *)(mask + j));
        pq_store_256(row + j, _mm256_add_epi32(pq_load_256(row + j), add));
    }
    for (; j < n; j++) {
        row[j] = (int32_t)((uint32_t)row[j] + (uint32_t)mask[(ptrdiff_t)j * stride]);
    }
}

static inline void pq_exclude(const uint8_t *keep, ptrdiff_t stride, size_t n, int32_t *row) {
    const __m256i excluded = _mm256_set1_epi32(PQ_SCORE_EXCLUDED);
    size_t j = 0;
    for (; stride == 1 && j + 8 <= n; j += 8) {
        const __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(keep + j));
        const __m256i zero =
            _mm256_cmpeq_epi32(_mm256_cvtepu8_epi32(bytes), _mm256_setzero_si256());
        pq_store_256(row + j, _mm256_blendv_epi8(pq_load_256(row + j), excluded, zero));
    }
    for (; j < n; j++) {
        if (keep[(ptrdiff_t)j * stride] == 0) {
            row[j] = PQ_SCORE_EXCLUDED;
        }
    }
}

/* The masks of query i over its scores of keys first .. first + n - 1, of which it sees the first
 * `visible`; the others are excluded. */
static inline void pq_mask_scores(const pq_attention_args *args, const pq_attention_rows *rows,
                                  size_t i, size_t first, size_t visible, size_t n, int32_t *row) {
    const ptrdiff_t key = (ptrdiff_t)first;
    if (args->mask_add != NULL) {
        const ptrdiff_t stride = args->mask_strides[4];
        const ptrdiff_t at = pq_mask_offset(args->mask_strides, rows, i) + key * stride;
        pq_add_mask(args->mask_add + at, stride, visible, row);
    }
    if (args->keep != NULL) {
        const ptrdiff_t stride = args->keep_strides[4];
        const ptrdiff_t at = pq_mask_offset(args->keep_strides, rows, i) + key * stride;
        pq_exclude(args->keep + at, stride, visible, row);
    }
    for (size_t j = visible; j < n; j++) {
        row[j] = PQ_SCORE_EXCLUDED;
    }
}

static inline pq_softmax_panel_fn *pq_softmax_method_avx2(pq_softmax_method method) {
    return pq_softmax_by_octaves(method) ? pq_softmax_table_avx2 : pq_softmax_lookup_avx2;
}

/* Masks and softmax of a block of rows, of which `keys` scores exist (no row sees more). The panel
 * is wide enough for `keys` rounded up to `step`. Writes the sum of each row's weights, and L. */
static inline void pq_weigh_rows(const pq_attention_args *args, const pq_attention_rows *rows,
                                 size_t keys, size_t step, pq_softmax_panel_fn *softmax,
                                 int32_t *scores, size_t stride, uint32_t *sums,
                                 uint32_t *divisors) {
    size_t plain[PQ_ATTENTION_ROWS_MAX];
    const pq_softmax_panel panel = {.rows = rows->end - rows->begin,
                                    .n = pq_round_up(keys, step),
                                    .stride = stride,
                                    .scores = scores,
                                    .plain = plain,
                                    .sums = sums,
                                    .divisors = divisors};
    assert(panel.rows <= PQ_ATTENTION_ROWS_MAX);
    for (size_t i = 0; i < panel.rows; i++) {
        const size_t query = rows->begin + i, visible = pq_visible_keys(args, query);
        pq_mask_scores(args, rows, query, 0, visible, panel.n, scores + i * stride);
        plain[i] = args->keep != NULL ? 0 : visible;
    }
    softmax(&args->softmax, &panel);
    for (size_t i = 0; i < panel.rows && pq_softmax_by_octaves(args->softmax.method); i++) {
        divisors[i] = sums[i] == 0 ? 1 : sums[i];
    }
}

/* Requantization of one row, clamp(rnu(x) + z_y). x is first cut to +-2^(s-21), but at least 1:
 * beyond that |rnu| >= 2^9 is outside int8 whatever z_y, and up to it 2^(s-21) * m / 2^s < 2^10, or
 * m / 2^s < 2^30 at 1, fits 32 bits. So of the 64-bit sums only the low halves count. AVX2 has no
 * arithmetic shift of 64 bits: 2^63 makes the sum unsigned, and 2^(63-s) comes off afterwards. */
typedef struct pq_row_scale {
    int64_t before;
    int32_t after, limit, multiplier, shift;
} pq_row_scale;

PQ_INLINE pq_row_scale pq_make_row_scale(const pq_attention_args *args, uint32_t divisor) {
    const pq_dyadic scale = pq_softmax_normalizer(args->requant, divisor);
    const int up = scale.shift - 21;
    return (pq_row_scale){
        .before = (int64_t)((UINT64_C(1) << 63) + (UINT64_C(1) << (scale.shift - 1))),
        .after = (int32_t)((uint32_t)args->out.zero_point -
                           (uint32_t)(UINT64_C(1) << (63 - scale.shift))),
        .limit = up < 0    ? 1
                 : up < 31 ? INT32_C(1) << up
                           : INT32_MAX,
        .multiplier = scale.multiplier,
        .shift = scale.shift,
    };
}

/* Eight s32, each within 2^31 but not yet within the clamp. */
PQ_INLINE __m256i pq_requantize_8(__m256i x, const pq_row_scale *r) {
    const __m256i limit = _mm256_set1_epi32(r->limit), m = _mm256_set1_epi32(r->multiplier);
    const __m256i before = _mm256_set1_epi64x(r->before);
    const __m128i shift = _mm_cvtsi32_si128(r->shift);
    x = _mm256_min_epi32(_mm256_max_epi32(x, _mm256_sub_epi32(_mm256_setzero_si256(), limit)),
                         limit);
    __m256i even = _mm256_add_epi64(_mm256_mul_epi32(x, m), before);
    __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(x, 32), m), before);
    even = _mm256_srl_epi64(even, shift);
    odd = _mm256_slli_epi64(_mm256_srl_epi64(odd, shift), 32);
    return _mm256_add_epi32(_mm256_blend_epi32(even, odd, 0xaa), _mm256_set1_epi32(r->after));
}

/* Sixteen sums of a row to s8, as many as there are columns. Saturation keeps the order, so the
 * clamp may follow it. */
PQ_INLINE void pq_write_16(const pq_attention_args *args, __m256i a, __m256i b,
                           const pq_row_scale *scale, int8_t *y, size_t columns) {
    const __m256i words = _mm256_permute4x64_epi64(
        _mm256_packs_epi32(pq_requantize_8(a, scale), pq_requantize_8(b, scale)), 0xd8);
    __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    bytes = _mm_max_epi8(bytes, _mm_set1_epi8((int8_t)args->out.quant_min));
    bytes = _mm_min_epi8(bytes, _mm_set1_epi8((int8_t)args->out.quant_max));
    if (columns >= 16) {
        _mm_storeu_si128((__m128i *)(void *)y, bytes);
    } else {
        int8_t all[16];
        _mm_storeu_si128((__m128i *)(void *)all, bytes);
        memcpy(y, all, columns);
    }
}

#endif
