/* Sums of learned scales on AVX-512: one accumulator is the 16 lanes of a block. The quotient
 * itself takes part, not only the integer next to it, so it is divided. Lanes beyond the end are
 * read as zeros with a gradient of zero, which change no sum. */
#include "core/simd_avx512.h"
#include "core/unroll.h"
#include "fake/fake_backward_loop.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __mmask16 lanes_of(size_t n) {
    return (__mmask16)(n >= 16 ? 0xffff : (1u << n) - 1);
}

typedef struct grid16 {
    __m512 scale, reciprocal, low, high;
} grid16;

INLINE grid16 uniform_grid(const pq_fake_grid *grid) {
    return (grid16){_mm512_set1_ps(*grid->scale), _mm512_set1_ps(*grid->reciprocal),
                    _mm512_set1_ps(*grid->low), _mm512_set1_ps(*grid->high)};
}

INLINE __mmask16 inside_of(__m512 v, const grid16 *g) {
    return _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(v, g->low, _CMP_GT_OQ), v, g->high,
                                   _CMP_LT_OQ);
}

/* clamp, then round; NaN becomes low. */
INLINE __m512 integer(__m512 v, const grid16 *g) {
    const __m512 magic = _mm512_set1_ps(PQ_FAKE_MAGIC);
    v = _mm512_min_ps(_mm512_max_ps(v, g->low), g->high);
    return _mm512_sub_ps(_mm512_add_ps(v, magic), magic);
}

INLINE double add_lanes(__m512 lanes) {
    float values[PQ_FAKE_LANES];
    _mm512_storeu_ps(values, lanes);
    return pq_fake_add_lanes(values);
}

INLINE void learned_16(const float *x, const float *g, const grid16 *grid, __mmask16 lanes,
                       float *dx, __m512 *steps, __m512 *outside, __mmask16 *nan) {
    const __m512 value = _mm512_maskz_loadu_ps(lanes, x);
    const __m512 gradient = _mm512_maskz_loadu_ps(lanes, g);
    const __m512 v = _mm512_div_ps(value, grid->scale);
    const __mmask16 inside = inside_of(v, grid);
    const __m512 t = _mm512_sub_ps(integer(v, grid), _mm512_maskz_mov_ps(inside, v));
    *nan = (__mmask16)(*nan | _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q));
    *steps = _mm512_add_ps(*steps, _mm512_mul_ps(gradient, t));
    *outside = _mm512_add_ps(*outside, _mm512_maskz_mov_ps((__mmask16)~inside, gradient));
    _mm512_mask_storeu_ps(dx, lanes, _mm512_maskz_mov_ps(inside, gradient));
}

static bool learned(size_t n, const float *x, const float *g, pq_fake_grid grid, float *dx,
                    double sums[2]) {
    const grid16 one = uniform_grid(&grid);
    __m512 steps = _mm512_setzero_ps(), outside = _mm512_setzero_ps();
    __mmask16 nan = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        learned_16(x + i, g + i, &one, 0xffff, dx + i, &steps, &outside, &nan);
    }
    if (i < n) {
        learned_16(x + i, g + i, &one, lanes_of(n - i), dx + i, &steps, &outside, &nan);
    }
    sums[0] = add_lanes(steps);
    sums[1] = add_lanes(outside);
    return nan != 0;
}

/* A panel of 32 columns takes whole cache lines of every row. */
enum { PANEL = 2 };

static bool columns(size_t rows, size_t n, size_t stride, const float *x, const float *g,
                    pq_fake_grid grid, float *dx, float *steps, float *outside) {
    __mmask16 nan = 0;
    for (size_t j = 0; j < n; j += 16 * PANEL) {
        __mmask16 lanes[PANEL];
        grid16 grids[PANEL];
        __m512 in[PANEL], out[PANEL];
        PQ_UNROLL
        for (int p = 0; p < PANEL; p++) {
            const size_t at = j + 16 * (size_t)p;
            lanes[p] = at < n ? lanes_of(n - at) : 0;
            grids[p].scale = _mm512_mask_loadu_ps(_mm512_set1_ps(1.0f), lanes[p], grid.scale + at);
            grids[p].low = _mm512_maskz_loadu_ps(lanes[p], grid.low + at);
            grids[p].high = _mm512_maskz_loadu_ps(lanes[p], grid.high + at);
            in[p] = out[p] = _mm512_setzero_ps();
        }
        for (size_t row = 0; row < rows; row++) {
            const size_t at = row * stride + j;
            PQ_UNROLL
            for (int p = 0; p < PANEL; p++) {
                learned_16(x + at + 16 * p, g + at + 16 * p, &grids[p], lanes[p], dx + at + 16 * p,
                           &in[p], &out[p], &nan);
            }
        }
        PQ_UNROLL
        for (int p = 0; p < PANEL; p++) {
            _mm512_mask_storeu_ps(steps + j + 16 * p, lanes[p], in[p]);
            _mm512_mask_storeu_ps(outside + j + 16 * p, lanes[p], out[p]);
        }
    }
    return nan != 0;
}

INLINE __m512 edge_16(const float *g, const float *real, const float *y, const grid16 *grid,
                      __mmask16 lanes, float *dx) {
    const __m512 gradient = _mm512_maskz_loadu_ps(lanes, g);
    const __m512 v = _mm512_div_ps(_mm512_maskz_loadu_ps(lanes, real), grid->scale);
    const __m512 k =
        integer(_mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, y), grid->reciprocal), grid);
    const __mmask16 inside = inside_of(v, grid);
    /* In this order NaN stays one. */
    const __m512 clipped = _mm512_min_ps(grid->high, _mm512_max_ps(grid->low, v));
    const __m512 t = _mm512_mask_mov_ps(clipped, inside, _mm512_sub_ps(k, v));
    _mm512_mask_storeu_ps(dx, lanes, _mm512_maskz_mov_ps(inside, gradient));
    return _mm512_mul_ps(gradient, t);
}

static double edge(size_t n, const float *g, const float *real, const float *y, pq_fake_grid grid,
                   float *dx) {
    const grid16 one = uniform_grid(&grid);
    __m512 steps = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        steps = _mm512_add_ps(steps, edge_16(g + i, real + i, y + i, &one, 0xffff, dx + i));
    }
    if (i < n) {
        steps =
            _mm512_add_ps(steps, edge_16(g + i, real + i, y + i, &one, lanes_of(n - i), dx + i));
    }
    return add_lanes(steps);
}

/* Two gathers; a table is 1 KB and stays in the nearest cache. */
static double lookup(size_t n, const float *g, const float *x, pq_fake_grid grid,
                     const float *slope, const float *step, float *dx) {
    const grid16 one = uniform_grid(&grid);
    __m512 sums = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512 gradient = _mm512_loadu_ps(g + i);
        const __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + i), one.reciprocal);
        const __m512i index = _mm512_cvtps_epi32(integer(v, &one));
        if (step != NULL) {
            const __m512 t = _mm512_i32gather_ps(index, step, 4);
            sums = _mm512_add_ps(sums, _mm512_mul_ps(gradient, t));
        }
        const __m512 slopes = _mm512_i32gather_ps(index, slope, 4);
        _mm512_storeu_ps(dx + i, _mm512_mul_ps(gradient, slopes));
    }
    float lanes[PQ_FAKE_LANES];
    _mm512_storeu_ps(lanes, sums);
    pq_fake_lookup_loop(i, n, g, x, &grid, slope, step, dx, lanes);
    return pq_fake_add_lanes(lanes);
}

const struct pq_fake_backward_kernel pq_fake_backward_avx512 = {
    .learned = learned, .columns = columns, .edge = edge, .lookup = lookup};
