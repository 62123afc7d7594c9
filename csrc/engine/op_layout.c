/* RESHAPE, COPY, CONCAT, GATHER. */
#include "engine/attrs.h"
#include "engine/op.h"
#include "pyquant/layout.h"

/* ---- reshape ---- */

static pq_status validate_reshape(const pq_engine_check *check) {
    const pq_status status = pq_engine_expect_same_type(check);
    return status ? status : pq_engine_expect_output(check, pq_engine_input(check, 0)->size);
}

const pq_engine_op pq_engine_reshape = {
    .inputs = {{PQ_ENGINE_ANY, false}},
    .output = {PQ_ENGINE_ANY, false},
    .alias = true,
    .validate = validate_reshape,
};

/* ---- copy ---- */

static const pq_engine_range copy_ranges[PQ_COPY_ATTRS] = {
    [PQ_COPY_OFFSET] = PQ_ENGINE_RANGE_SIZE,
    [PQ_COPY_NDIM] = {0, PQ_MAX_DIMS},
    [PQ_COPY_DIM] = PQ_ENGINE_RANGE_SIZE,
    PQ_ENGINE_RANGE_SIZE,
    PQ_ENGINE_RANGE_SIZE,
    PQ_ENGINE_RANGE_SIZE,
    PQ_ENGINE_RANGE_SIZE,
    PQ_ENGINE_RANGE_SIZE,
    PQ_ENGINE_RANGE_SIZE,
    PQ_ENGINE_RANGE_SIZE,
    [PQ_COPY_STRIDE] = PQ_ENGINE_RANGE_STRIDE,
    PQ_ENGINE_RANGE_STRIDE,
    PQ_ENGINE_RANGE_STRIDE,
    PQ_ENGINE_RANGE_STRIDE,
    PQ_ENGINE_RANGE_STRIDE,
    PQ_ENGINE_RANGE_STRIDE,
    PQ_ENGINE_RANGE_STRIDE,
    PQ_ENGINE_RANGE_STRIDE,
};

static pq_status validate_copy(const pq_engine_check *check) {
    pq_status status = pq_engine_expect_same_type(check);
    if (status) {
        return status;
    }
    const int64_t *attrs = check->instruction->attrs;
    const int ndim = (int)attrs[PQ_COPY_NDIM];
    int64_t size = 1;
    for (int i = 0; i < ndim; i++) {
        if (!pq_engine_multiply(size, attrs[PQ_COPY_DIM + i], &size)) {
            return pq_engine_reject(check, "the product of dim0..dim%d is too large", ndim - 1);
        }
    }
    for (int i = ndim; i < PQ_MAX_DIMS; i++) {
        if (attrs[PQ_COPY_DIM + i] != 0 || attrs[PQ_COPY_STRIDE + i] != 0) {
            return pq_engine_reject(check, "dim%d and stride%d must be 0 with ndim %d", i, i, ndim);
        }
    }
    status = pq_engine_expect_output(check, size);
    if (status) {
        return status;
    }
    const pq_value *x = pq_engine_input(check, 0);
    if (!pq_engine_span_fits(ndim, &attrs[PQ_COPY_DIM], &attrs[PQ_COPY_STRIDE],
                             attrs[PQ_COPY_OFFSET], x->size)) {
        return pq_engine_reject(check,
                                "offset, dims and strides leave the %lld elements of input 0",
                                (long long)x->size);
    }
    return PQ_OK;
}

static pq_status execute_copy(const pq_engine_step *step) {
    const int64_t *attrs = step->instruction->attrs;
    const pq_value *x = &step->values[step->instruction->inputs[0]];
    const pq_value *y = &step->values[step->instruction->output];
    const int ndim = (int)attrs[PQ_COPY_NDIM];
    /* The batch is one more dimension in front; where none is left, one call a sample. */
    const bool one_call = ndim < PQ_MAX_DIMS;
    const size_t samples = y->batched ? step->batch : 1;
    const size_t calls = one_call ? 1 : samples;
    const size_t element = pq_dtype_size((pq_dtype)x->dtype);
    const int lead = one_call ? 1 : 0;
    for (size_t call = 0; call < calls; call++) {
        pq_copy_args args = {
            .type = (pq_dtype)x->dtype,
            .ndim = ndim + lead,
            .offset = (ptrdiff_t)attrs[PQ_COPY_OFFSET],
            .x = (const char *)step->inputs[0] + (x->batched ? call * pq_engine_bytes(x) : 0),
            .x_size = one_call ? pq_engine_elements(x, step->batch) : (size_t)x->size,
            .y = (char *)step->output + call * (size_t)y->size * element,
        };
        if (one_call) {
            args.dims[0] = samples;
            args.strides[0] = x->batched ? (ptrdiff_t)x->size : 0;
        }
        for (int i = 0; i < ndim; i++) {
            args.dims[lead + i] = (size_t)attrs[PQ_COPY_DIM + i];
            args.strides[lead + i] = (ptrdiff_t)attrs[PQ_COPY_STRIDE + i];
        }
        const pq_status status = pq_copy(step->exec, &args);
        if (status) {
            return status;
        }
    }
    return PQ_OK;
}

/* A copy reads as much as it writes, which may be a part of x. */
static void work_copy(const pq_engine_step *step, pq_engine_work *work) {
    const pq_value *y = &step->values[step->instruction->output];
    const size_t bytes = (y->batched ? step->batch : 1) * pq_engine_bytes(y);
    const bool constant = step->values[step->instruction->inputs[0]].kind == PQ_VALUE_CONST;
    work->bytes = constant ? bytes : 2 * bytes;
    work->constant_bytes = constant ? bytes : 0;
}

const pq_engine_op pq_engine_copy = {
    .ranges = copy_ranges,
    .range_count = PQ_COPY_ATTRS,
    .inputs = {{PQ_ENGINE_ANY, false}},
    .output = {PQ_ENGINE_ANY, false},
    .may_repeat = true,
    .validate = validate_copy,
    .execute = execute_copy,
    .work = work_copy,
};

/* ---- concat ---- */

static const pq_engine_range concat_ranges[PQ_CONCAT_ATTRS] = {
    [PQ_CONCAT_OUTER] = PQ_ENGINE_RANGE_COUNT,
};

static pq_status validate_concat(const pq_engine_check *check) {
    pq_status status = pq_engine_expect_same_type(check);
    if (status) {
        return status;
    }
    const int64_t outer = check->instruction->attrs[PQ_CONCAT_OUTER];
    const pq_value *y = pq_engine_output(check);
    int64_t size = 0;
    bool ended = false;
    for (int i = 0; i < PQ_MAX_CONCAT; i++) {
        const pq_value *x = pq_engine_input(check, i);
        if (x == NULL) {
            ended = true;
            continue;
        }
        if (ended) {
            return pq_engine_reject(check, "input %d follows an absent input", i);
        }
        if (x->dtype != y->dtype) {
            return pq_engine_reject(check, "expected input %d of type %lld, got type %lld", i,
                                    (long long)y->dtype, (long long)x->dtype);
        }
        if (x->size % outer != 0) {
            return pq_engine_reject(check,
                                    "outer %lld does not divide the %lld elements of input %d",
                                    (long long)outer, (long long)x->size, i);
        }
        if (y->batched && !x->batched && outer != 1) {
            return pq_engine_reject(check, "the unbatched input %d needs outer = 1, got %lld", i,
                                    (long long)outer);
        }
        size += x->size; /* at most 8 * PQ_MAX_VALUE_SIZE */
    }
    status = pq_engine_expect_output(check, size);
    return status;
}

static pq_status execute_concat(const pq_engine_step *step) {
    const size_t outer = (size_t)step->instruction->attrs[PQ_CONCAT_OUTER];
    const pq_value *y = &step->values[step->instruction->output];
    pq_concat_args args = {
        .type = (pq_dtype)y->dtype,
        .outer = y->batched ? step->batch * outer : outer,
        .y = step->output,
    };
    for (int i = 0; i < PQ_MAX_CONCAT && step->instruction->inputs[i] >= 0; i++) {
        const pq_value *x = &step->values[step->instruction->inputs[i]];
        args.inner[i] = (size_t)x->size / outer;
        args.outer_stride[i] = y->batched && !x->batched ? 0 : (ptrdiff_t)args.inner[i];
        args.x[i] = step->inputs[i];
        args.count = i + 1;
    }
    return pq_concat(step->exec, &args);
}

const pq_engine_op pq_engine_concat = {
    .ranges = concat_ranges,
    .range_count = PQ_CONCAT_ATTRS,
    .inputs = {{PQ_ENGINE_ANY, false},
               {PQ_ENGINE_ANY, false},
               {PQ_ENGINE_ANY, false},
               {PQ_ENGINE_ANY, false},
               {PQ_ENGINE_ANY, false},
               {PQ_ENGINE_ANY, false},
               {PQ_ENGINE_ANY, false},
               {PQ_ENGINE_ANY, false}},
    .output = {PQ_ENGINE_ANY, false},
    .validate = validate_concat,
    .execute = execute_concat,
};

/* ---- gather ---- */

static const pq_engine_range gather_ranges[PQ_GATHER_ATTRS] = {
    [PQ_GATHER_ROWS] = {1, INT32_MAX},
    [PQ_GATHER_INNER] = PQ_ENGINE_RANGE_COUNT,
};

static pq_status validate_gather(const pq_engine_check *check) {
    const int64_t *attrs = check->instruction->attrs;
    const pq_value *index = pq_engine_input(check, 0), *table = pq_engine_input(check, 1);
    int64_t size;
    if (!pq_engine_multiply(attrs[PQ_GATHER_ROWS], attrs[PQ_GATHER_INNER], &size)) {
        return pq_engine_reject(check, "rows * inner is too large");
    }
    pq_status status = pq_engine_expect_size(check, 1, size);
    if (status) {
        return status;
    }
    if (table->dtype != pq_engine_output(check)->dtype) {
        return pq_engine_reject(check,
                                "expected an output of type %lld as the table, got type %lld",
                                (long long)table->dtype, (long long)pq_engine_output(check)->dtype);
    }
    if (!pq_engine_multiply(index->size, attrs[PQ_GATHER_INNER], &size)) {
        return pq_engine_reject(check, "the number of indices times inner is too large");
    }
    status = pq_engine_expect_output(check, size);
    return status;
}

static pq_status execute_gather(const pq_engine_step *step) {
    const int64_t *attrs = step->instruction->attrs;
    const pq_value *index = &step->values[step->instruction->inputs[0]];
    const pq_value *table = &step->values[step->instruction->inputs[1]];
    const pq_gather_args args = {
        .type = (pq_dtype)table->dtype,
        .rows = (size_t)attrs[PQ_GATHER_ROWS],
        .inner = (size_t)attrs[PQ_GATHER_INNER],
        .count = pq_engine_elements(index, step->batch),
        .table = step->inputs[1],
        .index = step->inputs[0],
        .y = step->output,
    };
    return pq_gather(step->exec, &args);
}

/* Only the rows that are asked for; each may be another one. */
static void work_gather(const pq_engine_step *step, pq_engine_work *work) {
    const pq_value *y = &step->values[step->instruction->output];
    work->constant_bytes = (y->batched ? step->batch : 1) * pq_engine_bytes(y);
}

const pq_engine_op pq_engine_gather = {
    .ranges = gather_ranges,
    .range_count = PQ_GATHER_ATTRS,
    .inputs = {{PQ_ENGINE_S32, false}, {PQ_ENGINE_ANY, true}},
    .output = {PQ_ENGINE_ANY, false},
    .validate = validate_gather,
    .execute = execute_gather,
    .work = work_gather,
};
