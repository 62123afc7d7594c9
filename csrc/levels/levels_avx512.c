/* Up to 32 levels lie in two registers and are halved there: five permutes and compares for 16
 * elements, less than one gather costs. Larger codebooks take a cell, the threshold above it, and
 * the level: three gathers. */
#include <string.h>

#include "core/simd_avx512.h"
#include "levels/levels_loop.h"

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, IN_REGISTERS = 32 };

typedef enum search { PERMUTE, CELLS, ONE_BY_ONE } search;

/* What does not change in a run. */
typedef struct tables {
    const pq_levels_book *book;
    __m512 t0, t1, l0, l1; /* PERMUTE */
    __m512 low, high;
} tables;

INLINE search how(const pq_levels_book *book) {
    return book->count <= IN_REGISTERS ? PERMUTE : book->half > 0 ? CELLS : ONE_BY_ONE;
}

INLINE tables load(const pq_levels_book *book) {
    return (tables){.book = book,
                    .t0 = _mm512_loadu_ps(book->thresholds),
                    .t1 = _mm512_loadu_ps(book->thresholds + LANES),
                    .l0 = _mm512_loadu_ps(book->levels),
                    .l1 = _mm512_loadu_ps(book->levels + LANES),
                    .low = _mm512_set1_ps(book->low),
                    .high = _mm512_set1_ps(book->high)};
}

INLINE __m512i step_up(__m512i code, __m512 v, __m512 threshold, int step) {
    const __mmask16 above = _mm512_cmp_ps_mask(v, threshold, _CMP_GE_OQ);
    return _mm512_mask_add_epi32(code, above, code, _mm512_set1_epi32(step));
}

INLINE __m512i permuted(const tables *t, __m512 v) {
    __m512i code = _mm512_setzero_si512();
    for (int step = IN_REGISTERS / 2; step > 0; step /= 2) {
        const __m512i at = _mm512_add_epi32(code, _mm512_set1_epi32(step - 1));
        code = step_up(code, v, _mm512_permutex2var_ps(t->t0, at, t->t1), step);
    }
    return code;
}

INLINE __m512i from_cells(const tables *t, __m512 v) {
    const pq_levels_book *book = t->book;
    const __m512i bits = _mm512_castps_si512(_mm512_add_ps(v, _mm512_setzero_ps()));
    const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(INT32_MAX));
    const __m512i shifted = _mm512_srlv_epi32(magnitude, _mm512_set1_epi32((int)book->shift));
    __m512i k = _mm512_sub_epi32(shifted, _mm512_set1_epi32(book->first));
    k = _mm512_max_epi32(k, _mm512_setzero_si512());
    k = _mm512_min_epi32(k, _mm512_set1_epi32(book->half - 1));
    k = _mm512_xor_si512(k, _mm512_srai_epi32(bits, 31)); /* -1 - k where negative */
    k = _mm512_add_epi32(k, _mm512_set1_epi32(book->half));
    const __m512i code = _mm512_i32gather_epi32(k, book->cells, 4);
    return step_up(code, v, _mm512_i32gather_ps(code, book->thresholds, 4), 1);
}

INLINE __m512i code_of(const tables *t, search by, __m512 v) {
    return by == PERMUTE ? permuted(t, v) : from_cells(t, v);
}

INLINE __m512 level_of(const tables *t, search by, __m512i code) {
    return by == PERMUTE ? _mm512_permutex2var_ps(t->l0, code, t->l1)
                         : _mm512_i32gather_ps(code, t->book->levels, 4);
}

INLINE __mmask16 inside(const tables *t, __m512 v) {
    return (__mmask16)(_mm512_cmp_ps_mask(v, t->low, _CMP_GE_OQ) &
                       _mm512_cmp_ps_mask(v, t->high, _CMP_LE_OQ));
}

INLINE bool values_by(const pq_levels_book *book, search by, size_t begin, size_t end,
                      const float *x, const float *scale, size_t step, float *x_hat,
                      uint8_t *mask) {
    const size_t aligned = mask == NULL ? begin : begin + (8 - begin % 8) % 8;
    size_t i = aligned < end ? aligned : end;
    bool nan = pq_level_values(book, begin, i, begin, x, scale, step, x_hat, mask);
    const tables t = load(book);
    __mmask16 unordered = 0;
    __m512 s = _mm512_set1_ps(scale[0]);
    for (; i + LANES <= end; i += LANES) {
        s = step == 0 ? s : _mm512_loadu_ps(scale + (i - begin));
        const __m512 v = _mm512_div_ps(_mm512_loadu_ps(x + i), s);
        unordered = (__mmask16)(unordered | _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q));
        if (mask != NULL) {
            const __mmask16 bits = inside(&t, v);
            memcpy(mask + i / 8, &bits, sizeof bits);
        }
        const __m512 level = level_of(&t, by, code_of(&t, by, v));
        _mm512_storeu_ps(x_hat + i, _mm512_mul_ps(level, s));
    }
    nan |= unordered != 0;
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

static bool codes(const pq_levels_book *book, size_t begin, size_t end, const float *x,
                  const float *scale, size_t step, uint8_t *out) {
    const search by = how(book);
    const tables t = load(book);
    __mmask16 unordered = 0;
    __m512 s = _mm512_set1_ps(scale[0]);
    size_t i = begin;
    for (; by != ONE_BY_ONE && i + LANES <= end; i += LANES) {
        s = step == 0 ? s : _mm512_loadu_ps(scale + (i - begin));
        const __m512 v = _mm512_div_ps(_mm512_loadu_ps(x + i), s);
        unordered = (__mmask16)(unordered | _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q));
        _mm512_mask_cvtepi32_storeu_epi8(out + i, 0xffff, code_of(&t, by, v));
    }
    const bool nan = pq_level_codes(book, i, end, begin, x, scale, step, out);
    return nan || unordered != 0;
}

/* The terms of 16 elements; dx is stored under the mask `live`. */
INLINE __m512 terms(const tables *t, search by, __m512 v, __m512 g, __mmask16 live, float *dx) {
    const __mmask16 in = inside(t, v), below = _mm512_cmp_ps_mask(v, t->low, _CMP_LT_OQ);
    const __m512 level = level_of(t, by, code_of(t, by, v));
    const __m512 ends = _mm512_mask_blend_ps(below, t->high, t->low);
    const __m512 d = _mm512_mask_blend_ps(in, ends, _mm512_sub_ps(level, v));
    _mm512_mask_storeu_ps(dx, live, _mm512_maskz_mov_ps(in, g));
    return _mm512_mul_ps(g, d);
}

/* Lanes behind the end are 0 / 1 with gradient 0: they add a zero to a sum that is never -0. */
INLINE bool learned_by(const pq_levels_book *book, search by, size_t n, const float *x,
                       const float *g, const float *scale, size_t step, float *dx, float *sums) {
    const tables t = load(book);
    __mmask16 unordered = 0;
    __m512 sum = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += LANES) {
        const __mmask16 live = (__mmask16)(n - i < LANES ? (1U << (n - i)) - 1 : 0xffff);
        const __m512 one = _mm512_set1_ps(1.0F);
        const __m512 s =
            step == 0 ? _mm512_set1_ps(scale[0]) : _mm512_mask_loadu_ps(one, live, scale + i);
        const __m512 v = _mm512_div_ps(_mm512_maskz_loadu_ps(live, x + i), s);
        unordered = (__mmask16)(unordered | _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q));
        const __m512 term = terms(&t, by, v, _mm512_maskz_loadu_ps(live, g + i), live, dx + i);
        if (step == 0) {
            sum = _mm512_add_ps(sum, term);
        } else {
            const __m512 old = _mm512_maskz_loadu_ps(live, sums + i);
            _mm512_mask_storeu_ps(sums + i, live, _mm512_add_ps(old, term));
        }
    }
    if (step == 0) {
        _mm512_storeu_ps(sums, sum);
    }
    return unordered != 0;
}

static bool learned_run(const pq_levels_book *book, size_t n, const float *x, const float *g,
                        float scale, float *dx, float *lanes) {
    switch (how(book)) {
    case PERMUTE: return learned_by(book, PERMUTE, n, x, g, &scale, 0, dx, lanes);
    case CELLS: return learned_by(book, CELLS, n, x, g, &scale, 0, dx, lanes);
    case ONE_BY_ONE: break;
    }
    return pq_levels_ref.learned_run(book, n, x, g, scale, dx, lanes);
}

static bool learned_row(const pq_levels_book *book, size_t n, const float *x, const float *g,
                        const float *scale, float *dx, float *sums) {
    switch (how(book)) {
    case PERMUTE: return learned_by(book, PERMUTE, n, x, g, scale, 1, dx, sums);
    case CELLS: return learned_by(book, CELLS, n, x, g, scale, 1, dx, sums);
    case ONE_BY_ONE: break;
    }
    return pq_level_learned_row(book, 0, n, x, g, scale, dx, sums);
}

const struct pq_levels_kernel pq_levels_avx512 = {.in_registers = IN_REGISTERS,
                                                  .values = values,
                                                  .codes = codes,
                                                  .learned_run = learned_run,
                                                  .learned_row = learned_row};
