/* The gradient of a learned scale. An item of work is a piece of one channel, or PQ_LEVELS_ROWS
 * rows of a tile of columns; its sums wait in an array and are added by index when all are there:
 * which thread did which leaves no trace. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/grain.h"
#include "core/operands.h"
#include "core/sizes.h"
#include "levels/levels_kernel.h"

enum { REGISTERS_PS = 800, CELLS_PS = 3500, TILE = 256, LEAST_FOR_CELLS = 2048 };

typedef struct task {
    const struct pq_levels_kernel *kernel;
    const pq_levels_args *args;
    const pq_levels_book *book;
    const float *x, *g;
    float *dx;
    /* Runs of `length`, `outer` of them a channel; a piece is `group` runs, or one of `cuts` of a
     * run. Columns: `outer` rows, `group` in a piece, `cuts` tiles. */
    size_t outer, length, group, cuts;
    double *sums; /* pieces: [outer / group][channels][cuts]; columns: [outer / group][channels] */
    atomic_bool nan;
} task;

static double add_lanes(const float *lanes) {
    double sum[PQ_LEVELS_LANES];
    for (int i = 0; i < PQ_LEVELS_LANES; i++) {
        sum[i] = (double)lanes[i];
    }
    for (int half = PQ_LEVELS_LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            sum[i] += sum[i + half];
        }
    }
    return sum[0];
}

static bool do_piece(const task *t, size_t item) {
    const size_t channels = t->args->channels, cut = item % t->cuts;
    const size_t channel = item / t->cuts % channels, first = item / t->cuts / channels * t->group;
    const size_t begin = cut * PQ_LEVELS_PIECE;
    const size_t end = pq_min_size(t->length, begin + PQ_LEVELS_PIECE);
    double sum = 0.0;
    bool nan = false;
    for (size_t o = first; o < pq_min_size(t->outer, first + t->group); o++) {
        const size_t run = (o * channels + channel) * t->length;
        for (size_t i = begin; i < end; i += PQ_LEVELS_BLOCK) {
            const size_t n = pq_min_size(end - i, PQ_LEVELS_BLOCK), at = run + i;
            float lanes[PQ_LEVELS_LANES];
            nan |= t->kernel->learned_run(t->book, n, t->x + at, t->g + at, t->args->scale[channel],
                                          t->dx + at, lanes);
            sum += add_lanes(lanes);
        }
    }
    t->sums[item] = sum;
    return nan;
}

static bool do_columns(const task *t, size_t item) {
    const size_t channels = t->args->channels, first = item / t->cuts * t->group;
    const size_t column = item % t->cuts * TILE, n = pq_min_size(TILE, channels - column);
    float sums[TILE] = {0};
    bool nan = false;
    for (size_t row = first; row < pq_min_size(t->outer, first + t->group); row++) {
        const size_t at = row * channels + column;
        nan |= t->kernel->learned_row(t->book, n, t->x + at, t->g + at, t->args->scale + column,
                                      t->dx + at, sums);
    }
    double *out = t->sums + item / t->cuts * channels + column;
    for (size_t c = 0; c < n; c++) {
        out[c] = (double)sums[c];
    }
    return nan;
}

static bool is_columns(const pq_levels_args *args) {
    return args->inner == 1 && args->channels > 1;
}

static void run_range(void *pointer, size_t begin, size_t end, int slot) {
    task *t = pointer;
    bool nan = false;
    (void)slot;
    for (size_t item = begin; item < end; item++) {
        nan |= is_columns(t->args) ? do_columns(t, item) : do_piece(t, item);
    }
    if (nan) {
        atomic_store_explicit(&t->nan, true, memory_order_relaxed);
    }
}

/* How the work is cut, which depends on the shape only. */
static void plan(task *t, size_t *items, size_t *cells, size_t *item_elements) {
    const pq_levels_args *a = t->args;
    const bool columns = is_columns(a);
    t->length = a->channels == 1 ? a->n : a->inner;
    t->outer = a->n == 0 ? 0 : a->n / t->length / a->channels;
    if (columns) {
        t->group = PQ_LEVELS_ROWS;
        t->cuts = pq_ceil_div(a->channels, TILE);
        *item_elements = pq_min_size(TILE, a->channels) * PQ_LEVELS_ROWS;
    } else {
        t->group = pq_max_size(1, PQ_LEVELS_PIECE / pq_max_size(1, t->length));
        t->cuts = pq_ceil_div(t->length, PQ_LEVELS_PIECE);
        *item_elements = pq_min_size(PQ_LEVELS_PIECE, pq_max_size(1, t->length * t->outer));
    }
    const size_t groups = pq_ceil_div(t->outer, t->group);
    *items = groups * t->cuts * (columns ? 1 : a->channels);
    *cells = columns ? groups * a->channels : *items;
}

/* Sums by index, in order. */
static void finish(const task *t, double factor, float *dscale) {
    const size_t channels = t->args->channels, cuts = is_columns(t->args) ? 1 : t->cuts;
    const size_t groups = pq_ceil_div(t->outer, t->group);
    for (size_t c = 0; c < channels; c++) {
        double sum = 0.0;
        for (size_t o = 0; o < groups; o++) {
            for (size_t cut = 0; cut < cuts; cut++) {
                sum += t->sums[(o * channels + c) * cuts + cut];
            }
        }
        dscale[c] = (float)(factor * sum);
    }
}

static pq_status check(const pq_exec *exec, const char *op, const pq_levels_args *args,
                       double factor, const float *x, const float *g, const float *dx,
                       const float *dscale) {
    const pq_status status = pq_levels_check(exec, op, args, x, dx, sizeof *dx, "dx");
    if (status != PQ_OK) {
        return status;
    }
    if (!isfinite(factor) || (args->channels > 0 && dscale == NULL)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected a finite grad_factor and dscale, got %g",
                       op, factor);
    }
    if (args->n > 0 &&
        (g == NULL || (uintptr_t)g % sizeof *g != 0 ||
         (g != dx && pq_overlaps(g, args->n * sizeof *g, dx, args->n * sizeof *dx)))) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected g aligned, and dx not to overlap it", op);
    }
    size_t period;
    if (!pq_mul_size(args->channels, args->inner, &period) ||
        (args->n > 0 && args->channels > 1 && args->n % period != 0)) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected n in whole rows of channels * inner, got %zu of %zu * %zu", op,
                       args->n, args->channels, args->inner);
    }
    return PQ_OK;
}

pq_status pq_levels_learned(const pq_exec *exec, const pq_levels_args *args, double factor,
                            const float *x, const float *g, float *dx, float *dscale) {
    const char *op = args->op != NULL ? args->op : "levels_learned";
    pq_status status = check(exec, op, args, factor, x, g, dx, dscale);
    if (status != PQ_OK) {
        return status;
    }
    task t = {
        .kernel = pq_kernel_choose(PQ_KERNEL_OP_levels), .args = args, .x = x, .g = g, .dx = dx};
    size_t items, cells, item_elements;
    plan(&t, &items, &cells, &item_elements);
    const bool small = args->count <= t.kernel->in_registers;
    pq_levels_book *book = pq_alloc(sizeof *book);
    t.sums = pq_alloc(pq_max_size(1, cells) * sizeof *t.sums);
    if (book == NULL || t.sums == NULL) {
        status = pq_fail(exec, PQ_ERR_NOMEM, "%s: out of memory for %zu sums", op, cells);
        goto done;
    }
    status = pq_levels_book_make(exec, op, args, !small && args->n >= LEAST_FOR_CELLS, book);
    if (status != PQ_OK) {
        goto done;
    }
    t.book = book;
    atomic_init(&t.nan, false);
    if (items > 0) {
        const uint64_t cost = (uint64_t)(small ? REGISTERS_PS : CELLS_PS) * item_elements;
        status = exec->parallel_for(exec, items, pq_grain(exec, items, 1, cost), run_range, &t);
    }
    if (status == PQ_OK && atomic_load_explicit(&t.nan, memory_order_relaxed)) {
        status = pq_levels_nan(exec, op, args->n, x);
    }
    if (status == PQ_OK) {
        finish(&t, factor, dscale);
    }
done:
    pq_free(t.sums);
    pq_free(book);
    return status;
}
