#include <string.h>

#include "core/dispatch.h"
#include "core/grain.h"
#include "core/operands.h"
#include "elementwise/add_kernel.h"
#include "elementwise/elementwise_kernel.h"

#define ELEMENT_PS 300
/* A shorter b is repeated into a block of this many elements, so that a kernel call is not tiny. */
#define BLOCK_ELEMENTS 1024

static const char op[] = "add";

pq_status pq_add_check(const pq_exec *exec, const pq_add_args *args) {
    pq_status status = pq_type_check(exec, op, "a", args->a_type);
    if (status == PQ_OK) {
        status = pq_type_check(exec, op, "b", args->b_type);
    }
    if (status == PQ_OK) {
        status = pq_type_check(exec, op, "y", args->y_type);
    }
    if (status == PQ_OK) {
        status = pq_zero_point_check(exec, op, "a", args->a_type, args->a_zero_point);
    }
    if (status == PQ_OK) {
        status = pq_zero_point_check(exec, op, "b", args->b_type, args->b_zero_point);
    }
    if (status == PQ_OK) {
        status = pq_clamp_check(exec, op, args->y_type, args->out);
    }
    if (status != PQ_OK) {
        return status;
    }
    const int32_t larger =
        args->a_multiplier > args->b_multiplier ? args->a_multiplier : args->b_multiplier;
    if (args->a_multiplier < 0 || args->b_multiplier < 0 || larger < INT32_C(1) << 30) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected multipliers in [0, 2^31), the larger at least 2^30, got %d "
                       "and %d",
                       op, args->a_multiplier, args->b_multiplier);
    }
    if (args->shift < 1 || args->shift > 62) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected shift in [1, 62], got %d", op,
                       args->shift);
    }
    if (args->n > PTRDIFF_MAX / 2) {
        return pq_fail(exec, PQ_ERR_OVERFLOW, "%s: expected n to fit in memory, got %zu", op,
                       args->n);
    }
    if (args->n > 0 && (args->period == 0 || args->n % args->period != 0)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected a period that divides n = %zu, got %zu",
                       op, args->n, args->period);
    }
    return PQ_OK;
}

typedef struct add_task {
    const pq_add_args *args;
    const struct pq_add_kernel *kernel;
    const void *b;
    size_t period; /* of b as it stands here */
} add_task;

static void run_range(void *argument, size_t begin, size_t end, int slot) {
    const add_task *task = argument;
    const pq_add_args *args = task->args;
    (void)slot;
    for (size_t i = begin; i < end;) {
        const size_t at = i % task->period;
        const size_t left = task->period - at, n = end - i < left ? end - i : left;
        task->kernel->run(args, n, pq_at(args->a_type, args->a, i),
                          pq_at(args->b_type, task->b, at), pq_at_out(args->y_type, args->y, i));
        i += n;
    }
}

pq_status pq_add(const pq_exec *exec, const pq_add_args *args) {
    pq_status status = pq_add_check(exec, args);
    if (status != PQ_OK || args->n == 0) {
        return status;
    }
    const size_t y_size = args->n * pq_dtype_size(args->y_type);
    const size_t b_size = args->period * pq_dtype_size(args->b_type);
    status = pq_overlap_check(exec, op, "a", args->a, args->n * pq_dtype_size(args->a_type),
                              args->y, y_size, args->a_type == args->y_type);
    if (status == PQ_OK) {
        status = pq_overlap_check(exec, op, "b", args->b, b_size, args->y, y_size,
                                  args->b_type == args->y_type && args->period == args->n);
    }
    if (status != PQ_OK) {
        return status;
    }
    add_task task = {.args = args,
                     .kernel = pq_kernel_choose(PQ_KERNEL_OP_add),
                     .b = args->b,
                     .period = args->period};
    int16_t block[BLOCK_ELEMENTS];
    if (args->period <= BLOCK_ELEMENTS / 2 && args->period < args->n) {
        const size_t copies = BLOCK_ELEMENTS / args->period;
        for (size_t i = 0; i < copies; i++) {
            memcpy((char *)block + i * b_size, args->b, b_size);
        }
        task.b = block;
        task.period = copies * args->period;
    }
    return exec->parallel_for(exec, args->n, pq_grain(exec, args->n, 64, ELEMENT_PS), run_range,
                              &task);
}
