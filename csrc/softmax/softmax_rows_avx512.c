/* As on AVX2, with 32 elements a step and weights in the order of the keys: unpacks pair each with
 * (P * low) >> 16, and the pack puts them in order again. */
#include <assert.h>
#include <string.h>

#include "core/simd_avx512.h"
#include "pyquant/rnu.h"
#include "softmax/softmax_rows_kernel.h"

#define INLINE inline __attribute__((always_inline))

enum { STEP = 2 * PQ_SOFTMAX_STEP };

static void widen(const pq_softmax_rows_args *args, size_t row, size_t stride, int32_t *scores) {
    const size_t n = args->n;
    const __m512i excluded = _mm512_set1_epi32(PQ_SCORE_EXCLUDED);
    for (size_t j = 0; j < stride; j += 16) {
        const size_t left = j < n ? n - j : 0;
        const __mmask16 mask = (__mmask16)(left >= 16 ? UINT16_MAX : (1u << left) - 1);
        __m512i x;
        if (args->x_type == PQ_S8) {
            const int8_t *const at = (const int8_t *)args->x + row * n + j;
            x = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, at));
        } else {
            const int16_t *const at = (const int16_t *)args->x + row * n + j;
            x = _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(mask, at));
        }
        _mm512_store_si512(scores + j, _mm512_mask_blend_epi32(mask, excluded, x));
    }
}

typedef struct lanes {
    __m512i low, pair, half, zero_point; /* u16; (high, 1) of s16; s32; s32 */
    __m512i quant_min, quant_max;        /* s16 */
    __m128i shift;
} lanes;

static INLINE lanes make_lanes(const pq_weight_scale *scale, pq_clamp out) {
    return (lanes){
        .low = _mm512_set1_epi16((int16_t)scale->low),
        .pair = _mm512_set1_epi32(scale->high | 1 << 16),
        .half = _mm512_set1_epi32(scale->half),
        .zero_point = _mm512_set1_epi32(out.zero_point),
        .quant_min = _mm512_set1_epi16((int16_t)out.quant_min),
        .quant_max = _mm512_set1_epi16((int16_t)out.quant_max),
        .shift = _mm_cvtsi32_si128(scale->shift),
    };
}

static INLINE __m512i output_16(const lanes *k, __m512i weights) {
    const __m512i sum = _mm512_add_epi32(_mm512_madd_epi16(weights, k->pair), k->half);
    return _mm512_add_epi32(_mm512_srl_epi32(sum, k->shift), k->zero_point);
}

static INLINE __m512i output_32(const lanes *k, __m512i p) {
    const __m512i low = _mm512_mulhi_epu16(p, k->low);
    const __m512i y = _mm512_packs_epi32(output_16(k, _mm512_unpacklo_epi16(p, low)),
                                         output_16(k, _mm512_unpackhi_epi16(p, low)));
    return _mm512_min_epi16(_mm512_max_epi16(y, k->quant_min), k->quant_max);
}

static void write(const pq_softmax_rows_args *args, size_t row, pq_dyadic factor,
                  const int32_t *weights) {
    const size_t n = args->n;
    void *const y = pq_at_out(args->y_type, args->y, row * n);
    pq_weight_scale scale;
    if (!pq_weight_scale_of(factor, &scale)) {
        for (size_t j = 0; j < n; j++) {
            uint16_t p;
            memcpy(&p, (const char *)weights + j * sizeof p, sizeof p);
            pq_store(args->y_type, y, j,
                     pq_requantize(p, factor.multiplier, factor.shift, args->out));
        }
        return;
    }
    const lanes k = make_lanes(&scale, args->out);
    for (size_t j = 0; j < n; j += 32) {
        const __mmask32 mask = n - j >= 32 ? UINT32_MAX : (UINT32_C(1) << (n - j)) - 1;
        const __m512i v = output_32(&k, _mm512_load_si512(weights + j / 2));
        if (args->y_type == PQ_S8) {
            _mm256_mask_storeu_epi8((int8_t *)y + j, mask, _mm512_cvtepi16_epi8(v));
        } else {
            _mm512_mask_storeu_epi16((int16_t *)y + j, mask, v);
        }
    }
}

static size_t scratch_size(const pq_softmax_rows_args *args) {
    return pq_softmax_rows_scratch(args, STEP);
}

static void run(const pq_softmax_rows_args *args, size_t begin, size_t end, void *scratch) {
    pq_softmax_panel_fn *const method = pq_softmax_by_octaves(args->softmax.method)
                                            ? pq_softmax_table_avx512
                                            : pq_softmax_lookup_avx512;
    assert(args->n > 0);
    pq_softmax_rows_panels(args, begin, end, scratch, STEP, method, widen, write);
}

const struct pq_softmax_rows_kernel pq_softmax_rows_avx512 = {.scratch_size = scratch_size,
                                                              .run = run};
