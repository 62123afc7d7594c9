/* Values, and the structure that all instructions share. What is particular to an op is in its
 * own file (op_*.c). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/op.h"
#include "engine/program_internal.h"

static pq_status reject_value(const pq_exec *exec, size_t index, const char *name, int64_t low,
                              int64_t high, int64_t got) {
    return pq_fail(exec, PQ_ERR_PROGRAM,
                   "program: value %zu: expected %s in [%" PRId64 ", %" PRId64 "], got %" PRId64,
                   index, name, low, high, got);
}

static pq_status validate_constant(const pq_exec *exec, const pq_program_desc *desc, size_t index) {
    const pq_value *value = &desc->values[index];
    const void *data = desc->constants[index];
    const size_t given = desc->constant_sizes[index];
    if (value->kind != PQ_VALUE_CONST) {
        if (data != NULL || given != 0) {
            return pq_fail(exec, PQ_ERR_PROGRAM,
                           "program: value %zu: only a constant may have data", index);
        }
        return PQ_OK;
    }
    if (value->batched) {
        return pq_fail(exec, PQ_ERR_PROGRAM, "program: value %zu: a constant cannot be batched",
                       index);
    }
    const size_t needed = pq_engine_bytes(value);
    if (given != needed || (data == NULL && needed > 0)) {
        return pq_fail(exec, PQ_ERR_PROGRAM,
                       "program: value %zu: expected a constant of %zu bytes, got %zu", index,
                       needed, data == NULL ? 0 : given);
    }
    if ((uintptr_t)data % pq_dtype_size((pq_dtype)value->dtype) != 0) {
        return pq_fail(exec, PQ_ERR_PROGRAM,
                       "program: value %zu: the constant is not aligned to its elements", index);
    }
    return PQ_OK;
}

static pq_status validate_values(const pq_exec *exec, const pq_program_desc *desc) {
    for (size_t i = 0; i < desc->value_count; i++) {
        const pq_value *value = &desc->values[i];
        if (value->kind < PQ_VALUE_INPUT || value->kind > PQ_VALUE_TEMP) {
            return reject_value(exec, i, "kind", PQ_VALUE_INPUT, PQ_VALUE_TEMP, value->kind);
        }
        if (value->dtype < PQ_S8 || value->dtype > PQ_S64) {
            return reject_value(exec, i, "dtype", PQ_S8, PQ_S64, value->dtype);
        }
        if (value->batched < 0 || value->batched > 1) {
            return reject_value(exec, i, "batched", 0, 1, value->batched);
        }
        if (value->size < 0 || value->size > PQ_MAX_VALUE_SIZE) {
            return reject_value(exec, i, "size", 0, PQ_MAX_VALUE_SIZE, value->size);
        }
        const pq_status status = validate_constant(exec, desc, i);
        if (status) {
            return status;
        }
    }
    return PQ_OK;
}

/* `defined[v]` tells whether value v can be read yet. */
static pq_status validate_inputs(const pq_engine_check *check, const pq_engine_row *row,
                                 const uint8_t *defined) {
    const pq_program_desc *desc = check->desc;
    for (int slot = 0; slot < PQ_MAX_INPUTS; slot++) {
        const int64_t index = check->instruction->inputs[slot];
        const pq_engine_port port = row->op->inputs[slot];
        if (index == -1 && slot >= row->min_inputs) {
            continue;
        }
        if (slot >= row->max_inputs) {
            return pq_engine_reject(check, "expected -1 for input %d of at most %d, got %" PRId64,
                                    slot, row->max_inputs, index);
        }
        if (index < 0 || (uint64_t)index >= desc->value_count) {
            return pq_engine_reject(check, "expected input %d in [0, %zu), got %" PRId64, slot,
                                    desc->value_count, index);
        }
        if (!defined[index]) {
            return pq_engine_reject(check,
                                    "input %d is value %" PRId64 ", which nothing has "
                                    "written yet",
                                    slot, index);
        }
        const pq_value *value = &desc->values[index];
        if ((port.types >> value->dtype & 1) == 0) {
            return pq_engine_reject(check, "input %d cannot have type %" PRId64, slot,
                                    value->dtype);
        }
        if (port.constant && value->kind != PQ_VALUE_CONST) {
            return pq_engine_reject(check, "input %d must be a constant", slot);
        }
    }
    return PQ_OK;
}

static pq_status validate_output(const pq_engine_check *check, const pq_engine_row *row,
                                 const uint8_t *defined) {
    const pq_program_desc *desc = check->desc;
    const int64_t index = check->instruction->output;
    if (index < 0 || (uint64_t)index >= desc->value_count) {
        return pq_engine_reject(check, "expected an output in [0, %zu), got %" PRId64,
                                desc->value_count, index);
    }
    const pq_value *value = &desc->values[index];
    if (value->kind != PQ_VALUE_TEMP) {
        return pq_engine_reject(check, "output %" PRId64 " is an input or a constant", index);
    }
    if (defined[index]) {
        return pq_engine_reject(check, "output %" PRId64 " was written before", index);
    }
    if ((row->op->output.types >> value->dtype & 1) == 0) {
        return pq_engine_reject(check, "the output cannot have type %" PRId64, value->dtype);
    }
    bool batched = false;
    for (int slot = 0; slot < row->max_inputs; slot++) {
        const pq_value *input = pq_engine_input(check, slot);
        batched = batched || (input != NULL && input->batched);
    }
    if (value->batched != batched && !(value->batched && row->op->may_repeat)) {
        return pq_engine_reject(check, batched ? "an input is batched, the output is not"
                                               : "the output is batched, no input is");
    }
    return PQ_OK;
}

/* The word number `index` of a list separated by spaces. */
static void attr_name(const char *names, int index, char *name, size_t size) {
    for (; index > 0; index--) {
        names += strcspn(names, " ");
        names += strspn(names, " ");
    }
    snprintf(name, size, "%.*s", (int)strcspn(names, " "), names);
}

static pq_status validate_attrs(const pq_engine_check *check, const pq_engine_row *row) {
    const int64_t *attrs = check->instruction->attrs;
    for (int i = 0; i < row->op->range_count; i++) {
        const pq_engine_range range = row->op->ranges[i];
        if (attrs[i] < range.low || attrs[i] > range.high) {
            char name[32];
            attr_name(row->attrs, i, name, sizeof name);
            return pq_engine_reject(check,
                                    "expected %s in [%" PRId64 ", %" PRId64 "], got %" PRId64, name,
                                    range.low, range.high, attrs[i]);
        }
    }
    for (int i = row->op->range_count; i < PQ_MAX_ATTRS; i++) {
        if (attrs[i] != 0) {
            return pq_engine_reject(check, "expected 0 for the unused attribute %d, got %" PRId64,
                                    i, attrs[i]);
        }
    }
    return PQ_OK;
}

static pq_status validate_instruction(const pq_engine_check *check, uint8_t *defined) {
    const int64_t opcode = check->instruction->opcode;
    if (opcode < 0 || opcode >= PQ_OPCODE_COUNT) {
        return pq_engine_reject(check, "expected an opcode in [0, %d), got %" PRId64,
                                PQ_OPCODE_COUNT, opcode);
    }
    const pq_engine_row *row = &pq_engine_rows[opcode];
    pq_status status = validate_inputs(check, row, defined);
    if (status == PQ_OK) {
        status = validate_output(check, row, defined);
    }
    if (status == PQ_OK) {
        status = validate_attrs(check, row);
    }
    if (status == PQ_OK) {
        status = row->op->validate(check);
    }
    if (status == PQ_OK) {
        defined[check->instruction->output] = 1;
    }
    return status;
}

static pq_status validate_body(const pq_exec *exec, const pq_program_desc *desc, uint8_t *defined) {
    for (size_t i = 0; i < desc->value_count; i++) {
        defined[i] = desc->values[i].kind != PQ_VALUE_TEMP;
    }
    for (size_t i = 0; i < desc->instruction_count; i++) {
        const pq_engine_check check = {exec, desc, &desc->instructions[i], i};
        const pq_status status = validate_instruction(&check, defined);
        if (status) {
            return status;
        }
    }
    for (size_t i = 0; i < desc->value_count; i++) {
        if (!defined[i]) {
            return pq_fail(exec, PQ_ERR_PROGRAM, "program: value %zu: nothing writes it", i);
        }
    }
    for (size_t i = 0; i < desc->output_count; i++) {
        if (desc->outputs[i] < 0 || (uint64_t)desc->outputs[i] >= desc->value_count) {
            return pq_fail(exec, PQ_ERR_PROGRAM,
                           "program: expected output %zu in [0, %zu), got %" PRId64, i,
                           desc->value_count, desc->outputs[i]);
        }
    }
    return PQ_OK;
}

pq_status pq_engine_validate(const pq_exec *exec, const pq_program_desc *desc) {
    const struct {
        const char *name;
        size_t count, least;
        const void *data;
    } lists[] = {
        {"values", desc->value_count, 1, desc->values},
        {"constants", desc->value_count, 1, desc->constants},
        {"constant sizes", desc->value_count, 1, desc->constant_sizes},
        {"instructions", desc->instruction_count, 0, desc->instructions},
        {"outputs", desc->output_count, 1, desc->outputs},
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        const bool absent = lists[i].data == NULL && lists[i].count > 0;
        if (lists[i].count < lists[i].least || lists[i].count > PQ_MAX_VALUES || absent) {
            return pq_fail(exec, PQ_ERR_PROGRAM, "program: expected %zu to %d %s, got %s%zu",
                           lists[i].least, PQ_MAX_VALUES, lists[i].name,
                           absent ? "no list of " : "", lists[i].count);
        }
    }
    pq_status status = validate_values(exec, desc);
    if (status) {
        return status;
    }
    uint8_t *defined = pq_alloc(desc->value_count);
    if (defined == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "program: no memory for %zu flags", desc->value_count);
    }
    status = validate_body(exec, desc, defined);
    pq_free(defined);
    return status;
}
