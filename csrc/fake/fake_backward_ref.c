/* The definition. */
#include "fake/fake_backward_loop.h"

static bool learned(size_t n, const float *x, const float *g, pq_fake_grid grid, float *dx,
                    double sums[2]) {
    float steps[PQ_FAKE_LANES] = {0}, outside[PQ_FAKE_LANES] = {0};
    bool nan = false;
    for (size_t i = 0; i < n; i++) {
        const float value = x[i], gradient = g[i];
        float in, out;
        const float t =
            pq_fake_learned_step(value, gradient, *grid.scale, *grid.low, *grid.high, &in, &out);
        nan |= value != value;
        steps[i % PQ_FAKE_LANES] += gradient * t;
        outside[i % PQ_FAKE_LANES] += out;
        dx[i] = in;
    }
    sums[0] = pq_fake_add_lanes(steps);
    sums[1] = pq_fake_add_lanes(outside);
    return nan;
}

static bool columns(size_t rows, size_t n, size_t stride, const float *x, const float *g,
                    pq_fake_grid grid, float *dx, float *steps, float *outside) {
    return pq_fake_columns_loop(0, rows, n, stride, x, g, grid, dx, steps, outside);
}

static double edge(size_t n, const float *g, const float *real, const float *y, pq_fake_grid grid,
                   float *dx) {
    float steps[PQ_FAKE_LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        bool inside;
        const float gradient = g[i], t = pq_fake_edge_step(real[i], y[i], &grid, &inside);
        steps[i % PQ_FAKE_LANES] += gradient * t;
        dx[i] = inside ? gradient : 0.0f;
    }
    return pq_fake_add_lanes(steps);
}

static double lookup(size_t n, const float *g, const float *x, pq_fake_grid grid,
                     const float *slope, const float *step, float *dx) {
    float lanes[PQ_FAKE_LANES] = {0};
    pq_fake_lookup_loop(0, n, g, x, &grid, slope, step, dx, lanes);
    return pq_fake_add_lanes(lanes);
}

const struct pq_fake_backward_kernel pq_fake_backward_ref = {
    .learned = learned, .columns = columns, .edge = edge, .lookup = lookup};
