/* Entry point: check, choose, split by rows. */
#include "pyquant/layernorm.h"

#include "core/dispatch.h"
#include "core/grain.h"
#include "core/operands.h"
#include "layernorm/layernorm_kernel.h"

#define ELEMENT_PS 800
#define EPSILON_MAX (UINT64_C(1) << 61)
#define OFFSET_LIMIT (INT64_C(1) << 61)

static const char op[] = "layernorm";

pq_status pq_layernorm_check(const pq_exec *exec, const pq_layernorm_args *args) {
    pq_status status = pq_type_check(exec, op, "x", args->x_type);
    if (status == PQ_OK) {
        status = pq_type_check(exec, op, "y", args->y_type);
    }
    if (status == PQ_OK) {
        status = pq_clamp_check(exec, op, args->y_type, args->out);
    }
    if (status == PQ_OK && args->rms) {
        status = pq_zero_point_check(exec, op, "x", args->x_type, args->x_zero_point);
    }
    if (status != PQ_OK) {
        return status;
    }
    if (args->channels < 1 || args->channels > INT16_MAX) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected channels in [1, 32767], got %zu", op,
                       args->channels);
    }
    size_t elements = 0;
    if (!pq_mul_size(args->rows, args->channels, &elements) || elements > PTRDIFF_MAX / 2) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected rows * channels to fit in memory, got %zu * %zu", op,
                       args->rows, args->channels);
    }
    if (args->epsilon > EPSILON_MAX) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected epsilon <= 2^61, got %llu", op,
                       (unsigned long long)args->epsilon);
    }
    if (args->shift < 1 || args->shift > 62) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected shift in [1, 62], got %d", op,
                       args->shift);
    }
    for (size_t c = 0; c < args->channels; c++) {
        if (args->offset[c] <= -OFFSET_LIMIT || args->offset[c] >= OFFSET_LIMIT) {
            return pq_fail(exec, PQ_ERR_VALUE, "%s: expected |offset| < 2^61, got %lld at [%zu]",
                           op, (long long)args->offset[c], c);
        }
    }
    return PQ_OK;
}

typedef struct rows_task {
    const pq_layernorm_args *args;
    const struct pq_layernorm_kernel *kernel;
} rows_task;

static void run_rows(void *argument, size_t begin, size_t end, int slot) {
    const rows_task *task = argument;
    (void)slot;
    task->kernel->rows(task->args, begin, end);
}

pq_status pq_layernorm(const pq_exec *exec, const pq_layernorm_args *args) {
    pq_status status = pq_layernorm_check(exec, args);
    if (status != PQ_OK) {
        return status;
    }
    const size_t elements = args->rows * args->channels;
    status =
        pq_overlap_check(exec, op, "x", args->x, elements * pq_dtype_size(args->x_type), args->y,
                         elements * pq_dtype_size(args->y_type), args->x_type == args->y_type);
    if (status != PQ_OK) {
        return status;
    }
    rows_task task = {.args = args, .kernel = pq_kernel_choose(PQ_KERNEL_OP_layernorm)};
    return exec->parallel_for(exec, args->rows,
                              pq_grain(exec, args->rows, 1, ELEMENT_PS * args->channels), run_rows,
                              &task);
}
