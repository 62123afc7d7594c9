/* Running a program: slices of the batch, one instruction after the other. */
#include <stdio.h>
#include <string.h>

#include "engine/program_internal.h"

/* One call of the caller. */
typedef struct program_call {
    const pq_exec *exec;
    pq_program *program;
    size_t total; /* samples of the call */
    const void *const *inputs;
    void *const *outputs;
    void *const *values;                 /* trace, or NULL */
    const pq_attention_trace *attention; /* trace, or NULL */
    pq_engine_context *context;
    size_t first, batch; /* the slice: samples [first, first + batch) */
} program_call;

/* Something to point at where there are no bytes: arithmetic on NULL is undefined. */
static _Alignas(64) char nothing[64];

/* The bytes of a value in this slice. NULL for a constant that exists only in packed form. */
static char *address(const program_call *run, size_t value) {
    const pq_program *program = run->program;
    const pq_engine_storage *storage = &program->storages[program->storage_of[value]];
    if (storage->size == 0) {
        return nothing;
    }
    const size_t skipped = storage->batched ? run->first * storage->size : 0;
    char *arena = run->context->arena;
    switch (storage->place) {
    /* Only read: no instruction has an input as its output, or works in place on it. */
    case PQ_PLACE_INPUT: return (char *)(uintptr_t)run->inputs[storage->slot] + skipped;
    case PQ_PLACE_CONST: return program->constants[storage->slot];
    case PQ_PLACE_OUTPUT: return (char *)run->outputs[storage->slot] + skipped;
    case PQ_PLACE_FIXED: return arena + storage->offset;
    case PQ_PLACE_BATCHED: break;
    }
    return arena + program->fixed_size + storage->offset * run->batch;
}

/* Bytes of a value in this slice. */
static size_t slice_bytes(const program_call *run, size_t value) {
    const pq_value *v = &run->program->values[value];
    return (v->batched ? run->batch : 1) * pq_engine_bytes(v);
}

/* Copies a value of this slice to its place in an array of the whole batch. */
static void copy_out(const program_call *run, size_t value, void *whole) {
    const pq_value *v = &run->program->values[value];
    const size_t bytes = slice_bytes(run, value);
    if (bytes > 0) {
        memcpy((char *)whole + (v->batched ? run->first : 0) * pq_engine_bytes(v),
               address(run, value), bytes);
    }
}

static pq_engine_step make_step(const program_call *run, size_t index) {
    pq_engine_step step = {
        .exec = run->exec,
        .values = run->program->values,
        .instruction = &run->program->instructions[index],
        .first = run->first,
        .batch = run->batch,
        .prepared = run->program->prepared[index],
    };
    return step;
}

/* The op's own sentence, with the place in the program before it. */
static pq_status name_failure(const program_call *run, size_t index, pq_status status) {
    if (status == PQ_ERR_INTERRUPTED || run->exec->message == NULL ||
        run->exec->message_size == 0) {
        return status;
    }
    char sentence[384];
    snprintf(sentence, sizeof sentence, "%s", run->exec->message);
    return pq_fail(run->exec, status, "program: instruction %zu (%s): %s", index,
                   pq_engine_rows[run->program->instructions[index].opcode].name, sentence);
}

static pq_status run_instruction(const program_call *run, size_t index) {
    const pq_instruction *instruction = &run->program->instructions[index];
    const pq_engine_op *op = pq_engine_rows[instruction->opcode].op;
    const size_t output = (size_t)instruction->output;
    /* Ops have no effect but their output: without elements there is nothing to do. */
    if (!op->alias && slice_bytes(run, output) > 0) {
        pq_engine_step step = make_step(run, index);
        for (int slot = 0; slot < PQ_MAX_INPUTS; slot++) {
            if (instruction->inputs[slot] >= 0) {
                step.inputs[slot] = address(run, (size_t)instruction->inputs[slot]);
            }
        }
        step.output = address(run, output);
        step.workspace = run->context->workspace;
        step.workspace_size = run->context->workspace_size;
        const pq_attention_trace *trace = run->attention == NULL ? NULL : &run->attention[index];
        if (trace != NULL && (trace->score != NULL || trace->p != NULL || trace->l != NULL)) {
            step.trace = trace;
        }
        const pq_status status = op->execute(&step);
        if (status) {
            return name_failure(run, index, status);
        }
    }
    /* At once: a later instruction may work in place. */
    if (run->values != NULL && run->values[output] != NULL) {
        copy_out(run, output, run->values[output]);
    }
    return PQ_OK;
}

static pq_status run_slice(const program_call *run) {
    const pq_program *program = run->program;
    for (size_t i = 0; i < program->input_count && run->values != NULL; i++) {
        if (run->values[program->inputs[i]] != NULL) {
            copy_out(run, program->inputs[i], run->values[program->inputs[i]]);
        }
    }
    for (size_t i = 0; i < program->instruction_count; i++) {
        const pq_status status = run_instruction(run, i);
        if (status) {
            return status;
        }
    }
    for (size_t j = 0; j < program->output_count; j++) {
        const pq_engine_storage *storage =
            &program->storages[program->storage_of[program->outputs[j]]];
        if (storage->place != PQ_PLACE_OUTPUT || storage->slot != j) {
            copy_out(run, program->outputs[j], run->outputs[j]);
        }
    }
    return PQ_OK;
}

static pq_status check_pointer(const program_call *run, const char *what, size_t index,
                               size_t value, const void *pointer) {
    const pq_value *v = &run->program->values[value];
    if (pq_engine_elements(v, run->total) > 0 && pointer == NULL) {
        return pq_fail(run->exec, PQ_ERR_VALUE, "program: %s %zu is missing", what, index);
    }
    if ((uintptr_t)pointer % pq_dtype_size((pq_dtype)v->dtype) != 0) {
        return pq_fail(run->exec, PQ_ERR_VALUE, "program: %s %zu is not aligned to its elements",
                       what, index);
    }
    return PQ_OK;
}

static pq_status check_call(const program_call *run) {
    const pq_program *program = run->program;
    /* With this, every offset and size below fits in ptrdiff_t. */
    if (program->widest > 0 && run->total > (size_t)PTRDIFF_MAX / program->widest) {
        return pq_fail(run->exec, PQ_ERR_OVERFLOW,
                       "program: a batch of %zu with arrays of %zu bytes a sample is too large",
                       run->total, program->widest);
    }
    if ((program->input_count > 0 && run->inputs == NULL) || run->outputs == NULL) {
        return pq_fail(run->exec, PQ_ERR_VALUE, "program: expected lists of inputs and outputs");
    }
    pq_status status = PQ_OK;
    for (size_t i = 0; i < program->input_count && status == PQ_OK; i++) {
        status = check_pointer(run, "input", i, program->inputs[i], run->inputs[i]);
    }
    for (size_t j = 0; j < program->output_count && status == PQ_OK; j++) {
        status = check_pointer(run, "output", j, program->outputs[j], run->outputs[j]);
    }
    for (size_t i = 0; i < program->value_count && run->values != NULL && status == PQ_OK; i++) {
        if (program->values[i].kind == PQ_VALUE_CONST && run->values[i] != NULL) {
            status = pq_fail(run->exec, PQ_ERR_VALUE,
                             "program: value %zu is a constant, which is not traced", i);
        }
    }
    return status;
}

/* Samples in a slice: as many as keep the arena near the cores that work on it, and all slices
 * about equal. 0 only for a batch of 0. */
static size_t choose_slice(const program_call *run) {
    const size_t per_sample = run->program->sample_size;
    if (per_sample == 0) {
        return run->total;
    }
    const size_t threads = run->exec->num_threads < 1 ? 1 : (size_t)run->exec->num_threads;
    const size_t bytes = atomic_load_explicit(&run->program->slice_bytes, memory_order_relaxed);
    size_t wanted = bytes / per_sample;
    wanted = wanted > SIZE_MAX / threads ? SIZE_MAX : wanted * threads;
    wanted = wanted < 1 ? 1 : wanted;
    if (wanted >= run->total) {
        return run->total;
    }
    const size_t slices = (run->total - 1) / wanted + 1;
    return (run->total - 1) / slices + 1;
}

/* The largest workspace that any instruction asks for with this slice. */
static size_t find_workspace(const program_call *run) {
    size_t most = 0;
    for (size_t i = 0; i < run->program->instruction_count; i++) {
        const pq_engine_op *op = pq_engine_rows[run->program->instructions[i].opcode].op;
        if (op->workspace != NULL) {
            const pq_engine_step step = make_step(run, i);
            const size_t size = op->workspace(&step);
            most = size > most ? size : most;
        }
    }
    return most;
}

pq_status pq_program_trace(pq_program *program, const pq_exec *exec, size_t batch,
                           const void *const *inputs, void *const *outputs, void *const *values,
                           const pq_attention_trace *attention) {
    program_call run = {exec, program, batch, inputs, outputs, values, attention, NULL, 0, 0};
    pq_status status = check_call(&run);
    if (status) {
        return status;
    }
    const size_t slice = choose_slice(&run);
    run.batch = slice == 0 ? 0 : batch % slice; /* the last slice, if it is a smaller one */
    const size_t last_workspace = find_workspace(&run);
    run.batch = slice;
    size_t workspace = find_workspace(&run);
    workspace = workspace > last_workspace ? workspace : last_workspace;
    const size_t arena = program->fixed_size + program->sample_size * slice;
    run.context = pq_engine_context_acquire(program, arena, workspace);
    if (run.context == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM,
                       "program: no memory for an arena of %zu and a workspace of %zu bytes", arena,
                       workspace);
    }
    do { /* once for a batch of 0: unbatched values are computed all the same */
        run.batch = batch - run.first < slice ? batch - run.first : slice;
        status = run_slice(&run);
        run.first += run.batch;
    } while (run.first < batch && status == PQ_OK);
    pq_engine_context_release(program, run.context);
    return status;
}

pq_status pq_program_run(pq_program *program, const pq_exec *exec, size_t batch,
                         const void *const *inputs, void *const *outputs) {
    return pq_program_trace(program, exec, batch, inputs, outputs, NULL, NULL);
}
