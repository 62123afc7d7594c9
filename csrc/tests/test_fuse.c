/* Which instructions run as one, what that saves, and what keeps them apart. test_engine compares
 * the bits of random programs; here each rule has a program that only it decides. */
#include "engine/program_internal.h"
#include "engine_call.h"
#include "engine_interpret.h"

enum { SIDE = 8 }; /* rows, n and k of every product: all values have the same size */

static char message[512];

static int64_t add_product(build *b, int64_t x, pq_dtype type) {
    const int64_t y = build_value(b, PQ_VALUE_TEMP, type, true, SIDE * SIDE);
    pq_instruction *gemm = build_emit(b, PQ_OP_GEMM, y);
    gemm->inputs[0] = x;
    gemm->inputs[1] = build_random_constant(b, PQ_S8, SIDE * SIDE, -128, 127);
    if (type != PQ_S32) {
        gemm->inputs[3] = build_random_constant(b, PQ_S32, SIDE, 1 << 30, INT32_MAX);
        gemm->inputs[4] = build_random_constant(b, PQ_U8, SIDE, 36, 38);
        build_set_clamp(b, gemm, type);
    }
    build_set(gemm, "n", SIDE);
    build_set(gemm, "k", SIDE);
    return y;
}

static int64_t add_sum(build *b, int64_t left, int64_t right, pq_dtype type) {
    const int64_t y = build_value(b, PQ_VALUE_TEMP, type, true, SIDE * SIDE);
    random_add_of(b, left, right);
    pq_instruction *add = &b->instructions[b->instruction_count - 1];
    b->value_count--; /* random_add_of made a value of a random type */
    add->output = y;
    build_set_clamp(b, add, type);
    return y;
}

static int64_t add_table(build *b, int64_t x) {
    random_table_of(b, x);
    return (int64_t)b->value_count - 1;
}

/* Runs the program against the interpreter; returns how many nodes are fused. */
static int check_program(build *b, size_t arena) {
    const pq_program_desc desc = build_desc(b);
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_program *program = NULL;
    if (!CHECK_OK(pq_program_create(&exec, &desc, &program))) {
        fprintf(stderr, "%s\n", message);
        return -1;
    }
    call c;
    interpretation in;
    call_make(&c, b, 3, 7, true);
    interpret(&in, b, c.batch, (const void *const *)c.inputs);
    CHECK_OK(call_run(&c, program, &exec));
    for (size_t j = 0; j < b->output_count; j++) {
        CHECK_SAME(c.outputs[j], in.values[b->outputs[j]], call_output_bytes(&c, j));
    }
    int fused = 0;
    for (size_t i = 0; i < program->fused.node_count; i++) {
        fused += program->fused.nodes[i].fusion != NULL;
    }
    CHECK_EQ(pq_program_arena_size(program), arena);
    interpret_free(&in);
    call_free(&c);
    pq_program_free(program);
    build_free(b);
    return fused;
}

static build begin(uint64_t seed, int64_t *x, int64_t *stream) {
    build b = {.random = seed};
    *x = build_value(&b, PQ_VALUE_INPUT, PQ_S8, true, SIDE * SIDE);
    *stream = build_value(&b, PQ_VALUE_INPUT, PQ_S16, true, SIDE * SIDE);
    return b;
}

static void end(build *b, int64_t output) {
    b->outputs[b->output_count++] = output;
}

static void test_what_is_fused(void) {
    int64_t x, stream;
    build b = begin(1, &x, &stream);
    end(&b, add_table(&b, add_product(&b, x, PQ_S8)));
    CHECK_EQ(check_program(&b, 0), 1);
    for (int turned = 0; turned < 2; turned++) {
        for (int wide = 0; wide < 2; wide++) {
            b = begin(2, &x, &stream);
            const int64_t product = add_product(&b, x, wide ? PQ_S16 : PQ_S8);
            end(&b, turned ? add_sum(&b, stream, product, PQ_S16)
                           : add_sum(&b, product, stream, PQ_S16));
            CHECK_EQ(check_program(&b, 0), 1);
        }
    }
    /* Reshapes between them. */
    b = begin(3, &x, &stream);
    int64_t value = add_product(&b, x, PQ_S8);
    for (int i = 0; i < 2; i++) {
        const int64_t reshaped = build_value(&b, PQ_VALUE_TEMP, PQ_S8, true, SIDE * SIDE);
        build_emit(&b, PQ_OP_RESHAPE, reshaped)->inputs[0] = value;
        value = reshaped;
    }
    end(&b, add_sum(&b, stream, value, PQ_S8));
    CHECK_EQ(check_program(&b, 0), 1);
    /* Of two products that meet, one is stored. */
    b = begin(4, &x, &stream);
    const int64_t left = add_product(&b, x, PQ_S8), right = add_product(&b, x, PQ_S8);
    end(&b, add_sum(&b, left, right, PQ_S16));
    CHECK_EQ(check_program(&b, SIDE * SIDE), 1);
}

static void test_what_is_not(void) {
    int64_t x, stream;
    build b = begin(5, &x, &stream); /* the product is an output */
    int64_t product = add_product(&b, x, PQ_S8);
    end(&b, add_table(&b, product));
    end(&b, product);
    CHECK_EQ(check_program(&b, 0), 0);
    b = begin(6, &x, &stream); /* two instructions read it */
    product = add_product(&b, x, PQ_S8);
    end(&b, add_table(&b, product));
    end(&b, add_sum(&b, product, stream, PQ_S16));
    CHECK_EQ(check_program(&b, SIDE * SIDE), 0);
    b = begin(7, &x, &stream); /* one reads it twice */
    product = add_product(&b, x, PQ_S8);
    end(&b, add_sum(&b, product, product, PQ_S16));
    CHECK_EQ(check_program(&b, SIDE * SIDE), 0);
    b = begin(8, &x, &stream); /* a reshape of it is an output */
    product = add_product(&b, x, PQ_S8);
    const int64_t reshaped = build_value(&b, PQ_VALUE_TEMP, PQ_S8, true, SIDE * SIDE);
    build_emit(&b, PQ_OP_RESHAPE, reshaped)->inputs[0] = product;
    end(&b, add_table(&b, reshaped));
    end(&b, reshaped);
    CHECK_EQ(check_program(&b, 0), 0);
    b = begin(9, &x, &stream); /* the other operand repeats */
    product = add_product(&b, x, PQ_S8);
    end(&b, add_sum(&b, product, build_random_constant(&b, PQ_S8, SIDE, -128, 127), PQ_S16));
    CHECK_EQ(check_program(&b, SIDE * SIDE), 0);
    b = begin(10, &x, &stream); /* the other operand is there once for all samples */
    product = add_product(&b, x, PQ_S8);
    end(&b, add_sum(&b, product, build_random_constant(&b, PQ_S8, SIDE * SIDE, -128, 127), PQ_S16));
    CHECK_EQ(check_program(&b, SIDE * SIDE), 0);
    b = begin(11, &x, &stream); /* accumulators cannot be added */
    end(&b, add_product(&b, x, PQ_S32));
    end(&b, x);
    CHECK_EQ(check_program(&b, 0), 0);
}

/* A residual block works in place on the stream; a sum with the product's own operand must not. */
static void test_in_place(void) {
    int64_t x, stream;
    build b = begin(12, &x, &stream);
    stream = add_sum(&b, x, stream, PQ_S16);
    for (int i = 0; i < 3; i++) {
        stream = add_sum(&b, stream, add_product(&b, x, PQ_S16), PQ_S16);
    }
    end(&b, stream);
    CHECK_EQ(check_program(&b, 0), 3); /* all of it in the caller's output */
    b = begin(13, &x, &stream);
    x = add_table(&b, x);
    end(&b, add_table(&b, add_sum(&b, add_product(&b, x, PQ_S8), x, PQ_S8)));
    CHECK_EQ(check_program(&b, SIDE * SIDE), 1); /* x beside the output */
    b = begin(14, &x, &stream);
    x = add_table(&b, x);
    const int64_t reshaped = build_value(&b, PQ_VALUE_TEMP, PQ_S8, true, SIDE * SIDE);
    build_emit(&b, PQ_OP_RESHAPE, reshaped)->inputs[0] = x;
    end(&b, add_table(&b, add_sum(&b, reshaped, add_product(&b, x, PQ_S8), PQ_S8)));
    CHECK_EQ(check_program(&b, SIDE * SIDE), 1);
}

/* The consumer comes after another instruction has used up memory: operands stay until then. */
static void test_late_consumer(void) {
    int64_t x, stream;
    build b = begin(15, &x, &stream);
    const int64_t h = add_table(&b, x), product = add_product(&b, h, PQ_S8);
    int64_t other = add_sum(&b, x, stream, PQ_S16);
    for (int i = 0; i < 4; i++) {
        other = add_sum(&b, other, x, i % 2 ? PQ_S16 : PQ_S8);
    }
    end(&b, add_sum(&b, product, other, PQ_S16));
    CHECK_EQ(check_program(&b, SIDE * SIDE * 4), 1);
}

static void test_steps(void) {
    int64_t x, stream;
    build b = begin(16, &x, &stream);
    const int64_t h = add_table(&b, add_product(&b, x, PQ_S8));
    end(&b, add_sum(&b, stream, add_product(&b, h, PQ_S16), PQ_S16));
    const pq_program_desc desc = build_desc(&b);
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_program *program = NULL;
    CHECK_OK(pq_program_create(&exec, &desc, &program));
    CHECK_EQ(pq_program_step_count(program), 2);
    pq_program_step steps[2];
    pq_program_steps(program, 3, steps);
    const int64_t area = SIDE * SIDE, weights = area + SIDE * 4 + SIDE;
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(steps[i].instruction, 2 * i);
        CHECK_EQ(steps[i].consumer, 2 * i + 1);
        CHECK_EQ(steps[i].macs, 3 * area * SIDE);
    }
    CHECK_EQ(steps[0].bytes, 3 * area * 2); /* x and the table's result */
    CHECK_EQ(steps[0].constant_bytes, weights + 256);
    CHECK_EQ(steps[1].bytes, 3 * area * (1 + 2 + 2));
    CHECK_EQ(steps[1].constant_bytes, weights);
    call c;
    call_make(&c, &b, 3, 17, true);
    CHECK_OK(call_run(&c, program, &exec));
    char want[3 * SIDE * SIDE * 2];
    memcpy(want, c.outputs[0], sizeof want);
    call_fill(&c, 0x55);
    uint64_t times[2] = {0, 0};
    CHECK_OK(
        pq_program_profile(program, &exec, 3, (const void *const *)c.inputs, c.outputs, times));
    CHECK_SAME(c.outputs[0], want, sizeof want);
    CHECK(times[0] > 0 && times[1] > 0);
    const long live = pq_alloc_live();
    pq_alloc_fail_after(0);
    CHECK_STATUS(
        pq_program_profile(program, &exec, 3, (const void *const *)c.inputs, c.outputs, times),
        PQ_ERR_NOMEM);
    CHECK_EQ(pq_alloc_live(), live);
    call_free(&c);
    pq_program_free(program);
    build_free(&b);
}

int main(void) {
    test_what_is_fused();
    test_what_is_not();
    test_in_place();
    test_late_consumer();
    test_steps();
    return check_finish("test_fuse");
}
