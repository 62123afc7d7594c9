/* Entries of the forward pass and of the straight-through gradient.
 *
 * Work is counted in groups of 64 elements, so that no byte of a mask belongs to two threads. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/grain.h"
#include "core/operands.h"
#include "core/sizes.h"
#include "levels/levels_kernel.h"

/* Groups; a codebook in registers, with three gathers, and a pass over memory. */
enum { GROUP = 64, REGISTERS_PS = 500, CELLS_PS = 3000 };
/* Fewer elements than this do not pay for cells: halving one by one costs some 5 ns each. */
enum { LEAST_FOR_CELLS = 2048 };

typedef struct task {
    const struct pq_levels_kernel *kernel;
    const pq_levels_args *args;
    const pq_levels_book *book;
    const float *x;
    float *x_hat;
    uint8_t *mask, *codes;
    atomic_bool nan;
} task;

pq_status pq_levels_nan(const pq_exec *exec, const char *op, size_t n, const float *x) {
    size_t i = 0;
    while (i < n && !isnan(x[i])) {
        i++;
    }
    return i < n ? pq_fail(exec, PQ_ERR_NAN, "%s: x[%zu] is NaN", op, i)
                 : pq_fail(exec, PQ_ERR_NAN, "%s: x holds NaN", op);
}

/* Cuts [begin, end) where the scale, or the row of scales, starts anew. */
static void run_range(void *pointer, size_t begin, size_t end, int slot) {
    task *t = pointer;
    const pq_levels_args *a = t->args;
    bool nan = false;
    (void)slot;
    size_t i = begin * GROUP;
    const size_t last = pq_min_size(end * GROUP, a->n);
    if (t->mask != NULL) {
        memset(t->mask + i / 8, 0, pq_ceil_div(last, 8) - i / 8);
    }
    while (i < last) {
        const size_t channel = a->channels == 1 ? 0 : i / a->inner % a->channels;
        const size_t left = a->channels == 1 ? last - i
                            : a->inner == 1  ? a->channels - channel
                                             : a->inner - i % a->inner;
        const size_t stop = i + pq_min_size(left, last - i),
                     step = a->channels > 1 && a->inner == 1;
        const float *scale = a->scale + channel;
        if (t->codes != NULL) {
            nan |= t->kernel->codes(t->book, i, stop, t->x, scale, step, t->codes);
        } else {
            nan |= t->kernel->values(t->book, i, stop, t->x, scale, step, t->x_hat, t->mask);
        }
        i = stop;
    }
    if (nan) {
        atomic_store_explicit(&t->nan, true, memory_order_relaxed);
    }
}

pq_status pq_levels_check(const pq_exec *exec, const char *op, const pq_levels_args *args,
                          const float *x, const void *out, size_t size, const char *out_name) {
    if ((args->n > 0 && (args->channels == 0 || args->inner == 0)) ||
        (args->channels > 0 && args->scale == NULL)) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected channels >= 1, inner >= 1 and a scale, got %zu, %zu%s", op,
                       args->channels, args->inner, args->scale == NULL ? " and NULL" : "");
    }
    for (size_t c = 0; c < args->channels; c++) {
        if (!(args->scale[c] >= 0x1p-100F && args->scale[c] <= 0x1p100F)) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: channel %zu: expected a scale in [2^-100, 2^100], got %g", op, c,
                           (double)args->scale[c]);
        }
    }
    if (args->n > PTRDIFF_MAX / sizeof(float)) {
        return pq_fail(exec, PQ_ERR_OVERFLOW, "%s: n = %zu is too large", op, args->n);
    }
    if (args->n > 0 && (x == NULL || out == NULL)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: %s is NULL", op, x == NULL ? "x" : out_name);
    }
    if ((uintptr_t)x % sizeof(float) != 0 || (uintptr_t)out % size != 0) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: %s is not aligned to its elements", op,
                       (uintptr_t)x % sizeof(float) != 0 ? "x" : out_name);
    }
    if (x != out && pq_overlaps(x, args->n * sizeof *x, out, args->n * size)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: x and %s overlap", op, out_name);
    }
    return PQ_OK;
}

static pq_status run(const pq_exec *exec, const char *op, task *t) {
    const pq_levels_args *args = t->args;
    t->kernel = pq_kernel_choose(PQ_KERNEL_OP_levels);
    pq_levels_book *book = pq_alloc(sizeof *book);
    if (book == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "%s: out of memory for a codebook", op);
    }
    const bool small = args->count <= t->kernel->in_registers;
    const bool cells = !small && args->n >= LEAST_FOR_CELLS;
    pq_status status = pq_levels_book_make(exec, op, args, cells, book);
    if (status == PQ_OK && args->n > 0) {
        const size_t groups = pq_ceil_div(args->n, GROUP);
        const uint64_t cost = (uint64_t)(small ? REGISTERS_PS : CELLS_PS) * GROUP;
        t->book = book;
        atomic_init(&t->nan, false);
        status = exec->parallel_for(exec, groups, pq_grain(exec, groups, 1, cost), run_range, t);
        if (status == PQ_OK && atomic_load_explicit(&t->nan, memory_order_relaxed)) {
            status = pq_levels_nan(exec, op, args->n, t->x);
        }
    }
    pq_free(book);
    return status;
}

pq_status pq_levels_values(const pq_exec *exec, const pq_levels_args *args, const float *x,
                           float *x_hat, uint8_t *mask) {
    const char *op = args->op != NULL ? args->op : "levels_values";
    pq_status status = pq_levels_check(exec, op, args, x, x_hat, sizeof *x_hat, "x_hat");
    if (status == PQ_OK && mask != NULL) {
        const size_t size = pq_ceil_div(args->n, 8);
        if (pq_overlaps(mask, size, x, args->n * sizeof *x) ||
            pq_overlaps(mask, size, x_hat, args->n * sizeof *x_hat)) {
            status = pq_fail(exec, PQ_ERR_VALUE, "%s: mask and x overlap", op);
        }
    }
    task t = {.args = args, .x = x, .x_hat = x_hat, .mask = mask};
    return status != PQ_OK ? status : run(exec, op, &t);
}

pq_status pq_levels_codes(const pq_exec *exec, const pq_levels_args *args, const float *x,
                          uint8_t *codes) {
    const char *op = args->op != NULL ? args->op : "levels_codes";
    pq_status status = pq_levels_check(exec, op, args, x, codes, 1, "codes");
    if (status == PQ_OK && args->n > 0 && (const void *)x == codes) {
        status = pq_fail(exec, PQ_ERR_VALUE, "%s: x and codes overlap", op);
    }
    task t = {.args = args, .x = x, .codes = codes};
    return status != PQ_OK ? status : run(exec, op, &t);
}
