/* Entry point: check, choose, split by rows. */
#include "pyquant/layernorm.h"

#include <stdlib.h>

#include "core/dispatch.h"
#include "core/grain.h"
#include "core/operands.h"
#include "layernorm/layernorm_ptf_kernel.h"

#define ELEMENT_PS 800
#define EPSILON_MAX (UINT64_C(1) << 61)
#define OFFSET_LIMIT (INT64_C(1) << 61)

static const char op[] = "layernorm";

/* The constants that only some methods have: theirs in bounds, the others' absent. */
static pq_status check_method(const pq_exec *exec, const pq_layernorm_args *args) {
    if ((int)args->method < 0 || args->method >= PQ_NORM_METHOD_COUNT) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected a method in [0, %d), got %d", op,
                       PQ_NORM_METHOD_COUNT, (int)args->method);
    }
    const uint64_t epsilon_max = args->method == PQ_NORM_EXACT ? EPSILON_MAX : 0;
    if (args->epsilon > epsilon_max) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected epsilon <= %s, got %llu", op,
                       epsilon_max > 0 ? "2^61" : "0 for a method without one",
                       (unsigned long long)args->epsilon);
    }
    const bool ivit = args->method == PQ_NORM_IVIT;
    if (args->iterations < (ivit ? 1 : 0) ||
        args->iterations > (ivit ? PQ_NORM_ITERATIONS_MAX : 0)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected iterations %s, got %d", op,
                       ivit ? "in [1, 16]" : "0 for a method without them", args->iterations);
    }
    if (args->method != PQ_NORM_PTF &&
        (args->alpha != NULL || args->exponent != NULL || args->requant.multiplier != 0 ||
         args->requant.shift != 0 || args->zero_point != 0)) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected factors of channels only with method ptf, got method %d", op,
                       (int)args->method);
    }
    return PQ_OK;
}

static pq_status check_ptf(const pq_exec *exec, const pq_layernorm_args *args) {
    if (args->alpha == NULL || args->exponent == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected alpha and exponent with method ptf", op);
    }
    pq_status status = pq_zero_point_check(exec, op, "x", args->x_type, args->x_zero_point);
    if (status == PQ_OK) {
        status = pq_dyadic_check(exec, op, args->requant);
    }
    if (status == PQ_OK) {
        status = pq_zero_point_check(exec, op, "8 bits", PQ_S8, args->zero_point);
    }
    if (status != PQ_OK) {
        return status;
    }
    if (args->requant.shift + PQ_NORM_ALPHA_MAX > 62 || args->shift != PQ_NORM_PTF_SHIFT) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected a shift of 32 and one to 8 bits of at most 59, got %d and %d",
                       op, args->shift, args->requant.shift);
    }
    for (size_t c = 0; c < args->channels; c++) {
        if (args->alpha[c] > PQ_NORM_ALPHA_MAX || args->exponent[c] < 1 ||
            args->exponent[c] > PQ_NORM_EXPONENT_MAX) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: expected alpha in [0, 3] and exponent in [1, 36], got %d and %d "
                           "at [%zu]",
                           op, args->alpha[c], args->exponent[c], c);
        }
        const int64_t gain = args->gain[c];
        if (gain != 0 && (llabs(gain) < INT64_C(1) << 30 || llabs(gain) > INT32_MAX)) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: expected |gain| 0 or in [2^30, 2^31), got %lld at [%zu]", op,
                           (long long)gain, c);
        }
    }
    return PQ_OK;
}

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
    status = check_method(exec, args);
    return status == PQ_OK && args->method == PQ_NORM_PTF ? check_ptf(exec, args) : status;
}

typedef void rows_function(const pq_layernorm_args *args, size_t begin, size_t end);

static rows_function *choose(pq_norm_method method) {
    if (method == PQ_NORM_EXACT) {
        const struct pq_layernorm_kernel *kernel = pq_kernel_choose(PQ_KERNEL_OP_layernorm);
        return kernel->rows;
    }
    if (method == PQ_NORM_PTF) {
        const struct pq_layernorm_ptf_kernel *kernel = pq_kernel_choose(PQ_KERNEL_OP_layernorm_ptf);
        return kernel->rows;
    }
    const struct pq_layernorm_newton_kernel *kernel =
        pq_kernel_choose(PQ_KERNEL_OP_layernorm_newton);
    return kernel->rows;
}

typedef struct rows_task {
    const pq_layernorm_args *args;
    rows_function *rows;
} rows_task;

static void run_rows(void *argument, size_t begin, size_t end, int slot) {
    const rows_task *task = argument;
    (void)slot;
    task->rows(task->args, begin, end);
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
    rows_task task = {.args = args, .rows = choose(args->method)};
    return exec->parallel_for(exec, args->rows,
                              pq_grain(exec, args->rows, 1, ELEMENT_PS * args->channels), run_rows,
                              &task);
}
