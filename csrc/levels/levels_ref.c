#include <string.h>

#include "levels/levels_loop.h"

static bool values(const pq_levels_book *book, size_t begin, size_t end, const float *x,
                   const float *scale, size_t step, float *x_hat, uint8_t *mask) {
    return pq_level_values(book, begin, end, begin, x, scale, step, x_hat, mask);
}

static bool codes(const pq_levels_book *book, size_t begin, size_t end, const float *x,
                  const float *scale, size_t step, uint8_t *out) {
    return pq_level_codes(book, begin, end, begin, x, scale, step, out);
}

static bool learned_run(const pq_levels_book *book, size_t n, const float *x, const float *g,
                        float scale, float *dx, float *lanes) {
    bool nan = false;
    memset(lanes, 0, PQ_LEVELS_LANES * sizeof *lanes);
    for (size_t i = 0; i < n; i++) {
        const float v = x[i] / scale, g_i = g[i];
        nan |= v != v;
        lanes[i % PQ_LEVELS_LANES] += pq_level_term(book, v, g_i, &dx[i]);
    }
    return nan;
}

static bool learned_row(const pq_levels_book *book, size_t n, const float *x, const float *g,
                        const float *scale, float *dx, float *sums) {
    return pq_level_learned_row(book, 0, n, x, g, scale, dx, sums);
}

const struct pq_levels_kernel pq_levels_ref = {.in_registers = PQ_LEVELS_MOST,
                                               .values = values,
                                               .codes = codes,
                                               .learned_run = learned_run,
                                               .learned_row = learned_row};
