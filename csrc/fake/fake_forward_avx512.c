/* The elementwise passes on AVX-512, 64 elements at a time, the last ones under a mask.
 *
 * A reciprocal decides nearly every element, as in quantize_f32_avx2.c: with |low|, |high| <= 256
 * the product v = fl(x fl(1 / s)) and the quotient, both brought into [low - 1, high + 1], differ
 * by less than 257 * 3 * 2^-24 < 2^-14, so that a v within 1/2 - 2^-14 of an integer rounds as the
 * quotient does. Where one of 64 is closer to a tie, or NaN, and for wider grids, the quotient is
 * computed: by two corrections where a run has one scale (quantize_f32_avx512.c has the argument; x
 * is brought to two steps beyond the grid first), else by a division.
 */
#include <math.h>

#include "core/simd_avx512.h"
#include "core/unroll.h"
#include "fake/fake_forward_loop.h"

#define INLINE static inline __attribute__((always_inline))

enum { BLOCK = 64, VECTORS = 4 };

/* Lanes of vector j of a block with n elements left. */
INLINE __mmask16 lanes_of(size_t n, int j) {
    const size_t before = 16 * (size_t)j;
    return (__mmask16)(n >= before + 16 ? 0xffff : n <= before ? 0 : (1u << (n - before)) - 1);
}

typedef struct grid16 {
    __m512 scale, reciprocal, low, high;
    __m512 least, most; /* where v is brought: a step beyond the grid if a mask is to be told */
} grid16;

INLINE grid16 with_ends(__m512 scale, __m512 reciprocal, __m512 low, __m512 high, bool masked) {
    const __m512 one = _mm512_set1_ps(1.0f);
    return (grid16){scale,
                    reciprocal,
                    low,
                    high,
                    masked ? _mm512_sub_ps(low, one) : low,
                    masked ? _mm512_add_ps(high, one) : high};
}

INLINE grid16 uniform_grid(pq_fake_grid grid, bool masked) {
    return with_ends(_mm512_set1_ps(*grid.scale), _mm512_set1_ps(*grid.reciprocal),
                     _mm512_set1_ps(*grid.low), _mm512_set1_ps(*grid.high), masked);
}

INLINE grid16 grid_at(const pq_fake_grid *grid, size_t i, __mmask16 mask, bool masked) {
    return with_ends(_mm512_mask_loadu_ps(_mm512_set1_ps(1.0f), mask, grid->scale + i),
                     _mm512_maskz_loadu_ps(mask, grid->reciprocal + i),
                     _mm512_maskz_loadu_ps(mask, grid->low + i),
                     _mm512_maskz_loadu_ps(mask, grid->high + i), masked);
}

/* In this order NaN stays one. */
INLINE __m512 bring(__m512 v, const grid16 *g) {
    return _mm512_min_ps(g->most, _mm512_max_ps(g->least, v));
}

INLINE __m512 rounded(__m512 v) {
    const __m512 magic = _mm512_set1_ps(PQ_FAKE_MAGIC);
    return _mm512_sub_ps(_mm512_add_ps(v, magic), magic);
}

INLINE __m512 quotient(__m512 x, const grid16 *g, bool uniform) {
    if (!uniform) {
        return _mm512_div_ps(x, g->scale);
    }
    const __m512 two = _mm512_set1_ps(2.0f);
    x = _mm512_max_ps(x, _mm512_mul_ps(_mm512_sub_ps(g->low, two), g->scale));
    x = _mm512_min_ps(x, _mm512_mul_ps(_mm512_add_ps(g->high, two), g->scale));
    __m512 q = _mm512_mul_ps(x, g->reciprocal);
    q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, g->scale, x), g->reciprocal, q);
    return _mm512_fmadd_ps(_mm512_fnmadd_ps(q, g->scale, x), g->reciprocal, q);
}

/* The n <= 64 elements from i on; returns lanes that hold NaN. */
INLINE uint32_t forward_block(const pq_fake_grid *grid, const grid16 *one, bool uniform,
                              bool masked, const float *x, size_t i, size_t n, float *x_hat,
                              uint64_t *inside) {
    __m512 v[VECTORS], k[VECTORS];
    grid16 g[VECTORS];
    __m512i farthest = _mm512_setzero_si512();
    uint32_t nan = 0;
    PQ_UNROLL
    for (int j = 0; j < VECTORS; j++) {
        const __mmask16 mask = lanes_of(n, j);
        v[j] = _mm512_maskz_loadu_ps(mask, x + i + 16 * j);
        g[j] = uniform ? *one : grid_at(grid, i + 16 * (size_t)j, mask, masked);
    }
    bool near = grid->near;
    if (near) {
        PQ_UNROLL
        for (int j = 0; j < VECTORS; j++) {
            const __m512 product = bring(_mm512_mul_ps(v[j], g[j].reciprocal), &g[j]);
            k[j] = rounded(product);
            const __m512 distance = _mm512_abs_ps(_mm512_sub_ps(product, k[j]));
            farthest = _mm512_max_epi32(farthest, _mm512_castps_si512(distance));
        }
        /* The bits of a NaN are greater than those of a distance. */
        const __m512i limit = _mm512_castps_si512(_mm512_set1_ps(0.5f - 0x1p-14f));
        near = _mm512_cmpgt_epi32_mask(farthest, limit) == 0;
    }
    if (!near) {
        PQ_UNROLL
        for (int j = 0; j < VECTORS; j++) {
            const __mmask16 bad = _mm512_cmp_ps_mask(v[j], v[j], _CMP_UNORD_Q);
            nan |= (uint32_t)bad;
            const __m512 number = _mm512_mask_mov_ps(v[j], bad, _mm512_set1_ps(-INFINITY));
            k[j] = rounded(bring(quotient(number, &g[j], uniform), &g[j]));
        }
    }
    *inside = 0;
    PQ_UNROLL
    for (int j = 0; j < VECTORS; j++) {
        const __mmask16 mask = lanes_of(n, j);
        __m512 kept = k[j];
        if (masked) {
            kept = _mm512_min_ps(_mm512_max_ps(kept, g[j].low), g[j].high);
            const uint64_t same = (uint64_t)_mm512_mask_cmp_ps_mask(mask, kept, k[j], _CMP_EQ_OQ);
            *inside |= same << 16 * j;
        }
        _mm512_mask_storeu_ps(x_hat + i + 16 * j, mask, _mm512_mul_ps(kept, g[j].scale));
    }
    return nan;
}

/* The two flags are constants where this is inlined. */
INLINE bool forward_run(size_t n, const float *x, const pq_fake_grid *grid, bool uniform,
                        bool masked, float *x_hat, uint8_t *bits) {
    const grid16 one = uniform_grid(*grid, masked);
    uint32_t nan = 0;
    uint64_t inside;
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        nan |= forward_block(grid, &one, uniform, masked, x, i, BLOCK, x_hat, &inside);
        if (masked) {
            memcpy(bits + i / 8, &inside, sizeof inside);
        }
    }
    if (i < n) {
        nan |= forward_block(grid, &one, uniform, masked, x, i, n - i, x_hat, &inside);
        if (masked) {
            memcpy(bits + i / 8, &inside, (n - i + 7) / 8);
        }
    }
    return nan != 0;
}

static bool forward(size_t n, const float *x, pq_fake_grid grid, float *x_hat, uint8_t *bits) {
    if (n == 0) {
        return false;
    }
    if (bits == NULL) {
        return grid.step == 0 ? forward_run(n, x, &grid, true, false, x_hat, bits)
                              : forward_run(n, x, &grid, false, false, x_hat, bits);
    }
    return grid.step == 0 ? forward_run(n, x, &grid, true, true, x_hat, bits)
                          : forward_run(n, x, &grid, false, true, x_hat, bits);
}

static void apply(size_t n, const float *g, const uint8_t *bits, float *dx) {
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        uint64_t word;
        memcpy(&word, bits + i / 8, sizeof word);
        PQ_UNROLL
        for (int j = 0; j < 4; j++) {
            const __mmask16 mask = (__mmask16)(word >> 16 * j);
            _mm512_storeu_ps(dx + i + 16 * j, _mm512_maskz_loadu_ps(mask, g + i + 16 * j));
        }
    }
    pq_fake_apply_loop(i, n, g, bits, dx);
}

INLINE void edge_16(const float *g, const float *y, __m512 low, __m512 high, __mmask16 lanes,
                    float *dx) {
    const __m512 value = _mm512_maskz_loadu_ps(lanes, y);
    __mmask16 inside = _mm512_mask_cmp_ps_mask(lanes, value, low, _CMP_GT_OQ);
    inside = _mm512_mask_cmp_ps_mask(inside, value, high, _CMP_LT_OQ);
    _mm512_mask_storeu_ps(dx, lanes, _mm512_maskz_loadu_ps(inside, g));
}

static void edge(size_t n, const float *g, const float *y, float low, float high, float *dx) {
    const __m512 least = _mm512_set1_ps(low), most = _mm512_set1_ps(high);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        edge_16(g + i, y + i, least, most, 0xffff, dx + i);
    }
    edge_16(g + i, y + i, least, most, lanes_of(n - i, 0), dx + i);
}

const struct pq_fake_forward_kernel pq_fake_forward_avx512 = {
    .forward = forward, .apply = apply, .edge = edge};
