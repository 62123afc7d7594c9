/* Entry point. The item of the parallel loop is one output element, outer index by outer index. */
#include "core/dispatch.h"
#include "core/grain.h"
#include "core/operands.h"
#include "elementwise/mean_kernel.h"

#define ADDITION_PS 60

static const char op[] = "mean";

pq_status pq_mean_check(const pq_exec *exec, const pq_mean_args *args) {
    pq_status status = pq_type_check(exec, op, "x", args->x_type);
    if (status == PQ_OK) {
        status = pq_type_check(exec, op, "y", args->y_type);
    }
    if (status == PQ_OK) {
        status = pq_zero_point_check(exec, op, "x", args->x_type, args->x_zero_point);
    }
    if (status == PQ_OK) {
        status = pq_dyadic_check(exec, op, args->requant);
    }
    if (status == PQ_OK) {
        status = pq_clamp_check(exec, op, args->y_type, args->out);
    }
    if (status != PQ_OK) {
        return status;
    }
    if (args->reduce < 1 || args->reduce > INT16_MAX) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected reduce in [1, 32767], got %zu", op,
                       args->reduce);
    }
    size_t y_size = 0, x_size = 0;
    if (!pq_mul_size(args->outer, args->inner, &y_size) ||
        !pq_mul_size(y_size, args->reduce, &x_size) || x_size > PTRDIFF_MAX / 2) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected outer * reduce * inner to fit in memory, got %zu * %zu * %zu",
                       op, args->outer, args->reduce, args->inner);
    }
    return PQ_OK;
}

typedef struct mean_task {
    const pq_mean_args *args;
    const struct pq_mean_kernel *kernel;
} mean_task;

static void run_range(void *argument, size_t begin, size_t end, int slot) {
    const mean_task *task = argument;
    const size_t inner = task->args->inner;
    (void)slot;
    for (size_t i = begin; i < end;) {
        const size_t at = i % inner, left = inner - at, n = end - i < left ? end - i : left;
        task->kernel->run(task->args, i / inner, at, at + n);
        i += n;
    }
}

pq_status pq_mean(const pq_exec *exec, const pq_mean_args *args) {
    pq_status status = pq_mean_check(exec, args);
    if (status != PQ_OK) {
        return status;
    }
    const size_t count = args->outer * args->inner;
    status = pq_overlap_check(
        exec, op, "x", args->x, count * args->reduce * pq_dtype_size(args->x_type), args->y,
        count * pq_dtype_size(args->y_type), args->reduce == 1 && args->x_type == args->y_type);
    if (status != PQ_OK) {
        return status;
    }
    mean_task task = {.args = args, .kernel = pq_kernel_choose(PQ_KERNEL_OP_mean)};
    return exec->parallel_for(exec, count, pq_grain(exec, count, 64, ADDITION_PS * args->reduce),
                              run_range, &task);
}
