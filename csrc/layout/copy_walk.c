#include "layout/copy_walk.h"

#include <string.h>

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

/* n elements, `stride` apart in x, one behind the other in y. */
static void copy_row(size_t size, size_t n, const char *x, ptrdiff_t stride, char *y) {
    if (stride == 1) {
        memcpy(y, x, n * size);
        return;
    }
    const ptrdiff_t step = stride * (ptrdiff_t)size;
    /* memcpy of a constant size is one move, and asks for no alignment. */
#define PQ_COPY_ROW(bytes) \
    case bytes: \
        for (size_t i = 0; i < n; i++) { \
            memcpy(y + i * bytes, x + (ptrdiff_t)i * step, bytes); \
        } \
        break
    switch (size) {
        PQ_COPY_ROW(1);
        PQ_COPY_ROW(2);
        PQ_COPY_ROW(4);
        PQ_COPY_ROW(8);
    }
#undef PQ_COPY_ROW
}

void pq_copy_elements(const pq_copy_plan *plan, size_t begin, size_t end) {
    const int last = plan->ndim - 1;
    const size_t size = plan->element_size;
    size_t index[PQ_MAX_DIMS];
    ptrdiff_t at = 0; /* in elements of x */
    size_t rest = begin;
    for (int i = last; i >= 0; i--) {
        index[i] = rest % plan->dims[i];
        rest /= plan->dims[i];
        at += (ptrdiff_t)index[i] * plan->strides[i];
    }
    while (begin < end) {
        const size_t left = plan->dims[last] - index[last];
        const size_t n = end - begin < left ? end - begin : left;
        copy_row(size, n, plan->x + at * (ptrdiff_t)size, plan->strides[last],
                 plan->y + begin * size);
        begin += n;
        /* Only the first row may begin inside, and only the last may end inside. */
        at -= (ptrdiff_t)index[last] * plan->strides[last];
        index[last] = 0;
        for (int i = last - 1; i >= 0; i--) {
            at += plan->strides[i];
            if (++index[i] < plan->dims[i]) {
                break;
            }
            at -= (ptrdiff_t)plan->dims[i] * plan->strides[i];
            index[i] = 0;
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
