/* SOFTMAX, and what ATTENTION shares with it. */
#include "engine/op_softmax.h"

#include <string.h>

#include "engine/attrs.h"
#include "pyquant/softmax_rows.h"

enum { SOFTMAX_X, SOFTMAX_TABLE };

pq_softmax pq_engine_softmax_of(const int64_t *attrs, const pq_value *value, const void *table) {
    pq_softmax softmax = {.method = (pq_softmax_method)attrs[PQ_SOFTMAX_ATTR_METHOD],
                          .delta_max = (uint32_t)attrs[PQ_SOFTMAX_ATTR_DELTA_MAX],
                          .multiplier = (uint32_t)attrs[PQ_SOFTMAX_ATTR_MULTIPLIER],
                          .shift = (int32_t)attrs[PQ_SOFTMAX_ATTR_SHIFT],
                          .pmax = (int32_t)attrs[PQ_SOFTMAX_ATTR_PMAX],
                          .bits = (int32_t)attrs[PQ_SOFTMAX_ATTR_BITS]};
    if (table != NULL && pq_softmax_by_octaves(softmax.method)) {
        memcpy(softmax.table, table, sizeof softmax.table);
    } else {
        softmax.entries = (uint32_t)value->size;
        softmax.exponentials = table;
    }
    return softmax;
}

pq_status pq_engine_expect_softmax_table(const pq_engine_check *check, int slot,
                                         const int64_t *attrs) {
    const pq_value *table = pq_engine_input(check, slot);
    const int64_t method = attrs[PQ_SOFTMAX_ATTR_METHOD];
    const bool octaves = pq_softmax_by_octaves((pq_softmax_method)method);
    if (table->dtype != (octaves ? PQ_S16 : PQ_S32)) {
        return pq_engine_reject(check, "expected a table of %s for softmax method %lld",
                                octaves ? "s16" : "s32", (long long)method);
    }
    if (!octaves) { /* before the size is narrowed */
        return table->size >= 1 && table->size <= PQ_SOFTMAX_ENTRIES_MAX
                   ? PQ_OK
                   : pq_engine_reject(check, "expected a table of 1 to %d entries, got %lld",
                                      PQ_SOFTMAX_ENTRIES_MAX, (long long)table->size);
    }
    const pq_status status = pq_engine_expect_size(check, slot, PQ_SOFTMAX_TABLE_SIZE);
    const int16_t *entries = pq_engine_constant(check, slot);
    for (int j = 0; status == PQ_OK && j < PQ_SOFTMAX_TABLE_SIZE; j++) {
        /* P <= pmax, on which every bound of attention.h and softmax_rows.h rests. */
        if (entries[j] < 0 || entries[j] > 2 * attrs[PQ_SOFTMAX_ATTR_PMAX]) {
            return pq_engine_reject(check, "expected table[%d] in [0, 2 * pmax], got %d", j,
                                    entries[j]);
        }
    }
    return status;
}

static const pq_engine_range ranges[PQ_SOFTMAX_ROWS_ATTRS] = {
    [PQ_SOFTMAX_ROWS_N] = PQ_ENGINE_RANGE_COUNT,
    [PQ_SOFTMAX_ROWS_METHOD] = PQ_ENGINE_RANGE_SOFTMAX_METHOD,
    [PQ_SOFTMAX_ROWS_DELTA_MAX] = PQ_ENGINE_RANGE_U32,
    [PQ_SOFTMAX_ROWS_SOFTMAX_MULTIPLIER] = PQ_ENGINE_RANGE_U32,
    [PQ_SOFTMAX_ROWS_SOFTMAX_SHIFT] = PQ_ENGINE_RANGE_SOFTMAX_SHIFT,
    [PQ_SOFTMAX_ROWS_PMAX] = PQ_ENGINE_RANGE_SOFTMAX_PMAX,
    [PQ_SOFTMAX_ROWS_SOFTMAX_BITS] = PQ_ENGINE_RANGE_SOFTMAX_BITS,
    [PQ_SOFTMAX_ROWS_MULTIPLIER] = PQ_ENGINE_RANGE_MULTIPLIER,
    [PQ_SOFTMAX_ROWS_SHIFT] = PQ_ENGINE_RANGE_SHIFT,
    [PQ_SOFTMAX_ROWS_ZERO_POINT] = PQ_ENGINE_RANGE_S16,
    [PQ_SOFTMAX_ROWS_QUANT_MIN] = PQ_ENGINE_RANGE_S16,
    [PQ_SOFTMAX_ROWS_QUANT_MAX] = PQ_ENGINE_RANGE_S16,
};

/* Everything but the pointers of operands; `table` as above. */
static pq_softmax_rows_args make_args(const pq_value *values, const pq_instruction *instruction,
                                      size_t batch, const void *table) {
    const int64_t *attrs = instruction->attrs, *inputs = instruction->inputs;
    const pq_value *x = &values[inputs[SOFTMAX_X]], *y = &values[instruction->output];
    const size_t n = (size_t)attrs[PQ_SOFTMAX_ROWS_N];
    return (pq_softmax_rows_args){
        .rows = pq_engine_elements(x, batch) / n,
        .n = n,
        .x_type = (pq_dtype)x->dtype,
        .y_type = (pq_dtype)y->dtype,
        .softmax = pq_engine_softmax_of(&attrs[PQ_SOFTMAX_ROWS_METHOD],
                                        &values[inputs[SOFTMAX_TABLE]], table),
        .requant = {(int32_t)attrs[PQ_SOFTMAX_ROWS_MULTIPLIER],
                    (uint8_t)attrs[PQ_SOFTMAX_ROWS_SHIFT]},
        .out = pq_engine_clamp(&attrs[PQ_SOFTMAX_ROWS_ZERO_POINT]),
    };
}

static pq_status validate(const pq_engine_check *check) {
    const int64_t *attrs = check->instruction->attrs;
    const int64_t n = attrs[PQ_SOFTMAX_ROWS_N], x_size = pq_engine_input(check, SOFTMAX_X)->size;
    if (x_size % n != 0) {
        return pq_engine_reject(check, "expected input 0 of rows x %lld elements, got %lld",
                                (long long)n, (long long)x_size);
    }
    pq_status status = pq_engine_expect_output(check, x_size);
    if (status == PQ_OK) {
        status =
            pq_engine_expect_softmax_table(check, SOFTMAX_TABLE, &attrs[PQ_SOFTMAX_ROWS_METHOD]);
    }
    if (status) {
        return status;
    }
    pq_engine_probe probe;
    pq_engine_probe_init(&probe);
    const pq_softmax_rows_args args = make_args(check->desc->values, check->instruction, 1,
                                                pq_engine_constant(check, SOFTMAX_TABLE));
    return pq_engine_adopt(check, &probe, pq_softmax_rows_check(&probe.exec, &args));
}

static size_t workspace(const pq_engine_step *step) {
    const pq_softmax_rows_args args = make_args(step->values, step->instruction, step->batch, NULL);
    return pq_softmax_rows_workspace(step->exec, &args);
}

static pq_status execute(const pq_engine_step *step) {
    pq_softmax_rows_args args =
        make_args(step->values, step->instruction, step->batch, step->inputs[SOFTMAX_TABLE]);
    args.x = step->inputs[SOFTMAX_X];
    args.y = step->output;
    return pq_softmax_rows_in(step->exec, &args, step->workspace, step->workspace_size);
}

const pq_engine_op pq_engine_softmax = {
    .ranges = ranges,
    .range_count = PQ_SOFTMAX_ROWS_ATTRS,
    .inputs = {{PQ_ENGINE_S8_S16, false}, {PQ_ENGINE_S16 | PQ_ENGINE_S32, true}},
    .output = {PQ_ENGINE_S8_S16, false},
    .reuse = 1u << SOFTMAX_X,
    .validate = validate,
    .execute = execute,
    .workspace = workspace,
};
