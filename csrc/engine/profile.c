/* What each step of a run has to do, and how long it takes. */
#include <string.h>

#include "engine/program_internal.h"

size_t pq_program_step_count(const pq_program *program) {
    return program->fused.node_count;
}

void pq_program_steps(const pq_program *program, size_t batch, pq_program_step *steps) {
    for (size_t i = 0; i < program->fused.node_count; i++) {
        const pq_engine_node *node = &program->fused.nodes[i];
        const pq_engine_work work = pq_engine_find_work(program, node, batch);
        steps[i] = (pq_program_step){node->instruction, node->consumer, work.macs, work.bytes,
                                     work.constant_bytes};
    }
}

pq_status pq_program_profile(pq_program *program, const pq_exec *exec, size_t batch,
                             const void *const *inputs, void *const *outputs,
                             uint64_t *nanoseconds) {
    const size_t count = program->fused.node_count;
    const size_t threads = exec->num_threads < 1 ? 1 : (size_t)exec->num_threads;
    const size_t size = (threads + 1) * count * sizeof *nanoseconds;
    uint64_t *times = pq_alloc(size);
    if (times == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "program: no memory for the times of %zu steps", count);
    }
    memset(times, 0, size);
    pq_engine_call call = {.program = program,
                           .schedule = &program->fused,
                           .total = batch,
                           .inputs = inputs,
                           .outputs = outputs};
    const pq_status status = pq_engine_run(program, exec, &call, times);
    for (size_t i = 0; i < count; i++) {
        uint64_t alone = 0;
        for (size_t slot = 0; slot < threads; slot++) {
            alone += times[(slot + 1) * count + i];
        }
        nanoseconds[i] = times[i] + alone / threads;
    }
    pq_free(times);
    return status;
}
