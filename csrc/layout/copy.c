#include "core/dispatch.h"
#include "core/grain.h"
#include "core/operands.h"
#include "layout/copy_walk.h"
#include "pyquant/layout.h"

/* Rows that stay rows: a strided element takes 400 ps and more, one of 16 that follow each other
 * 100. A tile of 64 x 64 with vectors. */
#define ELEMENT_PS 200
#define TILE_PS 500000

static const char op[] = "copy";

/* Elements of y, or failure; 0 as soon as one dimension is 0. */
static pq_status count_elements(const pq_exec *exec, const pq_copy_args *args, size_t *elements) {
    *elements = 1;
    for (int i = 0; i < args->ndim; i++) {
        if (args->dims[i] == 0) {
            *elements = 0;
            return PQ_OK;
        }
    }
    for (int i = 0; i < args->ndim; i++) {
        if (!pq_mul_size(*elements, args->dims[i], elements) || *elements > PTRDIFF_MAX / 8) {
            return pq_fail(exec, PQ_ERR_OVERFLOW,
                           "%s: expected the product of %d dimensions to fit in memory", op,
                           args->ndim);
        }
    }
    return PQ_OK;
}

pq_status pq_copy_check(const pq_exec *exec, const pq_copy_args *args) {
    if (pq_dtype_size(args->type) == 0) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected an element type, got %d", op,
                       (int)args->type);
    }
    if (args->ndim < 0 || args->ndim > PQ_MAX_DIMS) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected 0 to %d dimensions, got %d", op,
                       PQ_MAX_DIMS, args->ndim);
    }
    size_t elements = 0;
    const pq_status status = count_elements(exec, args, &elements);
    if (status != PQ_OK || elements == 0) {
        return status;
    }
    /* Least and greatest index read: each dimension adds its last step to one of them. */
    ptrdiff_t least = args->offset;
    ptrdiff_t greatest = least;
    bool fits = args->x_size <= PTRDIFF_MAX / 8;
    for (int i = 0; i < args->ndim && fits; i++) {
        ptrdiff_t reach;
        fits = !__builtin_mul_overflow((ptrdiff_t)(args->dims[i] - 1), args->strides[i], &reach) &&
               (reach < 0 ? !__builtin_add_overflow(least, reach, &least)
                          : !__builtin_add_overflow(greatest, reach, &greatest));
    }
    if (!fits || least < 0 || greatest >= (ptrdiff_t)args->x_size) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected offset and strides to stay in [0, %zu), got indices from %td "
                       "to %td%s",
                       op, args->x_size, least, greatest, fits ? "" : " and beyond");
    }
    return PQ_OK;
}

static void run_elements(void *argument, size_t begin, size_t end, int slot) {
    (void)slot;
    pq_copy_elements(argument, begin, end);
}

static void run_tiles(void *argument, size_t begin, size_t end, int slot) {
    (void)slot;
    pq_copy_tiles(argument, begin, end);
}

pq_status pq_copy(const pq_exec *exec, const pq_copy_args *args) {
    size_t elements = 0;
    pq_status status = pq_copy_check(exec, args);
    if (status == PQ_OK) {
        status = count_elements(exec, args, &elements);
    }
    if (status != PQ_OK || elements == 0) {
        return status;
    }
    const size_t size = pq_dtype_size(args->type);
    status = pq_overlap_check(exec, op, "x", args->x, args->x_size * size, args->y, elements * size,
                              false);
    if (status != PQ_OK) {
        return status;
    }
    pq_copy_plan plan = pq_copy_plan_of(args);
    if (plan.transposed < 0) {
        return exec->parallel_for(exec, elements, pq_grain(exec, elements, 64, ELEMENT_PS),
                                  run_elements, &plan);
    }
    plan.kernel = pq_kernel_choose(PQ_KERNEL_OP_transpose);
    const size_t tiles = pq_copy_tile_count(&plan);
    return exec->parallel_for(exec, tiles, pq_grain(exec, tiles, 1, TILE_PS), run_tiles, &plan);
}
