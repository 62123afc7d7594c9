/* 64 keys a step: vpermw holds the whole table of 32 entries and takes the low five bits of the
 * index by itself; another gives the octave's rounding multiplier 2^(14-h) (softmax_table_avx2.c
 * has both tricks explained, and that of one multiplication and one subtraction for the index). An
 * excluded key gets the index 480, whose weight is 0. */
#include "softmax/softmax_method.h"

#include <assert.h>
#include <string.h>

#include "core/simd_avx512.h"
#include "core/sizes.h"
#include "pyquant/attention_online.h"

#define INLINE inline __attribute__((always_inline))

enum { STEP = 2 * PQ_SOFTMAX_STEP, BLOCK = PQ_ATTENTION_ONLINE_BLOCK };

typedef struct lookup {
    __m512i table, octave;
} lookup;

/* What the steps of one row share. */
typedef struct row_lanes {
    __m512i least, multiplier, base; /* s32: highest - delta_max, m, highest * m + half */
    __m128i shift;
} row_lanes;

static INLINE __m512i load(const int32_t *at) {
    return _mm512_load_si512(at);
}

static INLINE lookup make_lookup(const pq_softmax *softmax) {
    static const int16_t octave[32] = {1 << 14, 1 << 13, 1 << 12, 1 << 11, 1 << 10,
                                       1 << 9,  1 << 8,  1 << 7,  1 << 6,  1 << 5,
                                       1 << 4,  1 << 3,  1 << 2,  1 << 1,  1};
    return (lookup){_mm512_loadu_si512(softmax->table), _mm512_loadu_si512(octave)};
}

static INLINE row_lanes make_lanes(const pq_softmax *softmax, int32_t highest) {
    const int64_t least = (int64_t)highest - softmax->delta_max;
    const uint32_t half = UINT32_C(1) << (softmax->shift - 1);
    return (row_lanes){
        .least = _mm512_set1_epi32(least < INT32_MIN ? INT32_MIN : (int32_t)least),
        .multiplier = _mm512_set1_epi32((int32_t)softmax->multiplier),
        .base = _mm512_set1_epi32((int32_t)((uint32_t)highest * softmax->multiplier + half)),
        .shift = _mm_cvtsi32_si128(softmax->shift),
    };
}

/* u of 16 keys before its own clamp. */
static INLINE __m512i index_of(const bool masked, const row_lanes *r, __m512i score) {
    const __m512i product = _mm512_mullo_epi32(_mm512_max_epi32(score, r->least), r->multiplier);
    const __m512i u = _mm512_srl_epi32(_mm512_sub_epi32(r->base, product), r->shift);
    if (!masked) {
        return u;
    }
    return _mm512_mask_mov_epi32(
        u, _mm512_cmpeq_epi32_mask(score, _mm512_set1_epi32(PQ_SCORE_EXCLUDED)),
        _mm512_set1_epi32(PQ_SOFTMAX_INDEX_END));
}

/* Weights of 32 keys: of each 128 bits four keys of the first 16, then four of the second. */
static INLINE __m512i weights_32(const bool masked, const lookup *t, const row_lanes *r,
                                 const int32_t *score) {
    const __m512i both = _mm512_packus_epi32(index_of(masked, r, load(score)),
                                             index_of(masked, r, load(score + 16)));
    const __m512i u = _mm512_min_epu16(both, _mm512_set1_epi16(PQ_SOFTMAX_INDEX_END));
    return _mm512_mulhrs_epi16(_mm512_permutexvar_epi16(u, t->table),
                               _mm512_permutexvar_epi16(_mm512_srli_epi16(u, 5), t->octave));
}

/* Weights of 64 keys, in place, in the order of the keys; returns sums of them. P <= 16383: two fit
 * s16, and whole rows stay below 2^31 / 128 (the bound on L). */
static INLINE __m512i weigh_step(const bool masked, const bool bytes, const lookup *t,
                                 const row_lanes *r, int32_t *row, size_t j) {
    const __m512i p0 = weights_32(masked, t, r, row + j);
    const __m512i p1 = weights_32(masked, t, r, row + j + 32);
    if (bytes) { /* 64 bytes at j; parts of four keys lie 4 x 4 transposed */
        const __m512i order =
            _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_store_si512((char *)row + j,
                           _mm512_permutexvar_epi32(order, _mm512_packus_epi16(p0, p1)));
    } else { /* 128 bytes at 2j; parts of four keys alternate */
        const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
        char *const to = (char *)row + 2 * j;
        _mm512_store_si512(to, _mm512_permutexvar_epi64(order, p0));
        _mm512_store_si512(to + 64, _mm512_permutexvar_epi64(order, p1));
    }
    return _mm512_madd_epi16(_mm512_add_epi16(p0, p1), _mm512_set1_epi16(1));
}

static INLINE int32_t row_maximum(size_t n, const int32_t *row) {
    __m512i a = load(row), b = load(row + 16), c = load(row + 32), d = load(row + 48);
    for (size_t j = STEP; j < n; j += STEP) {
        a = _mm512_max_epi32(a, load(row + j));
        b = _mm512_max_epi32(b, load(row + j + 16));
        c = _mm512_max_epi32(c, load(row + j + 32));
        d = _mm512_max_epi32(d, load(row + j + 48));
    }
    return _mm512_reduce_max_epi32(
        _mm512_max_epi32(_mm512_max_epi32(a, b), _mm512_max_epi32(c, d)));
}

static INLINE uint32_t weigh_row(const bool bytes, const lookup *t, const row_lanes *r, size_t j,
                                 size_t n, size_t plain, int32_t *row) {
    const size_t end = plain < n ? plain : n;
    __m512i sum = _mm512_setzero_si512();
    for (; j + STEP <= end; j += STEP) {
        sum = _mm512_add_epi32(sum, weigh_step(false, bytes, t, r, row, j));
    }
    for (; j < n; j += STEP) {
        sum = _mm512_add_epi32(sum, weigh_step(true, bytes, t, r, row, j));
    }
    return (uint32_t)_mm512_reduce_add_epi32(sum);
}

static INLINE void weigh_panel(const bool bytes, const pq_softmax *softmax,
                               const pq_softmax_panel *panel) {
    const lookup table = make_lookup(softmax);
    assert(panel->n % STEP == 0);
    for (size_t i = 0; i < panel->rows; i++) {
        panel->sums[i] = 0;
        if (panel->n != 0) {
            int32_t *const row = panel->scores + i * panel->stride;
            const row_lanes lanes = make_lanes(softmax, row_maximum(panel->n, row));
            panel->sums[i] = weigh_row(bytes, &table, &lanes, 0, panel->n, panel->plain[i], row);
        }
    }
}

void pq_softmax_table_avx512(const pq_softmax *softmax, const pq_softmax_panel *panel) {
    weigh_panel(false, softmax, panel);
}

void pq_softmax_table_avx512_bytes(const pq_softmax *softmax, const pq_softmax_panel *panel) {
    weigh_panel(true, softmax, panel);
}

void pq_softmax_raise_avx512(const pq_softmax_panel *panel, int32_t *most) {
    const size_t rows = panel->rows;
    assert(panel->n != 0 && panel->n % STEP == 0);
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

void pq_softmax_table_below_avx512(const pq_softmax *softmax, const pq_softmax_panel *panel,
                                   const int32_t *most) {
    const lookup table = make_lookup(softmax);
    const size_t rows = panel->rows, blocks = pq_ceil_div(panel->n, BLOCK);
    assert(panel->n != 0 && panel->n % STEP == 0);
    memset(panel->sums, 0, rows * blocks * sizeof *panel->sums);
    for (size_t i = 0; i < rows; i++) {
        int32_t *const row = panel->scores + i * panel->stride;
        for (size_t b = 0, count; b < blocks; b += count) {
            count = same_maximum(most + i, rows, b, blocks);
            const row_lanes lanes = make_lanes(softmax, most[(b + 1) * rows + i]);
            const size_t end = pq_min_size((b + count) * BLOCK, panel->n);
            panel->sums[b * rows + i] =
                weigh_row(false, &table, &lanes, b * BLOCK, end, panel->plain[i], row);
        }
    }
}
