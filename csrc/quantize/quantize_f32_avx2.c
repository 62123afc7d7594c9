/* quantize_f32 and its inverse on AVX2, 32 elements at a time.
 *
 * Rounding: adding 1.5 * 2^23 to |v| < 2^22 rounds it half to even, and the low bits of the sum are
 * the integer. Subtracting it again gives the integer as a float, and +0 for 0.
 *
 * The division of the definition takes longer than everything else (7.5 cycles for 8 elements on
 * Zen 1), and a reciprocal decides nearly every element. With one scale and all |q - z| <= 256:
 * v = fl(x * fl(1 / s)) and the quotient w = fl(x / s) differ by less than 256 * 3 * 2^-24 < 2^-14,
 * also after the clamp, which no distance survives longer. So if v lies within 1/2 - 2^-14 of its
 * integer n, w lies within 1/2 of n and rounds to it too. Where one of 32 is closer to a tie (as
 * is one block in 256 of random numbers) or NaN, the 32 are divided. For 16 bits the bound would
 * be 2^-6, and most blocks would be done twice: they divide at once, and so do rows of scales.
 */
#include <string.h>

#include "core/simd_avx2.h"
#include "core/unroll.h"
#include "quantize/quantize_f32_loop.h"

#define INLINE static inline __attribute__((always_inline))

enum { BLOCK = 32, MAGIC_BITS = 0x4b400000 };
#define MAGIC 12582912.0f /* 1.5 * 2^23 */

/* What does not change in a run. */
typedef struct run {
    const float *scale;
    size_t step;
    bool near; /* a reciprocal decides */
    __m256 uniform, reciprocal, low, high;
    __m256i integer; /* what the bits of a sum with MAGIC lack to be q */
} run;

INLINE run make_run(const float *scale, size_t step, pq_grid grid) {
    const int32_t low = grid.quant_min - grid.zero_point, high = grid.quant_max - grid.zero_point;
    const __m256 uniform = _mm256_set1_ps(scale[0]);
    return (run){.scale = scale,
                 .step = step,
                 .near = step == 0 && low >= -256 && high <= 256,
                 .uniform = uniform,
                 .reciprocal = _mm256_div_ps(_mm256_set1_ps(1.0f), uniform),
                 .low = _mm256_set1_ps((float)low),
                 .high = _mm256_set1_ps((float)high),
                 .integer = _mm256_set1_epi32(grid.zero_point - MAGIC_BITS)};
}

INLINE __m256 scale_at(const run *r, size_t i) {
    return r->step == 0 ? r->uniform : _mm256_loadu_ps(r->scale + i);
}

/* MAGIC + q - z of 32 elements, or false. A NaN stays one through max and min in this order, and
 * its bits are greater than those of a distance. */
INLINE bool multiply(const run *r, const float *x, __m256 sums[4]) {
    const __m256 magic = _mm256_set1_ps(MAGIC);
    const __m256i absolute = _mm256_set1_epi32(0x7fffffff);
    __m256i farthest = _mm256_setzero_si256();
    PQ_UNROLL
    for (int j = 0; j < 4; j++) {
        __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + 8 * j), r->reciprocal);
        v = _mm256_min_ps(r->high, _mm256_max_ps(r->low, v));
        sums[j] = _mm256_add_ps(v, magic);
        const __m256 distance = _mm256_sub_ps(v, _mm256_sub_ps(sums[j], magic));
        farthest =
            _mm256_max_epi32(farthest, _mm256_and_si256(_mm256_castps_si256(distance), absolute));
    }
    const __m256i limit = _mm256_castps_si256(_mm256_set1_ps(0.5f - 0x1p-14f));
    return _mm256_movemask_epi8(_mm256_cmpgt_epi32(farthest, limit)) == 0;
}

/* The definition; NaN becomes quant_min, as in the scalar code. */
INLINE void divide(const run *r, const float *x, size_t i, __m256 sums[4], __m256 *nan) {
    PQ_UNROLL
    for (int j = 0; j < 4; j++) {
        const __m256 v = _mm256_loadu_ps(x + 8 * j);
        const __m256 w = _mm256_max_ps(_mm256_div_ps(v, scale_at(r, i + 8 * (size_t)j)), r->low);
        sums[j] = _mm256_add_ps(_mm256_min_ps(w, r->high), _mm256_set1_ps(MAGIC));
        *nan = _mm256_or_ps(*nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    }
}

INLINE void sums_of(const run *r, const float *x, size_t i, __m256 sums[4], __m256 *nan) {
    if (!r->near || !multiply(r, x + i, sums)) {
        divide(r, x + i, i, sums, nan);
    }
}

INLINE void store(void *p, __m256i v) {
    _mm256_storeu_si256((__m256i *)p, v);
}

INLINE __m256i integers(const run *r, __m256 sums) {
    return _mm256_add_epi32(_mm256_castps_si256(sums), r->integer);
}

/* The packs work in halves, the permutations restore the order; after the clamp no pack saturates.
 */
INLINE void store_integers(const run *r, const __m256 sums[4], pq_dtype type, void *q, size_t i) {
    const __m256i a = _mm256_packs_epi32(integers(r, sums[0]), integers(r, sums[1]));
    const __m256i b = _mm256_packs_epi32(integers(r, sums[2]), integers(r, sums[3]));
    if (type == PQ_S8) {
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        store((int8_t *)q + i, _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order));
    } else {
        store((int16_t *)q + i, _mm256_permute4x64_epi64(a, 0xD8));
        store((int16_t *)q + i + 16, _mm256_permute4x64_epi64(b, 0xD8));
    }
}

/* A run's last elements, filled up to a block with 0 on the scale 1. */
typedef struct tail {
    float x[BLOCK], scale[BLOCK];
} tail;

static tail tail_of(size_t n, const float *x, const float *scale, size_t step) {
    tail t;
    for (int j = 0; j < BLOCK; j++) {
        t.x[j] = 0.0f;
        t.scale[j] = step == 0 ? scale[0] : 1.0f;
    }
    memcpy(t.x, x, n * sizeof *x);
    if (step != 0) {
        memcpy(t.scale, scale, n * sizeof *scale);
    }
    return t;
}

static bool quantize(size_t n, const float *x, const float *scale, size_t scale_step, pq_grid grid,
                     void *q) {
    if (n == 0) {
        return false;
    }
    run r = make_run(scale, scale_step, grid);
    __m256 nan = _mm256_setzero_ps(), sums[4];
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        sums_of(&r, x, i, sums, &nan);
        store_integers(&r, sums, grid.q_type, q, i);
    }
    if (i < n) {
        const tail t = tail_of(n - i, x + i, scale + i * scale_step, scale_step);
        int16_t rest[BLOCK];
        r.scale = t.scale;
        sums_of(&r, t.x, 0, sums, &nan);
        store_integers(&r, sums, grid.q_type, rest, 0);
        const size_t size = pq_dtype_size(grid.q_type);
        memcpy((char *)q + i * size, rest, (n - i) * size);
    }
    return _mm256_movemask_ps(nan) != 0;
}

INLINE void store_floats(const run *r, const __m256 sums[4], float *x_hat, size_t i) {
    PQ_UNROLL
    for (int j = 0; j < 4; j++) {
        const __m256 steps = _mm256_sub_ps(sums[j], _mm256_set1_ps(MAGIC));
        const __m256 scale = scale_at(r, i + 8 * (size_t)j);
        _mm256_storeu_ps(x_hat + i + 8 * j, _mm256_mul_ps(steps, scale));
    }
}

static bool fake_quantize(size_t n, const float *x, const float *scale, size_t scale_step,
                          pq_grid grid, float *x_hat) {
    if (n == 0) {
        return false;
    }
    run r = make_run(scale, scale_step, grid);
    __m256 nan = _mm256_setzero_ps(), sums[4];
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        sums_of(&r, x, i, sums, &nan);
        store_floats(&r, sums, x_hat, i);
    }
    if (i < n) {
        tail t = tail_of(n - i, x + i, scale + i * scale_step, scale_step);
        r.scale = t.scale;
        sums_of(&r, t.x, 0, sums, &nan);
        store_floats(&r, sums, t.x, 0);
        memcpy(x_hat + i, t.x, (n - i) * sizeof *x_hat);
    }
    return _mm256_movemask_ps(nan) != 0;
}

/* The first element left; the type is a constant where this is inlined. */
INLINE size_t dequantize_whole(size_t n, const void *q, const float *scale, size_t scale_step,
                               int32_t zero, pq_dtype type, float *x) {
    const __m256i zero_point = _mm256_set1_epi32(zero);
    const __m256 uniform = _mm256_set1_ps(scale[0]);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i wide =
            type == PQ_S8
                ? _mm256_cvtepi8_epi32(
                      _mm_loadl_epi64((const __m128i *)(const void *)((const int8_t *)q + i)))
                : _mm256_cvtepi16_epi32(
                      _mm_loadu_si128((const __m128i *)(const void *)((const int16_t *)q + i)));
        const __m256 v = _mm256_cvtepi32_ps(_mm256_sub_epi32(wide, zero_point));
        const __m256 s = scale_step == 0 ? uniform : _mm256_loadu_ps(scale + i);
        _mm256_storeu_ps(x + i, _mm256_mul_ps(v, s));
    }
    return i;
}

static void dequantize(size_t n, const void *q, const float *scale, size_t scale_step, pq_grid grid,
                       float *x) {
    if (n == 0) {
        return;
    }
    const size_t begin =
        grid.q_type == PQ_S8
            ? dequantize_whole(n, q, scale, scale_step, grid.zero_point, PQ_S8, x)
            : dequantize_whole(n, q, scale, scale_step, grid.zero_point, PQ_S16, x);
    pq_dequantize_loop(begin, n, q, scale, scale_step, grid, x);
}

const struct pq_quantize_f32_kernel pq_quantize_f32_avx2 = {
    .quantize = quantize, .fake_quantize = fake_quantize, .dequantize = dequantize};
