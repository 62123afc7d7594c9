/* quantize_f32 and its inverse on AVX-512, 16 elements at a time, the last ones under a mask.
 *
 * A run with one scale s is divided by r = fl(1 / s), two corrections making the quotient exact:
 *     q0 = fl(x r),  q1 = fma(x - q0 s, r, q0),  q2 = fma(x - q1 s, r, q1).
 * q0 is off by at most two units in the last place, so q1 is one of the two floats around x / s.
 * The remainder x - q1 s is then a float, computed exactly by one FMA, and q2 = fl(x / s) because r
 * is the correctly rounded reciprocal [1]. No remainder that counts underflows: for |x / s| >= 1/4
 * its last bit is worth at least 2^-25 * 2^-123 with s >= 2^-100, and a smaller quotient rounds to
 * 0 either way. Nothing overflows, because x is first brought to one step beyond the grid.
 *
 * [1] P. Markstein, Computation of elementary functions on the IBM RISC System/6000 processor,
 *     IBM J. Res. Dev. 34 (1990).
 */
#include "core/simd_avx512.h"
#include "quantize/quantize_f32_kernel.h"

#define INLINE static inline __attribute__((always_inline))

/* What does not change in a run. */
typedef struct run {
    const float *scale;
    size_t step;
    __m512 uniform, reciprocal;
    __m512 x_low, x_high;          /* of uniform: a step beyond the grid */
    __m512i low, high, zero_point; /* s32 */
} run;

INLINE run make_run(const float *scale, size_t step, pq_grid grid) {
    const int32_t low = grid.quant_min - grid.zero_point, high = grid.quant_max - grid.zero_point;
    const __m512 uniform = _mm512_set1_ps(scale[0]);
    return (run){.scale = scale,
                 .step = step,
                 .uniform = uniform,
                 .reciprocal = _mm512_div_ps(_mm512_set1_ps(1.0f), uniform),
                 .x_low = _mm512_mul_ps(_mm512_set1_ps((float)(low - 1)), uniform),
                 .x_high = _mm512_mul_ps(_mm512_set1_ps((float)(high + 1)), uniform),
                 .low = _mm512_set1_epi32(low),
                 .high = _mm512_set1_epi32(high),
                 .zero_point = _mm512_set1_epi32(grid.zero_point)};
}

INLINE __mmask16 mask_16(size_t i, size_t n) {
    return (__mmask16)(n - i >= 16 ? 0xffff : (1u << (n - i)) - 1);
}

/* 1 where masked out: a divisor. */
INLINE __m512 scale_at(const run *r, size_t i, __mmask16 mask) {
    return r->step == 0 ? r->uniform
                        : _mm512_mask_loadu_ps(_mm512_set1_ps(1.0f), mask, r->scale + i);
}

/* q - z. */
INLINE __m512i steps(const run *r, __m512 x, __m512 scale, uint32_t *nan) {
    *nan |= (uint32_t)_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    __m512 q;
    if (r->step == 0) {
        x = _mm512_min_ps(_mm512_max_ps(x, r->x_low), r->x_high);
        q = _mm512_mul_ps(x, r->reciprocal);
        q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, scale, x), r->reciprocal, q);
        q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, scale, x), r->reciprocal, q);
    } else {
        const __m512 low = _mm512_cvtepi32_ps(r->low), high = _mm512_cvtepi32_ps(r->high);
        q = _mm512_min_ps(_mm512_max_ps(_mm512_div_ps(x, scale), low), high);
    }
    return _mm512_min_epi32(_mm512_max_epi32(_mm512_cvtps_epi32(q), r->low), r->high);
}

static bool quantize(size_t n, const float *x, const float *scale, size_t scale_step, pq_grid grid,
                     void *q) {
    if (n == 0) {
        return false;
    }
    const run r = make_run(scale, scale_step, grid);
    uint32_t nan = 0;
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 mask = mask_16(i, n);
        const __m512 v = _mm512_maskz_loadu_ps(mask, x + i);
        const __m512i y = _mm512_add_epi32(steps(&r, v, scale_at(&r, i, mask), &nan), r.zero_point);
        if (grid.q_type == PQ_S8) {
            _mm_mask_storeu_epi8((int8_t *)q + i, mask, _mm512_cvtepi32_epi8(y));
        } else {
            _mm256_mask_storeu_epi16((int16_t *)q + i, mask, _mm512_cvtepi32_epi16(y));
        }
    }
    return nan != 0;
}

static bool fake_quantize(size_t n, const float *x, const float *scale, size_t scale_step,
                          pq_grid grid, float *x_hat) {
    if (n == 0) {
        return false;
    }
    const run r = make_run(scale, scale_step, grid);
    uint32_t nan = 0;
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 mask = mask_16(i, n);
        const __m512 s = scale_at(&r, i, mask);
        const __m512i y = steps(&r, _mm512_maskz_loadu_ps(mask, x + i), s, &nan);
        _mm512_mask_storeu_ps(x_hat + i, mask, _mm512_mul_ps(_mm512_cvtepi32_ps(y), s));
    }
    return nan != 0;
}

static void dequantize(size_t n, const void *q, const float *scale, size_t scale_step, pq_grid grid,
                       float *x) {
    if (n == 0) {
        return;
    }
    const run r = make_run(scale, scale_step, grid);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 mask = mask_16(i, n);
        const __m512i wide =
            grid.q_type == PQ_S8
                ? _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, (const int8_t *)q + i))
                : _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(mask, (const int16_t *)q + i));
        const __m512 v = _mm512_cvtepi32_ps(_mm512_sub_epi32(wide, r.zero_point));
        _mm512_mask_storeu_ps(x + i, mask, _mm512_mul_ps(v, scale_at(&r, i, mask)));
    }
}

const struct pq_quantize_f32_kernel pq_quantize_f32_avx512 = {
    .quantize = quantize, .fake_quantize = fake_quantize, .dequantize = dequantize};
