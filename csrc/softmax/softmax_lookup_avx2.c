/* Methods whose exponentials are a table: eight keys at a time, by a gather.
 *
 * Two passes over a row, because a weight needs the row's sum. The first leaves exponentials (u32)
 * in place of the scores; the second weights (s16), as pairs of keys i and i + 8 (softmax_method.h):
 * that is one shift and one or of two vectors of eight. */
#include "softmax/softmax_lookup_panel.h"

#include "core/simd_avx2.h"

#define INLINE inline __attribute__((always_inline))

static INLINE __m256i load(const int32_t *at) {
    return _mm256_load_si256((const __m256i *)(const void *)at);
}

static INLINE void store(int32_t *at, __m256i x) {
    _mm256_store_si256((__m256i *)(void *)at, x);
}

static INLINE uint32_t lane_sum(__m256i x) {
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    half = _mm_add_epi32(half, _mm_unpackhi_epi64(half, half));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 1));
    return (uint32_t)_mm_cvtsi128_si32(half);
}

static INLINE __m256i row_maximum(size_t n, const int32_t *row) {
    __m256i most = load(row);
    for (size_t j = 8; j < n; j += 8) {
        most = _mm256_max_epi32(most, load(row + j));
    }
    most = _mm256_max_epi32(most, _mm256_permute2x128_si256(most, most, 1));
    most = _mm256_max_epi32(most, _mm256_shuffle_epi32(most, 0x4e));
    return _mm256_max_epi32(most, _mm256_shuffle_epi32(most, 0xb1));
}

/* Exponentials in place; returns their sum. */
static uint32_t exponentials(const pq_softmax *softmax, size_t n, int32_t *row) {
    const __m256i highest = row_maximum(n, row);
    const __m256i delta_max = _mm256_set1_epi32((int32_t)softmax->delta_max);
    const __m256i multiplier = _mm256_set1_epi32((int32_t)softmax->multiplier);
    const __m256i half = _mm256_set1_epi32((int32_t)(UINT32_C(1) << (softmax->shift - 1)));
    const __m256i end = _mm256_set1_epi32((int32_t)softmax->entries - 1);
    const __m256i mark = _mm256_set1_epi32(PQ_SCORE_EXCLUDED);
    const __m128i shift = _mm_cvtsi32_si128(softmax->shift);
    __m256i sum = _mm256_setzero_si256();
    for (size_t j = 0; j < n; j += 8) {
        const __m256i score = load(row + j);
        const __m256i delta = _mm256_min_epu32(_mm256_sub_epi32(highest, score), delta_max);
        const __m256i scaled = _mm256_add_epi32(_mm256_mullo_epi32(delta, multiplier), half);
        const __m256i u = _mm256_min_epu32(_mm256_srl_epi32(scaled, shift), end);
        const __m256i e = _mm256_andnot_si256(_mm256_cmpeq_epi32(score, mark),
                                              _mm256_i32gather_epi32(softmax->exponentials, u, 4));
        store(row + j, e);
        sum = _mm256_add_epi32(sum, e);
    }
    return lane_sum(sum);
}

/* 255 * E / sum to the nearest: by a reciprocal of 23 bits, which is at most one too small. */
static INLINE __m256i rounded(const pq_softmax_row *row, __m256i e) {
    const __m256i sum = _mm256_set1_epi32((int32_t)row->sum), one = _mm256_set1_epi32(1);
    const __m256i product = _mm256_mullo_epi32(e, _mm256_set1_epi32((int32_t)row->factor));
    const __m256i p = _mm256_srli_epi32(_mm256_add_epi32(product, _mm256_set1_epi32(1 << 22)), 23);
    const __m256i next = _mm256_add_epi32(p, one);
    const __m256i need = _mm256_mullo_epi32(_mm256_add_epi32(sum, sum), next);
    const __m256i have = _mm256_add_epi32(_mm256_mullo_epi32(e, _mm256_set1_epi32(510)), sum);
    /* both below 2^32: an unsigned "need <= have" */
    const __m256i more = _mm256_cmpeq_epi32(_mm256_min_epu32(need, have), need);
    return _mm256_sub_epi32(p, more);
}

/* 2^(14 - code) of the least code that E reaches. */
static INLINE __m256i powers(const pq_softmax_row *row, __m256i e) {
    __m256i p = _mm256_setzero_si256();
    for (int code = 0; code < 15; code++) {
        const __m256i least = _mm256_set1_epi32((int32_t)row->least[code]);
        const __m256i reached = _mm256_cmpeq_epi32(_mm256_max_epu32(e, least), e);
        const __m256i weight = _mm256_set1_epi32(1 << (14 - code));
        p = _mm256_max_epi32(p, _mm256_and_si256(reached, weight));
    }
    return p;
}

static INLINE __m256i weights_8(const pq_softmax_rule rule, const pq_softmax_row *row, __m128i shift,
                                __m256i e) {
    switch (rule) {
    case PQ_SOFTMAX_AS_IS: return e;
    case PQ_SOFTMAX_FACTOR:
        return _mm256_srl_epi32(_mm256_mullo_epi32(e, _mm256_set1_epi32((int32_t)row->factor)),
                                shift);
    case PQ_SOFTMAX_ROUND: return rounded(row, e);
    case PQ_SOFTMAX_POWER: return powers(row, e);
    }
    return e;
}

/* Weights over the exponentials of a row: 32 bytes at 2j, after 64 bytes at 4j were read. */
static INLINE uint32_t weights(const pq_softmax_rule rule, const pq_softmax_row *constants,
                               int32_t down, size_t n, int32_t *row) {
    const __m128i shift = _mm_cvtsi32_si128(down);
    __m256i sum = _mm256_setzero_si256();
    for (size_t j = 0; j < n; j += 16) {
        const __m256i p0 = weights_8(rule, constants, shift, load(row + j));
        const __m256i p1 = weights_8(rule, constants, shift, load(row + j + 8));
        sum = _mm256_add_epi32(sum, _mm256_add_epi32(p0, p1));
        store(row + j / 2, _mm256_or_si256(p0, _mm256_slli_epi32(p1, 16)));
    }
    return lane_sum(sum);
}

void pq_softmax_lookup_avx2(const pq_softmax *softmax, const pq_softmax_panel *panel) {
    pq_lookup_panel(softmax, panel, exponentials, weights);
}
