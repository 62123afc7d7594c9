/* Entry point: check, choose, split by rows. */
#include "pyquant/softmax_rows.h"

#include <inttypes.h>

#include "core/dispatch.h"
#include "core/grain.h"
#include "core/operands.h"
#include "softmax/softmax_rows_kernel.h"

#define ELEMENT_PS 1000

static const char op[] = "softmax";

typedef struct pq_softmax_rows_kernel kernel_type;

static bool is_empty(const pq_softmax_rows_args *args) {
    return args->rows == 0 || args->n == 0;
}

pq_status pq_softmax_rows_check(const pq_exec *exec, const pq_softmax_rows_args *args) {
    const size_t keys = args->n == 0 ? 1 : args->n;
    size_t elements = 0;
    pq_status status = pq_type_check(exec, op, "x", args->x_type);
    if (status == PQ_OK) {
        status = pq_type_check(exec, op, "y", args->y_type);
    }
    if (status == PQ_OK) {
        status = pq_clamp_check(exec, op, args->y_type, args->out);
    }
    if (status == PQ_OK) {
        status = pq_dyadic_check(exec, op, args->requant);
    }
    if (status == PQ_OK && (!pq_mul_size(args->rows, args->n, &elements) ||
                            elements > PTRDIFF_MAX / 2 || args->n > PTRDIFF_MAX / 8)) {
        status = pq_fail(exec, PQ_ERR_OVERFLOW,
                         "%s: expected rows * n to fit in memory, got %zu * %zu", op, args->rows,
                         args->n);
    }
    if (status == PQ_OK) {
        status = pq_softmax_check(exec, op, &args->softmax, keys);
    }
    if (status != PQ_OK) {
        return status;
    }
    const uint64_t sum = pq_softmax_weights_most(&args->softmax, keys);
    if (sum > INT32_MAX) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected the weights of a row to sum to less than 2^31, got up to "
                       "%" PRIu64 " for n = %zu and pmax = %" PRId32,
                       op, sum, args->n, args->softmax.pmax);
    }
    return pq_softmax_check_requant(exec, op, args->requant,
                                    (uint32_t)pq_softmax_divisor_most(&args->softmax, keys));
}

/* SIZE_MAX if it does not fit, which no allocation can give. */
static size_t size_of(const kernel_type *kernel, int threads, const pq_softmax_rows_args *args) {
    size_t size;
    return pq_mul_size((size_t)threads, kernel->scratch_size(args), &size) ? size : SIZE_MAX;
}

size_t pq_softmax_rows_workspace(const pq_exec *exec, const pq_softmax_rows_args *args) {
    if (is_empty(args)) {
        return 0;
    }
    /* The most that any variant needs: the choice may change between this call and the run. Only
     * variants that can run: the file of another may use its instructions in any function. */
    size_t most = 0;
    for (int isa = 0; isa < PQ_ISA_COUNT; isa++) {
        const kernel_type *kernel = pq_kernel_present(PQ_KERNEL_OP_softmax_rows, (pq_isa)isa);
        if (kernel != NULL) {
            most = pq_max_size(most, size_of(kernel, exec->num_threads, args));
        }
    }
    return most;
}

typedef struct rows_task {
    const pq_softmax_rows_args *args;
    const kernel_type *kernel;
    char *scratch;
    size_t scratch_size;
} rows_task;

static void run_rows(void *argument, size_t begin, size_t end, int slot) {
    const rows_task *task = argument;
    task->kernel->run(task->args, begin, end, task->scratch + (size_t)slot * task->scratch_size);
}

pq_status pq_softmax_rows_in(const pq_exec *exec, const pq_softmax_rows_args *args, void *workspace,
                             size_t workspace_size) {
    pq_status status = pq_softmax_rows_check(exec, args);
    if (status != PQ_OK || is_empty(args)) {
        return status;
    }
    const size_t elements = args->rows * args->n;
    status =
        pq_overlap_check(exec, op, "x", args->x, elements * pq_dtype_size(args->x_type), args->y,
                         elements * pq_dtype_size(args->y_type), args->x_type == args->y_type);
    if (status != PQ_OK) {
        return status;
    }
    const kernel_type *kernel = pq_kernel_choose(PQ_KERNEL_OP_softmax_rows);
    const size_t size = size_of(kernel, exec->num_threads, args);
    if (workspace_size < size) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected a workspace of %zu bytes, got %zu", op,
                       size, workspace_size);
    }
    rows_task task = {.args = args,
                      .kernel = kernel,
                      .scratch = workspace,
                      .scratch_size = kernel->scratch_size(args)};
    return exec->parallel_for(
        exec, args->rows, pq_grain(exec, args->rows, 1, (uint64_t)ELEMENT_PS * args->n), run_rows,
        &task);
}

pq_status pq_softmax_rows(const pq_exec *exec, const pq_softmax_rows_args *args) {
    pq_status status = pq_softmax_rows_check(exec, args);
    if (status != PQ_OK || is_empty(args)) {
        return status;
    }
    const size_t size = pq_softmax_rows_workspace(exec, args);
    void *workspace = pq_alloc(size);
    if (workspace == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "%s: cannot allocate a workspace of %zu bytes", op,
                       size);
    }
    status = pq_softmax_rows_in(exec, args, workspace, size);
    pq_free(workspace);
    return status;
}
