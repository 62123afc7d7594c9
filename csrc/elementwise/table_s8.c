#include "core/dispatch.h"
#include "core/grain.h"
#include "core/operands.h"
#include "elementwise/table_s8_kernel.h"
#include "pyquant/elementwise.h"

#define ELEMENT_PS 250

typedef struct table_task {
    const int8_t *x, *table;
    int8_t *y;
    const struct pq_table_s8_kernel *kernel;
} table_task;

static void run_range(void *argument, size_t begin, size_t end, int slot) {
    const table_task *task = argument;
    (void)slot;
    task->kernel->run(end - begin, task->x + begin, task->table, task->y + begin);
}

pq_status pq_table_s8(const pq_exec *exec, size_t n, const int8_t *x, const int8_t table[256],
                      int8_t *y) {
    static const char op[] = "table_s8";
    pq_status status = pq_overlap_check(exec, op, "x", x, n, y, n, true);
    if (status == PQ_OK) {
        status = pq_overlap_check(exec, op, "table", table, 256, y, n, false);
    }
    if (status != PQ_OK) {
        return status;
    }
    table_task task = {
        .x = x, .table = table, .y = y, .kernel = pq_kernel_choose(PQ_KERNEL_OP_table_s8)};
    return exec->parallel_for(exec, n, pq_grain(exec, n, 64, ELEMENT_PS), run_range, &task);
}
