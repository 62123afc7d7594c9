/* Programs against a naive interpreter; how a batch is cut; working memory. */
#include "engine/program_internal.h"
#include "engine_call.h"
#include "engine_interpret.h"

static char message[512];

/* ---- worked by hand ---- */

/* y = table(requantized x w^T + bias) + x, with table[v] = -v: two rows of two. */
static void test_by_hand(void) {
    build b = {0};
    const int8_t w[] = {1, 1, 2, -1};
    const int32_t bias[] = {3, 0}, multiplier[] = {1 << 30, 1 << 30};
    const uint8_t shift[] = {31, 31}; /* one half */
    int8_t negate[256];
    for (int v = -128; v < 128; v++) {
        negate[v + 128] = (int8_t)(v == -128 ? 127 : -v);
    }
    const int64_t x = build_value(&b, PQ_VALUE_INPUT, PQ_S8, true, 4);
    const int64_t h = build_value(&b, PQ_VALUE_TEMP, PQ_S8, true, 4);
    const int64_t t = build_value(&b, PQ_VALUE_TEMP, PQ_S8, true, 4);
    const int64_t y = build_value(&b, PQ_VALUE_TEMP, PQ_S16, true, 4);
    pq_instruction *gemm = build_emit(&b, PQ_OP_GEMM, h);
    gemm->inputs[0] = x;
    gemm->inputs[1] = build_constant(&b, PQ_S8, w, 4);
    gemm->inputs[2] = build_constant(&b, PQ_S32, bias, 2);
    gemm->inputs[3] = build_constant(&b, PQ_S32, multiplier, 2);
    gemm->inputs[4] = build_constant(&b, PQ_U8, shift, 2);
    build_set(gemm, "n", 2);
    build_set(gemm, "k", 2);
    build_set(gemm, "x_zero_point", 1);
    build_set(gemm, "quant_min", -128);
    build_set(gemm, "quant_max", 127);
    pq_instruction *table = build_emit(&b, PQ_OP_TABLE, t);
    table->inputs[0] = h;
    table->inputs[1] = build_constant(&b, PQ_S8, negate, 256);
    pq_instruction *add = build_emit(&b, PQ_OP_ADD, y);
    add->inputs[0] = t;
    add->inputs[1] = x;
    build_set(add, "a_multiplier", 1 << 30);
    build_set(add, "b_multiplier", 1 << 29);
    build_set(add, "shift", 30); /* a + b / 2 */
    build_set(add, "zero_point", 100);
    build_set(add, "quant_min", -32768);
    build_set(add, "quant_max", 32767);
    b.outputs[b.output_count++] = y;

    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const pq_program_desc desc = build_desc(&b);
    pq_program *program = NULL;
    CHECK_OK(pq_program_create(&exec, &desc, &program));
    /* x - 1 = (1, 2), (-4, 5): acc = (6, 0), (4, -13), halved (3, 0), (2, -6): -6.5 rounds up. */
    const int8_t input[] = {2, 3, -3, 6};
    const int16_t want[] = {100 - 3 + 1, 100 + 2, 100 - 2 - 1, 100 + 6 + 3};
    int16_t output[4];
    const void *inputs[] = {input};
    void *outputs[] = {output};
    CHECK_OK(pq_program_run(program, &exec, 1, inputs, outputs));
    CHECK_SAME(output, want, sizeof want);
    CHECK_EQ(pq_program_arena_size(program), 64); /* h is not stored; y is the caller's */
    CHECK_EQ(pq_program_context_count(program), 1);
    pq_program_free(program);
    build_free(&b);
}

/* ---- random programs ---- */

static void compare_outputs(const call *c, const interpretation *in, uint64_t seed) {
    for (size_t j = 0; j < c->program->output_count; j++) {
        if (!CHECK_SAME(c->outputs[j], in->values[c->program->outputs[j]],
                        call_output_bytes(c, j))) {
            fprintf(stderr, "seed %llu, batch %zu, output %zu\n", (unsigned long long)seed,
                    c->batch, j);
        }
    }
}

static void compare_trace(call *c, pq_program *program, const pq_exec *exec,
                          const interpretation *in) {
    const build *b = c->program;
    void *values[BUILD_VALUES] = {NULL};
    pq_attention_trace attention[BUILD_INSTRUCTIONS] = {{NULL, NULL, NULL}};
    size_t rows[BUILD_INSTRUCTIONS] = {0}, scores[BUILD_INSTRUCTIONS] = {0};
    for (size_t v = 0; v < b->value_count; v++) {
        values[v] = b->values[v].kind == PQ_VALUE_CONST
                        ? NULL
                        : build_block(call_bytes(&b->values[v], c->batch));
    }
    for (size_t i = 0; i < b->instruction_count; i++) {
        if (b->instructions[i].opcode == PQ_OP_ATTENTION) {
            rows[i] = interpret_scores(&b->instructions[i]) *
                      (b->values[b->instructions[i].output].batched ? c->batch : 1);
            scores[i] = rows[i] * (size_t)build_get(&b->instructions[i], "k_len");
            attention[i].score = build_block(scores[i] * sizeof(int32_t));
            attention[i].p = build_block(scores[i] * sizeof(uint16_t));
            attention[i].l = build_block(rows[i] * sizeof(uint32_t));
        }
    }
    call_fill(c, 0x33);
    CHECK_OK(pq_program_trace(program, exec, c->batch, (const void *const *)c->inputs, c->outputs,
                              values, attention));
    for (size_t v = 0; v < b->value_count; v++) {
        if (values[v] != NULL) {
            CHECK_SAME(values[v], in->values[v], call_bytes(&b->values[v], c->batch));
        }
        free(values[v]);
    }
    for (size_t i = 0; i < b->instruction_count; i++) {
        CHECK_SAME(attention[i].score, in->attention[i].score, scores[i] * sizeof(int32_t));
        CHECK_SAME(attention[i].p, in->attention[i].p, scores[i] * sizeof(uint16_t));
        CHECK_SAME(attention[i].l, in->attention[i].l, rows[i] * sizeof(uint32_t));
        free(attention[i].score);
        free(attention[i].p);
        free(attention[i].l);
    }
}

/* A shadow of the arena and of the outputs, one tag per byte: the value last written there. Every
 * operand must still be whole when it is read, which proves liveness and offsets together. */
typedef struct shadow {
    const pq_program *program;
    const pq_engine_schedule *schedule;
    size_t batch;
    size_t *arena, *outputs[BUILD_OUTPUTS];
    size_t root[BUILD_VALUES]; /* reshaped values have the tag of what they reshape */
} shadow;

static size_t *shadow_at(const shadow *s, size_t value, size_t *bytes) {
    const pq_engine_storage *storage = &s->schedule->storages[s->schedule->storage_of[value]];
    *bytes = call_bytes(&s->program->values[value], s->batch);
    switch (storage->place) {
    case PQ_PLACE_FIXED: return s->arena + storage->offset;
    case PQ_PLACE_BATCHED: return s->arena + s->schedule->fixed_size + storage->offset * s->batch;
    case PQ_PLACE_OUTPUT: return s->outputs[storage->slot];
    case PQ_PLACE_INPUT:
    case PQ_PLACE_CONST: break;
    }
    return NULL;
}

static size_t shadow_tag(const shadow *s, size_t value) {
    return s->program->values[value].kind == PQ_VALUE_TEMP ? s->root[value] : 0;
}

static void shadow_expect(const shadow *s, size_t value) {
    size_t bytes;
    const size_t *at = shadow_at(s, value, &bytes), tag = shadow_tag(s, value);
    bool whole = true;
    for (size_t i = 0; at != NULL && i < bytes; i++) {
        whole = whole && at[i] == tag;
    }
    CHECK(whole);
}

static void shadow_run(shadow *s, const pq_engine_node *node) {
    const pq_program *program = s->program;
    size_t read[2 * PQ_MAX_INPUTS];
    const int count = pq_engine_operands(program, node, read);
    for (int n = 0; n < count; n++) {
        shadow_expect(s, read[n]);
    }
    const size_t output = (size_t)program->instructions[node->consumer].output;
    s->root[output] = output;
    if (program->instructions[node->consumer].opcode == PQ_OP_RESHAPE) {
        s->root[output] = shadow_tag(s, read[0]);
        return;
    }
    size_t bytes;
    size_t *at = shadow_at(s, output, &bytes);
    CHECK(at != NULL);
    for (size_t k = 0; k < bytes; k++) {
        at[k] = output;
    }
    /* A product reads its operands until the last of y is written. */
    for (int slot = 0; slot < PQ_MAX_INPUTS && node->fusion != NULL; slot++) {
        const int64_t input = program->instructions[node->instruction].inputs[slot];
        if (input >= 0) {
            shadow_expect(s, (size_t)input);
        }
    }
}

static void test_plan(const pq_program *program, const pq_engine_schedule *schedule, size_t batch) {
    const size_t arena = schedule->fixed_size + schedule->sample_size * batch;
    shadow s = {.program = program,
                .schedule = schedule,
                .batch = batch,
                .arena = build_block(arena * sizeof(size_t))};
    memset(s.arena, 0xff, arena * sizeof(size_t));
    for (size_t j = 0; j < program->output_count; j++) {
        const size_t bytes = call_bytes(&program->values[program->outputs[j]], batch);
        s.outputs[j] = build_block(bytes * sizeof(size_t));
    }
    for (size_t i = 0; i < schedule->storage_count; i++) {
        const pq_engine_storage *storage = &schedule->storages[i];
        const bool batched = storage->place == PQ_PLACE_BATCHED;
        CHECK_EQ(storage->offset % 64, 0);
        if (batched || storage->place == PQ_PLACE_FIXED) {
            CHECK(storage->offset + storage->size <=
                  (batched ? schedule->sample_size : schedule->fixed_size));
        }
    }
    /* Unbatched nodes once, then two slices. */
    for (size_t i = 0; i < schedule->unbatched_count; i++) {
        shadow_run(&s, &schedule->nodes[i]);
    }
    for (int slice = 0; slice < 2; slice++) {
        for (size_t i = schedule->unbatched_count; i < schedule->node_count; i++) {
            shadow_run(&s, &schedule->nodes[i]);
        }
        for (size_t j = 0; j < program->output_count; j++) {
            shadow_expect(&s, program->outputs[j]);
        }
    }
    for (size_t j = 0; j < program->output_count; j++) {
        free(s.outputs[j]);
    }
    free(s.arena);
}

/* How often a table, an ADD's first and its second operand were run with what made them. */
static void count_fusions(const pq_program *program, long fused[3]) {
    CHECK_EQ(program->plain.node_count, program->instruction_count);
    for (size_t i = 0; i < program->fused.node_count; i++) {
        const pq_engine_node *node = &program->fused.nodes[i];
        if (node->fusion != NULL) {
            const bool add = program->instructions[node->consumer].opcode == PQ_OP_ADD;
            fused[add ? 1 + node->slot : 0]++;
        }
    }
}

static void test_random(uint64_t seed, long used[PQ_OPCODE_COUNT], long fused[3]) {
    static const size_t batches[] = {0, 1, 2, 5, 64};
    build b;
    random_program(&b, seed, 24);
    const pq_program_desc desc = build_desc(&b);
    pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_program *program = NULL;
    if (!CHECK_OK(pq_program_create(&exec, &desc, &program))) {
        fprintf(stderr, "seed %llu: %s\n", (unsigned long long)seed, message);
        build_free(&b);
        return;
    }
    for (size_t i = 0; i < b.instruction_count; i++) {
        used[b.instructions[i].opcode]++;
    }
    count_fusions(program, fused);
    for (size_t n = 0; n < sizeof batches / sizeof batches[0]; n++) {
        const size_t batch = batches[n];
        if (batch == 64 && seed % 8 != 0) {
            continue;
        }
        call c;
        interpretation in;
        call_make(&c, &b, batch, seed * 31 + batch, true);
        interpret(&in, &b, batch, (const void *const *)c.inputs);
        test_plan(program, &program->fused, batch);
        test_plan(program, &program->plain, batch);
        /* At once, sample by sample, and in slices between; then on two threads. */
        const size_t sizes[] = {SIZE_MAX, 0, 3 * program->fused.sample_size};
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            pq_program_set_slice_bytes(program, sizes[i]);
            call_fill(&c, i % 2 ? 0x55 : 0xaa);
            CHECK_OK(call_run(&c, program, &exec));
            compare_outputs(&c, &in, seed);
            compare_trace(&c, program, &exec, &in);
            compare_outputs(&c, &in, seed);
        }
        const pq_exec threads = pq_exec_openmp(2, message, sizeof message);
        CHECK_OK(call_run(&c, program, &threads));
        compare_outputs(&c, &in, seed);
        interpret_free(&in);
        call_free(&c);
    }
    CHECK_EQ(pq_program_context_count(program), 1);
    pq_program_free(program);
    build_free(&b);
}

/* ---- working memory and failures ---- */

static pq_status interrupted_for(const pq_exec *exec, size_t count, size_t grain, pq_range_fn body,
                                 void *task) {
    (void)count, (void)grain, (void)body, (void)task;
    return pq_fail(exec, PQ_ERR_INTERRUPTED, "interrupted");
}

static void test_steady_state(void) {
    const long before = pq_alloc_live();
    for (uint64_t seed = 1000; seed < 1040; seed++) {
        build b;
        random_program(&b, seed, 24);
        const pq_program_desc desc = build_desc(&b);
        pq_exec exec = pq_exec_serial(message, sizeof message);
        pq_program *program = NULL;
        CHECK_OK(pq_program_create(&exec, &desc, &program));
        call large, small, bad;
        call_make(&large, &b, 7, seed, true);
        call_make(&small, &b, 3, seed, true);
        call_make(&bad, &b, 7, seed, false); /* indices out of range, where it has a gather */
        CHECK_OK(call_run(&large, program, &exec));
        const long live = pq_alloc_live();
        pq_alloc_fail_after(0); /* from here on an allocation would fail */
        CHECK_OK(call_run(&large, program, &exec));
        CHECK_OK(call_run(&small, program, &exec));
        const pq_status status = call_run(&bad, program, &exec);
        CHECK(status == PQ_OK || status == PQ_ERR_INDEX);
        if (status == PQ_ERR_INDEX) {
            CHECK_TEXT(message, "(gather): ");
        }
        exec.parallel_for = interrupted_for;
        const pq_status stopped = call_run(&large, program, &exec);
        CHECK(stopped == PQ_ERR_INTERRUPTED || stopped == PQ_OK /* nothing to do */);
        exec = pq_exec_serial(message, sizeof message);
        CHECK_OK(call_run(&large, program, &exec));
        pq_alloc_fail_after(-1);
        CHECK_EQ(pq_alloc_live(), live);
        CHECK_EQ(pq_program_context_count(program), 1);
        call_free(&large);
        call_free(&small);
        call_free(&bad);
        pq_program_free(program);
        build_free(&b);
    }
    CHECK_EQ(pq_alloc_live(), before);
}

static void test_calls(void) {
    build b = {0};
    const int64_t x = build_value(&b, PQ_VALUE_INPUT, PQ_S32, true, 4);
    const int64_t y = build_value(&b, PQ_VALUE_TEMP, PQ_S32, true, 4);
    build_emit(&b, PQ_OP_RESHAPE, y)->inputs[0] = x;
    b.outputs[b.output_count++] = y;
    b.outputs[b.output_count++] = x;
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const pq_program_desc desc = build_desc(&b);
    pq_program *program = NULL;
    CHECK_OK(pq_program_create(&exec, &desc, &program));
    int32_t data[9] = {1, 2, 3, 4, 5, 6, 7, 8, 0}, first[8] = {0}, second[8] = {0};
    const void *inputs[] = {data};
    void *outputs[] = {first, second};
    CHECK_OK(pq_program_run(program, &exec, 2, inputs, outputs));
    CHECK_SAME(first, data, sizeof first);
    CHECK_SAME(second, data, sizeof second);
    const void *nothing[] = {NULL};
    void *nowhere[] = {NULL, NULL};
    CHECK_OK(pq_program_run(program, &exec, 0, nothing, nowhere));
    CHECK_STATUS(pq_program_run(program, &exec, 1, NULL, outputs), PQ_ERR_VALUE);
    CHECK_STATUS(pq_program_run(program, &exec, SIZE_MAX / 8, inputs, outputs), PQ_ERR_OVERFLOW);
    CHECK_TEXT(message, "too large");
    const void *missing[] = {NULL}, *odd[] = {(const char *)data + 1};
    CHECK_STATUS(pq_program_run(program, &exec, 1, missing, outputs), PQ_ERR_VALUE);
    CHECK_TEXT(message, "program: input 0 is missing");
    CHECK_STATUS(pq_program_run(program, &exec, 1, odd, outputs), PQ_ERR_VALUE);
    CHECK_TEXT(message, "program: input 0 is not aligned");
    pq_program_free(program);
    pq_program_free(NULL);
    build_free(&b);
}

int main(void) {
    long used[PQ_OPCODE_COUNT] = {0}, fused[3] = {0};
    test_by_hand();
    for (uint64_t seed = 1; seed <= 200; seed++) {
        test_random(seed, used, fused);
    }
    for (int op = 0; op < PQ_OPCODE_COUNT; op++) {
        CHECK(used[op] >= 50);
    }
    CHECK(fused[0] >= 10 && fused[1] >= 10 && fused[2] >= 10);
    test_steady_state();
    test_calls();
    return check_finish("test_engine");
}
