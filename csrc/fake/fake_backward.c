/* Entries of the learned backward passes: blocks leave their sums in an array, one entry each, and
 * these are added by index when all are there: which thread did which leaves no trace. */
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/grain.h"
#include "core/operands.h"
#include "core/sizes.h"
#include "fake/fake_backward_kernel.h"
#include "fake/fake_tables.h"

_Static_assert((int)PQ_FAKE_SHORT == (int)PQ_FAKE_LANES, "a run has an element for every lane");

enum { ELEMENT_PS = 500, TILE = 1024 }; /* TILE columns: the work of an item is bounded */

typedef struct task {
    const struct pq_fake_backward_kernel *kernel;
    const pq_fake_tables *tables;
    size_t n, channels;
    size_t run, blocks; /* long runs: elements, and blocks, of one */
    size_t rows, tiles; /* short runs */
    const float *x, *g, *y;
    const float *slope, *step; /* of k = 0 */
    float *dx;
    double *steps, *outside; /* an entry for each block (of a column) */
    atomic_bool nan;
} task;

/* `count` rows of `width` values are added into the first one by halving. */
static void halve(double *values, size_t count, size_t width) {
    size_t half = 1;
    while (half < count) {
        half *= 2;
    }
    for (half /= 2; half > 0; half /= 2) {
        for (size_t i = 0; i < half && i + half < count; i++) {
            double *const to = values + i * width;
            const double *const from = to + half * width;
            for (size_t j = 0; j < width; j++) {
                to[j] += from[j];
            }
        }
        count = pq_min_size(count, half);
    }
}

static void note_nan(task *t, bool nan) {
    if (nan) {
        atomic_store_explicit(&t->nan, true, memory_order_relaxed);
    }
}

static void run_blocks(void *pointer, size_t begin, size_t end, int slot) {
    task *t = pointer;
    bool nan = false;
    (void)slot;
    for (size_t item = begin; item < end; item++) {
        const size_t run = item / t->blocks, block = item % t->blocks;
        const size_t offset = block * PQ_FAKE_BLOCK, at = run * t->run + offset;
        const size_t n = pq_min_size(t->run - offset, PQ_FAKE_BLOCK);
        const pq_fake_grid grid = pq_fake_grid_from(t->tables->grid, run % t->channels);
        double sums[2];
        nan |= t->kernel->learned(n, t->x + at, t->g + at, grid, t->dx + at, sums);
        t->steps[item] = sums[0];
        t->outside[item] = sums[1];
    }
    note_nan(t, nan);
}

static void run_rows(void *pointer, size_t begin, size_t end, int slot) {
    task *t = pointer;
    const size_t columns = t->tables->row;
    float steps[TILE], outside[TILE];
    bool nan = false;
    (void)slot;
    for (size_t item = begin; item < end; item++) {
        const size_t block = item / t->tiles, first = item % t->tiles * TILE;
        const size_t n = pq_min_size(columns - first, TILE), row = block * PQ_FAKE_ROWS;
        const size_t rows = pq_min_size(t->rows - row, PQ_FAKE_ROWS), at = row * columns + first;
        const pq_fake_grid grid = pq_fake_grid_from(t->tables->grid, first);
        nan |= t->kernel->columns(rows, n, columns, t->x + at, t->g + at, grid, t->dx + at, steps,
                                  outside);
        for (size_t j = 0; j < n; j++) {
            t->steps[block * columns + first + j] = (double)steps[j];
            t->outside[block * columns + first + j] = (double)outside[j];
        }
    }
    note_nan(t, nan);
}

/* The sums of channel c, [channels]. */
static void add_up(const task *t, double *sums, double *to) {
    if (t->tables->row > 0) {
        const size_t columns = t->tables->row, inner = columns / t->channels;
        halve(sums, pq_ceil_div(t->rows, PQ_FAKE_ROWS), columns);
        for (size_t c = 0; c < t->channels; c++) {
            halve(sums + c * inner, inner, 1);
            to[c] = sums[c * inner];
        }
        return;
    }
    const size_t runs = t->n / t->run;
    for (size_t run = 0; run < runs; run++) {
        halve(sums + run * t->blocks, t->blocks, 1);
        sums[run] = sums[run * t->blocks]; /* behind what is still to be read */
    }
    halve(sums, runs / t->channels, t->channels);
    memcpy(to, sums, t->channels * sizeof *to);
}

static pq_status check(const pq_exec *exec, const char *op, size_t n, const float *x,
                       const char *x_name, const float *g, const float *dx) {
    if (n > PTRDIFF_MAX / sizeof *g) {
        return pq_fail(exec, PQ_ERR_OVERFLOW, "%s: n = %zu is too large", op, n);
    }
    pq_status status = pq_fake_operand(exec, op, x_name, x, sizeof *x);
    status = status != PQ_OK ? status : pq_fake_operand(exec, op, "g", g, sizeof *g);
    status = status != PQ_OK ? status : pq_fake_operand(exec, op, "the output", dx, sizeof *dx);
    status = status != PQ_OK ? status : pq_fake_overlap(exec, op, n, dx, x, x_name, false);
    return status != PQ_OK ? status : pq_fake_overlap(exec, op, n, dx, g, "g", true);
}

/* `entries` of each of `kinds` sums; NULL with a status. */
static pq_status make_sums(const pq_exec *exec, const char *op, size_t entries, size_t kinds,
                           double **sums) {
    size_t size;
    *sums = pq_mul_size(entries, kinds * sizeof **sums, &size) ? pq_alloc(size) : NULL;
    return *sums != NULL
               ? PQ_OK
               : pq_fail(exec, PQ_ERR_NOMEM, "%s: out of memory for %zu sums", op, entries);
}

pq_status pq_fake_learned_backward(const pq_exec *exec, const pq_fake_args *args, const float *x,
                                   const float *g, float *dx, double *ds, double *dz) {
    static const char op[] = "fake_quantize_learned_backward";
    pq_status status = pq_fake_check(exec, op, args);
    if (status == PQ_OK && ds == NULL) {
        status = pq_fail(exec, PQ_ERR_VALUE, "%s: the gradient of the scale is NULL", op);
    }
    if (status != PQ_OK) {
        return status;
    }
    if (args->n == 0) {
        for (size_t c = 0; c < args->channels; c++) {
            ds[c] = 0.0;
            if (dz != NULL) {
                dz[c] = 0.0;
            }
        }
        return PQ_OK;
    }
    pq_fake_tables tables = {0};
    double *sums = NULL;
    status = check(exec, op, args->n, x, "x", g, dx);
    status = status != PQ_OK ? status : pq_fake_tables_make(exec, op, args, &tables);
    if (status != PQ_OK) {
        return status;
    }
    const size_t run = args->channels == 1 ? args->n : args->inner;
    task t = {.kernel = pq_kernel_choose(PQ_KERNEL_OP_fake_backward),
              .tables = &tables,
              .n = args->n,
              .channels = args->channels,
              .run = run,
              .blocks = pq_ceil_div(run, PQ_FAKE_BLOCK),
              .x = x,
              .g = g,
              .dx = dx};
    size_t items, entries, elements;
    if (tables.row > 0) {
        t.rows = args->n / tables.row;
        t.tiles = pq_ceil_div(tables.row, TILE);
        const size_t blocks = pq_ceil_div(t.rows, PQ_FAKE_ROWS);
        items = blocks * t.tiles;
        entries = blocks * tables.row;
        elements = pq_min_size(tables.row, TILE) * pq_min_size(t.rows, PQ_FAKE_ROWS);
    } else {
        items = entries = args->n / run * t.blocks;
        elements = pq_min_size(run, PQ_FAKE_BLOCK);
    }
    status = make_sums(exec, op, entries, 2, &sums);
    if (status != PQ_OK) {
        goto done;
    }
    t.steps = sums;
    t.outside = sums + entries;
    atomic_init(&t.nan, false);
    const size_t grain = pq_grain(exec, items, 1, (uint64_t)elements * ELEMENT_PS);
    status = exec->parallel_for(exec, items, grain, tables.row > 0 ? run_rows : run_blocks, &t);
    if (status == PQ_OK && atomic_load_explicit(&t.nan, memory_order_relaxed)) {
        status = pq_fake_nan(exec, op, args->n, x);
    }
    if (status != PQ_OK) {
        goto done;
    }
    add_up(&t, t.steps, ds);
    if (dz != NULL) {
        add_up(&t, t.outside, dz);
        for (size_t c = 0; c < args->channels; c++) {
            dz[c] = 0.0 - (double)args->scale[c] * dz[c]; /* never -0 */
        }
    }
done:
    pq_free(sums);
    pq_fake_tables_free(&tables);
    return status;
}

static void edge_blocks(void *pointer, size_t begin, size_t end, int slot) {
    const task *t = pointer;
    (void)slot;
    for (size_t item = begin; item < end; item++) {
        const size_t at = item * PQ_FAKE_BLOCK, n = pq_min_size(t->n - at, PQ_FAKE_BLOCK);
        t->steps[item] =
            t->kernel->edge(n, t->g + at, t->x + at, t->y + at, t->tables->grid, t->dx + at);
    }
}

static void lookup_blocks(void *pointer, size_t begin, size_t end, int slot) {
    const task *t = pointer;
    (void)slot;
    for (size_t item = begin; item < end; item++) {
        const size_t at = item * PQ_FAKE_BLOCK, n = pq_min_size(t->n - at, PQ_FAKE_BLOCK);
        t->steps[item] = t->kernel->lookup(n, t->g + at, t->x + at, t->tables->grid, t->slope,
                                           t->step, t->dx + at);
    }
}

/* The grid, and where the sum goes; true where there is something left to do. */
static bool one_grid(const pq_exec *exec, const char *op, const pq_fake_args *args, size_t n,
                     double *sum, pq_status *status) {
    *status = pq_fake_check(exec, op, args);
    if (*status == PQ_OK && sum == NULL) {
        *status = pq_fail(exec, PQ_ERR_VALUE, "%s: the sum is NULL", op);
    }
    if (*status == PQ_OK && n == 0) {
        *sum = 0.0;
    }
    return *status == PQ_OK && n > 0;
}

/* Blocks of one grid, whose sums are added. */
static pq_status run_one_grid(const pq_exec *exec, const char *op, const pq_fake_args *args,
                              void (*blocks)(void *, size_t, size_t, int), const task *given,
                              double *sum) {
    pq_fake_tables tables = {0};
    const size_t items = pq_ceil_div(given->n, PQ_FAKE_BLOCK);
    double *sums = NULL;
    pq_status status = pq_fake_tables_make(exec, op, args, &tables);
    status = status != PQ_OK ? status : make_sums(exec, op, items, 1, &sums);
    if (status != PQ_OK) {
        return status;
    }
    task t = *given;
    t.kernel = pq_kernel_choose(PQ_KERNEL_OP_fake_backward);
    t.tables = &tables;
    t.steps = sums;
    const size_t grain = pq_grain(exec, items, 1, (uint64_t)PQ_FAKE_BLOCK * ELEMENT_PS);
    status = exec->parallel_for(exec, items, grain, blocks, &t);
    if (status == PQ_OK) {
        halve(sums, items, 1);
        *sum = sums[0];
    }
    pq_free(sums);
    return status;
}

pq_status pq_edge_backward_learned(const pq_exec *exec, size_t n, pq_affine grid, const float *g,
                                   const float *real, const float *y, float *dx, double *sum) {
    static const char op[] = "edge_backward_learned";
    const pq_fake_args args = {
        0, 1, 1, &grid.scale, &grid.zero_point, 1, grid.quant_min, grid.quant_max};
    pq_status status;
    if (!one_grid(exec, op, &args, n, sum, &status)) {
        return status;
    }
    status = check(exec, op, n, real, "real", g, dx);
    status = status != PQ_OK ? status : pq_fake_operand(exec, op, "y", y, sizeof *y);
    status = status != PQ_OK ? status : pq_fake_overlap(exec, op, n, dx, y, "y", false);
    if (status != PQ_OK) {
        return status;
    }
    task t = {.n = n, .x = real, .g = g, .y = y, .dx = dx};
    return run_one_grid(exec, op, &args, edge_blocks, &t, sum);
}

pq_status pq_lookup_backward(const pq_exec *exec, size_t n, pq_affine grid, const float *slope,
                             const float *step, const float *g, const float *x, float *dx,
                             double *sum) {
    static const char op[] = "lookup_backward";
    enum { ENTRIES = 256 };
    const pq_fake_args args = {
        0, 1, 1, &grid.scale, &grid.zero_point, 1, grid.quant_min, grid.quant_max};
    pq_status status = PQ_OK;
    if (grid.quant_min < INT8_MIN || grid.quant_max > INT8_MAX) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected the range of x inside int8, got [%" PRId32 ", %" PRId32 "]",
                       op, grid.quant_min, grid.quant_max);
    }
    if (!one_grid(exec, op, &args, n, sum, &status)) {
        return status;
    }
    status = check(exec, op, n, x, "x", g, dx);
    status = status != PQ_OK ? status : pq_fake_operand(exec, op, "slope", slope, sizeof *slope);
    if (status == PQ_OK && step != NULL) {
        status = pq_fake_operand(exec, op, "step", step, sizeof *step);
    }
    if (status == PQ_OK && (pq_overlaps(dx, n * sizeof *dx, slope, ENTRIES * sizeof *slope) ||
                            (step != NULL && pq_overlaps(dx, n * sizeof *dx, step,
                                                         ENTRIES * sizeof *step)))) {
        status = pq_fail(exec, PQ_ERR_VALUE, "%s: expected the output not to overlap a table", op);
    }
    if (status != PQ_OK) {
        return status;
    }
    const ptrdiff_t zero = grid.zero_point - INT8_MIN;
    task t = {.n = n,
              .x = x,
              .g = g,
              .slope = slope + zero,
              .step = step == NULL ? NULL : step + zero,
              .dx = dx};
    return run_one_grid(exec, op, &args, lookup_blocks, &t, sum);
}
