/* Entry of gemm_s8s8: checks the call, cuts y into blocks, runs the kernel chosen at packing.
 *
 * A block is at most what the kernel's workspace holds (its cache blocking), takes under 10 ms, and
 * blocks are small enough to keep all threads busy to the end.
 */
#include <assert.h>

#include "gemm/gemm_s8s8_kernel.h"

/* Below this many multiply-adds (some 50 us) another thread costs more than it brings. */
#define THREAD_MACS ((size_t)1 << 19)

typedef struct plan {
    size_t rows, columns; /* of a block */
    size_t row_blocks, column_blocks;
    size_t grain;
} plan;

typedef struct task {
    const pq_gemm_weights *weights;
    plan plan;
    size_t m;
    pq_gemm_block block; /* x and y; the ranges are set per item */
    char *workspace;
} task;

static size_t blocks(size_t count, size_t size) {
    assert(size > 0);
    return count / size + (count % size != 0);
}

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Multiply-adds of m x n x k, or SIZE_MAX where that is too many to count. */
static size_t macs(size_t m, size_t n, size_t k) {
    size_t area, volume;
    return pq_mul_size(m, n, &area) && pq_mul_size(area, k, &volume) ? volume : SIZE_MAX;
}

/* Half of `size`, a multiple of `tile`, at least one tile. */
static size_t halve(size_t size, size_t tile) {
    const size_t half = blocks(size / 2, tile) * tile;
    return half < size && half > 0 ? half : min_size(size, tile);
}

/* The most equal cut of `count` into as many blocks as `size` makes, in whole tiles. */
static size_t balance(size_t count, size_t size, size_t tile) {
    return min_size(blocks(blocks(count, blocks(count, size)), tile) * tile, size);
}

static plan make_plan(const struct pq_gemm_s8s8_kernel *kernel, size_t m, size_t n, size_t k,
                      int threads) {
    plan p = {.rows = min_size(m, kernel->block_rows), .columns = kernel->block_columns};
    const size_t depth = k == 0 ? 1 : k, most = kernel->block_macs / depth;
    while (p.rows * p.columns > most && p.columns > kernel->column_tile) {
        p.columns = halve(p.columns, kernel->column_tile);
    }
    while (p.rows * p.columns > most && p.rows > 1) {
        p.rows = p.rows > kernel->row_tile ? halve(p.rows, kernel->row_tile) : p.rows / 2;
    }
    /* Three blocks a thread bound the wait for the last one to a third. Columns are cut first: the
     * rows of a block share a widened or cached weight panel. */
    const bool share = threads > 1 && macs(m, n, depth) > 2 * THREAD_MACS;
    const size_t wanted = share ? 3 * (size_t)threads : 1;
    while (blocks(m, p.rows) * blocks(n, p.columns) < wanted && p.columns > kernel->column_tile) {
        p.columns = halve(p.columns, kernel->column_tile);
    }
    while (blocks(m, p.rows) * blocks(n, p.columns) < wanted && p.rows > kernel->row_tile) {
        p.rows = halve(p.rows, kernel->row_tile);
    }
    p.rows = balance(m, p.rows, min_size(p.rows, kernel->row_tile));
    p.row_blocks = blocks(m, p.rows);
    p.column_blocks = blocks(n, p.columns);
    const size_t block = macs(p.rows, p.columns, depth);
    assert(block > 0);
    p.grain = block < THREAD_MACS ? THREAD_MACS / block : 1;
    return p;
}

/* Blocks of the same columns follow one another: they share weights, the larger operand. */
static void run_blocks(void *pointer, size_t begin, size_t end, int slot) {
    const task *t = pointer;
    const struct pq_gemm_s8s8_kernel *kernel = t->weights->kernel;
    void *workspace = kernel->workspace == 0
                          ? NULL
                          : (void *)(t->workspace + (size_t)slot * kernel->workspace);
    for (size_t i = begin; i < end; i++) {
        pq_gemm_block block = t->block;
        block.row_begin = i % t->plan.row_blocks * t->plan.rows;
        block.row_end = min_size(block.row_begin + t->plan.rows, t->m);
        block.column_begin = i / t->plan.row_blocks * t->plan.columns;
        block.column_end = min_size(block.column_begin + t->plan.columns, t->weights->n);
        kernel->run(t->weights, &block, workspace);
    }
}

/* Bytes from the first to behind the last element of a matrix; false if that is no valid size. */
static bool extent(size_t rows, size_t columns, size_t ld, size_t element, size_t *bytes) {
    size_t count;
    return pq_mul_size(rows - 1, ld, &count) && count <= PTRDIFF_MAX - columns &&
           pq_mul_size(count + columns, element, bytes) && *bytes <= PTRDIFF_MAX;
}

static pq_status check_call(const pq_exec *exec, size_t m, const int8_t *x, size_t ldx,
                            const pq_gemm_weights *weights, const void *y, size_t ldy) {
    const size_t n = weights->n, k = weights->k;
    if ((m > 1 && ldx < k) || (m > 1 && ldy < n)) {
        return pq_fail(
            exec, PQ_ERR_VALUE,
            "gemm_s8s8: expected ldx >= k and ldy >= n, got ldx %zu, k %zu, ldy %zu, n %zu", ldx, k,
            ldy, n);
    }
    size_t x_bytes, y_bytes;
    if (!extent(m, k, ldx, 1, &x_bytes) ||
        !extent(m, n, ldy, pq_dtype_size(weights->y_type), &y_bytes)) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "gemm_s8s8: %zu rows with ldx %zu and ldy %zu are too large", m, ldx, ldy);
    }
    if ((x == NULL && k > 0) || y == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "gemm_s8s8: %s is NULL", y == NULL ? "y" : "x");
    }
    const uintptr_t x_begin = (uintptr_t)x, y_begin = (uintptr_t)y;
    if (y_begin % pq_dtype_size(weights->y_type) != 0) {
        return pq_fail(exec, PQ_ERR_VALUE, "gemm_s8s8: y is not aligned to its elements");
    }
    if (x != NULL && x_begin < y_begin + y_bytes && y_begin < x_begin + x_bytes) {
        return pq_fail(exec, PQ_ERR_VALUE, "gemm_s8s8: x and y overlap");
    }
    return PQ_OK;
}

size_t pq_gemm_workspace(const pq_exec *exec, const pq_gemm_weights *weights) {
    return (size_t)exec->num_threads * weights->kernel->workspace;
}

pq_status pq_gemm_s8s8_in(const pq_exec *exec, size_t m, const int8_t *x, size_t ldx,
                          const pq_gemm_weights *weights, void *y, size_t ldy, void *workspace,
                          size_t workspace_size) {
    if (weights == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "gemm_s8s8: weights is NULL");
    }
    if (m == 0 || weights->n == 0) {
        return PQ_OK;
    }
    const pq_status status = check_call(exec, m, x, ldx, weights, y, ldy);
    if (status != PQ_OK) {
        return status;
    }
    const size_t needed = pq_gemm_workspace(exec, weights);
    if (workspace_size < needed || (needed > 0 && workspace == NULL) ||
        (uintptr_t)workspace % 64 != 0) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "gemm_s8s8: expected a workspace of %zu bytes, 64-byte aligned, got %zu",
                       needed, workspace_size);
    }
    task t = {.weights = weights,
              .plan = make_plan(weights->kernel, m, weights->n, weights->k, exec->num_threads),
              .m = m,
              .block = {.x = x, .ldx = ldx, .y = y, .ldy = ldy},
              .workspace = workspace};
    return exec->parallel_for(exec, t.plan.row_blocks * t.plan.column_blocks, t.plan.grain,
                              run_blocks, &t);
}

pq_status pq_gemm_s8s8(const pq_exec *exec, size_t m, const int8_t *x, size_t ldx,
                       const pq_gemm_weights *weights, void *y, size_t ldy) {
    if (weights == NULL || m == 0 || weights->n == 0) {
        return pq_gemm_s8s8_in(exec, m, x, ldx, weights, y, ldy, NULL, 0);
    }
    const size_t size = pq_gemm_workspace(exec, weights);
    void *workspace = size == 0 ? NULL : pq_alloc(size);
    if (size > 0 && workspace == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "gemm_s8s8: no memory for a workspace of %zu bytes",
                       size);
    }
    const pq_status status =
        pq_gemm_s8s8_in(exec, m, x, ldx, weights, y, ldy, workspace, size);
    pq_free(workspace);
    return status;
}
