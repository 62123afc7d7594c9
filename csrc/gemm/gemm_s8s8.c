/* Entry of gemm_s8s8: checks the call, cuts y into blocks, runs the kernel chosen at packing. */
#include "core/operands.h"
#include "gemm/gemm_epilogue.h"
#include "gemm/gemm_extent.h"
#include "gemm/gemm_plan.h"

typedef struct task {
    const pq_gemm_weights *weights;
    pq_gemm_finish finish;
    pq_gemm_plan plan;
    size_t m, ldx, ldy;
    const int8_t *x;
    char *y;
    char *workspace; /* a piece for each thread */
    size_t kernel_size;
    char *products; /* likewise, behind them */
    size_t product_size;
} task;

/* Blocks of the same columns follow one another: they share weights, the larger operand. */
static void run_blocks(void *pointer, size_t begin, size_t end, int slot) {
    const task *t = pointer;
    const size_t n = t->weights->n, y_element = pq_dtype_size(t->finish.y_type);
    /* The pieces may be empty, and the workspace NULL. */
    void *workspace = t->kernel_size == 0 ? NULL : t->workspace + (size_t)slot * t->kernel_size;
    void *product = t->product_size == 0 ? NULL : t->products + (size_t)slot * t->product_size;
    for (size_t i = begin; i < end; i++) {
        const size_t row = i % t->plan.row_blocks * t->plan.rows;
        const size_t column = i / t->plan.row_blocks * t->plan.columns;
        const pq_gemm_block block = {
            .rows = pq_min_size(t->plan.rows, t->m - row),
            .column_begin = column,
            .column_end = pq_min_size(column + t->plan.columns, n),
            .x = t->x == NULL ? NULL : t->x + row * t->ldx,
            .ldx = t->ldx,
            .y = t->y + (row * t->ldy + column) * y_element,
            .ldy = t->ldy,
        };
        pq_gemm_finish_run(&t->finish, t->weights, &block, row, workspace, product);
    }
}

static pq_status check_call(const pq_exec *exec, size_t m, const int8_t *x, size_t ldx,
                            const pq_gemm_weights *weights, const void *y, pq_dtype y_type,
                            size_t ldy) {
    const size_t n = weights->n, k = weights->k;
    if ((m > 1 && ldx < k) || (m > 1 && ldy < n)) {
        return pq_fail(
            exec, PQ_ERR_VALUE,
            "gemm_s8s8: expected ldx >= k and ldy >= n, got ldx %zu, k %zu, ldy %zu, n %zu", ldx, k,
            ldy, n);
    }
    size_t x_bytes, y_bytes;
    if (!pq_gemm_extent(m, k, ldx, 1, &x_bytes) ||
        !pq_gemm_extent(m, n, ldy, pq_dtype_size(y_type), &y_bytes)) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "gemm_s8s8: %zu rows with ldx %zu and ldy %zu are too large", m, ldx, ldy);
    }
    if ((x == NULL && k > 0) || y == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "gemm_s8s8: %s is NULL", y == NULL ? "y" : "x");
    }
    if ((uintptr_t)y % pq_dtype_size(y_type) != 0) {
        return pq_fail(exec, PQ_ERR_VALUE, "gemm_s8s8: y is not aligned to its elements");
    }
    if (x != NULL && pq_overlaps(x, x_bytes, y, y_bytes)) {
        return pq_fail(exec, PQ_ERR_VALUE, "gemm_s8s8: x and y overlap");
    }
    return PQ_OK;
}

static size_t kernel_workspace(const pq_gemm_weights *weights) {
    return weights->kernel->workspace(&weights->blocking);
}

size_t pq_gemm_workspace(const pq_exec *exec, const pq_gemm_weights *weights) {
    return (size_t)exec->num_threads * kernel_workspace(weights);
}

size_t pq_gemm_fused_workspace(const pq_exec *exec, const pq_gemm_weights *weights,
                               const pq_gemm_epilogue *epilogue) {
    return (size_t)exec->num_threads * pq_gemm_product_size(weights, epilogue);
}

pq_status pq_gemm_s8s8_fused_in(const pq_exec *exec, size_t m, const int8_t *x, size_t ldx,
                                const pq_gemm_weights *weights, const pq_gemm_epilogue *epilogue,
                                void *y, size_t ldy, void *workspace, size_t workspace_size) {
    if (weights == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "gemm_s8s8: weights is NULL");
    }
    if (m == 0 || weights->n == 0) {
        return PQ_OK;
    }
    task t = {.weights = weights,
              .finish = pq_gemm_finish_of(weights, epilogue),
              .m = m,
              .ldx = ldx,
              .ldy = ldy,
              .x = x,
              .y = y,
              .workspace = workspace,
              .kernel_size = kernel_workspace(weights),
              .product_size = pq_gemm_product_size(weights, epilogue)};
    pq_status status = check_call(exec, m, x, ldx, weights, y, t.finish.y_type, ldy);
    if (status == PQ_OK) {
        status = pq_gemm_epilogue_check(exec, weights, epilogue, m, y, ldy);
    }
    if (status != PQ_OK) {
        return status;
    }
    const size_t threads = (size_t)exec->num_threads, kernels = threads * t.kernel_size;
    const size_t needed = kernels + threads * t.product_size;
    if (workspace_size < needed || (needed > 0 && workspace == NULL) ||
        (uintptr_t)workspace % 64 != 0) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "gemm_s8s8: expected a workspace of %zu bytes, 64-byte aligned, got %zu",
                       needed, workspace_size);
    }
    t.products = t.product_size == 0 ? NULL : t.workspace + kernels;
    const size_t most = t.finish.epilogue == NULL ? SIZE_MAX : weights->blocking.read_columns;
    t.plan = pq_gemm_plan_of(weights, m, most, exec->num_threads);
    return exec->parallel_for(exec, t.plan.row_blocks * t.plan.column_blocks, t.plan.grain,
                              run_blocks, &t);
}

pq_status pq_gemm_s8s8_in(const pq_exec *exec, size_t m, const int8_t *x, size_t ldx,
                          const pq_gemm_weights *weights, void *y, size_t ldy, void *workspace,
                          size_t workspace_size) {
    return pq_gemm_s8s8_fused_in(exec, m, x, ldx, weights, NULL, y, ldy, workspace, workspace_size);
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
    const pq_status status = pq_gemm_s8s8_in(exec, m, x, ldx, weights, y, ldy, workspace, size);
    pq_free(workspace);
    return status;
}
