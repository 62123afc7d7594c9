#include "core/dispatch.h"
#include "core/grain.h"
#include "core/operands.h"
#include "elementwise/requantize_kernel.h"
#include "pyquant/elementwise.h"

#define ELEMENT_PS 250

static const char op[] = "requantize";

pq_status pq_requantize_check(const pq_exec *exec, const pq_requantize_args *args) {
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
    if (status == PQ_OK && args->n > PTRDIFF_MAX / 2) {
        status =
            pq_fail(exec, PQ_ERR_OVERFLOW, "%s: expected n to fit in memory, got %zu", op, args->n);
    }
    return status;
}

typedef struct requantize_task {
    const pq_requantize_args *args;
    const struct pq_requantize_kernel *kernel;
} requantize_task;

static void run_range(void *argument, size_t begin, size_t end, int slot) {
    const requantize_task *task = argument;
    (void)slot;
    task->kernel->run(task->args, begin, end);
}

pq_status pq_requantize_n(const pq_exec *exec, const pq_requantize_args *args) {
    pq_status status = pq_requantize_check(exec, args);
    if (status != PQ_OK) {
        return status;
    }
    status =
        pq_overlap_check(exec, op, "x", args->x, args->n * pq_dtype_size(args->x_type), args->y,
                         args->n * pq_dtype_size(args->y_type), args->x_type == args->y_type);
    if (status != PQ_OK) {
        return status;
    }
    requantize_task task = {.args = args, .kernel = pq_kernel_choose(PQ_KERNEL_OP_requantize)};
    return exec->parallel_for(exec, args->n, pq_grain(exec, args->n, 64, ELEMENT_PS), run_range,
                              &task);
}
