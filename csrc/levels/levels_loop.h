/* The definition, element by element: all of `ref`, and what wide code leaves at its ends. */
#ifndef PYQUANT_LEVELS_LEVELS_LOOP_H
#define PYQUANT_LEVELS_LEVELS_LOOP_H

#include "levels/levels_kernel.h"

/* The number of thresholds <= v, by halving: NaN pads compare false, and so does a NaN v. */
static inline uint32_t pq_level_code(const pq_levels_book *book, float v) {
    uint32_t code = 0;
    for (uint32_t step = book->reach; step > 0; step /= 2) {
        code += v >= book->thresholds[code + step - 1] ? step : 0;
    }
    return code;
}

static inline bool pq_level_inside(const pq_levels_book *book, float v) {
    return v >= book->low && v <= book->high;
}

static inline bool pq_level_values(const pq_levels_book *book, size_t begin, size_t end,
                                   size_t first, const float *x, const float *scale, size_t step,
                                   float *x_hat, uint8_t *mask) {
    bool nan = false;
    for (size_t i = begin; i < end; i++) {
        const float s = scale[(i - first) * step], v = x[i] / s;
        nan |= v != v;
        if (mask != NULL) {
            mask[i / 8] = (uint8_t)(mask[i / 8] | pq_level_inside(book, v) << i % 8);
        }
        x_hat[i] = book->levels[pq_level_code(book, v)] * s;
    }
    return nan;
}

static inline bool pq_level_codes(const pq_levels_book *book, size_t begin, size_t end,
                                  size_t first, const float *x, const float *scale, size_t step,
                                  uint8_t *codes) {
    bool nan = false;
    for (size_t i = begin; i < end; i++) {
        const float v = x[i] / scale[(i - first) * step];
        nan |= v != v;
        codes[i] = (uint8_t)pq_level_code(book, v);
    }
    return nan;
}

/* dx of one element, and its term of dscale. */
static inline float pq_level_term(const pq_levels_book *book, float v, float g, float *dx) {
    const bool inside = pq_level_inside(book, v);
    const float end = v < book->low ? book->low : book->high;
    const float d = inside ? book->levels[pq_level_code(book, v)] - v : end;
    *dx = inside ? g : 0.0F;
    return g * d;
}

static inline bool pq_level_learned_row(const pq_levels_book *book, size_t begin, size_t n,
                                        const float *x, const float *g, const float *scale,
                                        float *dx, float *sums) {
    bool nan = false;
    for (size_t i = begin; i < n; i++) {
        const float v = x[i] / scale[i], g_i = g[i];
        nan |= v != v;
        sums[i] += pq_level_term(book, v, g_i, &dx[i]);
    }
    return nan;
}

#endif
