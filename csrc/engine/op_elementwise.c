/* TABLE, REQUANTIZE, ADD, MEAN. */
#include "engine/attrs.h"
#include "engine/op.h"
#include "engine/op_gemm.h"
#include "pyquant/elementwise.h"

/* ---- table ---- */

static pq_status validate_table(const pq_engine_check *check) {
    const pq_status status = pq_engine_expect_size(check, 1, 256);
    return status ? status : pq_engine_expect_output(check, pq_engine_input(check, 0)->size);
}

static pq_status execute_table(const pq_engine_step *step) {
    const pq_value *x = &step->values[step->instruction->inputs[0]];
    return pq_table_s8(step->exec, pq_engine_elements(x, step->batch), step->inputs[0],
                       step->inputs[1], step->output);
}

const pq_engine_op pq_engine_table = {
    .inputs = {{PQ_ENGINE_S8, false}, {PQ_ENGINE_S8, true}},
    .output = {PQ_ENGINE_S8, false},
    .reuse = 1u << 0,
    .validate = validate_table,
    .execute = execute_table,
};

/* ---- requantize ---- */

static const pq_engine_range requantize_ranges[PQ_REQUANTIZE_ATTRS] = {
    [PQ_REQUANTIZE_X_ZERO_POINT] = PQ_ENGINE_RANGE_S16,
    [PQ_REQUANTIZE_MULTIPLIER] = PQ_ENGINE_RANGE_MULTIPLIER,
    [PQ_REQUANTIZE_SHIFT] = PQ_ENGINE_RANGE_SHIFT,
    [PQ_REQUANTIZE_ZERO_POINT] = PQ_ENGINE_RANGE_S16,
    [PQ_REQUANTIZE_QUANT_MIN] = PQ_ENGINE_RANGE_S16,
    [PQ_REQUANTIZE_QUANT_MAX] = PQ_ENGINE_RANGE_S16,
};

static pq_requantize_args requantize_args(const pq_value *values, const pq_instruction *instruction,
                                          size_t batch) {
    const int64_t *attrs = instruction->attrs;
    const pq_value *x = &values[instruction->inputs[0]], *y = &values[instruction->output];
    return (pq_requantize_args){
        .n = pq_engine_elements(x, batch),
        .x_type = (pq_dtype)x->dtype,
        .y_type = (pq_dtype)y->dtype,
        .x_zero_point = (int32_t)attrs[PQ_REQUANTIZE_X_ZERO_POINT],
        .requant = {(int32_t)attrs[PQ_REQUANTIZE_MULTIPLIER], (uint8_t)attrs[PQ_REQUANTIZE_SHIFT]},
        .out = pq_engine_clamp(&attrs[PQ_REQUANTIZE_ZERO_POINT]),
    };
}

static pq_status validate_requantize(const pq_engine_check *check) {
    const pq_status status = pq_engine_expect_output(check, pq_engine_input(check, 0)->size);
    if (status) {
        return status;
    }
    pq_engine_probe probe;
    pq_engine_probe_init(&probe);
    const pq_requantize_args args = requantize_args(check->desc->values, check->instruction, 1);
    return pq_engine_adopt(check, &probe, pq_requantize_check(&probe.exec, &args));
}

static pq_status execute_requantize(const pq_engine_step *step) {
    pq_requantize_args args = requantize_args(step->values, step->instruction, step->batch);
    args.x = step->inputs[0];
    args.y = step->output;
    return pq_requantize_n(step->exec, &args);
}

const pq_engine_op pq_engine_requantize = {
    .ranges = requantize_ranges,
    .range_count = PQ_REQUANTIZE_ATTRS,
    .inputs = {{PQ_ENGINE_S8_S16, false}},
    .output = {PQ_ENGINE_S8_S16, false},
    .reuse = 1u << 0,
    .validate = validate_requantize,
    .execute = execute_requantize,
};

/* ---- add ---- */

static const pq_engine_range add_ranges[PQ_ADD_ATTRS] = {
    [PQ_ADD_A_ZERO_POINT] = PQ_ENGINE_RANGE_S16,
    [PQ_ADD_B_ZERO_POINT] = PQ_ENGINE_RANGE_S16,
    [PQ_ADD_A_MULTIPLIER] = PQ_ENGINE_RANGE_MULTIPLIER,
    [PQ_ADD_B_MULTIPLIER] = PQ_ENGINE_RANGE_MULTIPLIER,
    [PQ_ADD_SHIFT] = PQ_ENGINE_RANGE_SHIFT,
    [PQ_ADD_ZERO_POINT] = PQ_ENGINE_RANGE_S16,
    [PQ_ADD_QUANT_MIN] = PQ_ENGINE_RANGE_S16,
    [PQ_ADD_QUANT_MAX] = PQ_ENGINE_RANGE_S16,
};

pq_add_args pq_engine_add_args(const pq_value *values, const pq_instruction *instruction,
                               size_t batch) {
    const int64_t *attrs = instruction->attrs;
    const pq_value *a = &values[instruction->inputs[0]], *b = &values[instruction->inputs[1]];
    return (pq_add_args){
        .n = pq_engine_elements(a, batch),
        .period = pq_engine_elements(b, batch),
        .a_type = (pq_dtype)a->dtype,
        .b_type = (pq_dtype)b->dtype,
        .y_type = (pq_dtype)values[instruction->output].dtype,
        .a_zero_point = (int32_t)attrs[PQ_ADD_A_ZERO_POINT],
        .b_zero_point = (int32_t)attrs[PQ_ADD_B_ZERO_POINT],
        .a_multiplier = (int32_t)attrs[PQ_ADD_A_MULTIPLIER],
        .b_multiplier = (int32_t)attrs[PQ_ADD_B_MULTIPLIER],
        .shift = (int32_t)attrs[PQ_ADD_SHIFT],
        .out = pq_engine_clamp(&attrs[PQ_ADD_ZERO_POINT]),
    };
}

static pq_status validate_add(const pq_engine_check *check) {
    const pq_value *a = pq_engine_input(check, 0), *b = pq_engine_input(check, 1);
    const pq_status status = pq_engine_expect_output(check, a->size);
    if (status) {
        return status;
    }
    if (b->size != a->size && (b->size == 0 || a->size % b->size != 0)) {
        return pq_engine_reject(check,
                                "the %lld elements of input 1 do not divide the %lld of "
                                "input 0",
                                (long long)b->size, (long long)a->size);
    }
    if (b->batched && !a->batched) {
        return pq_engine_reject(check, "input 1 is batched and input 0 is not: exchange them");
    }
    pq_engine_probe probe;
    pq_engine_probe_init(&probe);
    const pq_add_args args = pq_engine_add_args(check->desc->values, check->instruction, 1);
    return pq_engine_adopt(check, &probe, pq_add_check(&probe.exec, &args));
}

static pq_status execute_add(const pq_engine_step *step) {
    const pq_value *a = &step->values[step->instruction->inputs[0]];
    const pq_value *b = &step->values[step->instruction->inputs[1]];
    const pq_value *y = &step->values[step->instruction->output];
    /* A batched b that repeats inside each sample has no single period over the batch. */
    const bool by_sample = b->batched && b->size != a->size;
    const size_t calls = by_sample ? step->batch : 1;
    for (size_t call = 0; call < calls; call++) {
        pq_add_args args =
            pq_engine_add_args(step->values, step->instruction, by_sample ? 1 : step->batch);
        args.a = (const char *)step->inputs[0] + call * pq_engine_bytes(a);
        args.b = (const char *)step->inputs[1] + call * pq_engine_bytes(b);
        args.y = (char *)step->output + call * pq_engine_bytes(y);
        const pq_status status = pq_add(step->exec, &args);
        if (status) {
            return status;
        }
    }
    return PQ_OK;
}

const pq_engine_op pq_engine_add = {
    .ranges = add_ranges,
    .range_count = PQ_ADD_ATTRS,
    .inputs = {{PQ_ENGINE_S8_S16, false}, {PQ_ENGINE_S8_S16, false}},
    .output = {PQ_ENGINE_S8_S16, false},
    .reuse = 1u << 0 | 1u << 1,
    .validate = validate_add,
    .execute = execute_add,
};

/* ---- mean ---- */

static const pq_engine_range mean_ranges[PQ_MEAN_ATTRS] = {
    [PQ_MEAN_OUTER] = PQ_ENGINE_RANGE_SIZE,
    [PQ_MEAN_REDUCE] = PQ_ENGINE_RANGE_COUNT,
    [PQ_MEAN_INNER] = PQ_ENGINE_RANGE_SIZE,
    [PQ_MEAN_X_ZERO_POINT] = PQ_ENGINE_RANGE_S16,
    [PQ_MEAN_MULTIPLIER] = PQ_ENGINE_RANGE_MULTIPLIER,
    [PQ_MEAN_SHIFT] = PQ_ENGINE_RANGE_SHIFT,
    [PQ_MEAN_ZERO_POINT] = PQ_ENGINE_RANGE_S16,
    [PQ_MEAN_QUANT_MIN] = PQ_ENGINE_RANGE_S16,
    [PQ_MEAN_QUANT_MAX] = PQ_ENGINE_RANGE_S16,
};

static pq_mean_args mean_args(const pq_value *values, const pq_instruction *instruction,
                              size_t batch) {
    const int64_t *attrs = instruction->attrs;
    const pq_value *x = &values[instruction->inputs[0]], *y = &values[instruction->output];
    return (pq_mean_args){
        .outer = (x->batched ? batch : 1) * (size_t)attrs[PQ_MEAN_OUTER],
        .reduce = (size_t)attrs[PQ_MEAN_REDUCE],
        .inner = (size_t)attrs[PQ_MEAN_INNER],
        .x_type = (pq_dtype)x->dtype,
        .y_type = (pq_dtype)y->dtype,
        .x_zero_point = (int32_t)attrs[PQ_MEAN_X_ZERO_POINT],
        .requant = {(int32_t)attrs[PQ_MEAN_MULTIPLIER], (uint8_t)attrs[PQ_MEAN_SHIFT]},
        .out = pq_engine_clamp(&attrs[PQ_MEAN_ZERO_POINT]),
    };
}

static pq_status validate_mean(const pq_engine_check *check) {
    const int64_t *attrs = check->instruction->attrs;
    int64_t y_size, x_size;
    if (!pq_engine_multiply(attrs[PQ_MEAN_OUTER], attrs[PQ_MEAN_INNER], &y_size) ||
        !pq_engine_multiply(y_size, attrs[PQ_MEAN_REDUCE], &x_size)) {
        return pq_engine_reject(check, "outer * reduce * inner is too large");
    }
    pq_status status = pq_engine_expect_size(check, 0, x_size);
    if (status == PQ_OK) {
        status = pq_engine_expect_output(check, y_size);
    }
    if (status) {
        return status;
    }
    pq_engine_probe probe;
    pq_engine_probe_init(&probe);
    const pq_mean_args args = mean_args(check->desc->values, check->instruction, 1);
    return pq_engine_adopt(check, &probe, pq_mean_check(&probe.exec, &args));
}

static pq_status execute_mean(const pq_engine_step *step) {
    pq_mean_args args = mean_args(step->values, step->instruction, step->batch);
    args.x = step->inputs[0];
    args.y = step->output;
    return pq_mean(step->exec, &args);
}

const pq_engine_op pq_engine_mean = {
    .ranges = mean_ranges,
    .range_count = PQ_MEAN_ATTRS,
    .inputs = {{PQ_ENGINE_S8_S16, false}},
    .output = {PQ_ENGINE_S8_S16, false},
    .validate = validate_mean,
    .execute = execute_mean,
};
