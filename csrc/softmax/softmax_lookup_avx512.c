/* Methods whose exponentials are a table: sixteen keys at a time, by a gather. As on AVX2
 * (softmax_lookup_avx2.c), but weights are left in the order of the keys. */
#include "softmax/softmax_lookup_panel.h"

#include "core/simd_avx512.h"
#include "core/unroll.h"

#define INLINE inline __attribute__((always_inline))

static INLINE int32_t row_maximum(size_t n, const int32_t *row) {
    __m512i most = _mm512_load_si512(row);
    for (size_t j = 16; j < n; j += 16) {
        most = _mm512_max_epi32(most, _mm512_load_si512(row + j));
    }
    return _mm512_reduce_max_epi32(most);
}

/* Exponentials in place; returns their sum. */
static uint32_t exponentials(const pq_softmax *softmax, size_t n, int32_t *row) {
    const __m512i highest = _mm512_set1_epi32(row_maximum(n, row));
    const __m512i delta_max = _mm512_set1_epi32((int32_t)softmax->delta_max);
    const __m512i multiplier = _mm512_set1_epi32((int32_t)softmax->multiplier);
    const __m512i half = _mm512_set1_epi32((int32_t)(UINT32_C(1) << (softmax->shift - 1)));
    const __m512i end = _mm512_set1_epi32((int32_t)softmax->entries - 1);
    const __m512i mark = _mm512_set1_epi32(PQ_SCORE_EXCLUDED);
    const __m128i shift = _mm_cvtsi32_si128(softmax->shift);
    __m512i sum = _mm512_setzero_si512();
    for (size_t j = 0; j < n; j += 16) {
        const __m512i score = _mm512_load_si512(row + j);
        const __m512i delta = _mm512_min_epu32(_mm512_sub_epi32(highest, score), delta_max);
        const __m512i scaled = _mm512_add_epi32(_mm512_mullo_epi32(delta, multiplier), half);
        const __m512i u = _mm512_min_epu32(_mm512_srl_epi32(scaled, shift), end);
        const __m512i e =
            _mm512_mask_mov_epi32(_mm512_i32gather_epi32(u, softmax->exponentials, 4),
                                  _mm512_cmpeq_epi32_mask(score, mark), _mm512_setzero_si512());
        _mm512_store_si512(row + j, e);
        sum = _mm512_add_epi32(sum, e);
    }
    return (uint32_t)_mm512_reduce_add_epi32(sum);
}

/* 255 * E / sum to the nearest: by a reciprocal of 23 bits, which is at most one too small. */
static INLINE __m512i rounded(const pq_softmax_row *row, __m512i e) {
    const __m512i sum = _mm512_set1_epi32((int32_t)row->sum), one = _mm512_set1_epi32(1);
    const __m512i product = _mm512_mullo_epi32(e, _mm512_set1_epi32((int32_t)row->factor));
    const __m512i p = _mm512_srli_epi32(_mm512_add_epi32(product, _mm512_set1_epi32(1 << 22)), 23);
    const __m512i next = _mm512_add_epi32(p, one);
    const __m512i need = _mm512_mullo_epi32(_mm512_add_epi32(sum, sum), next);
    const __m512i have = _mm512_add_epi32(_mm512_mullo_epi32(e, _mm512_set1_epi32(510)), sum);
    const __mmask16 more = _mm512_cmpeq_epi32_mask(_mm512_min_epu32(need, have), need);
    return _mm512_mask_mov_epi32(p, more, next);
}

/* 2^(14 - code) of the least code that E reaches, 0 if it reaches none. What is asked for falls from
 * code to code, so four halvings of [0, 15] find it, the bounds being the lanes of one vector; 15
 * asks for nothing. */
static INLINE __m512i powers(const pq_softmax_row *row, __m512i e) {
    const __m512i least = _mm512_maskz_loadu_epi32(0x7fff, row->least);
    __m512i code = _mm512_setzero_si512();
    PQ_UNROLL
    for (int step = 8; step > 0; step /= 2) {
        const __m512i middle = _mm512_add_epi32(code, _mm512_set1_epi32(step - 1));
        const __m512i bound = _mm512_permutexvar_epi32(middle, least);
        const __mmask16 reached = _mm512_cmpeq_epi32_mask(_mm512_max_epu32(e, bound), e);
        code = _mm512_mask_mov_epi32(_mm512_add_epi32(code, _mm512_set1_epi32(step)), reached, code);
    }
    return _mm512_srlv_epi32(_mm512_set1_epi32(1 << 14), code);
}

static INLINE __m512i weights_16(const pq_softmax_rule rule, const pq_softmax_row *row,
                                 __m128i shift, __m512i e) {
    switch (rule) {
    case PQ_SOFTMAX_AS_IS: return e;
    case PQ_SOFTMAX_FACTOR:
        return _mm512_srl_epi32(_mm512_mullo_epi32(e, _mm512_set1_epi32((int32_t)row->factor)),
                                shift);
    case PQ_SOFTMAX_ROUND: return rounded(row, e);
    case PQ_SOFTMAX_POWER: return powers(row, e);
    }
    return e;
}

/* Weights over the exponentials of a row: 64 bytes at 2j, after 128 bytes at 4j were read. */
static INLINE uint32_t weights(const pq_softmax_rule rule, const pq_softmax_row *constants,
                               int32_t down, size_t n, int32_t *row) {
    const __m128i shift = _mm_cvtsi32_si128(down);
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    __m512i sum = _mm512_setzero_si512();
    for (size_t j = 0; j < n; j += 32) {
        const __m512i p0 = weights_16(rule, constants, shift, _mm512_load_si512(row + j));
        const __m512i p1 = weights_16(rule, constants, shift, _mm512_load_si512(row + j + 16));
        sum = _mm512_add_epi32(sum, _mm512_add_epi32(p0, p1));
        _mm512_store_si512(row + j / 2,
                           _mm512_permutexvar_epi64(order, _mm512_packus_epi32(p0, p1)));
    }
    return (uint32_t)_mm512_reduce_add_epi32(sum);
}

void pq_softmax_lookup_avx512(const pq_softmax *softmax, const pq_softmax_panel *panel) {
    pq_lookup_panel(softmax, panel, exponentials, weights);
}
