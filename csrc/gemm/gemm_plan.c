#include "gemm/gemm_plan.h"

#include <assert.h>

/* Below this many multiply-adds (some 50 us) another thread costs more than it brings. */
#define THREAD_MACS ((size_t)1 << 19)

/* k is cut in multiples of this: a cut costs a pass of the sums through memory. */
#define K_UNIT ((size_t)64)

/* As many whole units as fit in `size`, at least one. */
static size_t whole(size_t size, size_t unit) {
    return pq_max_size(size / unit, 1) * unit;
}

/* Shares of L2, the cache that a core has to itself:
 *
 *   1/2   a panel and MANY row tiles of x, over k: how k is cut
 *   1/2   all rows of x of a block, which meet one panel after the other
 *   1/4   the sums of a block between two cuts of k, or a product that is read again
 *
 * L1 does not matter: where a panel and a row tile did not fit into it, kernels were as fast
 * (panels of 50 KB beside 32 KB of L1d, Zen 1), since each load of a panel serves a whole row tile
 * and comes in order. Sizes outside the clamp are no caches that a core has to itself. */
pq_gemm_blocking pq_gemm_blocking_of(const struct pq_gemm_s8s8_kernel *kernel, size_t n, size_t k) {
    enum { MANY = 8 };
    const size_t known = pq_cpu_caches().l2;
    const size_t l2 = pq_max_size((size_t)1 << 15, pq_min_size(known, (size_t)1 << 22));
    const size_t panel = kernel->column_tile * kernel->w_bytes;
    const size_t tile = kernel->row_tile * kernel->x_bytes;
    const size_t most = whole(l2 / 2 / (panel + MANY * tile), K_UNIT);
    const size_t cuts = pq_max_size(pq_ceil_div(k, most), 1);
    pq_gemm_blocking b = {.k = whole(pq_ceil_div(k, cuts) + K_UNIT - 1, K_UNIT)};
    b.rows = whole(pq_min_size(l2 / 2 / (b.k * kernel->x_bytes), 1024), kernel->row_tile);
    b.read_columns = whole(l2 / 4 / sizeof(int32_t) / b.rows, kernel->column_tile);
    b.columns = b.read_columns;
    if (cuts == 1) {
        b.columns = pq_max_size(whole(n + kernel->column_tile - 1, kernel->column_tile), b.columns);
    } else {
        b.sums = b.rows * b.columns;
    }
    return b;
}

/* Multiply-adds of m x n x k, or SIZE_MAX where that is too many to count. */
static size_t macs(size_t m, size_t n, size_t k) {
    size_t area, volume;
    return pq_mul_size(m, n, &area) && pq_mul_size(area, k, &volume) ? volume : SIZE_MAX;
}

/* Half of `size`, a multiple of `tile`, at least one tile. */
static size_t halve(size_t size, size_t tile) {
    const size_t half = pq_ceil_div(size / 2, tile) * tile;
    return half < size && half > 0 ? half : pq_min_size(size, tile);
}

/* The most equal cut of `count` into as many blocks as `size` makes, in whole tiles. */
static size_t balance(size_t count, size_t size, size_t tile) {
    return pq_min_size(pq_ceil_div(pq_ceil_div(count, pq_ceil_div(count, size)), tile) * tile,
                       size);
}

/* Halves the longer side: a block reads (and may widen) rows + columns for rows * columns products.
 * False if it is a tile already. */
static bool cut(pq_gemm_plan *p, const struct pq_gemm_s8s8_kernel *kernel) {
    const bool columns = p->columns > kernel->column_tile, rows = p->rows > kernel->row_tile;
    if (columns && (p->columns >= p->rows || !rows)) {
        p->columns = halve(p->columns, kernel->column_tile);
    } else if (rows) {
        p->rows = halve(p->rows, kernel->row_tile);
    }
    return columns || rows;
}

pq_gemm_plan pq_gemm_plan_of(const pq_gemm_weights *weights, size_t m, size_t max_columns,
                             int threads) {
    const struct pq_gemm_s8s8_kernel *kernel = weights->kernel;
    const size_t n = weights->n, depth = pq_max_size(weights->k, 1);
    const size_t columns = pq_min_size(weights->blocking.columns, max_columns);
    pq_gemm_plan p = {
        .rows = pq_min_size(m, weights->blocking.rows),
        .columns = pq_min_size(columns, pq_ceil_div(n, kernel->column_tile) * kernel->column_tile)};
    while (macs(p.rows, p.columns, depth) > kernel->block_macs && cut(&p, kernel)) {
    }
    while (macs(p.rows, p.columns, depth) > kernel->block_macs && p.rows > 1) {
        p.rows /= 2;
    }
    /* Three blocks a thread bound the wait for the last one to a third. */
    const bool share = threads > 1 && macs(m, n, depth) > 2 * THREAD_MACS;
    const size_t wanted = share ? 3 * (size_t)threads : 1;
    while (pq_ceil_div(m, p.rows) * pq_ceil_div(n, p.columns) < wanted && cut(&p, kernel)) {
    }
    p.rows = balance(m, p.rows, pq_min_size(p.rows, kernel->row_tile));
    p.columns = balance(n, p.columns, kernel->column_tile);
    p.row_blocks = pq_ceil_div(m, p.rows);
    p.column_blocks = pq_ceil_div(n, p.columns);
    const size_t block = macs(p.rows, p.columns, depth);
    assert(block > 0);
    p.grain = block < THREAD_MACS ? THREAD_MACS / block : 1;
    return p;
}
