/* quantize_f32 and its inverse on AVX-512, 64 elements at a time, the last ones under a mask.
 *
 * With one scale and all |q - z| <= 256 a reciprocal decides, as on AVX2 (quantize_f32_avx2.c has the
 * bound): v = fl(x * fl(1 / s)) is within 2^-14 of the quotient, so that a v which lies within
 * 1/2 - 2^-14 of an integer rounds as the quotient does. Where one of 64 is closer to a tie, or NaN,
 * and for 16 bits, the quotient itself is computed: from r = fl(1 / s) by two corrections,
 *     q0 = fl(x r),  q1 = fma(x - q0 s, r, q0),  q2 = fma(x - q1 s, r, q1).
 * q0 is off by at most two units in the last place, so q1 is one of the two floats around x / s.
 * The remainder x - q1 s is then a float, computed exactly by one FMA, and q2 = fl(x / s) because r
 * is the correctly rounded reciprocal [1]. No remainder that counts underflows: for |x / s| >= 1/4
 * its last bit is worth at least 2^-25 * 2^-123 with s >= 2^-100, and a smaller quotient rounds to
 * 0 either way. Nothing overflows, because x is first brought to one step beyond the grid.
 *
 * Rounding: adding 1.5 * 2^23 to |v| < 2^22 rounds it half to even, and the low bits of the sum are
 * the integer.
 *
 * [1] P. Markstein, Computation of elementary functions on the IBM RISC System/6000 processor,
 *     IBM J. Res. Dev. 34 (1990).
 */
#include "core/simd_avx512.h"
#include "core/unroll.h"
#include "quantize/quantize_f32_kernel.h"

#define INLINE static inline __attribute__((always_inline))

enum { BLOCK = 64, VECTORS = 4, MAGIC_BITS = 0x4b400000 };
#define MAGIC 12582912.0f /* 1.5 * 2^23 */

/* What does not change in a run. */
typedef struct run {
    const float *scale;
    size_t step;
    bool near; /* a reciprocal decides */
    __m512 uniform, reciprocal;
    __m512 x_low, x_high; /* of uniform: a step beyond the grid */
    __m512 low, high;     /* q - z */
    __m512i integer;      /* what the bits of a sum with MAGIC lack to be q */
} run;

INLINE run make_run(const float *scale, size_t step, pq_grid grid) {
    const int32_t low = grid.quant_min - grid.zero_point, high = grid.quant_max - grid.zero_point;
    const __m512 uniform = _mm512_set1_ps(scale[0]);
    return (run){.scale = scale,
                 .step = step,
                 .near = step == 0 && low >= -256 && high <= 256,
                 .uniform = uniform,
                 .reciprocal = _mm512_div_ps(_mm512_set1_ps(1.0f), uniform),
                 .x_low = _mm512_mul_ps(_mm512_set1_ps((float)(low - 1)), uniform),
                 .x_high = _mm512_mul_ps(_mm512_set1_ps((float)(high + 1)), uniform),
                 .low = _mm512_set1_ps((float)low),
                 .high = _mm512_set1_ps((float)high),
                 .integer = _mm512_set1_epi32(grid.zero_point - MAGIC_BITS)};
}

/* Lanes of vector j of a block with n elements left. */
INLINE __mmask16 lanes_of(size_t n, int j) {
    const size_t before = 16 * (size_t)j;
    return (__mmask16)(n >= before + 16 ? 0xffff : n <= before ? 0 : (1u << (n - before)) - 1);
}

/* 1 where masked out: a divisor. */
INLINE __m512 scale_at(const run *r, size_t i, __mmask16 mask) {
    return r->step == 0 ? r->uniform
                        : _mm512_mask_loadu_ps(_mm512_set1_ps(1.0f), mask, r->scale + i);
}

/* MAGIC + q - z of 64 elements, or false. A NaN stays one through max and min in this order, and
 * its bits are greater than those of a distance. */
INLINE bool multiply(const run *r, const __m512 x[VECTORS], __m512 sums[VECTORS]) {
    const __m512 magic = _mm512_set1_ps(MAGIC);
    __m512i farthest = _mm512_setzero_si512();
    PQ_UNROLL
    for (int j = 0; j < VECTORS; j++) {
        __m512 v = _mm512_mul_ps(x[j], r->reciprocal);
        v = _mm512_min_ps(r->high, _mm512_max_ps(r->low, v));
        sums[j] = _mm512_add_ps(v, magic);
        const __m512 distance = _mm512_abs_ps(_mm512_sub_ps(v, _mm512_sub_ps(sums[j], magic)));
        farthest = _mm512_max_epi32(farthest, _mm512_castps_si512(distance));
    }
    const __m512i limit = _mm512_castps_si512(_mm512_set1_ps(0.5f - 0x1p-14f));
    return _mm512_cmpgt_epi32_mask(farthest, limit) == 0;
}

/* The definition; NaN becomes quant_min, as in the scalar code. */
INLINE __m512 divide(const run *r, __m512 x, __m512 scale, uint32_t *nan) {
    __m512 q;
    *nan |= (uint32_t)_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    if (r->step == 0) {
        x = _mm512_min_ps(_mm512_max_ps(x, r->x_low), r->x_high);
        q = _mm512_mul_ps(x, r->reciprocal);
        q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, scale, x), r->reciprocal, q);
        q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, scale, x), r->reciprocal, q);
    } else {
        q = _mm512_div_ps(x, scale);
    }
    q = _mm512_min_ps(_mm512_max_ps(q, r->low), r->high);
    return _mm512_add_ps(q, _mm512_set1_ps(MAGIC));
}

/* MAGIC + q - z of the n <= 64 elements from i on, and the scales they lie on. */
INLINE void sums_of(const run *r, const float *x, size_t i, size_t n, __m512 sums[VECTORS],
                    __m512 scale[VECTORS], uint32_t *nan) {
    __m512 v[VECTORS];
    PQ_UNROLL
    for (int j = 0; j < VECTORS; j++) {
        const __mmask16 mask = lanes_of(n, j);
        v[j] = _mm512_maskz_loadu_ps(mask, x + i + 16 * j);
        scale[j] = scale_at(r, i + 16 * (size_t)j, mask);
    }
    if (r->near && multiply(r, v, sums)) {
        return;
    }
    PQ_UNROLL
    for (int j = 0; j < VECTORS; j++) {
        sums[j] = divide(r, v[j], scale[j], nan);
    }
}

/* The packs work in quarters, the permutations restore the order; after the clamp no pack
 * saturates. */
INLINE void store_integers(const run *r, const __m512 sums[VECTORS], pq_dtype type, void *q,
                           size_t i, size_t n) {
    __m512i v[VECTORS];
    PQ_UNROLL
    for (int j = 0; j < VECTORS; j++) {
        v[j] = _mm512_add_epi32(_mm512_castps_si512(sums[j]), r->integer);
    }
    const __m512i a = _mm512_packs_epi32(v[0], v[1]), b = _mm512_packs_epi32(v[2], v[3]);
    if (type == PQ_S8) {
        const __m512i order =
            _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        const __mmask64 mask = n >= BLOCK ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1;
        _mm512_mask_storeu_epi8((int8_t *)q + i, mask,
                                _mm512_permutexvar_epi32(order, _mm512_packs_epi16(a, b)));
        return;
    }
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    int16_t *const out = (int16_t *)q + i;
    const uint64_t mask = n >= BLOCK ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1;
    _mm512_mask_storeu_epi16(out, (__mmask32)mask, _mm512_permutexvar_epi64(order, a));
    _mm512_mask_storeu_epi16(out + 32, (__mmask32)(mask >> 32), _mm512_permutexvar_epi64(order, b));
}

INLINE uint32_t quantize_block(const run *r, const float *x, size_t i, size_t n, pq_dtype type,
                               void *q) {
    __m512 sums[VECTORS], scale[VECTORS];
    uint32_t nan = 0;
    sums_of(r, x, i, n, sums, scale, &nan);
    store_integers(r, sums, type, q, i, n);
    return nan;
}

static bool quantize(size_t n, const float *x, const float *scale, size_t scale_step, pq_grid grid,
                     void *q) {
    if (n == 0) {
        return false;
    }
    const run r = make_run(scale, scale_step, grid);
    uint32_t nan = 0;
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        nan |= quantize_block(&r, x, i, BLOCK, grid.q_type, q);
    }
    if (i < n) {
        nan |= quantize_block(&r, x, i, n - i, grid.q_type, q);
    }
    return nan != 0;
}

INLINE uint32_t fake_quantize_block(const run *r, const float *x, size_t i, size_t n,
                                    float *x_hat) {
    __m512 sums[VECTORS], scale[VECTORS];
    uint32_t nan = 0;
    sums_of(r, x, i, n, sums, scale, &nan);
    PQ_UNROLL
    for (int j = 0; j < VECTORS; j++) {
        const __m512 steps = _mm512_sub_ps(sums[j], _mm512_set1_ps(MAGIC));
        _mm512_mask_storeu_ps(x_hat + i + 16 * j, lanes_of(n, j), _mm512_mul_ps(steps, scale[j]));
    }
    return nan;
}

static bool fake_quantize(size_t n, const float *x, const float *scale, size_t scale_step,
                          pq_grid grid, float *x_hat) {
    if (n == 0) {
        return false;
    }
    const run r = make_run(scale, scale_step, grid);
    uint32_t nan = 0;
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        nan |= fake_quantize_block(&r, x, i, BLOCK, x_hat);
    }
    if (i < n) {
        nan |= fake_quantize_block(&r, x, i, n - i, x_hat);
    }
    return nan != 0;
}

INLINE void dequantize_16(const void *q, size_t i, __mmask16 mask, __m512 scale, __m512i zero_point,
                          pq_dtype type, float *x) {
    const __m512i wide =
        type == PQ_S8
            ? _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, (const int8_t *)q + i))
            : _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(mask, (const int16_t *)q + i));
    const __m512 v = _mm512_cvtepi32_ps(_mm512_sub_epi32(wide, zero_point));
    _mm512_mask_storeu_ps(x + i, mask, _mm512_mul_ps(v, scale));
}

static void dequantize(size_t n, const void *q, const float *scale, size_t scale_step, pq_grid grid,
                       float *x) {
    if (n == 0) {
        return;
    }
    const run r = make_run(scale, scale_step, grid);
    const __m512i zero_point = _mm512_set1_epi32(grid.zero_point);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        dequantize_16(q, i, 0xffff, scale_at(&r, i, 0xffff), zero_point, grid.q_type, x);
    }
    if (i < n) {
        const __mmask16 mask = lanes_of(n - i, 0);
        dequantize_16(q, i, mask, scale_at(&r, i, mask), zero_point, grid.q_type, x);
    }
}

const struct pq_quantize_f32_kernel pq_quantize_f32_avx512 = {
    .quantize = quantize, .fake_quantize = fake_quantize, .dequantize = dequantize};
