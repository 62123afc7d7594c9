/* The nodes of a schedule on one slice of a batch. */
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "engine/program_internal.h"

/* Something to point at where there are no bytes: arithmetic on NULL is undefined. */
static _Alignas(64) char nothing[64];

/* The bytes of a value in this slice. NULL for a constant that exists only in packed form. */
static char *address(const pq_engine_slice *slice, size_t value) {
    const pq_engine_call *call = slice->call;
    const pq_engine_schedule *schedule = call->schedule;
    const pq_engine_storage *storage = &schedule->storages[schedule->storage_of[value]];
    if (storage->size == 0) {
        return nothing;
    }
    const size_t skipped = storage->batched ? slice->first * storage->size : 0;
    switch (storage->place) {
    /* Only read: no instruction has an input as its output, or works in place on it. */
    case PQ_PLACE_INPUT: return (char *)(uintptr_t)call->inputs[storage->slot] + skipped;
    case PQ_PLACE_CONST: return call->program->constants[storage->slot];
    case PQ_PLACE_OUTPUT: return (char *)call->outputs[storage->slot] + skipped;
    case PQ_PLACE_FIXED: return call->fixed + storage->offset;
    case PQ_PLACE_BATCHED: break;
    }
    return slice->arena + storage->offset * slice->batch;
}

/* Bytes of a value in this slice. */
static size_t slice_bytes(const pq_engine_slice *slice, size_t value) {
    const pq_value *v = &slice->call->program->values[value];
    return (v->batched ? slice->batch : 1) * pq_engine_bytes(v);
}

/* Copies a value of this slice to its place in an array of the whole batch. */
static void copy_out(const pq_engine_slice *slice, size_t value, void *whole) {
    const pq_value *v = &slice->call->program->values[value];
    const size_t bytes = slice_bytes(slice, value);
    if (bytes > 0) {
        memcpy((char *)whole + (v->batched ? slice->first : 0) * pq_engine_bytes(v),
               address(slice, value), bytes);
    }
}

static pq_engine_step make_step(const pq_program *program, const pq_engine_node *node) {
    return (pq_engine_step){
        .values = program->values,
        .instruction = &program->instructions[node->instruction],
        .consumer = node->fusion != NULL ? &program->instructions[node->consumer] : NULL,
        .slot = node->slot,
        .prepared = program->prepared[node->instruction],
    };
}

/* The op's own sentence, with the place in the program before it. */
static pq_status name_failure(const pq_engine_slice *slice, size_t index, pq_status status) {
    const pq_exec *exec = slice->exec;
    if (status == PQ_ERR_INTERRUPTED || exec->message == NULL || exec->message_size == 0) {
        return status;
    }
    char sentence[384];
    snprintf(sentence, sizeof sentence, "%s", exec->message);
    return pq_fail(exec, status, "program: instruction %zu (%s): %s", index,
                   pq_engine_rows[slice->call->program->instructions[index].opcode].name, sentence);
}

static pq_status execute_node(const pq_engine_slice *slice, const pq_engine_node *node) {
    const pq_engine_call *call = slice->call;
    const pq_engine_op *op =
        pq_engine_rows[call->program->instructions[node->instruction].opcode].op;
    pq_engine_step step = make_step(call->program, node);
    step.exec = slice->exec;
    step.first = slice->first;
    step.batch = slice->batch;
    step.workspace = slice->workspace;
    step.workspace_size = slice->workspace_size;
    for (int slot = 0; slot < PQ_MAX_INPUTS; slot++) {
        if (step.instruction->inputs[slot] >= 0) {
            step.inputs[slot] = address(slice, (size_t)step.instruction->inputs[slot]);
        }
        if (step.consumer != NULL && slot != step.slot && step.consumer->inputs[slot] >= 0) {
            step.consumer_inputs[slot] = address(slice, (size_t)step.consumer->inputs[slot]);
        }
    }
    step.output = address(slice, (size_t)call->program->instructions[node->consumer].output);
    const pq_attention_trace *trace =
        call->attention == NULL ? NULL : &call->attention[node->instruction];
    if (trace != NULL && (trace->score != NULL || trace->p != NULL || trace->l != NULL)) {
        step.trace = trace;
    }
    const pq_status status =
        node->fusion != NULL ? node->fusion->execute(&step) : op->execute(&step);
    return status ? name_failure(slice, node->instruction, status) : PQ_OK;
}

/* The values of this kind that the caller traces and no node writes; true = batched ones. */
static void trace_inputs(const pq_engine_slice *slice, bool batched) {
    const pq_engine_call *call = slice->call;
    for (size_t i = 0; i < call->program->input_count && call->values != NULL; i++) {
        const size_t value = call->program->inputs[i];
        if (call->values[value] != NULL && (call->program->values[value].batched != 0) == batched) {
            copy_out(slice, value, call->values[value]);
        }
    }
}

/* Outputs that do not live in the caller's buffer. */
static void copy_outputs(const pq_engine_slice *slice, bool batched) {
    const pq_engine_call *call = slice->call;
    const pq_engine_schedule *schedule = call->schedule;
    for (size_t j = 0; j < call->program->output_count; j++) {
        const size_t value = call->program->outputs[j];
        const pq_engine_storage *storage = &schedule->storages[schedule->storage_of[value]];
        const bool here = storage->place == PQ_PLACE_OUTPUT && storage->slot == j;
        if (!here && (call->program->values[value].batched != 0) == batched) {
            copy_out(slice, value, call->outputs[j]);
        }
    }
}

pq_status pq_engine_execute(const pq_engine_slice *slice, bool batched) {
    const pq_engine_call *call = slice->call;
    const pq_engine_schedule *schedule = call->schedule;
    trace_inputs(slice, batched);
    const size_t begin = batched ? schedule->unbatched_count : 0;
    const size_t end = batched ? schedule->node_count : schedule->unbatched_count;
    int64_t before = slice->nanoseconds != NULL ? pq_clock_ns() : 0;
    for (size_t i = begin; i < end; i++) {
        const pq_engine_node *node = &schedule->nodes[i];
        const pq_instruction *writer = &call->program->instructions[node->consumer];
        const size_t output = (size_t)writer->output;
        /* Ops have no effect but their output: without elements there is nothing to do. */
        if (!pq_engine_rows[writer->opcode].op->alias && slice_bytes(slice, output) > 0) {
            const pq_status status = execute_node(slice, node);
            if (status) {
                return status;
            }
        }
        /* At once: a later node may work in place. */
        if (call->values != NULL && call->values[output] != NULL) {
            copy_out(slice, output, call->values[output]);
        }
        if (slice->nanoseconds != NULL) {
            const int64_t now = pq_clock_ns();
            slice->nanoseconds[i] += (uint64_t)(now - before);
            before = now;
        }
    }
    copy_outputs(slice, batched);
    return PQ_OK;
}

size_t pq_engine_find_workspace(const pq_engine_slice *slice) {
    const pq_engine_call *call = slice->call;
    size_t most = 0;
    for (size_t i = 0; i < call->schedule->node_count; i++) {
        const pq_engine_node *node = &call->schedule->nodes[i];
        const pq_engine_op *op =
            pq_engine_rows[call->program->instructions[node->instruction].opcode].op;
        size_t (*workspace)(const pq_engine_step *) =
            node->fusion != NULL ? node->fusion->workspace : op->workspace;
        if (workspace != NULL) {
            pq_engine_step step = make_step(call->program, node);
            step.exec = slice->exec;
            step.batch = slice->batch;
            const size_t size = workspace(&step);
            most = size > most ? size : most;
        }
    }
    return most;
}

/* An instruction by itself: every operand once, the output once. */
static pq_engine_work find_work(const pq_program *program, size_t index, size_t batch) {
    const pq_engine_node node = {index, index, 0, NULL};
    pq_engine_step step = make_step(program, &node);
    const pq_engine_op *op = pq_engine_rows[step.instruction->opcode].op;
    pq_engine_work work = {0};
    if (op->alias) {
        return work;
    }
    for (int slot = 0; slot < PQ_MAX_INPUTS; slot++) {
        if (step.instruction->inputs[slot] >= 0) {
            const pq_value *v = &program->values[step.instruction->inputs[slot]];
            const size_t bytes = (v->batched ? batch : 1) * pq_engine_bytes(v);
            *(v->kind == PQ_VALUE_CONST ? &work.constant_bytes : &work.bytes) += bytes;
        }
    }
    const pq_value *y = &program->values[step.instruction->output];
    work.bytes += (y->batched ? batch : 1) * pq_engine_bytes(y);
    step.batch = batch;
    if (op->work != NULL) {
        op->work(&step, &work);
    }
    return work;
}

pq_engine_work pq_engine_find_work(const pq_program *program, const pq_engine_node *node,
                                   size_t batch) {
    pq_engine_work work = find_work(program, node->instruction, batch);
    if (node->fusion != NULL) {
        const pq_engine_work second = find_work(program, node->consumer, batch);
        const pq_value *result = &program->values[program->instructions[node->instruction].output];
        const size_t unstored = 2 * (result->batched ? batch : 1) * pq_engine_bytes(result);
        work.macs += second.macs;
        work.bytes += second.bytes - unstored;
        work.constant_bytes += second.constant_bytes;
    }
    return work;
}
