#include <string.h>

#include "core/grain.h"
#include "core/operands.h"
#include "pyquant/layout.h"

#define BYTE_PS 200

static const char op[] = "concat";

/* In bytes from here on. */
typedef struct concat_task {
    int count;
    size_t inner[PQ_MAX_CONCAT], outer_stride[PQ_MAX_CONCAT];
    const char *x[PQ_MAX_CONCAT];
    char *y;
    size_t row; /* sum of inner */
} concat_task;

static void run_range(void *argument, size_t begin, size_t end, int slot) {
    const concat_task *task = argument;
    (void)slot;
    size_t outer = begin / task->row, at = begin % task->row; /* at: inside part t */
    int t = 0;
    while (at >= task->inner[t]) {
        at -= task->inner[t++];
    }
    while (begin < end) {
        const size_t left = task->inner[t] - at, n = end - begin < left ? end - begin : left;
        if (n > 0) {
            memcpy(task->y + begin, task->x[t] + outer * task->outer_stride[t] + at, n);
        }
        begin += n;
        at = 0;
        if (++t == task->count) {
            t = 0;
            outer++;
        }
    }
}

pq_status pq_concat(const pq_exec *exec, const pq_concat_args *args) {
    const size_t size = pq_dtype_size(args->type);
    if (size == 0) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected an element type, got %d", op,
                       (int)args->type);
    }
    if (args->count < 1 || args->count > PQ_MAX_CONCAT) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected 1 to %d inputs, got %d", op, PQ_MAX_CONCAT,
                       args->count);
    }
    concat_task task = {.count = args->count, .y = args->y};
    for (int t = 0; t < args->count; t++) {
        const size_t inner = args->inner[t];
        if (inner > PTRDIFF_MAX / 8 - task.row) {
            return pq_fail(exec, PQ_ERR_OVERFLOW,
                           "%s: expected the sum of inner sizes to fit in memory, got %zu at input "
                           "%d",
                           op, inner, t);
        }
        if (args->outer_stride[t] != 0 && args->outer_stride[t] != (ptrdiff_t)inner) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: expected outer stride 0 or %zu of input %d, got %td", op, inner, t,
                           args->outer_stride[t]);
        }
        task.inner[t] = inner * size;
        task.outer_stride[t] = (size_t)args->outer_stride[t] * size;
        task.x[t] = args->x[t];
        task.row += inner;
    }
    task.row *= size;
    size_t bytes = 0;
    if (!pq_mul_size(task.row, args->outer, &bytes) || bytes > PTRDIFF_MAX) {
        return pq_fail(exec, PQ_ERR_OVERFLOW, "%s: expected outer = %zu rows to fit in memory", op,
                       args->outer);
    }
    if (bytes == 0) {
        return PQ_OK;
    }
    for (int t = 0; t < args->count; t++) {
        const size_t x_bytes = task.inner[t] * (args->outer_stride[t] == 0 ? 1 : args->outer);
        const pq_status status =
            pq_overlap_check(exec, op, "an input", args->x[t], x_bytes, args->y, bytes, false);
        if (status != PQ_OK) {
            return status;
        }
    }
    return exec->parallel_for(exec, bytes, pq_grain(exec, bytes, 64, BYTE_PS), run_range, &task);
}
