/* quantize_f32 and its inverse on AVX2.
 *
 * vdivps, not a reciprocal: the quotient is correctly rounded by definition. vcvtps2dq rounds half to even
 * and, unlike a float rounding, cannot leave a -0 for the way back.
 */
#include "core/simd_avx2.h"
#include "quantize/quantize_f32_loop.h"

#define INLINE static inline __attribute__((always_inline))

/* What does not change in a run. */
typedef struct run {
    const float *scale;
    size_t step;
    __m256 uniform, low, high;
    __m256i zero_point;
} run;

INLINE run make_run(const float *scale, size_t step, pq_grid grid) {
    return (run){.scale = scale,
                 .step = step,
                 .uniform = _mm256_set1_ps(scale[0]),
                 .low = _mm256_set1_ps((float)(grid.quant_min - grid.zero_point)),
                 .high = _mm256_set1_ps((float)(grid.quant_max - grid.zero_point)),
                 .zero_point = _mm256_set1_epi32(grid.zero_point)};
}

INLINE __m256 scale_at(const run *r, size_t i) {
    return r->step == 0 ? r->uniform : _mm256_loadu_ps(r->scale + i);
}

/* q - z of 8 elements; NaN becomes quant_min, as in the scalar code. */
INLINE __m256i steps(const run *r, __m256 x, __m256 scale, __m256 *nan) {
    *nan = _mm256_or_ps(*nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256 v = _mm256_max_ps(_mm256_div_ps(x, scale), r->low);
    return _mm256_cvtps_epi32(_mm256_min_ps(v, r->high));
}

INLINE __m256i quantize_8(const run *r, const float *x, size_t i, __m256 *nan) {
    return _mm256_add_epi32(steps(r, _mm256_loadu_ps(x + i), scale_at(r, i), nan), r->zero_point);
}

INLINE void store(void *p, __m256i v) {
    _mm256_storeu_si256((__m256i *)p, v);
}

/* The packs work in halves, the permutations restore the order; after the clamp no pack saturates. */
static bool quantize(size_t n, const float *x, const float *scale, size_t scale_step, pq_grid grid,
                     void *q) {
    if (n == 0) {
        return false;
    }
    const run r = make_run(scale, scale_step, grid);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256 nan = _mm256_setzero_ps();
    size_t i = 0;
    if (grid.q_type == PQ_S8) {
        for (; i + 32 <= n; i += 32) {
            const __m256i a = _mm256_packs_epi32(quantize_8(&r, x, i, &nan),
                                                 quantize_8(&r, x, i + 8, &nan));
            const __m256i b = _mm256_packs_epi32(quantize_8(&r, x, i + 16, &nan),
                                                 quantize_8(&r, x, i + 24, &nan));
            store((int8_t *)q + i,
                  _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order));
        }
    } else {
        for (; i + 16 <= n; i += 16) {
            const __m256i a = _mm256_packs_epi32(quantize_8(&r, x, i, &nan),
                                                 quantize_8(&r, x, i + 8, &nan));
            store((int16_t *)q + i, _mm256_permute4x64_epi64(a, 0xD8));
        }
    }
    const bool rest = pq_quantize_loop(i, n, x, scale, scale_step, grid, q);
    return rest || _mm256_movemask_ps(nan) != 0;
}

static bool fake_quantize(size_t n, const float *x, const float *scale, size_t scale_step,
                          pq_grid grid, float *x_hat) {
    if (n == 0) {
        return false;
    }
    const run r = make_run(scale, scale_step, grid);
    __m256 nan = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 s = scale_at(&r, i);
        const __m256i q = steps(&r, _mm256_loadu_ps(x + i), s, &nan);
        _mm256_storeu_ps(x_hat + i, _mm256_mul_ps(_mm256_cvtepi32_ps(q), s));
    }
    const bool rest = pq_fake_quantize_loop(i, n, x, scale, scale_step, grid, x_hat);
    return rest || _mm256_movemask_ps(nan) != 0;
}

static void dequantize(size_t n, const void *q, const float *scale, size_t scale_step,
                       pq_grid grid, float *x) {
    if (n == 0) {
        return;
    }
    const run r = make_run(scale, scale_step, grid);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i wide =
            grid.q_type == PQ_S8
                ? _mm256_cvtepi8_epi32(
                      _mm_loadl_epi64((const __m128i *)(const void *)((const int8_t *)q + i)))
                : _mm256_cvtepi16_epi32(
                      _mm_loadu_si128((const __m128i *)(const void *)((const int16_t *)q + i)));
        const __m256 v = _mm256_cvtepi32_ps(_mm256_sub_epi32(wide, r.zero_point));
        _mm256_storeu_ps(x + i, _mm256_mul_ps(v, scale_at(&r, i)));
    }
    pq_dequantize_loop(i, n, q, scale, scale_step, grid, x);
}

const struct pq_quantize_f32_kernel pq_quantize_f32_avx2 = {
    .quantize = quantize, .fake_quantize = fake_quantize, .dequantize = dequantize};
