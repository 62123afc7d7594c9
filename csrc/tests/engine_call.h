/* The buffers of one run of a built program. */
#ifndef PYQUANT_TESTS_ENGINE_CALL_H
#define PYQUANT_TESTS_ENGINE_CALL_H

#include "engine_random.h"

typedef struct call {
    const build *program;
    size_t batch, input_count;
    void *inputs[BUILD_VALUES];
    void *outputs[BUILD_OUTPUTS];
} call;

static inline size_t call_bytes(const pq_value *v, size_t batch) {
    return (v->batched ? batch : 1) * (size_t)v->size * pq_dtype_size((pq_dtype)v->dtype);
}

static inline size_t call_output_bytes(const call *c, size_t output) {
    return call_bytes(&c->program->values[c->program->outputs[output]], c->batch);
}

/* Outputs are filled with `fill`, so that bytes that nobody writes show. */
static inline void call_fill(call *c, int fill) {
    for (size_t j = 0; j < c->program->output_count; j++) {
        memset(c->outputs[j], fill, call_output_bytes(c, j));
    }
}

static inline void call_make(call *c, const build *program, size_t batch, uint64_t seed,
                             bool valid) {
    memset(c, 0, sizeof *c);
    c->program = program;
    c->batch = batch;
    for (size_t v = 0; v < program->value_count; v++) {
        if (program->values[v].kind == PQ_VALUE_INPUT) {
            void *data = build_block(call_bytes(&program->values[v], batch));
            random_input(&seed, &program->values[v], batch, valid, data);
            c->inputs[c->input_count++] = data;
        }
    }
    for (size_t j = 0; j < program->output_count; j++) {
        c->outputs[j] = build_block(call_output_bytes(c, j));
    }
    call_fill(c, 0xaa);
}

static inline pq_status call_run(call *c, pq_program *program, const pq_exec *exec) {
    return pq_program_run(program, exec, c->batch, (const void *const *)c->inputs, c->outputs);
}

static inline void call_free(call *c) {
    for (size_t i = 0; i < c->input_count; i++) {
        free(c->inputs[i]);
    }
    for (size_t j = 0; j < c->program->output_count; j++) {
        free(c->outputs[j]);
    }
}

#endif
