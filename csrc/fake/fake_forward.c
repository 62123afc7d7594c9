/* Entries of the elementwise passes: forward, backward, and the gradient behind an edge. */
#include <stdatomic.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/grain.h"
#include "core/sizes.h"
#include "fake/fake_forward_kernel.h"
#include "fake/fake_tables.h"

/* Work is shared out in units of 64 elements, so that two threads never write one byte of a mask.
 */
enum { UNIT = 64, SCRATCH = 4096 };
enum { FORWARD_PS = 250, BACKWARD_PS = 250 }; /* an element */

typedef struct task {
    const struct pq_fake_forward_kernel *kernel;
    const pq_fake_args *args;
    const pq_fake_tables *tables;
    size_t n;
    const float *x; /* or g */
    const float *y;
    float low, high; /* behind an edge */
    const uint8_t *mask;
    float *out;
    uint8_t *mask_out;
    atomic_bool nan;
} task;

/* Bits behind the ones already there; only the byte that holds both is read. */
static void append_bits(uint8_t *mask, size_t at, size_t n, const uint8_t *bits) {
    const unsigned shift = (unsigned)(at % 8);
    uint8_t *to = mask + at / 8;
    unsigned carry = shift == 0 ? 0 : *to;
    const size_t bytes = (n + 7) / 8;
    for (size_t i = 0; i < bytes; i++) {
        carry |= (unsigned)bits[i] << shift;
        *to++ = (uint8_t)carry;
        carry >>= 8;
    }
    if (shift + n > 8 * bytes) {
        *to = (uint8_t)carry;
    }
}

static bool forward_run(const task *t, size_t begin, size_t n, pq_fake_grid grid) {
    if (t->mask_out == NULL || begin % 8 == 0) {
        uint8_t *bits = t->mask_out == NULL ? NULL : t->mask_out + begin / 8;
        return t->kernel->forward(n, t->x + begin, grid, t->out + begin, bits);
    }
    bool nan = false;
    uint8_t scratch[SCRATCH / 8];
    for (size_t done = 0; done < n; done += SCRATCH) {
        const size_t count = pq_min_size(n - done, SCRATCH), at = begin + done;
        const pq_fake_grid here = pq_fake_grid_from(grid, done * grid.step);
        nan |= t->kernel->forward(count, t->x + at, here, t->out + at, scratch);
        append_bits(t->mask_out, at, count, scratch);
    }
    return nan;
}

/* Cuts [begin, end) where the grid, or the row of grids, starts anew. */
static bool forward_elements(const task *t, size_t begin, size_t end) {
    const pq_fake_args *a = t->args;
    const pq_fake_grid grid = t->tables->grid;
    if (a->channels == 1) {
        return forward_run(t, begin, end - begin, grid);
    }
    bool nan = false;
    const size_t row = t->tables->row, length = row > 0 ? row : a->inner;
    size_t offset = begin % length, channel = row > 0 ? 0 : begin / length % a->channels;
    while (begin < end) { /* no division for a run: it would take as long as 64 elements */
        const size_t n = pq_min_size(length - offset, end - begin);
        nan |= forward_run(t, begin, n, pq_fake_grid_from(grid, row > 0 ? offset : channel));
        begin += n;
        offset = 0;
        channel = row > 0 || channel + 1 == a->channels ? 0 : channel + 1;
    }
    return nan;
}

static void forward_range(void *pointer, size_t begin, size_t end, int slot) {
    task *t = pointer;
    (void)slot;
    if (forward_elements(t, begin * UNIT, pq_min_size(t->n, end * UNIT))) {
        atomic_store_explicit(&t->nan, true, memory_order_relaxed);
    }
}

static void apply_range(void *pointer, size_t begin, size_t end, int slot) {
    const task *t = pointer;
    const size_t first = begin * UNIT, last = pq_min_size(t->n, end * UNIT);
    (void)slot;
    t->kernel->apply(last - first, t->x + first, t->mask + first / 8, t->out + first);
}

static void edge_range(void *pointer, size_t begin, size_t end, int slot) {
    const task *t = pointer;
    const size_t first = begin * UNIT, last = pq_min_size(t->n, end * UNIT);
    (void)slot;
    t->kernel->edge(last - first, t->x + first, t->y + first, t->low, t->high, t->out + first);
}

static pq_status run(const pq_exec *exec, task *t, uint64_t element_ps, pq_range_fn body) {
    t->kernel = pq_kernel_choose(PQ_KERNEL_OP_fake_forward);
    atomic_init(&t->nan, false);
    const size_t units = pq_ceil_div(t->n, UNIT);
    return exec->parallel_for(exec, units, pq_grain(exec, units, 1, UNIT * element_ps), body, t);
}

pq_status pq_fake_forward(const pq_exec *exec, const pq_fake_args *args, const float *x,
                          float *x_hat, uint8_t *mask) {
    static const char op[] = "fake_quantize";
    pq_status status = pq_fake_check(exec, op, args);
    if (status != PQ_OK || args->n == 0) {
        return status;
    }
    status = pq_fake_operand(exec, op, "x", x, sizeof *x);
    status = status != PQ_OK ? status : pq_fake_operand(exec, op, "the output", x_hat, sizeof *x);
    status = status != PQ_OK ? status : pq_fake_overlap(exec, op, args->n, x_hat, x, "x", false);
    pq_fake_tables tables;
    status = status != PQ_OK ? status : pq_fake_tables_make(exec, op, args, &tables);
    if (status != PQ_OK) {
        return status;
    }
    task t = {
        .args = args, .tables = &tables, .n = args->n, .x = x, .out = x_hat, .mask_out = mask};
    status = run(exec, &t, FORWARD_PS, forward_range);
    pq_fake_tables_free(&tables);
    if (status == PQ_OK && atomic_load_explicit(&t.nan, memory_order_relaxed)) {
        return pq_fake_nan(exec, op, args->n, x);
    }
    return status;
}

/* g and dx of an elementwise pass. */
static pq_status check_gradients(const pq_exec *exec, const char *op, size_t n, const float *g,
                                 const float *dx) {
    if (n > PTRDIFF_MAX / sizeof *g) {
        return pq_fail(exec, PQ_ERR_OVERFLOW, "%s: n = %zu is too large", op, n);
    }
    pq_status status = pq_fake_operand(exec, op, "g", g, sizeof *g);
    status = status != PQ_OK ? status : pq_fake_operand(exec, op, "the output", dx, sizeof *dx);
    return status != PQ_OK ? status : pq_fake_overlap(exec, op, n, dx, g, "g", true);
}

pq_status pq_fake_backward(const pq_exec *exec, size_t n, const float *g, const uint8_t *mask,
                           float *dx) {
    static const char op[] = "fake_quantize_backward";
    if (n == 0) {
        return PQ_OK;
    }
    pq_status status = check_gradients(exec, op, n, g, dx);
    status = status != PQ_OK ? status : pq_fake_operand(exec, op, "mask", mask, 1);
    task t = {.n = n, .x = g, .mask = mask, .out = dx};
    return status != PQ_OK ? status : run(exec, &t, BACKWARD_PS, apply_range);
}

pq_status pq_edge_backward(const pq_exec *exec, size_t n, pq_affine grid, const float *g,
                           const float *y, float *dx) {
    static const char op[] = "edge_backward";
    const pq_fake_args args = {
        0, 1, 1, &grid.scale, &grid.zero_point, 1, grid.quant_min, grid.quant_max};
    pq_status status = pq_fake_check(exec, op, &args);
    if (status != PQ_OK || n == 0) {
        return status;
    }
    status = check_gradients(exec, op, n, g, dx);
    status = status != PQ_OK ? status : pq_fake_operand(exec, op, "y", y, sizeof *y);
    status = status != PQ_OK ? status : pq_fake_overlap(exec, op, n, dx, y, "y", false);
    task t = {.n = n,
              .x = g,
              .y = y,
              .low = (float)(grid.quant_min - grid.zero_point) * grid.scale,
              .high = (float)(grid.quant_max - grid.zero_point) * grid.scale,
              .out = dx};
    return status != PQ_OK ? status : run(exec, &t, BACKWARD_PS, edge_range);
}
