#include <string.h>

#include "core/grain.h"
#include "core/operands.h"
#include "pyquant/layout.h"

#define BYTE_PS 500 /* rows may miss the cache */

static const char op[] = "gather";

typedef struct gather_task {
    const char *table;
    const int32_t *index;
    char *y;
    size_t row; /* bytes */
} gather_task;

static void run_range(void *argument, size_t begin, size_t end, int slot) {
    const gather_task *task = argument;
    (void)slot;
    for (size_t i = begin; i < end; i++) {
        memcpy(task->y + i * task->row, task->table + (size_t)task->index[i] * task->row,
               task->row);
    }
}

pq_status pq_gather(const pq_exec *exec, const pq_gather_args *args) {
    const size_t size = pq_dtype_size(args->type);
    if (size == 0) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected an element type, got %d", op,
                       (int)args->type);
    }
    size_t row = 0, table_bytes = 0, bytes = 0;
    if (!pq_mul_size(args->inner, size, &row) || !pq_mul_size(args->rows, row, &table_bytes) ||
        !pq_mul_size(args->count, row, &bytes) || table_bytes > PTRDIFF_MAX ||
        bytes > PTRDIFF_MAX) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected a table of %zu and an output of %zu rows of %zu to fit in "
                       "memory",
                       op, args->rows, args->count, args->inner);
    }
    /* All indices before any output: a failed call has written nothing. */
    for (size_t i = 0; i < args->count; i++) {
        if (args->index[i] < 0 || (size_t)args->index[i] >= args->rows) {
            return pq_fail(exec, PQ_ERR_INDEX, "%s: expected an index in [0, %zu), got %d at [%zu]",
                           op, args->rows, args->index[i], i);
        }
    }
    if (bytes == 0) {
        return PQ_OK;
    }
    pq_status status =
        pq_overlap_check(exec, op, "table", args->table, table_bytes, args->y, bytes, false);
    if (status == PQ_OK) {
        status = pq_overlap_check(exec, op, "index", args->index, args->count * sizeof(int32_t),
                                  args->y, bytes, false);
    }
    if (status != PQ_OK) {
        return status;
    }
    gather_task task = {.table = args->table, .index = args->index, .y = args->y, .row = row};
    return exec->parallel_for(exec, args->count, pq_grain(exec, args->count, 1, BYTE_PS * row),
                              run_range, &task);
}
