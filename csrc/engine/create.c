/* From a description to a program: validate, copy, fuse, plan, pack. */
#include <string.h>

#include "engine/program_internal.h"

static void *make_list(size_t count, size_t element) {
    void *list = pq_alloc(count * element);
    if (list != NULL) {
        memset(list, 0, count * element);
    }
    return list;
}

static void *copy_list(const void *list, size_t count, size_t element) {
    void *copy = pq_alloc(count * element);
    if (copy != NULL && count > 0) {
        memcpy(copy, list, count * element);
    }
    return copy;
}

static bool copy_structure(pq_program *program, const pq_program_desc *desc) {
    const size_t values = desc->value_count, instructions = desc->instruction_count;
    program->values = copy_list(desc->values, values, sizeof *program->values);
    program->instructions =
        copy_list(desc->instructions, instructions, sizeof *program->instructions);
    program->outputs = make_list(desc->output_count, sizeof *program->outputs);
    program->inputs = make_list(values, sizeof *program->inputs);
    program->constants = make_list(values, sizeof *program->constants);
    program->prepared = make_list(instructions, sizeof *program->prepared);
    if (program->values == NULL || program->instructions == NULL || program->outputs == NULL ||
        program->inputs == NULL || program->constants == NULL || program->prepared == NULL) {
        return false;
    }
    program->value_count = values;
    program->instruction_count = instructions;
    program->output_count = desc->output_count;
    for (size_t i = 0; i < desc->output_count; i++) {
        program->outputs[i] = (size_t)desc->outputs[i];
    }
    for (size_t i = 0; i < values; i++) {
        if (desc->values[i].kind == PQ_VALUE_INPUT) {
            program->inputs[program->input_count++] = i;
        }
    }
    return true;
}

/* Which constants are read at run time, other than in packed form. */
static void find_constants_to_keep(const pq_program *program, bool *keep) {
    for (size_t i = 0; i < program->instruction_count; i++) {
        const pq_instruction *instruction = &program->instructions[i];
        const unsigned packed = pq_engine_rows[instruction->opcode].op->packed;
        for (int slot = 0; slot < PQ_MAX_INPUTS; slot++) {
            if (instruction->inputs[slot] >= 0 && (packed >> slot & 1) == 0) {
                keep[instruction->inputs[slot]] = true;
            }
        }
    }
    for (size_t j = 0; j < program->output_count; j++) {
        keep[program->outputs[j]] = true;
    }
}

static size_t padded(size_t size) {
    return (size + 63) / 64 * 64;
}

static bool copy_constants(pq_program *program, const pq_program_desc *desc) {
    bool *keep = make_list(desc->value_count, sizeof *keep);
    if (keep == NULL) {
        return false;
    }
    find_constants_to_keep(program, keep);
    size_t size = 0;
    for (size_t i = 0; i < desc->value_count; i++) {
        keep[i] = keep[i] && desc->constant_sizes[i] > 0;
        size += keep[i] ? padded(desc->constant_sizes[i]) : 0;
    }
    char *block = pq_alloc(size);
    program->constant_data = block;
    for (size_t i = 0; i < desc->value_count && block != NULL; i++) {
        if (keep[i]) {
            memcpy(block, desc->constants[i], desc->constant_sizes[i]);
            program->constants[i] = block;
            block += padded(desc->constant_sizes[i]);
        }
    }
    pq_free(keep);
    return program->constant_data != NULL;
}

static pq_status prepare_instructions(const pq_exec *exec, pq_program *program,
                                      const pq_program_desc *desc) {
    for (size_t i = 0; i < desc->instruction_count; i++) {
        const pq_engine_check check = {exec, desc, &desc->instructions[i], i};
        const pq_engine_op *op = pq_engine_rows[check.instruction->opcode].op;
        if (op->prepare != NULL) {
            const pq_status status = op->prepare(&check, &program->prepared[i]);
            if (status) {
                return status;
            }
        }
    }
    return PQ_OK;
}

static pq_status make_schedule(const pq_exec *exec, const pq_program *program, bool fuse,
                               pq_engine_schedule *schedule) {
    schedule->nodes = make_list(program->instruction_count, sizeof *schedule->nodes);
    schedule->storages = make_list(program->value_count, sizeof *schedule->storages);
    schedule->storage_of = make_list(program->value_count, sizeof *schedule->storage_of);
    if (schedule->nodes == NULL || schedule->storages == NULL || schedule->storage_of == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "program: no memory for the program");
    }
    const pq_status status = pq_engine_order(exec, program, fuse, schedule);
    return status ? status : pq_engine_plan(exec, program, schedule);
}

static void free_schedule(pq_engine_schedule *schedule) {
    pq_free(schedule->nodes);
    pq_free(schedule->storages);
    pq_free(schedule->storage_of);
}

static size_t widest_array(const pq_program *program) {
    size_t widest = program->fused.sample_size > program->plain.sample_size
                        ? program->fused.sample_size
                        : program->plain.sample_size;
    for (size_t i = 0; i < program->value_count; i++) {
        const size_t bytes = pq_engine_bytes(&program->values[i]);
        if (program->values[i].batched && bytes > widest) {
            widest = bytes;
        }
    }
    return widest;
}

/* What a sample takes on one thread of a fast machine. It decides only whether threads pay. */
static uint64_t sample_ns(const pq_program *program) {
    enum { MACS_PER_NS = 64, BYTES_PER_NS = 8 };
    uint64_t total = 0;
    for (size_t i = program->fused.unbatched_count; i < program->fused.node_count; i++) {
        const pq_engine_work work = pq_engine_find_work(program, &program->fused.nodes[i], 1);
        total += work.macs / MACS_PER_NS + (work.bytes + work.constant_bytes) / BYTES_PER_NS;
    }
    return total;
}

pq_status pq_program_create(const pq_exec *exec, const pq_program_desc *desc,
                            pq_program **program_out) {
    *program_out = NULL;
    pq_status status = pq_engine_validate(exec, desc);
    if (status) {
        return status;
    }
    pq_program *program = pq_alloc(sizeof *program);
    if (program == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "program: no memory for the program");
    }
    memset(program, 0, sizeof *program);
    atomic_init(&program->slice_bytes, pq_engine_cache_bytes());
    atomic_init(&program->context_count, 0);
    atomic_init(&program->free_count, 0);
    for (int i = 0; i < PQ_CONTEXT_SLOTS; i++) {
        atomic_init(&program->contexts[i], NULL);
    }
    if (!copy_structure(program, desc) || !copy_constants(program, desc)) {
        status = pq_fail(exec, PQ_ERR_NOMEM, "program: no memory for the program");
        goto failed;
    }
    status = make_schedule(exec, program, true, &program->fused);
    if (status == PQ_OK) {
        status = make_schedule(exec, program, false, &program->plain);
    }
    if (status == PQ_OK) {
        status = prepare_instructions(exec, program, desc);
    }
    if (status) {
        goto failed;
    }
    program->widest = widest_array(program);
    program->sample_ns = sample_ns(program);
    *program_out = program;
    return PQ_OK;
failed:
    pq_program_free(program);
    return status;
}

void pq_program_free(pq_program *program) {
    if (program == NULL) {
        return;
    }
    for (int i = 0; i < PQ_CONTEXT_SLOTS; i++) {
        pq_engine_context_free(atomic_load(&program->contexts[i]));
    }
    for (size_t i = 0; i < program->instruction_count; i++) {
        const pq_engine_op *op = pq_engine_rows[program->instructions[i].opcode].op;
        if (op->release != NULL) {
            op->release(program->prepared[i]);
        }
    }
    pq_free(program->values);
    pq_free(program->instructions);
    pq_free(program->outputs);
    pq_free(program->inputs);
    pq_free(program->constant_data);
    pq_free(program->constants);
    pq_free(program->prepared);
    free_schedule(&program->fused);
    free_schedule(&program->plain);
    pq_free(program);
}

size_t pq_program_arena_size(const pq_program *program) {
    return program->fused.fixed_size + program->fused.sample_size;
}

size_t pq_program_context_count(const pq_program *program) {
    return atomic_load(&program->context_count);
}

void pq_program_set_slice_bytes(pq_program *program, size_t bytes) {
    atomic_store_explicit(&program->slice_bytes, bytes, memory_order_relaxed);
}
