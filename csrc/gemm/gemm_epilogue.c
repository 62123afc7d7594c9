#include "gemm/gemm_epilogue.h"

#include "core/dispatch.h"
#include "core/operands.h"
#include "gemm/gemm_extent.h"

static const char op[] = "gemm_s8s8";

/* y may be b itself, element for element. */
static pq_status check_operands(const pq_exec *exec, const pq_gemm_weights *weights,
                                const pq_gemm_epilogue *epilogue, size_t m, const void *y,
                                size_t ldy) {
    const pq_add_args *add = epilogue->add;
    const size_t n = weights->n, b_element = pq_dtype_size(add->b_type);
    if (epilogue->b == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: b is NULL", op);
    }
    if (m > 1 && epilogue->ldb < n) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected ldb >= n, got ldb %zu, n %zu", op,
                       epilogue->ldb, n);
    }
    size_t b_bytes, y_bytes;
    if (!pq_gemm_extent(m, n, epilogue->ldb, b_element, &b_bytes) ||
        !pq_gemm_extent(m, n, ldy, pq_dtype_size(add->y_type), &y_bytes)) {
        return pq_fail(exec, PQ_ERR_OVERFLOW, "%s: %zu rows with ldb %zu and ldy %zu are too large",
                       op, m, epilogue->ldb, ldy);
    }
    if ((uintptr_t)epilogue->b % b_element != 0) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: b is not aligned to its elements", op);
    }
    const bool same = add->b_type == add->y_type && (epilogue->ldb == ldy || m == 1);
    return pq_overlap_check(exec, op, "b", epilogue->b, b_bytes, y, y_bytes, same);
}

static pq_status check_add(const pq_exec *exec, const pq_gemm_weights *weights,
                           const pq_add_args *add) {
    pq_add_args constants = *add;
    constants.n = constants.period = 0;
    const pq_status status = pq_add_check(exec, &constants);
    if (status == PQ_OK && add->a_type != weights->y_type) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected the product's type %d as a of the add, got type %d", op,
                       (int)weights->y_type, (int)add->a_type);
    }
    return status;
}

pq_status pq_gemm_epilogue_check(const pq_exec *exec, const pq_gemm_weights *weights,
                                 const pq_gemm_epilogue *epilogue, size_t m, const void *y,
                                 size_t ldy) {
    if (epilogue == NULL) {
        return PQ_OK;
    }
    if (epilogue->table != NULL && epilogue->add != NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected a table or an add, got both", op);
    }
    if (epilogue->table != NULL) {
        size_t y_bytes;
        if (weights->y_type != PQ_S8) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: expected a product of s8 for a table, got type %d", op,
                           (int)weights->y_type);
        }
        if (!pq_gemm_extent(m, weights->n, ldy, 1, &y_bytes)) {
            return pq_fail(exec, PQ_ERR_OVERFLOW, "%s: %zu rows with ldy %zu are too large", op, m,
                           ldy);
        }
        return pq_overlap_check(exec, op, "table", epilogue->table, 256, y, y_bytes, false);
    }
    if (epilogue->add != NULL) {
        const pq_status status = check_add(exec, weights, epilogue->add);
        return status == PQ_OK ? check_operands(exec, weights, epilogue, m, y, ldy) : status;
    }
    return PQ_OK;
}

pq_gemm_finish pq_gemm_finish_of(const pq_gemm_weights *weights, const pq_gemm_epilogue *epilogue) {
    pq_gemm_finish finish = {.y_type = weights->y_type};
    if (epilogue != NULL && epilogue->table != NULL) {
        finish.epilogue = epilogue;
        finish.table = pq_kernel_choose(PQ_KERNEL_OP_table_s8);
    } else if (epilogue != NULL && epilogue->add != NULL) {
        finish.epilogue = epilogue;
        finish.add = pq_kernel_choose(PQ_KERNEL_OP_add);
        finish.y_type = epilogue->add->y_type;
    }
    return finish;
}

size_t pq_gemm_product_size(const pq_gemm_weights *weights, const pq_gemm_epilogue *epilogue) {
    if (epilogue == NULL || epilogue->add == NULL) {
        return 0;
    }
    const size_t bytes =
        weights->blocking.rows * weights->blocking.read_columns * pq_dtype_size(weights->y_type);
    return (bytes + 63) & ~(size_t)63;
}

static void run_table(const pq_gemm_finish *finish, const pq_gemm_block *block) {
    const size_t columns = block->column_end - block->column_begin;
    int8_t *y = block->y;
    for (size_t i = 0; i < block->rows; i++, y += block->ldy) {
        finish->table->run(columns, y, finish->epilogue->table, y);
    }
}

static void run_add(const pq_gemm_finish *finish, const pq_gemm_weights *weights,
                    const pq_gemm_block *block, size_t row, void *workspace, void *product) {
    const pq_gemm_epilogue *epilogue = finish->epilogue;
    const size_t columns = block->column_end - block->column_begin;
    const size_t a_bytes = columns * pq_dtype_size(weights->y_type);
    const size_t b_element = pq_dtype_size(epilogue->add->b_type);
    const size_t y_element = pq_dtype_size(finish->y_type);
    pq_gemm_block inner = *block;
    inner.y = product;
    inner.ldy = columns;
    weights->kernel->run(weights, &inner, workspace);
    const char *a = product;
    const char *b =
        (const char *)epilogue->b + (row * epilogue->ldb + block->column_begin) * b_element;
    char *y = block->y;
    for (size_t i = 0; i < block->rows; i++) {
        finish->add->run(epilogue->add, columns, a + i * a_bytes, b + i * epilogue->ldb * b_element,
                         y + i * block->ldy * y_element);
    }
}

void pq_gemm_finish_run(const pq_gemm_finish *finish, const pq_gemm_weights *weights,
                        const pq_gemm_block *block, size_t row, void *workspace, void *product) {
    if (finish->add != NULL) {
        run_add(finish, weights, block, row, workspace, product);
        return;
    }
    weights->kernel->run(weights, block, workspace);
    if (finish->table != NULL) {
        run_table(finish, block);
    }
}
