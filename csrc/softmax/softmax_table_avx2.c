/* 32 keys a step. The index u has 9 bits: 5 choose the table entry and 4 the octave, and both are
 * looked up in bytes with vpshufb, low and high byte apart (a gather is slower on every AMD core
 * that has one). The octave's rounding shift is vpmulhrsw by 2^(14-h):
 *     (T * 2^(14-h) + 2^14) >> 15 = (T + 2^h) >> (h + 1);   h = 15 (u = 480) multiplies by 0.
 *
 * The product and its rounding are one multiplication and one subtraction,
 *     Delta * m + half = (highest * m + half) - max(score, highest - delta_max) * m   modulo 2^32,
 * and of the result, below 2^32, the upper half is enough once s >= 16: two vectors of eight keys
 * are narrowed by one shift and one blend, which interleaves them. That order stays (see
 * pq_softmax_pairs): to restore it would cost a permutation across lanes for 16 weights. */
#include "softmax/softmax_method.h"

#include <assert.h>
#include <string.h>

#include "core/simd_avx2.h"
#include "core/sizes.h"
#include "pyquant/attention_online.h"

#define INLINE inline __attribute__((always_inline))

enum { BLOCK = PQ_ATTENTION_ONLINE_BLOCK };

typedef struct lookup {
    __m256i table_low[2], table_high[2]; /* entries 0..15 and 16..31 */
    __m256i octave_low, octave_high;     /* 2^(14-h) */
} lookup;

/* u = (Delta * multiplier + half) >> shift with shift in [16, 31] and Delta <= delta_max. */
typedef struct index_rule {
    uint32_t delta_max, multiplier, half;
    int shift;
} index_rule;

/* The same index with a shift of at least 16. Delta only matters up to the first that reaches 480,
 * `reach`. If that is 1, any multiplier that reaches 480 does; else m < 480 * 2^s, so that
 * reach * m + half < 960 * 2^s and all of it may be shifted up to s = 16. */
static index_rule make_rule(const pq_softmax *softmax) {
    const uint32_t m = softmax->multiplier, half = UINT32_C(1) << (softmax->shift - 1);
    index_rule rule = {softmax->delta_max, m, half, softmax->shift};
    if (softmax->shift < 16 && m != 0) {
        const uint32_t up = 16 - (uint32_t)softmax->shift;
        const uint32_t end = (uint32_t)PQ_SOFTMAX_INDEX_END << softmax->shift;
        const uint32_t reach = (end - half) / m + ((end - half) % m != 0);
        rule.delta_max = softmax->delta_max < reach ? softmax->delta_max : reach;
        rule.multiplier = reach <= 1 ? (uint32_t)PQ_SOFTMAX_INDEX_END << 16 : m << up;
        rule.half = half << up;
        rule.shift = 16;
    }
    return rule;
}

static INLINE __m256i load(const int32_t *at) {
    return _mm256_load_si256((const __m256i *)(const void *)at);
}

static INLINE __m256i both_lanes(__m128i x) {
    return _mm256_broadcastsi128_si256(x);
}

static INLINE lookup make_lookup(const uint16_t table[PQ_SOFTMAX_TABLE_SIZE]) {
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

/* What the steps of one row share. */
typedef struct row_lanes {
    __m256i least, multiplier, base; /* s32: highest - delta_max, m, highest * m + half */
    __m256i end;                     /* u16: 480 before the last shift */
    __m128i shift;                   /* from 16 bits */
} row_lanes;

static INLINE row_lanes make_lanes(const index_rule *rule, int32_t highest) {
    const int64_t least = (int64_t)highest - rule->delta_max;
    return (row_lanes){
        .least = _mm256_set1_epi32(least < INT32_MIN ? INT32_MIN : (int32_t)least),
        .multiplier = _mm256_set1_epi32((int32_t)rule->multiplier),
        .base = _mm256_set1_epi32((int32_t)((uint32_t)highest * rule->multiplier + rule->half)),
        /* 480 << (shift - 16); where that is beyond 16 bits, u cannot reach it */
        .end = _mm256_set1_epi16(
            (int16_t)(rule->shift > 23 ? UINT16_MAX : PQ_SOFTMAX_INDEX_END << (rule->shift - 16))),
        .shift = _mm_cvtsi32_si128(rule->shift - 16),
    };
}

/* u of two times eight keys: a0 b0 a1 b1 .. */
static INLINE __m256i indices(const row_lanes *r, __m256i a, __m256i b) {
    a = _mm256_sub_epi32(r->base, _mm256_mullo_epi32(_mm256_max_epi32(a, r->least), r->multiplier));
    b = _mm256_sub_epi32(r->base, _mm256_mullo_epi32(_mm256_max_epi32(b, r->least), r->multiplier));
    const __m256i upper = _mm256_blend_epi16(_mm256_srli_epi32(a, 16), b, 0xaa);
    return _mm256_srl_epi16(_mm256_min_epu16(upper, r->end), r->shift);
}

/* The weights of 16 + 16 indices. Packs and unpacks inside 128-bit lanes cancel. */
static INLINE void weights_of(__m256i u0, __m256i u1, const lookup *t, __m256i *p0, __m256i *p1) {
    const __m256i j = _mm256_packus_epi16(_mm256_and_si256(u0, _mm256_set1_epi16(31)),
                                          _mm256_and_si256(u1, _mm256_set1_epi16(31)));
    const __m256i h = _mm256_packus_epi16(_mm256_srli_epi16(u0, 5), _mm256_srli_epi16(u1, 5));
    /* vpshufb gives 0 where bit 7 of the index is set: j + 112 selects j < 16, j - 16 the rest */
    const __m256i first = _mm256_add_epi8(j, _mm256_set1_epi8(112));
    const __m256i second = _mm256_xor_si256(first, _mm256_set1_epi8(-128));
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

static INLINE int32_t row_maximum(size_t n, const int32_t *row) {
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

static INLINE uint32_t lane_sum(__m256i x) {
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    half = _mm_add_epi32(half, _mm_unpackhi_epi64(half, half));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 1));
    return (uint32_t)_mm_cvtsi128_si32(half);
}

/* The same where keys may be excluded: their index is 480, whose weight is 0. */
static INLINE __m256i masked_indices(const row_lanes *r, __m256i a, __m256i b) {
    const __m256i mark = _mm256_set1_epi32(PQ_SCORE_EXCLUDED);
    const __m256i excluded =
        _mm256_blend_epi16(_mm256_cmpeq_epi32(a, mark), _mm256_cmpeq_epi32(b, mark), 0xaa);
    return _mm256_blendv_epi8(indices(r, a, b), _mm256_set1_epi16(PQ_SOFTMAX_INDEX_END), excluded);
}

/* Weights of 32 keys over the scores of keys j .. : 64 bytes at 2j, after 128 bytes at 4j were
 * read. P <= 16383: two fit s16, and whole rows stay below 2^31 / 128 (the bound on L). */
static INLINE __m256i weigh_32(const lookup *table, __m256i u0, __m256i u1, int32_t *row,
                               size_t j) {
    __m256i p0, p1;
    weights_of(u0, u1, table, &p0, &p1);
    __m256i *const p = (__m256i *)(void *)((char *)row + 2 * j);
    _mm256_store_si256(p, p0);
    _mm256_store_si256(p + 1, p1);
    return _mm256_madd_epi16(_mm256_add_epi16(p0, p1), _mm256_set1_epi16(1));
}

/* The indices of a step are begun before the weights of the one before: each is a chain of some 15
 * instructions, longer than the scheduler of Zen 1 sees past (8 % with gcc, 14 % with clang). */
static INLINE uint32_t weigh_row(const lookup *table, const row_lanes *r, size_t j, size_t n,
                                 size_t plain, int32_t *row) {
    const size_t end = plain < n ? plain : n;
    __m256i sum = _mm256_setzero_si256();
    if (j + PQ_SOFTMAX_STEP <= end) {
        __m256i u0 = indices(r, load(row + j), load(row + j + 8));
        __m256i u1 = indices(r, load(row + j + 16), load(row + j + 24));
        for (; j + 2 * PQ_SOFTMAX_STEP <= end; j += PQ_SOFTMAX_STEP) {
            const int32_t *const next = row + j + PQ_SOFTMAX_STEP;
            const __m256i now0 = u0, now1 = u1;
            u0 = indices(r, load(next), load(next + 8));
            u1 = indices(r, load(next + 16), load(next + 24));
            sum = _mm256_add_epi32(sum, weigh_32(table, now0, now1, row, j));
        }
        sum = _mm256_add_epi32(sum, weigh_32(table, u0, u1, row, j));
        j += PQ_SOFTMAX_STEP;
    }
    for (; j < n; j += PQ_SOFTMAX_STEP) {
        const __m256i u0 = masked_indices(r, load(row + j), load(row + j + 8));
        const __m256i u1 = masked_indices(r, load(row + j + 16), load(row + j + 24));
        sum = _mm256_add_epi32(sum, weigh_32(table, u0, u1, row, j));
    }
    return lane_sum(sum);
}

void pq_softmax_table_avx2(const pq_softmax *softmax, const pq_softmax_panel *panel) {
    const lookup table = make_lookup(softmax->table);
    const index_rule rule = make_rule(softmax);
    assert(panel->n % PQ_SOFTMAX_STEP == 0);
    for (size_t i = 0; i < panel->rows; i++) {
        panel->sums[i] = 0;
        if (panel->n != 0) {
            int32_t *const row = panel->scores + i * panel->stride;
            const row_lanes lanes = make_lanes(&rule, row_maximum(panel->n, row));
            panel->sums[i] = weigh_row(&table, &lanes, 0, panel->n, panel->plain[i], row);
        }
    }
}

void pq_softmax_raise_avx2(const pq_softmax_panel *panel, int32_t *most) {
    const size_t rows = panel->rows;
    assert(panel->n != 0 && panel->n % PQ_SOFTMAX_STEP == 0);
    for (size_t j = 0; j < panel->n; j += BLOCK, most += rows) {
        const size_t keys = pq_min_size(panel->n - j, BLOCK);
        for (size_t i = 0; i < rows; i++) {
            const int32_t highest = row_maximum(keys, panel->scores + i * panel->stride + j);
            most[rows + i] = highest > most[i] ? highest : most[i];
        }
    }
}

/* In one row, the blocks from b on that leave the maximum as block b made it, b with them. */
static size_t same_maximum(const int32_t *most, size_t rows, size_t b, size_t blocks) {
    size_t end = b + 1;
    while (end < blocks && most[(end + 1) * rows] == most[end * rows]) {
        end++;
    }
    return end - b;
}

void pq_softmax_table_below_avx2(const pq_softmax *softmax, const pq_softmax_panel *panel,
                                 const int32_t *most) {
    const lookup table = make_lookup(softmax->table);
    const index_rule rule = make_rule(softmax);
    const size_t rows = panel->rows, blocks = pq_ceil_div(panel->n, BLOCK);
    assert(panel->n != 0 && panel->n % PQ_SOFTMAX_STEP == 0);
    memset(panel->sums, 0, rows * blocks * sizeof *panel->sums);
    for (size_t i = 0; i < rows; i++) {
        int32_t *const row = panel->scores + i * panel->stride;
        for (size_t b = 0, count; b < blocks; b += count) {
            count = same_maximum(most + i, rows, b, blocks);
            const row_lanes lanes = make_lanes(&rule, most[(b + 1) * rows + i]);
            const size_t end = pq_min_size((b + count) * BLOCK, panel->n);
            panel->sums[b * rows + i] =
                weigh_row(&table, &lanes, b * BLOCK, end, panel->plain[i], row);
        }
    }
}
