/* Sums of learned scales on AVX2: two vectors are the 16 lanes of a block. The quotient itself
 * takes part, not only the integer next to it, so it is divided. The last elements of a block are
 * filled up with zeros whose gradient is zero, which change no sum. */
#include <string.h>

#include "core/simd_avx2.h"
#include "core/unroll.h"
#include "fake/fake_backward_loop.h"

#define INLINE static inline __attribute__((always_inline))

typedef struct grid8 {
    __m256 scale, reciprocal, low, high;
} grid8;

INLINE grid8 uniform_grid(const pq_fake_grid *grid) {
    return (grid8){_mm256_set1_ps(*grid->scale), _mm256_set1_ps(*grid->reciprocal),
                   _mm256_set1_ps(*grid->low), _mm256_set1_ps(*grid->high)};
}

INLINE __m256 inside_of(__m256 v, const grid8 *g) {
    return _mm256_and_ps(_mm256_cmp_ps(v, g->low, _CMP_GT_OQ),
                         _mm256_cmp_ps(v, g->high, _CMP_LT_OQ));
}

/* clamp, then round; NaN becomes low. */
INLINE __m256 integer(__m256 v, const grid8 *g) {
    const __m256 magic = _mm256_set1_ps(PQ_FAKE_MAGIC);
    v = _mm256_min_ps(_mm256_max_ps(v, g->low), g->high);
    return _mm256_sub_ps(_mm256_add_ps(v, magic), magic);
}

/* Lane i and lane i + 8 are lane i of the two vectors. */
INLINE double add_lanes(const __m256 lanes[2]) {
    const __m256d first = _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(lanes[0])),
                                        _mm256_cvtps_pd(_mm256_castps256_ps128(lanes[1])));
    const __m256d second = _mm256_add_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(lanes[0], 1)),
                                         _mm256_cvtps_pd(_mm256_extractf128_ps(lanes[1], 1)));
    const __m256d four = _mm256_add_pd(first, second);
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

INLINE void learned_8(const float *x, const float *g, const grid8 *grid, float *dx, __m256 *steps,
                      __m256 *outside, __m256 *nan) {
    const __m256 value = _mm256_loadu_ps(x), gradient = _mm256_loadu_ps(g);
    const __m256 v = _mm256_div_ps(value, grid->scale);
    const __m256 inside = inside_of(v, grid);
    const __m256 t = _mm256_sub_ps(integer(v, grid), _mm256_and_ps(inside, v));
    *nan = _mm256_or_ps(*nan, _mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    *steps = _mm256_add_ps(*steps, _mm256_mul_ps(gradient, t));
    *outside = _mm256_add_ps(*outside, _mm256_andnot_ps(inside, gradient));
    _mm256_storeu_ps(dx, _mm256_and_ps(inside, gradient));
}

static bool learned(size_t n, const float *x, const float *g, pq_fake_grid grid, float *dx,
                    double sums[2]) {
    const grid8 one = uniform_grid(&grid);
    const __m256 zero = _mm256_setzero_ps();
    __m256 steps[2] = {zero, zero}, outside[2] = {zero, zero}, nan = zero;
    size_t i = 0;
    for (; i + PQ_FAKE_LANES <= n; i += PQ_FAKE_LANES) {
        PQ_UNROLL
        for (int j = 0; j < 2; j++) {
            learned_8(x + i + 8 * j, g + i + 8 * j, &one, dx + i + 8 * j, &steps[j], &outside[j],
                      &nan);
        }
    }
    if (i < n) {
        float last_x[PQ_FAKE_LANES] = {0}, last_g[PQ_FAKE_LANES] = {0};
        memcpy(last_x, x + i, (n - i) * sizeof *x);
        memcpy(last_g, g + i, (n - i) * sizeof *g);
        PQ_UNROLL
        for (int j = 0; j < 2; j++) {
            learned_8(last_x + 8 * j, last_g + 8 * j, &one, last_g + 8 * j, &steps[j], &outside[j],
                      &nan);
        }
        memcpy(dx + i, last_g, (n - i) * sizeof *dx);
    }
    sums[0] = add_lanes(steps);
    sums[1] = add_lanes(outside);
    return _mm256_movemask_ps(nan) != 0;
}

/* 16 columns are a cache line of every row. */
static bool columns(size_t rows, size_t n, size_t stride, const float *x, const float *g,
                    pq_fake_grid grid, float *dx, float *steps, float *outside) {
    __m256 nan = _mm256_setzero_ps();
    size_t j = 0;
    for (; j + 16 <= n; j += 16) {
        grid8 grids[2];
        __m256 in[2], out[2];
        PQ_UNROLL
        for (int p = 0; p < 2; p++) {
            grids[p].scale = _mm256_loadu_ps(grid.scale + j + 8 * p);
            grids[p].low = _mm256_loadu_ps(grid.low + j + 8 * p);
            grids[p].high = _mm256_loadu_ps(grid.high + j + 8 * p);
            in[p] = out[p] = _mm256_setzero_ps();
        }
        for (size_t row = 0; row < rows; row++) {
            const size_t at = row * stride + j;
            PQ_UNROLL
            for (int p = 0; p < 2; p++) {
                learned_8(x + at + 8 * p, g + at + 8 * p, &grids[p], dx + at + 8 * p, &in[p],
                          &out[p], &nan);
            }
        }
        PQ_UNROLL
        for (int p = 0; p < 2; p++) {
            _mm256_storeu_ps(steps + j + 8 * p, in[p]);
            _mm256_storeu_ps(outside + j + 8 * p, out[p]);
        }
    }
    const bool rest = pq_fake_columns_loop(j, rows, n, stride, x, g, grid, dx, steps, outside);
    return rest || _mm256_movemask_ps(nan) != 0;
}

INLINE __m256 edge_8(const float *g, const float *real, const float *y, const grid8 *grid,
                     float *dx) {
    const __m256 gradient = _mm256_loadu_ps(g);
    const __m256 v = _mm256_div_ps(_mm256_loadu_ps(real), grid->scale);
    const __m256 k = integer(_mm256_mul_ps(_mm256_loadu_ps(y), grid->reciprocal), grid);
    const __m256 inside = inside_of(v, grid);
    /* In this order NaN stays one. */
    const __m256 clipped = _mm256_min_ps(grid->high, _mm256_max_ps(grid->low, v));
    const __m256 t = _mm256_blendv_ps(clipped, _mm256_sub_ps(k, v), inside);
    _mm256_storeu_ps(dx, _mm256_and_ps(inside, gradient));
    return _mm256_mul_ps(gradient, t);
}

static double edge(size_t n, const float *g, const float *real, const float *y, pq_fake_grid grid,
                   float *dx) {
    const grid8 one = uniform_grid(&grid);
    __m256 steps[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t i = 0;
    for (; i + PQ_FAKE_LANES <= n; i += PQ_FAKE_LANES) {
        PQ_UNROLL
        for (int j = 0; j < 2; j++) {
            const size_t at = i + 8 * (size_t)j;
            steps[j] = _mm256_add_ps(steps[j], edge_8(g + at, real + at, y + at, &one, dx + at));
        }
    }
    if (i < n) {
        float last_g[PQ_FAKE_LANES] = {0}, last_real[PQ_FAKE_LANES] = {0},
              last_y[PQ_FAKE_LANES] = {0};
        memcpy(last_g, g + i, (n - i) * sizeof *g);
        memcpy(last_real, real + i, (n - i) * sizeof *real);
        memcpy(last_y, y + i, (n - i) * sizeof *y);
        PQ_UNROLL
        for (int j = 0; j < 2; j++) {
            steps[j] = _mm256_add_ps(steps[j], edge_8(last_g + 8 * j, last_real + 8 * j,
                                                      last_y + 8 * j, &one, last_g + 8 * j));
        }
        memcpy(dx + i, last_g, (n - i) * sizeof *dx);
    }
    return add_lanes(steps);
}

/* Two gathers; a table is 1 KB and stays in the nearest cache. */
static double lookup(size_t n, const float *g, const float *x, pq_fake_grid grid,
                     const float *slope, const float *step, float *dx) {
    const grid8 one = uniform_grid(&grid);
    __m256 sums[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t i = 0;
    for (; i + PQ_FAKE_LANES <= n; i += PQ_FAKE_LANES) {
        PQ_UNROLL
        for (int j = 0; j < 2; j++) {
            const size_t at = i + 8 * (size_t)j;
            const __m256 gradient = _mm256_loadu_ps(g + at);
            const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + at), one.reciprocal);
            const __m256i index = _mm256_cvtps_epi32(integer(v, &one));
            if (step != NULL) {
                const __m256 t = _mm256_i32gather_ps(step, index, 4);
                sums[j] = _mm256_add_ps(sums[j], _mm256_mul_ps(gradient, t));
            }
            const __m256 slopes = _mm256_i32gather_ps(slope, index, 4);
            _mm256_storeu_ps(dx + at, _mm256_mul_ps(gradient, slopes));
        }
    }
    float lanes[PQ_FAKE_LANES];
    _mm256_storeu_ps(lanes, sums[0]);
    _mm256_storeu_ps(lanes + 8, sums[1]);
    pq_fake_lookup_loop(i, n, g, x, &grid, slope, step, dx, lanes);
    return pq_fake_add_lanes(lanes);
}

const struct pq_fake_backward_kernel pq_fake_backward_avx2 = {
    .learned = learned, .columns = columns, .edge = edge, .lookup = lookup};
