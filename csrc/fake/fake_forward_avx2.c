/* The elementwise passes on AVX2, 32 elements at a time.
 *
 * A reciprocal decides nearly every element, as in quantize_f32_avx2.c: with |low|, |high| <= 256
 * the product v = fl(x fl(1 / s)) and the quotient, both brought into [low - 1, high + 1], differ
 * by less than 257 * 3 * 2^-24 < 2^-14, so that a v within 1/2 - 2^-14 of an integer rounds as the
 * quotient does. Where one of 32 is closer to a tie, or NaN, and for wider grids, the 32 are
 * divided.
 */
#include "core/simd_avx2.h"
#include "core/unroll.h"
#include "fake/fake_forward_loop.h"

#define INLINE static inline __attribute__((always_inline))

enum { BLOCK = 32, VECTORS = 4 };

INLINE __m256 at(const float *values, __m256 one, size_t i, bool uniform) {
    return uniform ? one : _mm256_loadu_ps(values + i);
}

typedef struct grid8 {
    __m256 scale, reciprocal, low, high;
} grid8;

/* From 32 floats of x to x_hat, and a bit each. For a mask, v is brought to a step beyond the grid.
 */
INLINE uint32_t forward_block(const pq_fake_grid *grid, const grid8 *one, bool uniform, bool masked,
                              size_t i, const float *x, float *x_hat, __m256 *nan) {
    const __m256 magic = _mm256_set1_ps(PQ_FAKE_MAGIC), step = _mm256_set1_ps(masked ? 1.0f : 0.0f);
    const __m256i absolute = _mm256_set1_epi32(0x7fffffff);
    __m256i farthest = _mm256_setzero_si256();
    __m256 k[VECTORS];
    bool near = grid->near;
    if (near) {
        PQ_UNROLL
        for (int j = 0; j < VECTORS; j++) {
            const size_t e = i + 8 * (size_t)j;
            const __m256 low = at(grid->low, one->low, e, uniform);
            const __m256 high = at(grid->high, one->high, e, uniform);
            __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + 8 * j),
                                     at(grid->reciprocal, one->reciprocal, e, uniform));
            /* In this order NaN stays one, and its bits are greater than those of a distance. */
            v = _mm256_min_ps(_mm256_add_ps(high, step),
                              _mm256_max_ps(_mm256_sub_ps(low, step), v));
            k[j] = _mm256_sub_ps(_mm256_add_ps(v, magic), magic);
            const __m256i distance = _mm256_castps_si256(_mm256_sub_ps(v, k[j]));
            farthest = _mm256_max_epi32(farthest, _mm256_and_si256(distance, absolute));
        }
        const __m256i limit = _mm256_castps_si256(_mm256_set1_ps(0.5f - 0x1p-14f));
        near = _mm256_movemask_epi8(_mm256_cmpgt_epi32(farthest, limit)) == 0;
    }
    if (!near) {
        PQ_UNROLL
        for (int j = 0; j < VECTORS; j++) {
            const size_t e = i + 8 * (size_t)j;
            const __m256 low = at(grid->low, one->low, e, uniform);
            const __m256 high = at(grid->high, one->high, e, uniform);
            const __m256 value = _mm256_loadu_ps(x + 8 * j);
            __m256 v = _mm256_div_ps(value, at(grid->scale, one->scale, e, uniform));
            v = _mm256_min_ps(_mm256_max_ps(v, _mm256_sub_ps(low, step)),
                              _mm256_add_ps(high, step));
            k[j] = _mm256_sub_ps(_mm256_add_ps(v, magic), magic);
            *nan = _mm256_or_ps(*nan, _mm256_cmp_ps(value, value, _CMP_UNORD_Q));
        }
    }
    uint32_t inside = 0;
    PQ_UNROLL
    for (int j = 0; j < VECTORS; j++) {
        const size_t e = i + 8 * (size_t)j;
        __m256 kept = k[j];
        if (masked) {
            kept = _mm256_max_ps(kept, at(grid->low, one->low, e, uniform));
            kept = _mm256_min_ps(kept, at(grid->high, one->high, e, uniform));
            const int same = _mm256_movemask_ps(_mm256_cmp_ps(kept, k[j], _CMP_EQ_OQ));
            inside |= (uint32_t)same << 8 * j;
        }
        const __m256 scale = at(grid->scale, one->scale, e, uniform);
        _mm256_storeu_ps(x_hat + 8 * j, _mm256_mul_ps(kept, scale));
    }
    return inside;
}

/* A run's last elements, filled up to a block with 0 on the grid {0} of scale 1. */
typedef struct tail {
    float x[BLOCK], scale[BLOCK], reciprocal[BLOCK], low[BLOCK], high[BLOCK];
} tail;

INLINE void fill(float to[BLOCK], const float *from, size_t n, float rest) {
    for (size_t i = 0; i < BLOCK; i++) {
        to[i] = i < n ? from[i] : rest;
    }
}

INLINE bool forward_run(size_t n, const float *x, pq_fake_grid grid, bool uniform, bool masked,
                        float *x_hat, uint8_t *bits) {
    const grid8 one = {_mm256_set1_ps(*grid.scale), _mm256_set1_ps(*grid.reciprocal),
                       _mm256_set1_ps(*grid.low), _mm256_set1_ps(*grid.high)};
    __m256 nan = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        const uint32_t inside =
            forward_block(&grid, &one, uniform, masked, i, x + i, x_hat + i, &nan);
        if (masked) {
            memcpy(bits + i / 8, &inside, sizeof inside);
        }
    }
    if (i < n) {
        const size_t left = n - i;
        tail t;
        fill(t.x, x + i, left, 0.0f);
        if (!uniform) {
            fill(t.scale, grid.scale + i, left, 1.0f);
            fill(t.reciprocal, grid.reciprocal + i, left, 1.0f);
            fill(t.low, grid.low + i, left, 0.0f);
            fill(t.high, grid.high + i, left, 0.0f);
            grid.scale = t.scale;
            grid.reciprocal = t.reciprocal;
            grid.low = t.low;
            grid.high = t.high;
        }
        uint32_t inside = forward_block(&grid, &one, uniform, masked, 0, t.x, t.x, &nan);
        memcpy(x_hat + i, t.x, left * sizeof *x_hat);
        if (masked) {
            inside &= (UINT32_C(1) << left) - 1;
            memcpy(bits + i / 8, &inside, (left + 7) / 8);
        }
    }
    return _mm256_movemask_ps(nan) != 0;
}

static bool forward(size_t n, const float *x, pq_fake_grid grid, float *x_hat, uint8_t *bits) {
    if (n == 0) {
        return false;
    }
    if (bits == NULL) {
        return grid.step == 0 ? forward_run(n, x, grid, true, false, x_hat, bits)
                              : forward_run(n, x, grid, false, false, x_hat, bits);
    }
    return grid.step == 0 ? forward_run(n, x, grid, true, true, x_hat, bits)
                          : forward_run(n, x, grid, false, true, x_hat, bits);
}

static void apply(size_t n, const float *g, const uint8_t *bits, float *dx) {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i byte = _mm256_set1_epi32(bits[i / 8]);
        const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(byte, bit), bit);
        _mm256_storeu_ps(dx + i, _mm256_and_ps(_mm256_castsi256_ps(set), _mm256_loadu_ps(g + i)));
    }
    pq_fake_apply_loop(i, n, g, bits, dx);
}

static void edge(size_t n, const float *g, const float *y, float low, float high, float *dx) {
    const __m256 least = _mm256_set1_ps(low), most = _mm256_set1_ps(high);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 value = _mm256_loadu_ps(y + i);
        const __m256 inside = _mm256_and_ps(_mm256_cmp_ps(value, least, _CMP_GT_OQ),
                                            _mm256_cmp_ps(value, most, _CMP_LT_OQ));
        _mm256_storeu_ps(dx + i, _mm256_and_ps(inside, _mm256_loadu_ps(g + i)));
    }
    pq_fake_edge_loop(i, n, g, y, low, high, dx);
}

const struct pq_fake_forward_kernel pq_fake_forward_avx2 = {
    .forward = forward, .apply = apply, .edge = edge};
