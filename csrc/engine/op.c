#include "engine/op.h"

#include <stdarg.h>
#include <stdio.h>

const pq_engine_row pq_engine_rows[PQ_OPCODE_COUNT] = {
#define PQ_INSTRUCTION(NAME, name, min_inputs, max_inputs, attrs) \
    [PQ_OP_##NAME] = {#name, min_inputs, max_inputs, attrs, &pq_engine_##name},
#include "pyquant/instructions.def"
#undef PQ_INSTRUCTION
};

pq_status pq_engine_reject(const pq_engine_check *check, const char *format, ...) {
    char sentence[384];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    const int64_t opcode = check->instruction->opcode;
    const bool known = opcode >= 0 && opcode < PQ_OPCODE_COUNT;
    return pq_fail(check->exec, PQ_ERR_PROGRAM, "program: instruction %zu (%s): %s", check->index,
                   known ? pq_engine_rows[opcode].name : "unknown", sentence);
}

void pq_engine_probe_init(pq_engine_probe *probe) {
    probe->message[0] = '\0';
    probe->exec = pq_exec_serial(probe->message, sizeof probe->message);
}

pq_status pq_engine_adopt(const pq_engine_check *check, const pq_engine_probe *probe,
                          pq_status status) {
    if (status == PQ_OK) {
        return PQ_OK;
    }
    if (status == PQ_ERR_NOMEM) {
        return pq_fail(check->exec, PQ_ERR_NOMEM, "%s", probe->message);
    }
    return pq_engine_reject(check, "%s", probe->message);
}

const pq_value *pq_engine_input(const pq_engine_check *check, int slot) {
    const int64_t value = check->instruction->inputs[slot];
    return value < 0 ? NULL : &check->desc->values[value];
}

const pq_value *pq_engine_output(const pq_engine_check *check) {
    return &check->desc->values[check->instruction->output];
}

const void *pq_engine_constant(const pq_engine_check *check, int slot) {
    const int64_t value = check->instruction->inputs[slot];
    return value < 0 ? NULL : check->desc->constants[value];
}

pq_status pq_engine_expect_size(const pq_engine_check *check, int slot, int64_t size) {
    const int64_t got = pq_engine_input(check, slot)->size;
    if (got != size) {
        return pq_engine_reject(check, "expected input %d of %lld elements, got %lld", slot,
                                (long long)size, (long long)got);
    }
    return PQ_OK;
}

pq_status pq_engine_expect_output(const pq_engine_check *check, int64_t size) {
    const int64_t got = pq_engine_output(check)->size;
    if (got != size) {
        return pq_engine_reject(check, "expected an output of %lld elements, got %lld",
                                (long long)size, (long long)got);
    }
    return PQ_OK;
}

pq_status pq_engine_expect_same_type(const pq_engine_check *check) {
    const int64_t want = pq_engine_input(check, 0)->dtype, got = pq_engine_output(check)->dtype;
    if (got != want) {
        return pq_engine_reject(check, "expected an output of type %lld as input 0, got type %lld",
                                (long long)want, (long long)got);
    }
    return PQ_OK;
}

bool pq_engine_span_fits(int ndim, const int64_t *dims, const int64_t *strides, int64_t offset,
                         int64_t size) {
    int64_t low = offset, high = offset;
    bool empty = false;
    for (int i = 0; i < ndim; i++) {
        int64_t reach;
        if (dims[i] <= 0) {
            empty = true;
            continue;
        }
        int64_t *end = strides[i] < 0 ? &low : &high;
        if (__builtin_mul_overflow(dims[i] - 1, strides[i], &reach) ||
            __builtin_add_overflow(*end, reach, end)) {
            return false;
        }
    }
    if (empty) {
        return offset >= 0 && offset <= size;
    }
    return low >= 0 && high < size;
}

bool pq_engine_multiply(int64_t a, int64_t b, int64_t *product) {
    return !__builtin_mul_overflow(a, b, product) && *product <= PQ_MAX_VALUE_SIZE;
}
