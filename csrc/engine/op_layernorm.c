/* LAYERNORM. */
#include "engine/attrs.h"
#include "engine/op.h"
#include "pyquant/layernorm.h"

static const pq_engine_range ranges[PQ_LAYERNORM_ATTRS] = {
    [PQ_LAYERNORM_CHANNELS] = {1, INT16_MAX},
    [PQ_LAYERNORM_RMS] = PQ_ENGINE_RANGE_BOOL,
    [PQ_LAYERNORM_X_ZERO_POINT] = PQ_ENGINE_RANGE_S16,
    [PQ_LAYERNORM_EPSILON] = {0, INT64_MAX},
    [PQ_LAYERNORM_SHIFT] = PQ_ENGINE_RANGE_SHIFT,
    [PQ_LAYERNORM_ZERO_POINT] = PQ_ENGINE_RANGE_S16,
    [PQ_LAYERNORM_QUANT_MIN] = PQ_ENGINE_RANGE_S16,
    [PQ_LAYERNORM_QUANT_MAX] = PQ_ENGINE_RANGE_S16,
    [PQ_LAYERNORM_METHOD] = {0, PQ_NORM_METHOD_COUNT - 1},
    [PQ_LAYERNORM_ITERATIONS] = {0, PQ_NORM_ITERATIONS_MAX},
    [PQ_LAYERNORM_PTF_MULTIPLIER] = PQ_ENGINE_RANGE_MULTIPLIER,
    [PQ_LAYERNORM_PTF_SHIFT] = {0, 62},
    [PQ_LAYERNORM_PTF_ZERO_POINT] = PQ_ENGINE_RANGE_S8,
};

enum { GAIN = 1, OFFSET, ALPHA, EXPONENT, INPUTS }; /* inputs after x */

static pq_layernorm_args make_args(const pq_value *values, const pq_instruction *instruction,
                                   size_t batch) {
    const int64_t *attrs = instruction->attrs;
    const pq_value *x = &values[instruction->inputs[0]], *y = &values[instruction->output];
    const size_t channels = (size_t)attrs[PQ_LAYERNORM_CHANNELS];
    return (pq_layernorm_args){
        .rows = pq_engine_elements(x, batch) / channels,
        .channels = channels,
        .x_type = (pq_dtype)x->dtype,
        .y_type = (pq_dtype)y->dtype,
        .rms = attrs[PQ_LAYERNORM_RMS] != 0,
        .x_zero_point = (int32_t)attrs[PQ_LAYERNORM_X_ZERO_POINT],
        .epsilon = (uint64_t)attrs[PQ_LAYERNORM_EPSILON],
        .shift = (int32_t)attrs[PQ_LAYERNORM_SHIFT],
        .out = pq_engine_clamp(&attrs[PQ_LAYERNORM_ZERO_POINT]),
        .method = (pq_norm_method)attrs[PQ_LAYERNORM_METHOD],
        .iterations = (int32_t)attrs[PQ_LAYERNORM_ITERATIONS],
        .requant = {(int32_t)attrs[PQ_LAYERNORM_PTF_MULTIPLIER],
                    (uint8_t)attrs[PQ_LAYERNORM_PTF_SHIFT]},
        .zero_point = (int32_t)attrs[PQ_LAYERNORM_PTF_ZERO_POINT],
    };
}

static pq_status validate(const pq_engine_check *check) {
    const int64_t channels = check->instruction->attrs[PQ_LAYERNORM_CHANNELS];
    const int64_t x_size = pq_engine_input(check, 0)->size;
    if (x_size % channels != 0) {
        return pq_engine_reject(check, "expected input 0 of rows x %lld elements, got %lld",
                                (long long)channels, (long long)x_size);
    }
    pq_status status = pq_engine_expect_output(check, x_size);
    for (int slot = GAIN; slot < INPUTS && status == PQ_OK; slot++) {
        if (pq_engine_input(check, slot) != NULL) {
            status = pq_engine_expect_size(check, slot, channels);
        }
    }
    if (status) {
        return status;
    }
    pq_engine_probe probe;
    pq_engine_probe_init(&probe);
    pq_layernorm_args args = make_args(check->desc->values, check->instruction, 1);
    args.gain = pq_engine_constant(check, GAIN);
    args.offset = pq_engine_constant(check, OFFSET);
    args.alpha = pq_engine_constant(check, ALPHA);
    args.exponent = pq_engine_constant(check, EXPONENT);
    return pq_engine_adopt(check, &probe, pq_layernorm_check(&probe.exec, &args));
}

static pq_status execute(const pq_engine_step *step) {
    pq_layernorm_args args = make_args(step->values, step->instruction, step->batch);
    args.x = step->inputs[0];
    args.gain = step->inputs[GAIN];
    args.offset = step->inputs[OFFSET];
    args.alpha = step->inputs[ALPHA];
    args.exponent = step->inputs[EXPONENT];
    args.y = step->output;
    return pq_layernorm(step->exec, &args);
}

const pq_engine_op pq_engine_layernorm = {
    .ranges = ranges,
    .range_count = PQ_LAYERNORM_ATTRS,
    .inputs = {{PQ_ENGINE_S8_S16, false},
               {PQ_ENGINE_S32, true},
               {PQ_ENGINE_S64, true},
               {PQ_ENGINE_U8, true},
               {PQ_ENGINE_U8, true}},
    .output = {PQ_ENGINE_S8_S16, false},
    .reuse = 1u << 0,
    .validate = validate,
    .execute = execute,
};
