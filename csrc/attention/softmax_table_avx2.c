/* 32 keys a step. The index u has 9 bits: 5 choose the table entry and 4 the octave, and both are
 * looked up in bytes with vpshufb, low and high byte apart (a gather is slower on every AMD core
 * that has one). The octave's rounding shift is vpmulhrsw by 2^(14-h):
 *     (T * 2^(14-h) + 2^14) >> 15 = (T + 2^h) >> (h + 1);   h = 15 (u = 480) multiplies by 0. */
#include "attention/softmax_method.h"

#include <assert.h>

#include "core/simd_avx2.h"

typedef struct lookup {
    __m256i table_low[2], table_high[2]; /* entries 0..15 and 16..31 */
    __m256i octave_low, octave_high;     /* 2^(14-h) */
} lookup;

typedef struct index_constants {
    __m256i delta_max, multiplier, half;
    __m128i shift;
} index_constants;

static inline __m256i load(const int32_t *at) {
    return _mm256_load_si256((const __m256i *)(const void *)at);
}

static inline __m256i both_lanes(__m128i x) {
    return _mm256_broadcastsi128_si256(x);
}

static lookup make_lookup(const uint16_t table[PQ_SOFTMAX_TABLE_SIZE]) {
    const __m128i byte = _mm_set1_epi16(0xff);
    lookup made;
    for (int i = 0; i < 2; i++) {
        const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)(table + 16 * i));
        const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(table + 16 * i + 8));
        made.table_low[i] =
            both_lanes(_mm_packus_epi16(_mm_and_si128(a, byte), _mm_and_si128(b, byte)));
        made.table_high[i] =
            both_lanes(_mm_packus_epi16(_mm_srli_epi16(a, 8), _mm_srli_epi16(b, 8)));
    }
    made.octave_low =
        both_lanes(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, -128, 64, 32, 16, 8, 4, 2, 1, 0));
    made.octave_high = both_lanes(_mm_setr_epi8(64, 32, 16, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0));
    return made;
}

/* u of 8 keys before its own clamp, in s32. */
static inline __m256i index_of(__m256i highest, __m256i score, const index_constants *c) {
    const __m256i delta = _mm256_min_epu32(_mm256_sub_epi32(highest, score), c->delta_max);
    const __m256i product = _mm256_mullo_epi32(delta, c->multiplier);
    return _mm256_srl_epi32(_mm256_add_epi32(product, c->half), c->shift);
}

/* The weights of 16 + 16 indices. Packs and unpacks work inside 128-bit lanes; they cancel but for
 * the order of the quarters, which the caller restores. */
static inline void weights_of(__m256i u0, __m256i u1, const lookup *t, __m256i *p0, __m256i *p1) {
    const __m256i j = _mm256_packus_epi16(_mm256_and_si256(u0, _mm256_set1_epi16(31)),
                                          _mm256_and_si256(u1, _mm256_set1_epi16(31)));
    const __m256i h = _mm256_packus_epi16(_mm256_srli_epi16(u0, 5), _mm256_srli_epi16(u1, 5));
    /* vpshufb gives 0 where bit 7 of the index is set: j + 112 selects j < 16, j - 16 the rest */
    const __m256i first = _mm256_add_epi8(j, _mm256_set1_epi8(112));
    const __m256i second = _mm256_sub_epi8(j, _mm256_set1_epi8(16));
    const __m256i low = _mm256_or_si256(_mm256_shuffle_epi8(t->table_low[0], first),
                                        _mm256_shuffle_epi8(t->table_low[1], second));
    const __m256i high = _mm256_or_si256(_mm256_shuffle_epi8(t->table_high[0], first),
                                         _mm256_shuffle_epi8(t->table_high[1], second));
    const __m256i octave_low = _mm256_shuffle_epi8(t->octave_low, h);
    const __m256i octave_high = _mm256_shuffle_epi8(t->octave_high, h);
    *p0 = _mm256_mulhrs_epi16(_mm256_unpacklo_epi8(low, high),
                              _mm256_unpacklo_epi8(octave_low, octave_high));
    *p1 = _mm256_mulhrs_epi16(_mm256_unpackhi_epi8(low, high),
                              _mm256_unpackhi_epi8(octave_low, octave_high));
}

static int32_t row_maximum(size_t n, const int32_t *row) {
    __m256i most[4] = {load(row), load(row + 8), load(row + 16), load(row + 24)};
    for (size_t j = PQ_SOFTMAX_STEP; j < n; j += PQ_SOFTMAX_STEP) {
        most[0] = _mm256_max_epi32(most[0], load(row + j));
        most[1] = _mm256_max_epi32(most[1], load(row + j + 8));
        most[2] = _mm256_max_epi32(most[2], load(row + j + 16));
        most[3] = _mm256_max_epi32(most[3], load(row + j + 24));
    }
    const __m256i all =
        _mm256_max_epi32(_mm256_max_epi32(most[0], most[1]), _mm256_max_epi32(most[2], most[3]));
    __m128i half = _mm_max_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    half = _mm_max_epi32(half, _mm_unpackhi_epi64(half, half));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 1));
    return _mm_cvtsi128_si32(half);
}

static uint32_t lane_sum(__m256i x) {
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    half = _mm_add_epi32(half, _mm_unpackhi_epi64(half, half));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 1));
    return (uint32_t)_mm_cvtsi128_si32(half);
}

uint32_t pq_softmax_table_avx2(const pq_softmax *softmax, size_t n, size_t plain, int32_t *row) {
    if (n == 0) {
        return 0;
    }
    assert(n % PQ_SOFTMAX_STEP == 0);
    const lookup table = make_lookup(softmax->table);
    const index_constants c = {
        .delta_max = _mm256_set1_epi32((int32_t)softmax->delta_max),
        .multiplier = _mm256_set1_epi32((int32_t)softmax->multiplier),
        .half = _mm256_set1_epi32((int32_t)(UINT32_C(1) << (softmax->shift - 1))),
        .shift = _mm_cvtsi32_si128(softmax->shift),
    };
    const __m256i highest = _mm256_set1_epi32(row_maximum(n, row));
    const __m256i excluded = _mm256_set1_epi32(PQ_SCORE_EXCLUDED);
    const __m256i end = _mm256_set1_epi16(PQ_SOFTMAX_INDEX_END);
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum = _mm256_setzero_si256();
    for (size_t j = 0; j < n; j += PQ_SOFTMAX_STEP) {
        const __m256i s0 = load(row + j), s1 = load(row + j + 8);
        const __m256i s2 = load(row + j + 16), s3 = load(row + j + 24);
        /* vpackusdw saturates above 65535, so that u may be clamped in 16 bits afterwards */
        const __m256i u0 = _mm256_min_epu16(
            _mm256_packus_epi32(index_of(highest, s0, &c), index_of(highest, s1, &c)), end);
        const __m256i u1 = _mm256_min_epu16(
            _mm256_packus_epi32(index_of(highest, s2, &c), index_of(highest, s3, &c)), end);
        __m256i p0, p1;
        weights_of(u0, u1, &table, &p0, &p1);
        if (j + PQ_SOFTMAX_STEP > plain) {
            p0 = _mm256_andnot_si256(_mm256_packs_epi32(_mm256_cmpeq_epi32(s0, excluded),
                                                        _mm256_cmpeq_epi32(s1, excluded)),
                                     p0);
            p1 = _mm256_andnot_si256(_mm256_packs_epi32(_mm256_cmpeq_epi32(s2, excluded),
                                                        _mm256_cmpeq_epi32(s3, excluded)),
                                     p1);
        }
        /* pairs of P <= 16383 and whole rows of them stay below 2^31 / 128 (the bound on L) */
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(p0, ones));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(p1, ones));
        /* in place: 64 bytes at 2j, after the 128 bytes at 4j were read */
        __m256i *const p = (__m256i *)(void *)((char *)row + 2 * j);
        _mm256_store_si256(p, _mm256_permute4x64_epi64(p0, 0xd8));
        _mm256_store_si256(p + 1, _mm256_permute4x64_epi64(p1, 0xd8));
    }
    return lane_sum(sum);
}
