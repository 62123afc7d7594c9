/* Up to 16 levels lie in two registers and are halved there, 8 elements at a time. Larger codebooks
 * take a cell, the threshold above it, and the level: three gathers. */
#include <string.h>

#include "core/simd_avx2.h"
#include "levels/levels_loop.h"

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8, IN_REGISTERS = 16 };

typedef enum search { PERMUTE, CELLS, ONE_BY_ONE } search;

/* What does not change in a run. */
typedef struct tables {
    const pq_levels_book *book;
    __m256 t0, t1, l0, l1; /* PERMUTE */
    __m256 low, high;
} tables;

INLINE search how(const pq_levels_book *book) {
    return book->count <= IN_REGISTERS ? PERMUTE : book->half > 0 ? CELLS : ONE_BY_ONE;
}

INLINE tables load(const pq_levels_book *book) {
    return (tables){.book = book,
                    .t0 = _mm256_loadu_ps(book->thresholds),
                    .t1 = _mm256_loadu_ps(book->thresholds + LANES),
                    .l0 = _mm256_loadu_ps(book->levels),
                    .l1 = _mm256_loadu_ps(book->levels + LANES),
                    .low = _mm256_set1_ps(book->low),
                    .high = _mm256_set1_ps(book->high)};
}

/* Entry `at` (0 to 15) of a table in two registers: bit 3 says which. */
INLINE __m256 entry(__m256 t0, __m256 t1, __m256i at) {
    const __m256 which = _mm256_castsi256_ps(_mm256_slli_epi32(at, 28));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(t0, at), _mm256_permutevar8x32_ps(t1, at),
                            which);
}

INLINE __m256i step_up(__m256i code, __m256 v, __m256 threshold, int step) {
    const __m256i above = _mm256_castps_si256(_mm256_cmp_ps(v, threshold, _CMP_GE_OQ));
    return _mm256_add_epi32(code, _mm256_and_si256(above, _mm256_set1_epi32(step)));
}

INLINE __m256i permuted(const tables *t, __m256 v) {
    __m256i code = _mm256_setzero_si256();
    for (int step = IN_REGISTERS / 2; step > 0; step /= 2) {
        const __m256i at = _mm256_add_epi32(code, _mm256_set1_epi32(step - 1));
        code = step_up(code, v, entry(t->t0, t->t1, at), step);
    }
    return code;
}

INLINE __m256i from_cells(const tables *t, __m256 v) {
    const pq_levels_book *book = t->book;
    const __m256i bits = _mm256_castps_si256(_mm256_add_ps(v, _mm256_setzero_ps()));
    const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(INT32_MAX));
    const __m256i shifted = _mm256_srl_epi32(magnitude, _mm_cvtsi32_si128((int)book->shift));
    __m256i k = _mm256_sub_epi32(shifted, _mm256_set1_epi32(book->first));
    k = _mm256_max_epi32(k, _mm256_setzero_si256());
    k = _mm256_min_epi32(k, _mm256_set1_epi32(book->half - 1));
    k = _mm256_xor_si256(k, _mm256_srai_epi32(bits, 31)); /* -1 - k where negative */
    k = _mm256_add_epi32(k, _mm256_set1_epi32(book->half));
    const __m256i code = _mm256_i32gather_epi32(book->cells, k, 4);
    return step_up(code, v, _mm256_i32gather_ps(book->thresholds, code, 4), 1);
}

INLINE __m256i code_of(const tables *t, search by, __m256 v) {
    return by == PERMUTE ? permuted(t, v) : from_cells(t, v);
}

INLINE __m256 level_of(const tables *t, search by, __m256i code) {
    return by == PERMUTE ? entry(t->l0, t->l1, code)
                         : _mm256_i32gather_ps(t->book->levels, code, 4);
}

INLINE __m256 inside(const tables *t, __m256 v) {
    return _mm256_and_ps(_mm256_cmp_ps(v, t->low, _CMP_GE_OQ),
                         _mm256_cmp_ps(v, t->high, _CMP_LE_OQ));
}

INLINE __m256 unordered_or(__m256 unordered, __m256 v) {
    return _mm256_or_ps(unordered, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
}

INLINE bool values_by(const pq_levels_book *book, search by, size_t begin, size_t end,
                      const float *x, const float *scale, size_t step, float *x_hat,
                      uint8_t *mask) {
    const size_t aligned = mask == NULL ? begin : begin + (8 - begin % 8) % 8;
    size_t i = aligned < end ? aligned : end;
    bool nan = pq_level_values(book, begin, i, begin, x, scale, step, x_hat, mask);
    const tables t = load(book);
    __m256 unordered = _mm256_setzero_ps(), s = _mm256_set1_ps(scale[0]);
    for (; i + LANES <= end; i += LANES) {
        s = step == 0 ? s : _mm256_loadu_ps(scale + (i - begin));
        const __m256 v = _mm256_div_ps(_mm256_loadu_ps(x + i), s);
        unordered = unordered_or(unordered, v);
        if (mask != NULL) {
            mask[i / 8] = (uint8_t)_mm256_movemask_ps(inside(&t, v));
        }
        const __m256 level = level_of(&t, by, code_of(&t, by, v));
        _mm256_storeu_ps(x_hat + i, _mm256_mul_ps(level, s));
    }
    nan |= _mm256_movemask_ps(unordered) != 0;
    nan |= pq_level_values(book, i, end, begin, x, scale, step, x_hat, mask);
    return nan;
}

static bool values(const pq_levels_book *book, size_t begin, size_t end, const float *x,
                   const float *scale, size_t step, float *x_hat, uint8_t *mask) {
    switch (how(book)) {
    case PERMUTE: return values_by(book, PERMUTE, begin, end, x, scale, step, x_hat, mask);
    case CELLS: return values_by(book, CELLS, begin, end, x, scale, step, x_hat, mask);
    case ONE_BY_ONE: break;
    }
    return pq_level_values(book, begin, end, begin, x, scale, step, x_hat, mask);
}

/* The low bytes of 8 integers. */
INLINE void store_bytes(uint8_t *to, __m256i code) {
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
    _mm_storel_epi64((__m128i *)(void *)to, _mm_packus_epi16(words, words));
}

static bool codes(const pq_levels_book *book, size_t begin, size_t end, const float *x,
                  const float *scale, size_t step, uint8_t *out) {
    const search by = how(book);
    const tables t = load(book);
    __m256 unordered = _mm256_setzero_ps(), s = _mm256_set1_ps(scale[0]);
    size_t i = begin;
    for (; by != ONE_BY_ONE && i + LANES <= end; i += LANES) {
        s = step == 0 ? s : _mm256_loadu_ps(scale + (i - begin));
        const __m256 v = _mm256_div_ps(_mm256_loadu_ps(x + i), s);
        unordered = unordered_or(unordered, v);
        store_bytes(out + i, code_of(&t, by, v));
    }
    const bool nan = pq_level_codes(book, i, end, begin, x, scale, step, out);
    return nan || _mm256_movemask_ps(unordered) != 0;
}

/* The terms of 8 elements. */
INLINE __m256 terms(const tables *t, search by, __m256 v, __m256 g, float *dx) {
    const __m256 in = inside(t, v), below = _mm256_cmp_ps(v, t->low, _CMP_LT_OQ);
    const __m256 level = level_of(t, by, code_of(t, by, v));
    const __m256 ends = _mm256_blendv_ps(t->high, t->low, below);
    const __m256 d = _mm256_blendv_ps(ends, _mm256_sub_ps(level, v), in);
    _mm256_storeu_ps(dx, _mm256_and_ps(in, g));
    return _mm256_mul_ps(g, d);
}

INLINE bool run_by(const pq_levels_book *book, search by, size_t n, const float *x, const float *g,
                   float scale, float *dx, float *lanes) {
    const tables t = load(book);
    const __m256 s = _mm256_set1_ps(scale);
    __m256 unordered = _mm256_setzero_ps(), sum0 = unordered, sum1 = unordered;
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        const __m256 v0 = _mm256_div_ps(_mm256_loadu_ps(x + i), s);
        const __m256 v1 = _mm256_div_ps(_mm256_loadu_ps(x + i + LANES), s);
        unordered = unordered_or(unordered_or(unordered, v0), v1);
        const __m256 g1 = _mm256_loadu_ps(g + i + LANES);
        sum0 = _mm256_add_ps(sum0, terms(&t, by, v0, _mm256_loadu_ps(g + i), dx + i));
        sum1 = _mm256_add_ps(sum1, terms(&t, by, v1, g1, dx + i + LANES));
    }
    _mm256_storeu_ps(lanes, sum0);
    _mm256_storeu_ps(lanes + LANES, sum1);
    bool nan = _mm256_movemask_ps(unordered) != 0;
    for (size_t lane = 0; i < n; i++, lane++) {
        const float v = x[i] / scale, g_i = g[i];
        nan |= v != v;
        lanes[lane] += pq_level_term(book, v, g_i, &dx[i]);
    }
    return nan;
}

INLINE bool row_by(const pq_levels_book *book, search by, size_t n, const float *x, const float *g,
                   const float *scale, float *dx, float *sums) {
    const tables t = load(book);
    __m256 unordered = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const __m256 v = _mm256_div_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(scale + i));
        unordered = unordered_or(unordered, v);
        const __m256 term = terms(&t, by, v, _mm256_loadu_ps(g + i), dx + i);
        _mm256_storeu_ps(sums + i, _mm256_add_ps(_mm256_loadu_ps(sums + i), term));
    }
    const bool nan = pq_level_learned_row(book, i, n, x, g, scale, dx, sums);
    return nan || _mm256_movemask_ps(unordered) != 0;
}

static bool learned_run(const pq_levels_book *book, size_t n, const float *x, const float *g,
                        float scale, float *dx, float *lanes) {
    switch (how(book)) {
    case PERMUTE: return run_by(book, PERMUTE, n, x, g, scale, dx, lanes);
    case CELLS: return run_by(book, CELLS, n, x, g, scale, dx, lanes);
    case ONE_BY_ONE: break;
    }
    return pq_levels_ref.learned_run(book, n, x, g, scale, dx, lanes);
}

static bool learned_row(const pq_levels_book *book, size_t n, const float *x, const float *g,
                        const float *scale, float *dx, float *sums) {
    switch (how(book)) {
    case PERMUTE: return row_by(book, PERMUTE, n, x, g, scale, dx, sums);
    case CELLS: return row_by(book, CELLS, n, x, g, scale, dx, sums);
    case ONE_BY_ONE: break;
    }
    return pq_level_learned_row(book, 0, n, x, g, scale, dx, sums);
}

const struct pq_levels_kernel pq_levels_avx2 = {.in_registers = IN_REGISTERS,
                                                .values = values,
                                                .codes = codes,
                                                .learned_run = learned_run,
                                                .learned_row = learned_row};
