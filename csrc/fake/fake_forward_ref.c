/* The definition. */
#include "fake/fake_forward_loop.h"

static bool forward(size_t n, const float *x, pq_fake_grid grid, float *x_hat, uint8_t *bits) {
    return pq_fake_forward_loop(n, x, grid, x_hat, bits);
}

static void apply(size_t n, const float *g, const uint8_t *bits, float *dx) {
    pq_fake_apply_loop(0, n, g, bits, dx);
}

static void edge(size_t n, const float *g, const float *y, float low, float high, float *dx) {
    pq_fake_edge_loop(0, n, g, y, low, high, dx);
}

const struct pq_fake_forward_kernel pq_fake_forward_ref = {
    .forward = forward, .apply = apply, .edge = edge};
