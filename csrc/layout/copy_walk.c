#include "layout/copy_walk.h"

#include <string.h>

enum { SHORT_ROW = 8, BLOCK_BYTES = 4096 };

pq_copy_plan pq_copy_plan_of(const pq_copy_args *args) {
    const size_t size = pq_dtype_size(args->type);
    pq_copy_plan plan = {.ndim = 0,
                         .x = (const char *)args->x + args->offset * (ptrdiff_t)size,
                         .y = args->y,
                         .element_size = size,
                         .elements = 1,
                         .transposed = -1};
    for (int i = 0; i < args->ndim; i++) {
        const size_t dim = args->dims[i];
        plan.elements *= dim;
        if (dim == 1) {
            continue;
        }
        const int last = plan.ndim - 1;
        /* In bounds, dim >= 2: the stride is below 2^60 elements and the product fits. */
        if (last >= 0 && plan.strides[last] == args->strides[i] * (ptrdiff_t)dim) {
            plan.dims[last] *= dim;
            plan.strides[last] = args->strides[i];
        } else {
            plan.dims[plan.ndim] = dim;
            plan.strides[plan.ndim] = args->strides[i];
            plan.ndim++;
        }
    }
    if (plan.ndim == 0) {
        plan.dims[0] = 1;
        plan.strides[0] = 1;
        plan.ndim = 1;
    }
    const int last = plan.ndim - 1;
    if (plan.strides[last] != 1) {
        for (int i = 0; i < last; i++) {
            if (plan.strides[i] == 1 && plan.dims[i] >= 8 && plan.dims[last] >= 8) {
                plan.transposed = i;
            }
        }
    }
    return plan;
}

/* memcpy of a constant size is one move, and asks for no alignment. */
#define CASE_OF_BYTES(bytes) \
    case bytes: \
        for (size_t r = 0; r < rows; r++) { \
            memcpy(y + r * bytes, x + (ptrdiff_t)r * row_step, bytes); \
        } \
        break

/* Rows of `length` bytes, row_step apart in x, one behind the other in y. */
static void copy_whole_rows(size_t length, size_t rows, const char *x, ptrdiff_t row_step,
                            char *y) {
    switch (length) {
        CASE_OF_BYTES(1);
        CASE_OF_BYTES(2);
        CASE_OF_BYTES(4);
        CASE_OF_BYTES(8);
        CASE_OF_BYTES(16);
    default:
        for (size_t r = 0; r < rows; r++) {
            memcpy(y + r * length, x + (ptrdiff_t)r * row_step, length);
        }
    }
}
#undef CASE_OF_BYTES

#define CASE_OF_SIZE(bytes) \
    case bytes: \
        for (size_t i = 0; i < outer; i++) { \
            for (size_t j = 0; j < inner; j++) { \
                memcpy(y + i * y_outer + j * y_inner, \
                       x + (ptrdiff_t)i * outer_step + (ptrdiff_t)j * inner_step, bytes); \
            } \
        } \
        break

/* Steps in bytes. */
static void copy_loops(size_t size, size_t outer, size_t inner, const char *x, ptrdiff_t outer_step,
                       ptrdiff_t inner_step, char *y, size_t y_outer, size_t y_inner) {
    switch (size) {
        CASE_OF_SIZE(1);
        CASE_OF_SIZE(2);
        CASE_OF_SIZE(4);
        CASE_OF_SIZE(8);
    }
}
#undef CASE_OF_SIZE

/* rows x n elements of x, row_step and step bytes apart, to y without gaps. */
static void copy_rows(size_t size, size_t rows, size_t n, const char *x, ptrdiff_t row_step,
                      ptrdiff_t step, char *y) {
    const size_t length = n * size;
    if (step == (ptrdiff_t)size) {
        copy_whole_rows(length, rows, x, row_step, y);
        return;
    }
    if (n >= SHORT_ROW) {
        copy_loops(size, rows, n, x, row_step, step, y, length, size);
        return;
    }
    /* Many short rows (the channels of pixels, say): column by column, in blocks of y that stay in
     * L1, since a loop over three elements costs more than they do. */
    const size_t block = BLOCK_BYTES / length;
    for (size_t r = 0; r < rows; r += block) {
        const size_t here = rows - r < block ? rows - r : block;
        copy_loops(size, n, here, x + (ptrdiff_t)r * row_step, step, row_step, y + r * length, size,
                   length);
    }
}

void pq_copy_elements(const pq_copy_plan *plan, size_t begin, size_t end) {
    const int last = plan->ndim - 1;
    const ptrdiff_t size = (ptrdiff_t)plan->element_size;
    const size_t length = plan->dims[last];
    size_t index[PQ_MAX_DIMS];
    ptrdiff_t at = 0; /* in elements of x */
    size_t rest = begin;
    for (int i = last; i >= 0; i--) {
        index[i] = rest % plan->dims[i];
        rest /= plan->dims[i];
        at += (ptrdiff_t)index[i] * plan->strides[i];
    }
    while (begin < end) {
        size_t n = length - index[last], rows = 1;
        if (n == length && end - begin >= length && last > 0) {
            const size_t whole = (end - begin) / length;
            const size_t left = plan->dims[last - 1] - index[last - 1];
            rows = whole < left ? whole : left;
        } else if (end - begin < n) {
            n = end - begin;
        }
        copy_rows(plan->element_size, rows, n, plan->x + at * size,
                  last > 0 ? plan->strides[last - 1] * size : 0, plan->strides[last] * size,
                  plan->y + begin * plan->element_size);
        begin += rows * n;
        /* Only the first row may begin inside, and only the last may end inside. */
        at -= (ptrdiff_t)index[last] * plan->strides[last];
        index[last] = 0;
        for (int i = last - 1; i >= 0; i--) {
            at += (ptrdiff_t)rows * plan->strides[i];
            index[i] += rows;
            if (index[i] < plan->dims[i]) {
                break;
            }
            at -= (ptrdiff_t)plan->dims[i] * plan->strides[i];
            index[i] = 0;
            rows = 1;
        }
    }
}

static size_t tiles_of(size_t dim) {
    return dim / PQ_COPY_TILE + (dim % PQ_COPY_TILE != 0);
}

size_t pq_copy_tile_count(const pq_copy_plan *plan) {
    size_t count = 1;
    for (int i = 0; i < plan->ndim; i++) {
        const bool tiled = i == plan->transposed || i == plan->ndim - 1;
        count *= tiled ? tiles_of(plan->dims[i]) : plan->dims[i];
    }
    return count;
}

/* Tiles of one dimension differ by 1 at most, so that none is a sliver that no vector fits. */
static size_t tile_begin(size_t dim, size_t count, size_t index) {
    const size_t longer = dim % count;
    return dim / count * index + (index < longer ? index : longer);
}

void pq_copy_tiles(const pq_copy_plan *plan, size_t begin, size_t end) {
    const int last = plan->ndim - 1, t = plan->transposed;
    const size_t size = plan->element_size;
    size_t y_strides[PQ_MAX_DIMS];
    y_strides[last] = 1;
    for (int i = last - 1; i >= 0; i--) {
        y_strides[i] = y_strides[i + 1] * plan->dims[i + 1];
    }
    for (size_t tile = begin; tile < end; tile++) {
        size_t rest = tile, rows = 0, columns = 0, y_at = 0;
        ptrdiff_t x_at = 0;
        for (int i = last; i >= 0; i--) {
            const size_t dim = plan->dims[i];
            const size_t count = i == t || i == last ? tiles_of(dim) : dim;
            const size_t index = rest % count, at = tile_begin(dim, count, index);
            const size_t here = tile_begin(dim, count, index + 1) - at;
            rest /= count;
            rows = i == t ? here : rows;
            columns = i == last ? here : columns;
            y_at += at * y_strides[i];
            x_at += (ptrdiff_t)at * plan->strides[i];
        }
        plan->kernel->run(size, rows, columns, plan->x + x_at * (ptrdiff_t)size,
                          plan->strides[last] * (ptrdiff_t)size, plan->y + y_at * size,
                          (ptrdiff_t)(y_strides[t] * size));
    }
}
