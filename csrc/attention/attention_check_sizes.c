#include "attention/attention_check.h"

#include <stdint.h>

enum { DIM_COUNT = 5, HEAD_DIM_LIMIT = 32767 };

static size_t magnitude(ptrdiff_t stride) {
    return stride < 0 ? 0 - (size_t)stride : (size_t)stride;
}

/* Distance in elements between the lowest and the highest element, or false if it (in bytes, with
 * everything that multiplies it) could leave ptrdiff_t. */
static bool reach_of(const size_t *dims, const ptrdiff_t *strides, int count, size_t element,
                     size_t *reach) {
    *reach = 0;
    for (int i = 0; i < count; i++) {
        size_t part;
        if (dims[i] == 0) {
            *reach = 0;
            return true;
        }
        if (!pq_mul_size(dims[i] - 1, magnitude(strides[i]), &part) ||
            part > (size_t)PTRDIFF_MAX / element - *reach) {
            return false;
        }
        *reach += part;
    }
    return true;
}

static pq_status check_reach(const pq_exec *exec, const char *operand, const size_t *dims,
                             const ptrdiff_t *strides, size_t element) {
    size_t reach;
    if (!reach_of(dims, strides, DIM_COUNT, element, &reach)) {
        return pq_fail(
            exec, PQ_ERR_OVERFLOW,
            "attention_s8: expected %s to lie within %td bytes, its strides reach further", operand,
            PTRDIFF_MAX);
    }
    return PQ_OK;
}

static pq_status check_tensor(const pq_exec *exec, const char *operand,
                              const pq_attention_args *args, size_t heads, size_t tokens,
                              pq_strides strides) {
    const size_t dims[DIM_COUNT] = {args->batch, args->groups, heads, tokens, args->head_dim};
    const ptrdiff_t steps[DIM_COUNT] = {strides.batch, strides.group, strides.head, strides.token,
                                        1};
    return check_reach(exec, operand, dims, steps, 1);
}

pq_status pq_attention_check_sizes(const pq_exec *exec, const pq_attention_args *args) {
    if (args->kv_heads == 0 || args->heads % args->kv_heads != 0) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "attention_s8: expected heads to be a multiple of kv_heads, got %zu and %zu",
                       args->heads, args->kv_heads);
    }
    if (args->head_dim > HEAD_DIM_LIMIT) {
        return pq_fail(exec, PQ_ERR_OVERFLOW, "attention_s8: expected head_dim <= %d, got %zu",
                       HEAD_DIM_LIMIT, args->head_dim);
    }
    const size_t dims[DIM_COUNT] = {args->batch, args->groups, args->heads, args->q_len,
                                    args->k_len};
    /* room for a row of scores, and for every product of sizes that planning forms */
    size_t product = 8 * (args->head_dim + 1);
    for (int i = 0; i < DIM_COUNT; i++) {
        if (!pq_mul_size(product, dims[i] == 0 ? 1 : dims[i], &product)) {
            return pq_fail(exec, PQ_ERR_OVERFLOW,
                           "attention_s8: expected sizes with a product in size_t, got %zu x %zu x "
                           "%zu x %zu x %zu x %zu",
                           args->batch, args->groups, args->heads, args->q_len, args->k_len,
                           args->head_dim);
        }
    }
    pq_status status = check_tensor(exec, "q", args, args->heads, args->q_len, args->q_strides);
    if (status == PQ_OK) {
        status = check_tensor(exec, "k", args, args->kv_heads, args->k_len, args->k_strides);
    }
    if (status == PQ_OK) {
        status = check_tensor(exec, "v", args, args->kv_heads, args->k_len, args->v_strides);
    }
    if (status == PQ_OK) {
        status = check_tensor(exec, "y", args, args->heads, args->q_len, args->y_strides);
    }
    if (status == PQ_OK && args->keep != NULL) {
        status = check_reach(exec, "keep", dims, args->keep_strides, sizeof *args->keep);
    }
    if (status == PQ_OK && args->mask_add != NULL) {
        status = check_reach(exec, "mask_add", dims, args->mask_strides, sizeof *args->mask_add);
    }
    return status;
}

pq_status pq_attention_check_outputs(const pq_exec *exec, const pq_attention_args *args) {
    size_t dims[4] = {args->batch, args->groups, args->heads, args->q_len};
    size_t steps[4] = {magnitude(args->y_strides.batch), magnitude(args->y_strides.group),
                       magnitude(args->y_strides.head), magnitude(args->y_strides.token)};
    for (int i = 1; i < 4; i++) { /* insertion sort by stride */
        for (int j = i; j > 0 && steps[j - 1] > steps[j]; j--) {
            const size_t step = steps[j], dim = dims[j];
            steps[j] = steps[j - 1], dims[j] = dims[j - 1];
            steps[j - 1] = step, dims[j - 1] = dim;
        }
    }
    size_t covered = args->head_dim; /* elements from the first to the last so far */
    if (dims[0] == 0 || dims[1] == 0 || dims[2] == 0 || dims[3] == 0) {
        return PQ_OK; /* no output at all: strides of an empty array mean nothing */
    }
    for (int i = 0; i < 4; i++) {
        if (dims[i] < 2) {
            continue;
        }
        if (steps[i] < covered) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "attention_s8: expected y without overlap, got %zu rows %zu elements "
                           "apart where each covers %zu",
                           dims[i], steps[i], covered);
        }
        covered += (dims[i] - 1) * steps[i]; /* check_sizes: inside ptrdiff_t */
    }
    return PQ_OK;
}

pq_status pq_attention_check_pointers(const pq_exec *exec, const char *op,
                                      const pq_attention_args *args) {
    const char *missing = args->q == NULL                       ? "q"
                          : args->k == NULL && args->k_len != 0 ? "k"
                          : args->v == NULL && args->k_len != 0 ? "v"
                          : args->y == NULL                     ? "y"
                                                                : NULL;
    if (missing != NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected data for %s, got NULL", op, missing);
    }
    return PQ_OK;
}
