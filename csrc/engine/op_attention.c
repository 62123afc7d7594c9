/* ATTENTION. */
#include "engine/attrs.h"
#include "engine/op_softmax.h"

enum { ATTENTION_Q, ATTENTION_K, ATTENTION_V, ATTENTION_TABLE, ATTENTION_KEEP, ATTENTION_MASK };

#define STRIDES4 \
    PQ_ENGINE_RANGE_STRIDE, PQ_ENGINE_RANGE_STRIDE, PQ_ENGINE_RANGE_STRIDE, PQ_ENGINE_RANGE_STRIDE
#define OFFSET_STRIDES3 \
    PQ_ENGINE_RANGE_SIZE, PQ_ENGINE_RANGE_STRIDE, PQ_ENGINE_RANGE_STRIDE, PQ_ENGINE_RANGE_STRIDE

static const pq_engine_range ranges[PQ_ATTENTION_ATTRS] = {
    [PQ_ATTENTION_GROUPS] = PQ_ENGINE_RANGE_COUNT,
    [PQ_ATTENTION_HEADS] = PQ_ENGINE_RANGE_COUNT,
    [PQ_ATTENTION_KV_HEADS] = PQ_ENGINE_RANGE_COUNT,
    [PQ_ATTENTION_Q_LEN] = PQ_ENGINE_RANGE_SIZE,
    [PQ_ATTENTION_K_LEN] = PQ_ENGINE_RANGE_SIZE,
    [PQ_ATTENTION_HEAD_DIM] = PQ_ENGINE_RANGE_COUNT,
    [PQ_ATTENTION_Q] = OFFSET_STRIDES3,
    [PQ_ATTENTION_K] = OFFSET_STRIDES3,
    [PQ_ATTENTION_V] = OFFSET_STRIDES3,
    [PQ_ATTENTION_Y] = OFFSET_STRIDES3,
    [PQ_ATTENTION_KEEP] = STRIDES4,
    [PQ_ATTENTION_MASK] = STRIDES4,
    [PQ_ATTENTION_CAUSAL] = PQ_ENGINE_RANGE_BOOL,
    [PQ_ATTENTION_Q_ZERO_POINT] = PQ_ENGINE_RANGE_S8,
    [PQ_ATTENTION_K_ZERO_POINT] = PQ_ENGINE_RANGE_S8,
    [PQ_ATTENTION_V_ZERO_POINT] = PQ_ENGINE_RANGE_S8,
    [PQ_ATTENTION_METHOD] = PQ_ENGINE_RANGE_SOFTMAX_METHOD,
    [PQ_ATTENTION_DELTA_MAX] = PQ_ENGINE_RANGE_U32,
    [PQ_ATTENTION_SOFTMAX_MULTIPLIER] = PQ_ENGINE_RANGE_U32,
    [PQ_ATTENTION_SOFTMAX_SHIFT] = PQ_ENGINE_RANGE_SOFTMAX_SHIFT,
    [PQ_ATTENTION_PMAX] = PQ_ENGINE_RANGE_SOFTMAX_PMAX,
    [PQ_ATTENTION_SOFTMAX_BITS] = PQ_ENGINE_RANGE_SOFTMAX_BITS,
    [PQ_ATTENTION_MULTIPLIER] = PQ_ENGINE_RANGE_MULTIPLIER,
    [PQ_ATTENTION_SHIFT] = PQ_ENGINE_RANGE_SHIFT,
    [PQ_ATTENTION_ZERO_POINT] = PQ_ENGINE_RANGE_S8,
    [PQ_ATTENTION_QUANT_MIN] = PQ_ENGINE_RANGE_S8,
    [PQ_ATTENTION_QUANT_MAX] = PQ_ENGINE_RANGE_S8,
};

static pq_strides make_strides(const pq_value *value, const int64_t *attrs) {
    return (pq_strides){.batch = value->batched ? (ptrdiff_t)value->size : 0,
                        .group = (ptrdiff_t)attrs[1],
                        .head = (ptrdiff_t)attrs[2],
                        .token = (ptrdiff_t)attrs[3]};
}

static void make_mask_strides(const pq_value *value, const int64_t *attrs, ptrdiff_t strides[5]) {
    strides[0] = value->batched ? (ptrdiff_t)value->size : 0;
    for (int i = 0; i < 4; i++) {
        strides[i + 1] = (ptrdiff_t)attrs[i];
    }
}

/* Everything but the pointers of operands; `table` is the constant of input 3, or NULL where only
 * sizes count. */
static pq_attention_args make_args(const pq_value *values, const pq_instruction *instruction,
                                   size_t batch, const void *table) {
    const int64_t *attrs = instruction->attrs, *inputs = instruction->inputs;
    pq_attention_args args = {
        .batch = values[instruction->output].batched ? batch : 1,
        .groups = (size_t)attrs[PQ_ATTENTION_GROUPS],
        .heads = (size_t)attrs[PQ_ATTENTION_HEADS],
        .kv_heads = (size_t)attrs[PQ_ATTENTION_KV_HEADS],
        .q_len = (size_t)attrs[PQ_ATTENTION_Q_LEN],
        .k_len = (size_t)attrs[PQ_ATTENTION_K_LEN],
        .head_dim = (size_t)attrs[PQ_ATTENTION_HEAD_DIM],
        .q_strides = make_strides(&values[inputs[ATTENTION_Q]], &attrs[PQ_ATTENTION_Q]),
        .k_strides = make_strides(&values[inputs[ATTENTION_K]], &attrs[PQ_ATTENTION_K]),
        .v_strides = make_strides(&values[inputs[ATTENTION_V]], &attrs[PQ_ATTENTION_V]),
        .y_strides = make_strides(&values[instruction->output], &attrs[PQ_ATTENTION_Y]),
        .q_zero_point = (int32_t)attrs[PQ_ATTENTION_Q_ZERO_POINT],
        .k_zero_point = (int32_t)attrs[PQ_ATTENTION_K_ZERO_POINT],
        .v_zero_point = (int32_t)attrs[PQ_ATTENTION_V_ZERO_POINT],
        .causal = attrs[PQ_ATTENTION_CAUSAL] != 0,
        .softmax = pq_engine_softmax_of(&attrs[PQ_ATTENTION_METHOD],
                                        &values[inputs[ATTENTION_TABLE]], table),
        .requant = {(int32_t)attrs[PQ_ATTENTION_MULTIPLIER], (uint8_t)attrs[PQ_ATTENTION_SHIFT]},
        .out = pq_engine_clamp(&attrs[PQ_ATTENTION_ZERO_POINT]),
    };
    if (inputs[ATTENTION_KEEP] >= 0) {
        make_mask_strides(&values[inputs[ATTENTION_KEEP]], &attrs[PQ_ATTENTION_KEEP],
                          args.keep_strides);
    }
    if (inputs[ATTENTION_MASK] >= 0) {
        make_mask_strides(&values[inputs[ATTENTION_MASK]], &attrs[PQ_ATTENTION_MASK],
                          args.mask_strides);
    }
    return args;
}

/* One of q, k, v: [groups, heads, tokens, d] with d contiguous stays inside its value. */
static pq_status expect_span(const pq_engine_check *check, int slot, int64_t heads, int64_t tokens,
                             const int64_t *layout) {
    const int64_t *attrs = check->instruction->attrs;
    const int64_t dims[4] = {attrs[PQ_ATTENTION_GROUPS], heads, tokens,
                             attrs[PQ_ATTENTION_HEAD_DIM]};
    const int64_t strides[4] = {layout[1], layout[2], layout[3], 1};
    const pq_value *value = pq_engine_input(check, slot);
    if (!pq_engine_span_fits(4, dims, strides, layout[0], value->size)) {
        return pq_engine_reject(check, "offset and strides leave the %lld elements of input %d",
                                (long long)value->size, slot);
    }
    return PQ_OK;
}

/* keep or mask_add: inside its value where it is given, no strides where it is not. */
static pq_status expect_mask(const pq_engine_check *check, int slot, const int64_t *strides) {
    const int64_t *attrs = check->instruction->attrs;
    const pq_value *value = pq_engine_input(check, slot);
    if (value == NULL) {
        if (strides[0] || strides[1] || strides[2] || strides[3]) {
            return pq_engine_reject(check, "the strides of the absent input %d must be 0", slot);
        }
        return PQ_OK;
    }
    const int64_t dims[4] = {attrs[PQ_ATTENTION_GROUPS], attrs[PQ_ATTENTION_HEADS],
                             attrs[PQ_ATTENTION_Q_LEN], attrs[PQ_ATTENTION_K_LEN]};
    if (!pq_engine_span_fits(4, dims, strides, 0, value->size)) {
        return pq_engine_reject(check, "strides leave the %lld elements of input %d",
                                (long long)value->size, slot);
    }
    return PQ_OK;
}

/* Every element of the output is written exactly once. A linear map takes a box of indices onto
 * [0, size) one to one if and only if its strides, sorted, are a mixed radix: the smallest is 1
 * and each next one is the product of the extents before it. (Comparing generating functions,
 * prod (x^(s n) - 1) / (x^s - 1) = (x^N - 1) / (x - 1), gives "only if".) */
static pq_status expect_cover(const pq_engine_check *check) {
    const int64_t *attrs = check->instruction->attrs, *layout = &attrs[PQ_ATTENTION_Y];
    const int64_t dims[4] = {attrs[PQ_ATTENTION_GROUPS], attrs[PQ_ATTENTION_HEADS],
                             attrs[PQ_ATTENTION_Q_LEN], attrs[PQ_ATTENTION_HEAD_DIM]};
    const int64_t strides[4] = {layout[1], layout[2], layout[3], 1};
    int64_t size = 1;
    for (int i = 0; i < 4; i++) {
        if (!pq_engine_multiply(size, dims[i], &size)) {
            return pq_engine_reject(check, "groups * heads * q_len * head_dim is too large");
        }
    }
    const pq_status status = pq_engine_expect_output(check, size);
    if (status || size == 0) {
        return status;
    }
    bool done[4] = {dims[0] == 1, dims[1] == 1, dims[2] == 1, dims[3] == 1};
    int64_t radix = 1;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 4; i++) {
            if (!done[i] && (strides[i] == radix || strides[i] == -radix)) {
                done[i] = true;
                radix *= dims[i]; /* at most size */
                break;
            }
        }
    }
    if (!(done[0] && done[1] && done[2] && done[3]) ||
        !pq_engine_span_fits(4, dims, strides, layout[0], size)) {
        return pq_engine_reject(check,
                                "y_offset and the y strides do not cover the %lld elements "
                                "of the output once each",
                                (long long)size);
    }
    return PQ_OK;
}

static pq_status expect_mask_values(const pq_engine_check *check) {
    const pq_value *mask = pq_engine_input(check, ATTENTION_MASK);
    const int32_t *data = pq_engine_constant(check, ATTENTION_MASK);
    for (int64_t i = 0; mask != NULL && i < mask->size; i++) {
        if (data[i] < -PQ_MASK_ADD_LIMIT || data[i] > PQ_MASK_ADD_LIMIT) {
            return pq_engine_reject(check, "expected mask_add within +-2^24, got %ld at %lld",
                                    (long)data[i], (long long)i);
        }
    }
    return PQ_OK;
}

static pq_status validate(const pq_engine_check *check) {
    const int64_t *attrs = check->instruction->attrs;
    const int64_t heads = attrs[PQ_ATTENTION_HEADS], kv_heads = attrs[PQ_ATTENTION_KV_HEADS];
    const int64_t q_len = attrs[PQ_ATTENTION_Q_LEN], k_len = attrs[PQ_ATTENTION_K_LEN];
    pq_status status =
        pq_engine_expect_softmax_table(check, ATTENTION_TABLE, &attrs[PQ_ATTENTION_METHOD]);
    if (status == PQ_OK) {
        status = expect_span(check, ATTENTION_Q, heads, q_len, &attrs[PQ_ATTENTION_Q]);
    }
    if (status == PQ_OK) {
        status = expect_span(check, ATTENTION_K, kv_heads, k_len, &attrs[PQ_ATTENTION_K]);
    }
    if (status == PQ_OK) {
        status = expect_span(check, ATTENTION_V, kv_heads, k_len, &attrs[PQ_ATTENTION_V]);
    }
    if (status == PQ_OK) {
        status = expect_mask(check, ATTENTION_KEEP, &attrs[PQ_ATTENTION_KEEP]);
    }
    if (status == PQ_OK) {
        status = expect_mask(check, ATTENTION_MASK, &attrs[PQ_ATTENTION_MASK]);
    }
    if (status == PQ_OK) {
        status = expect_cover(check);
    }
    if (status == PQ_OK) {
        status = expect_mask_values(check);
    }
    if (status) {
        return status;
    }
    int64_t scores; /* a trace holds them all */
    if (!pq_engine_multiply(attrs[PQ_ATTENTION_GROUPS], heads, &scores) ||
        !pq_engine_multiply(scores, q_len, &scores) ||
        !pq_engine_multiply(scores, k_len, &scores)) {
        return pq_engine_reject(check, "groups * heads * q_len * k_len is too large");
    }
    pq_engine_probe probe;
    pq_engine_probe_init(&probe);
    pq_attention_args args = make_args(check->desc->values, check->instruction, 1,
                                       pq_engine_constant(check, ATTENTION_TABLE));
    static const uint8_t some_mask; /* the check asks whether there is one, and reads none */
    args.keep = pq_engine_input(check, ATTENTION_KEEP) != NULL ? &some_mask : NULL;
    args.mask_add = pq_engine_constant(check, ATTENTION_MASK);
    return pq_engine_adopt(check, &probe, pq_attention_check(&probe.exec, &args));
}

static pq_attention_args step_args(const pq_engine_step *step) {
    const int64_t *attrs = step->instruction->attrs;
    pq_attention_args args =
        make_args(step->values, step->instruction, step->batch, step->inputs[ATTENTION_TABLE]);
    args.q = (const int8_t *)step->inputs[ATTENTION_Q] + attrs[PQ_ATTENTION_Q];
    args.k = (const int8_t *)step->inputs[ATTENTION_K] + attrs[PQ_ATTENTION_K];
    args.v = (const int8_t *)step->inputs[ATTENTION_V] + attrs[PQ_ATTENTION_V];
    args.keep = step->inputs[ATTENTION_KEEP];
    args.mask_add = step->inputs[ATTENTION_MASK];
    args.y = (int8_t *)step->output + attrs[PQ_ATTENTION_Y];
    return args;
}

static size_t workspace(const pq_engine_step *step) {
    const pq_attention_args args = make_args(step->values, step->instruction, step->batch, NULL);
    return pq_attention_workspace(step->exec, &args);
}

static pq_status execute(const pq_engine_step *step) {
    const pq_attention_args args = step_args(step);
    if (step->trace == NULL) {
        return pq_attention_s8_in(step->exec, &args, step->workspace, step->workspace_size);
    }
    const bool batched = step->values[step->instruction->output].batched != 0;
    const size_t rows = (batched ? step->first : 0) * args.groups * args.heads * args.q_len;
    const pq_attention_trace *all = step->trace;
    const pq_attention_trace slice = {
        .score = all->score == NULL ? NULL : all->score + rows * args.k_len,
        .p = all->p == NULL ? NULL : all->p + rows * args.k_len,
        .l = all->l == NULL ? NULL : all->l + rows,
    };
    return pq_attention_s8_trace(step->exec, &args, &slice);
}

/* Q K^T and P V, for the keys that a causal mask leaves; other masks only decide values. */
static void find_work(const pq_engine_step *step, pq_engine_work *work) {
    const int64_t *attrs = step->instruction->attrs;
    const int64_t q_len = attrs[PQ_ATTENTION_Q_LEN], k_len = attrs[PQ_ATTENTION_K_LEN];
    const bool batched = step->values[step->instruction->output].batched != 0;
    uint64_t pairs = (uint64_t)q_len * (uint64_t)k_len;
    if (attrs[PQ_ATTENTION_CAUSAL] && q_len <= k_len) {
        pairs -= (uint64_t)q_len * (uint64_t)(q_len - (q_len > 0)) / 2;
    } else if (attrs[PQ_ATTENTION_CAUSAL]) {
        pairs = (uint64_t)k_len * (uint64_t)(k_len + 1) / 2;
    }
    work->macs = (batched ? step->batch : 1) * 2 * pairs *
                 (uint64_t)(attrs[PQ_ATTENTION_GROUPS] * attrs[PQ_ATTENTION_HEADS] *
                            attrs[PQ_ATTENTION_HEAD_DIM]);
}

const pq_engine_op pq_engine_attention = {
    .ranges = ranges,
    .range_count = PQ_ATTENTION_ATTRS,
    .inputs = {{PQ_ENGINE_S8, false},
               {PQ_ENGINE_S8, false},
               {PQ_ENGINE_S8, false},
               {PQ_ENGINE_S16 | PQ_ENGINE_S32, true},
               {PQ_ENGINE_U8, false},
               {PQ_ENGINE_S32, true}},
    .output = {PQ_ENGINE_S8, false},
    .validate = validate,
    .execute = execute,
    .workspace = workspace,
    .work = find_work,
};
