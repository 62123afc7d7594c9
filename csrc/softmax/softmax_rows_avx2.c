/* Sixteen elements a step around the panels of softmax_method.h. Weights lie as pairs of keys i and
 * i + 8: as 32-bit lanes, the keys of the first eight are the low halves and those of the second
 * the high ones, which is the order that one multiply-add on (P, (P * low) >> 16) wants. */
#include <assert.h>
#include <string.h>

#include "core/simd_avx2.h"
#include "pyquant/rnu.h"
#include "softmax/softmax_rows_kernel.h"

#define INLINE inline __attribute__((always_inline))

enum { STEP = PQ_SOFTMAX_STEP };

static INLINE void widen_8(pq_dtype type, const void *at, int32_t *scores) {
    const __m256i x =
        type == PQ_S8
            ? _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)at))
            : _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)at));
    _mm256_store_si256((__m256i *)(void *)scores, x);
}

static void widen(const pq_softmax_rows_args *args, size_t row, size_t stride, int32_t *scores) {
    const void *const x = pq_at(args->x_type, args->x, row * args->n);
    size_t j = 0;
    for (; j + 8 <= args->n; j += 8) {
        widen_8(args->x_type, pq_at(args->x_type, x, j), scores + j);
    }
    for (; j < args->n; j++) {
        scores[j] = pq_load(args->x_type, x, j);
    }
    for (; j < stride; j++) {
        scores[j] = PQ_SCORE_EXCLUDED;
    }
}

/* The weight of key j where it lies. */
static uint16_t weight_at(const int32_t *weights, size_t j) {
    uint16_t p;
    memcpy(&p, (const char *)weights + (j / 16 * 16 + j % 8 * 2 + j % 16 / 8) * sizeof p, sizeof p);
    return p;
}

typedef struct lanes {
    __m256i low, pair, half, zero_point; /* u16; (high, 1) of s16; s32; s32 */
    __m256i quant_min, quant_max;        /* s16 */
    __m128i shift;
} lanes;

static INLINE lanes make_lanes(const pq_weight_scale *scale, pq_clamp out) {
    return (lanes){
        .low = _mm256_set1_epi16((int16_t)scale->low),
        .pair = _mm256_set1_epi32(scale->high | 1 << 16),
        .half = _mm256_set1_epi32(scale->half),
        .zero_point = _mm256_set1_epi32(out.zero_point),
        .quant_min = _mm256_set1_epi16((int16_t)out.quant_min),
        .quant_max = _mm256_set1_epi16((int16_t)out.quant_max),
        .shift = _mm_cvtsi32_si128(scale->shift),
    };
}

/* Eight outputs before the clamp, below 2^30 + 2^15, from (P, (P * low) >> 16). */
static INLINE __m256i output_8(const lanes *k, __m256i weights) {
    const __m256i sum = _mm256_add_epi32(_mm256_madd_epi16(weights, k->pair), k->half);
    return _mm256_add_epi32(_mm256_srl_epi32(sum, k->shift), k->zero_point);
}

/* Sixteen clamped outputs as s16, in order. Saturation keeps the order, so the clamp may follow. */
static INLINE __m256i output_16(const lanes *k, __m256i p) {
    const __m256i low = _mm256_mulhi_epu16(p, k->low);
    const __m256i a = output_8(k, _mm256_blend_epi16(p, _mm256_slli_epi32(low, 16), 0xaa));
    const __m256i b = output_8(k, _mm256_blend_epi16(_mm256_srli_epi32(p, 16), low, 0xaa));
    const __m256i y = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    return _mm256_min_epi16(_mm256_max_epi16(y, k->quant_min), k->quant_max);
}

static INLINE void store_16(pq_dtype type, void *at, __m256i y) {
    if (type == PQ_S8) {
        const __m128i bytes =
            _mm_packs_epi16(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
        _mm_storeu_si128((__m128i *)at, bytes);
    } else {
        _mm256_storeu_si256((__m256i *)at, y);
    }
}

static void write(const pq_softmax_rows_args *args, size_t row, pq_dyadic factor,
                  const int32_t *weights) {
    const size_t n = args->n, size = pq_dtype_size(args->y_type);
    char *const y = pq_at_out(args->y_type, args->y, row * n);
    pq_weight_scale scale;
    if (!pq_weight_scale_of(factor, &scale)) {
        for (size_t j = 0; j < n; j++) {
            pq_store(args->y_type, y, j,
                     pq_requantize(weight_at(weights, j), factor.multiplier, factor.shift,
                                   args->out));
        }
        return;
    }
    const lanes k = make_lanes(&scale, args->out);
    size_t j = 0;
    for (; j + 16 <= n; j += 16) {
        const __m256i p = _mm256_load_si256((const __m256i *)(const void *)(weights + j / 2));
        store_16(args->y_type, y + j * size, output_16(&k, p));
    }
    if (j < n) {
        char all[32];
        const __m256i p = _mm256_load_si256((const __m256i *)(const void *)(weights + j / 2));
        store_16(args->y_type, all, output_16(&k, p));
        memcpy(y + j * size, all, (n - j) * size);
    }
}

static size_t scratch_size(const pq_softmax_rows_args *args) {
    return pq_softmax_rows_scratch(args, STEP);
}

static void run(const pq_softmax_rows_args *args, size_t begin, size_t end, void *scratch) {
    pq_softmax_panel_fn *const method = pq_softmax_by_octaves(args->softmax.method)
                                            ? pq_softmax_table_avx2
                                            : pq_softmax_lookup_avx2;
    assert(args->n > 0);
    pq_softmax_rows_panels(args, begin, end, scratch, STEP, method, widen, write);
}

const struct pq_softmax_rows_kernel pq_softmax_rows_avx2 = {.scratch_size = scratch_size,
                                                            .run = run};
