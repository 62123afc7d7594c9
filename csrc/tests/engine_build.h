/* Building programs in C for tests: a description that owns its constants, with attributes set
 * and read by the names of instructions.def. */
#ifndef PYQUANT_TESTS_ENGINE_BUILD_H
#define PYQUANT_TESTS_ENGINE_BUILD_H

#include "check.h"
#include "pyquant/program.h"

enum { BUILD_VALUES = 192, BUILD_INSTRUCTIONS = 48, BUILD_OUTPUTS = 8 };

typedef struct build {
    size_t value_count, instruction_count, output_count;
    pq_value values[BUILD_VALUES];
    void *constants[BUILD_VALUES];
    size_t constant_sizes[BUILD_VALUES];
    pq_instruction instructions[BUILD_INSTRUCTIONS];
    int64_t outputs[BUILD_OUTPUTS];
    uint64_t random;
} build;

/* An exact block, so that AddressSanitizer sees the first byte behind it. */
static inline void *build_block(size_t size) {
    void *block = malloc(size > 0 ? size : 1);
    if (block == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return block;
}

static inline void build_free(build *b) {
    for (size_t i = 0; i < b->value_count; i++) {
        free(b->constants[i]);
        b->constants[i] = NULL;
    }
}

static inline pq_program_desc build_desc(const build *b) {
    return (pq_program_desc){b->value_count,
                             b->values,
                             (const void *const *)b->constants,
                             b->constant_sizes,
                             b->instruction_count,
                             b->instructions,
                             b->output_count,
                             b->outputs};
}

static inline int64_t build_value(build *b, pq_value_kind kind, pq_dtype dtype, bool batched,
                                  int64_t size) {
    b->values[b->value_count] = (pq_value){kind, dtype, batched, size};
    b->constants[b->value_count] = NULL;
    b->constant_sizes[b->value_count] = 0;
    return (int64_t)b->value_count++;
}

/* A constant of `size` elements, copied. */
static inline int64_t build_constant(build *b, pq_dtype dtype, const void *data, int64_t size) {
    const int64_t index = build_value(b, PQ_VALUE_CONST, dtype, false, size);
    const size_t bytes = (size_t)size * pq_dtype_size(dtype);
    b->constants[index] = build_block(bytes);
    b->constant_sizes[index] = bytes;
    if (bytes > 0) {
        memcpy(b->constants[index], data, bytes);
    }
    return index;
}

/* A constant of random elements in [low, high]. */
static inline int64_t build_random_constant(build *b, pq_dtype dtype, int64_t size, int64_t low,
                                            int64_t high) {
    char *data = build_block((size_t)size * 8);
    for (int64_t i = 0; i < size; i++) {
        const int64_t v = check_random_in(&b->random, low, high);
        const int32_t v32 = (int32_t)v;
        const int16_t v16 = (int16_t)v;
        const int8_t v8 = (int8_t)v;
        const uint8_t u8 = (uint8_t)v;
        const void *from = dtype == PQ_S64   ? (const void *)&v
                           : dtype == PQ_S32 ? (const void *)&v32
                           : dtype == PQ_S16 ? (const void *)&v16
                           : dtype == PQ_S8  ? (const void *)&v8
                                             : (const void *)&u8;
        memcpy(data + (size_t)i * pq_dtype_size(dtype), from, pq_dtype_size(dtype));
    }
    const int64_t index = build_constant(b, dtype, data, size);
    free(data);
    return index;
}

static inline pq_instruction *build_emit(build *b, pq_opcode opcode, int64_t output) {
    pq_instruction *instruction = &b->instructions[b->instruction_count++];
    memset(instruction, 0, sizeof *instruction);
    for (int i = 0; i < PQ_MAX_INPUTS; i++) {
        instruction->inputs[i] = -1;
    }
    instruction->opcode = opcode;
    instruction->output = output;
    return instruction;
}

static inline const char *build_attr_names(int64_t opcode) {
    static const char *const names[] = {
#define PQ_INSTRUCTION(NAME, name, min_inputs, max_inputs, attrs) attrs,
#include "pyquant/instructions.def"
#undef PQ_INSTRUCTION
    };
    return names[opcode];
}

/* Position of an attribute by its name in instructions.def; a name that is not there ends the test.
 */
static inline int build_attr(int64_t opcode, const char *name) {
    const char *names = build_attr_names(opcode);
    const size_t length = strlen(name);
    for (int i = 0; *names != '\0'; i++) {
        const size_t word = strcspn(names, " ");
        if (word == length && memcmp(names, name, length) == 0) {
            return i;
        }
        names += word;
        names += strspn(names, " ");
    }
    fprintf(stderr, "no attribute %s\n", name);
    exit(1);
}

static inline void build_set(pq_instruction *instruction, const char *name, int64_t value) {
    instruction->attrs[build_attr(instruction->opcode, name)] = value;
}

static inline int64_t build_get(const pq_instruction *instruction, const char *name) {
    return instruction->attrs[build_attr(instruction->opcode, name)];
}

/* zero_point, quant_min, quant_max of a type: random inside, or the whole range. */
static inline void build_set_clamp(build *b, pq_instruction *instruction, pq_dtype type) {
    const int64_t low = type == PQ_S8 ? -128 : -32768, high = -low - 1;
    int64_t minimum = low, maximum = high;
    if (check_random(&b->random) % 2) {
        minimum = check_random_in(&b->random, low, low / 2);
        maximum = check_random_in(&b->random, high / 2, high);
    }
    build_set(instruction, "quant_min", minimum);
    build_set(instruction, "quant_max", maximum);
    build_set(instruction, "zero_point", check_random_in(&b->random, low / 2, high / 2));
}

#endif
