/* An item of work is one chunk of one row. Its sums wait in an array, one entry an item, and are
 * added by index when all are there: which thread did which leaves no trace. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/grain.h"
#include "core/sizes.h"
#include "metrics/metrics_sums_kernel.h"

_Static_assert(PQ_METRICS_CHUNK % PQ_METRICS_BLOCK == 0, "a chunk is whole blocks");

/* 8 bytes an element at some 20 GB/s; adding the lanes of a block; gathering single elements. */
enum { ELEMENT_PS = 400, BLOCK_PS = 60000, GATHER_PS = 2000 };

#define SMALL 0x1p-100  /* pyquant/metrics.h says why */
#define NOT_FINITE (-1) /* as a count */

typedef struct sums_task {
    pq_metrics_shape shape;
    size_t row_size, chunks; /* of a row */
    const float *x;
    const pq_metrics_y *y;
    const struct pq_metrics_sums_kernel *kernel;
    pq_metrics_sums *sums; /* samples, groups, chunks */
} sums_task;

static double add_lanes(const float *lanes) {
    double sum[PQ_METRICS_LANES];
    for (int i = 0; i < PQ_METRICS_LANES; i++) {
        sum[i] = (double)lanes[i];
    }
    for (int half = PQ_METRICS_LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            sum[i] += sum[i + half];
        }
    }
    return sum[0];
}

static void add(pq_metrics_sums *into, const pq_metrics_sums *from) {
    into->xx += from->xx;
    into->yy += from->yy;
    into->xy += from->xy;
    into->dd += from->dd;
    into->largest = from->largest > into->largest ? from->largest : into->largest;
    into->count += from->count;
}

static bool in_float64(size_t n, const float *x, const float *y, pq_metrics_sums *sums) {
    pq_metrics_sums s = {.count = (int64_t)n};
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]) || !isfinite(y[i])) {
            return false;
        }
        const double a = (double)x[i], b = (double)y[i], d = a - b;
        s.xx += a * a;
        s.yy += b * b;
        s.xy += a * b;
        s.dd += d * d;
        s.largest = fabs(d) > s.largest ? fabs(d) : s.largest;
    }
    *sums = s;
    return true;
}

/* False where x or y holds NaN or infinity. */
static bool block_sums(const struct pq_metrics_sums_kernel *kernel, size_t n, const float *x,
                       const float *y, pq_metrics_sums *sums) {
    pq_metrics_lanes lanes;
    kernel->block(n, x, y, &lanes);
    pq_metrics_sums s = {.xx = add_lanes(lanes.xx),
                         .yy = add_lanes(lanes.yy),
                         .xy = add_lanes(lanes.xy),
                         .dd = add_lanes(lanes.dd),
                         .count = (int64_t)n};
    float largest = 0.0F;
    for (int i = 0; i < PQ_METRICS_LANES; i++) {
        largest = lanes.largest[i] > largest ? lanes.largest[i] : largest;
    }
    s.largest = (double)largest;
    /* Sums of finite lanes are far below the end of float64: none of them becomes infinite here. */
    const bool finite = isfinite(s.xx) && isfinite(s.yy) && isfinite(s.xy) && isfinite(s.dd);
    if (!finite || s.xx < SMALL || s.yy < SMALL || (s.dd < SMALL && largest > 0.0F)) {
        return in_float64(n, x, y, sums);
    }
    *sums = s;
    return true;
}

/* Elements [k, k + n) of the row that begins at `first`, side by side: where they lie, if within
 * one piece, else copied to `scratch`. */
static const void *fetch(const pq_metrics_shape *shape, const void *first, size_t size, size_t k,
                         size_t n, void *scratch) {
    const size_t length = shape->length, stride = shape->groups * length;
    const size_t piece = k / length, offset = k % length;
    const char *from = first;
    if (offset + n <= length || shape->groups == 1) {
        return from + (piece * stride + offset) * size;
    }
    char *to = scratch;
    if (length == 1 && size == sizeof(float)) {
        const float *element = (const float *)first + piece * stride;
        float *packed = scratch;
        for (size_t i = 0; i < n; i++) {
            packed[i] = element[i * stride];
        }
        return scratch;
    }
    for (size_t done = 0; done < n;) {
        const size_t at = k + done, in_piece = at % length;
        const size_t count = pq_min_size(n - done, length - in_piece);
        memcpy(to + done * size, from + (at / length * stride + in_piece) * size, count * size);
        done += count;
    }
    return scratch;
}

static void run_chunk(const sums_task *task, size_t item, pq_metrics_sums *sums) {
    const pq_metrics_shape *shape = &task->shape;
    const pq_metrics_y *y = task->y;
    const size_t row = item / task->chunks, chunk = item % task->chunks;
    const size_t first = row / shape->groups * shape->pieces * shape->groups * shape->length +
                         row % shape->groups * shape->length;
    const size_t begin = chunk * PQ_METRICS_CHUNK;
    const size_t end = pq_min_size(task->row_size, begin + PQ_METRICS_CHUNK);
    const size_t y_size = y->values != NULL ? sizeof(float) : pq_dtype_size(y->type);
    const char *y_first = y->values != NULL ? (const char *)y->values : y->integers;
    float x_scratch[PQ_METRICS_BLOCK], y_scratch[PQ_METRICS_BLOCK];
    int16_t q_scratch[PQ_METRICS_BLOCK];
    memset(sums, 0, sizeof *sums);
    for (size_t k = begin; k < end; k += PQ_METRICS_BLOCK) {
        const size_t n = pq_min_size(end - k, PQ_METRICS_BLOCK);
        const float *xs = fetch(shape, task->x + first, sizeof(float), k, n, x_scratch);
        const float *ys = y_scratch;
        if (y->values != NULL) {
            ys = fetch(shape, y->values + first, sizeof(float), k, n, y_scratch);
        } else {
            const void *q = fetch(shape, y_first + first * y_size, y_size, k, n, q_scratch);
            if (y->type == PQ_S8) {
                task->kernel->from_s8(n, q, y->zero_point, y->scale, y_scratch);
            } else {
                task->kernel->from_s16(n, q, y->zero_point, y->scale, y_scratch);
            }
        }
        pq_metrics_sums block;
        if (!block_sums(task->kernel, n, xs, ys, &block)) {
            sums->count = NOT_FINITE;
            return;
        }
        add(sums, &block);
    }
}

static void run_range(void *argument, size_t begin, size_t end, int slot) {
    const sums_task *task = argument;
    (void)slot;
    for (size_t item = begin; item < end; item++) {
        run_chunk(task, item, &task->sums[item]);
    }
}

static pq_status not_finite(const pq_exec *exec, const char *op, size_t n, const float *x,
                            const float *y) {
    size_t i = 0;
    while (i < n && isfinite(x[i])) {
        i++;
    }
    const char *name = i < n ? "x" : "y";
    const float *values = i < n ? x : y;
    for (i = i < n ? i : 0; isfinite(values[i]); i++) {
    }
    return isnan(values[i]) ? pq_fail(exec, PQ_ERR_NAN, "%s: %s[%zu] is NaN", op, name, i)
                            : pq_fail(exec, PQ_ERR_VALUE,
                                      "%s: expected finite %s, got infinity at [%zu]", op, name, i);
}

static pq_status check(const pq_exec *exec, const char *op, const pq_metrics_shape *shape,
                       const pq_metrics_y *y) {
    size_t rows, per_row, n;
    if (!pq_mul_size(shape->samples, shape->groups, &rows) ||
        !pq_mul_size(shape->pieces, shape->length, &per_row) || !pq_mul_size(rows, per_row, &n) ||
        n > PTRDIFF_MAX / sizeof(float) || rows > PTRDIFF_MAX / sizeof(pq_metrics_sums)) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected samples, pieces, groups, length that fit in memory, got "
                       "%zu, %zu, %zu, %zu",
                       op, shape->samples, shape->pieces, shape->groups, shape->length);
    }
    if (y->values != NULL) {
        return PQ_OK;
    }
    if (y->type != PQ_S8 && y->type != PQ_S16) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected y of float32, int8 or int16", op);
    }
    if (!(y->scale >= 0x1p-100F && y->scale <= 0x1p100F)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected 2^-100 <= scale <= 2^100, got %g", op,
                       (double)y->scale);
    }
    if (y->zero_point < INT16_MIN || y->zero_point > INT16_MAX) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected -32768 <= zero_point <= 32767, got %d", op,
                       y->zero_point);
    }
    return PQ_OK;
}

/* The sums of all rows at the front of a new block, which the caller frees; NULL for no rows. */
static pq_status rows_of(const pq_exec *exec, const char *op, const pq_metrics_shape *shape,
                         const float *x, const pq_metrics_y *y, pq_metrics_sums **sums) {
    *sums = NULL;
    pq_status status = check(exec, op, shape, y);
    const size_t rows = shape->samples * shape->groups, row_size = shape->pieces * shape->length;
    if (status != PQ_OK || rows == 0) {
        return status;
    }
    /* An empty row has one chunk of nothing. */
    const size_t chunks = pq_max_size(1, pq_ceil_div(row_size, PQ_METRICS_CHUNK));
    size_t items, bytes;
    if (!pq_mul_size(rows, chunks, &items) || !pq_mul_size(items, sizeof **sums, &bytes)) {
        return pq_fail(exec, PQ_ERR_OVERFLOW, "%s: expected rows that fit in memory, got %zu", op,
                       rows);
    }
    sums_task task = {.shape = *shape,
                      .row_size = row_size,
                      .chunks = chunks,
                      .x = x,
                      .y = y,
                      .kernel = pq_kernel_choose(PQ_KERNEL_OP_metrics_sums),
                      .sums = pq_alloc(bytes)};
    if (task.sums == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "%s: out of memory for %zu rows", op, rows);
    }
    const bool gathered = shape->groups > 1 && shape->length < PQ_METRICS_LANES;
    const size_t most = pq_min_size(row_size, PQ_METRICS_CHUNK);
    const uint64_t cost = (uint64_t)most * (gathered ? GATHER_PS : ELEMENT_PS) +
                          (uint64_t)(most / PQ_METRICS_BLOCK + 1) * BLOCK_PS;
    status = exec->parallel_for(exec, items, pq_grain(exec, items, 1, cost), run_range, &task);
    for (size_t i = 0; status == PQ_OK && i < items; i++) {
        if (task.sums[i].count == NOT_FINITE) {
            /* Integers are finite for every scale that `check` lets pass: then x it was. */
            status = not_finite(exec, op, rows * row_size, x, y->values);
        }
    }
    if (status != PQ_OK) {
        pq_free(task.sums);
        return status;
    }
    for (size_t row = 0; chunks > 1 && row < rows; row++) {
        pq_metrics_sums sum = task.sums[row * chunks]; /* read before row `row` is written */
        for (size_t chunk = 1; chunk < chunks; chunk++) {
            add(&sum, &task.sums[row * chunks + chunk]);
        }
        task.sums[row] = sum;
    }
    *sums = task.sums;
    return PQ_OK;
}

pq_status pq_metrics_rows(const pq_exec *exec, const pq_metrics_shape *shape, const float *x,
                          const pq_metrics_y *y, pq_metrics_sums *sums) {
    pq_metrics_sums *rows;
    const pq_status status = rows_of(exec, "metrics_rows", shape, x, y, &rows);
    if (status == PQ_OK && rows != NULL) {
        memcpy(sums, rows, shape->samples * shape->groups * sizeof *sums);
    }
    pq_free(rows);
    return status;
}

static bool is_sum(double value) {
    return value >= 0.0 && isfinite(value);
}

static pq_status state_check(const pq_exec *exec, const char *op, size_t groups,
                             const pq_metrics_state *states) {
    for (size_t g = 0; g < groups; g++) {
        const pq_metrics_state *s = &states[g];
        const pq_metrics_sums *t = &s->total;
        if (!is_sum(t->xx) || !is_sum(t->yy) || !isfinite(t->xy) || !is_sum(t->dd) ||
            !is_sum(t->largest) || !is_sum(s->ratios) || t->count < 0 || s->exact < 0 ||
            s->exact > s->samples || s->samples > t->count) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: expected finite sums >= 0 and 0 <= exact <= samples <= count, got "
                           "others in state %zu",
                           op, g);
        }
    }
    return PQ_OK;
}

pq_status pq_metrics_update(const pq_exec *exec, const pq_metrics_shape *shape, const float *x,
                            const pq_metrics_y *y, pq_metrics_state *states) {
    static const char op[] = "metrics_update";
    pq_status status = state_check(exec, op, shape->groups, states);
    pq_metrics_sums *rows = NULL;
    if (status == PQ_OK) {
        status = rows_of(exec, op, shape, x, y, &rows);
    }
    if (status != PQ_OK || rows == NULL) {
        return status;
    }
    for (size_t sample = 0; sample < shape->samples; sample++) {
        for (size_t g = 0; g < shape->groups; g++) {
            const pq_metrics_sums *row = &rows[sample * shape->groups + g];
            pq_metrics_state *state = &states[g];
            if (row->count == 0) {
                continue;
            }
            add(&state->total, row);
            state->samples++;
            if (row->dd > 0.0) {
                state->ratios += sqrt(row->xx / row->dd);
            } else {
                state->exact++;
            }
        }
    }
    pq_free(rows);
    return PQ_OK;
}

pq_status pq_metrics_merge(const pq_exec *exec, size_t groups, pq_metrics_state *into,
                           const pq_metrics_state *from) {
    static const char op[] = "metrics_merge";
    pq_status status = state_check(exec, op, groups, into);
    if (status == PQ_OK) {
        status = state_check(exec, op, groups, from);
    }
    for (size_t g = 0; status == PQ_OK && g < groups; g++) {
        if (from[g].total.count > INT64_MAX - into[g].total.count) {
            status = pq_fail(exec, PQ_ERR_OVERFLOW, "%s: expected fewer than 2^63 elements", op);
        }
    }
    for (size_t g = 0; status == PQ_OK && g < groups; g++) {
        const pq_metrics_state other = from[g]; /* also right where the two are one */
        add(&into[g].total, &other.total);
        into[g].ratios += other.ratios;
        into[g].samples += other.samples;
        into[g].exact += other.exact;
    }
    return status;
}
