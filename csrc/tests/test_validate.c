/* Each rule of the validator, broken one at a time in a valid program: the status, the instruction
 * and the sentence. */
#include "engine_build.h"
#include "pyquant/layernorm.h"

static char message[512];

static void expect(const build *b, const char *sentence) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const pq_program_desc desc = build_desc(b);
    pq_program *program = NULL;
    message[0] = '\0';
    const pq_status status = pq_program_create(&exec, &desc, &program);
    if (sentence == NULL) {
        if (!CHECK_OK(status)) {
            fprintf(stderr, "%s\n", message);
        }
    } else {
        CHECK_STATUS(status, PQ_ERR_PROGRAM);
        CHECK(program == NULL);
        CHECK_TEXT(message, sentence);
    }
    pq_program_free(program);
}

/* Changes one int64, expects the sentence, and puts the old value back. */
#define BREAK(field, value, sentence) \
    do { \
        const int64_t kept = (field); \
        (field) = (value); \
        expect(&b, sentence); \
        (field) = kept; \
    } while (0)

#define ATTR(instruction, name) (instruction)->attrs[build_attr((instruction)->opcode, name)]

/* Values of the sample program. */
enum { X, W, BIAS, MULTIPLIER, SHIFT, H, T, TABLE, S, Y, VALUE_COUNT };

/* x [2, 3] -> gemm [2, 2] -> table -> add (s16) -> mean */
static void sample(build *b) {
    const int8_t w[6] = {1, 2, 3, -4, -5, -6};
    const int32_t bias[2] = {7, -7}, multiplier[2] = {1 << 30, 1 << 30};
    const uint8_t shift[2] = {33, 34};
    const int8_t table[256] = {0};
    memset(b, 0, sizeof *b);
    build_value(b, PQ_VALUE_INPUT, PQ_S8, true, 6);
    build_constant(b, PQ_S8, w, 6);
    build_constant(b, PQ_S32, bias, 2);
    build_constant(b, PQ_S32, multiplier, 2);
    build_constant(b, PQ_U8, shift, 2);
    build_value(b, PQ_VALUE_TEMP, PQ_S8, true, 4);
    build_value(b, PQ_VALUE_TEMP, PQ_S8, true, 4);
    build_constant(b, PQ_S8, table, 256);
    build_value(b, PQ_VALUE_TEMP, PQ_S16, true, 4);
    build_value(b, PQ_VALUE_TEMP, PQ_S16, true, 2);
    pq_instruction *i = build_emit(b, PQ_OP_GEMM, H);
    for (int slot = 0; slot < 5; slot++) {
        i->inputs[slot] = X + slot;
    }
    build_set(i, "n", 2);
    build_set(i, "k", 3);
    build_set(i, "quant_min", -128);
    build_set(i, "quant_max", 127);
    i = build_emit(b, PQ_OP_TABLE, T);
    i->inputs[0] = H;
    i->inputs[1] = TABLE;
    i = build_emit(b, PQ_OP_ADD, S);
    i->inputs[0] = H;
    i->inputs[1] = T;
    build_set(i, "a_multiplier", 1 << 30);
    build_set(i, "b_multiplier", 1 << 30);
    build_set(i, "shift", 30);
    build_set(i, "quant_min", -32768);
    build_set(i, "quant_max", 32767);
    i = build_emit(b, PQ_OP_MEAN, Y);
    i->inputs[0] = S;
    build_set(i, "outer", 1);
    build_set(i, "reduce", 2);
    build_set(i, "inner", 2);
    build_set(i, "multiplier", 1 << 30);
    build_set(i, "shift", 31);
    build_set(i, "quant_min", -32768);
    build_set(i, "quant_max", 32767);
    b->outputs[b->output_count++] = Y;
}

static void test_lists(void) {
    build b;
    sample(&b);
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_program *program = NULL;
    pq_program_desc desc = build_desc(&b);
    desc.values = NULL;
    CHECK_STATUS(pq_program_create(&exec, &desc, &program), PQ_ERR_PROGRAM);
    CHECK_TEXT(message, "no list of 10");
    desc = build_desc(&b);
    desc.output_count = 0;
    CHECK_STATUS(pq_program_create(&exec, &desc, &program), PQ_ERR_PROGRAM);
    CHECK_TEXT(message, "program: expected 1 to 65536 outputs, got 0");
    desc = build_desc(&b);
    desc.instruction_count = SIZE_MAX;
    CHECK_STATUS(pq_program_create(&exec, &desc, &program), PQ_ERR_PROGRAM);
    CHECK_TEXT(message, "65536 instructions");
    build_free(&b);
}

static void test_values(void) {
    build b;
    sample(&b);
    expect(&b, NULL);
    BREAK(b.values[X].kind, 3, "program: value 0: expected kind in [0, 2], got 3");
    BREAK(b.values[X].dtype, 0, "program: value 0: expected dtype in [1, 5], got 0");
    BREAK(b.values[H].batched, 2, "program: value 5: expected batched in [0, 1], got 2");
    BREAK(b.values[H].size, -1, "program: value 5: expected size in [0, 1099511627776], got -1");
    BREAK(b.values[H].size, INT64_MAX, "program: value 5: expected size in");
    BREAK(b.values[W].batched, 1, "program: value 1: a constant cannot be batched");
    BREAK(b.values[W].size, 5, "program: value 1: expected a constant of 5 bytes, got 6");
    BREAK(b.values[W].kind, PQ_VALUE_INPUT, "program: value 1: only a constant may have data");
    BREAK(b.values[X].kind, PQ_VALUE_CONST, "program: value 0: a constant cannot be batched");
    BREAK(b.outputs[0], VALUE_COUNT, "program: expected output 0 in [0, 10), got 10");
    BREAK(b.outputs[0], -1, "program: expected output 0 in [0, 10), got -1");
    char odd[32];
    void *const kept = b.constants[BIAS];
    b.constants[BIAS] = (uintptr_t)odd % 4 == 0 ? odd + 1 : odd + (4 - (uintptr_t)odd % 4) + 1;
    expect(&b, "program: value 2: the constant is not aligned");
    b.constants[BIAS] = kept;
    build_value(&b, PQ_VALUE_TEMP, PQ_S8, false, 1);
    expect(&b, "program: value 10: nothing writes it");
    build_free(&b);
}

static void test_structure(void) {
    build b;
    sample(&b);
    pq_instruction *gemm = &b.instructions[0], *table = &b.instructions[1];
    pq_instruction *add = &b.instructions[2], *mean = &b.instructions[3];
    BREAK(gemm->opcode, PQ_OPCODE_COUNT, "program: instruction 0 (unknown): expected an opcode");
    BREAK(gemm->opcode, -1, "program: instruction 0 (unknown): expected an opcode");
    BREAK(gemm->inputs[0], -1, "instruction 0 (gemm): expected input 0 in [0, 10), got -1");
    BREAK(gemm->inputs[0], -2, "instruction 0 (gemm): expected input 0 in [0, 10), got -2");
    BREAK(gemm->inputs[2], 10, "instruction 0 (gemm): expected input 2 in [0, 10), got 10");
    BREAK(gemm->inputs[2], -2, "instruction 0 (gemm): expected input 2 in [0, 10), got -2");
    BREAK(gemm->inputs[5], 0, "instruction 0 (gemm): expected -1 for input 5 of at most 5, got 0");
    BREAK(gemm->inputs[0], T, "input 0 is value 6, which nothing has written yet");
    BREAK(gemm->inputs[0], H, "input 0 is value 5, which nothing has written yet");
    BREAK(gemm->inputs[0], BIAS, "instruction 0 (gemm): input 0 cannot have type 4");
    BREAK(gemm->inputs[1], X, "instruction 0 (gemm): input 1 must be a constant");
    BREAK(table->output, H, "instruction 1 (table): output 5 was written before");
    BREAK(table->output, X, "instruction 1 (table): output 0 is an input or a constant");
    BREAK(table->output, TABLE, "instruction 1 (table): output 7 is an input or a constant");
    BREAK(table->output, 1 << 20, "instruction 1 (table): expected an output in [0, 10)");
    BREAK(table->output, S, "instruction 1 (table): the output cannot have type 3");
    BREAK(b.values[H].batched, 0, "(gemm): an input is batched, the output is not");
    BREAK(b.values[X].batched, 0, "(gemm): the output is batched, no input is");
    BREAK(ATTR(gemm, "k"), 0, "(gemm): expected k in [1, 1099511627776], got 0");
    BREAK(ATTR(mean, "shift"), 63, "(mean): expected shift in [1, 62], got 63");
    BREAK(ATTR(add, "b_zero_point"), 40000, "(add): expected b_zero_point in [-32768, 32767]");
    BREAK(gemm->attrs[6], 1, "(gemm): expected 0 for the unused attribute 6, got 1");
    BREAK(table->attrs[0], -1, "(table): expected 0 for the unused attribute 0, got -1");
    build_free(&b);
}

static void test_families(void) {
    build b;
    sample(&b);
    pq_instruction *gemm = &b.instructions[0], *table = &b.instructions[1];
    pq_instruction *add = &b.instructions[2], *mean = &b.instructions[3];
    BREAK(ATTR(gemm, "n"), 3, "(gemm): expected input 1 of 9 elements, got 6");
    BREAK(b.values[X].size, 7, "(gemm): expected input 0 of rows x 3 elements, got 7");
    BREAK(b.values[H].size, 5, "(gemm): expected an output of 4 elements, got 5");
    BREAK(gemm->inputs[3], -1, "(gemm): multiplier and shift go with an s8 or s16 output");
    BREAK(gemm->inputs[4], -1, "(gemm): multiplier and shift go with an s8 or s16 output");
    BREAK(ATTR(gemm, "n"), PQ_MAX_VALUE_SIZE, "(gemm): n * k is too large");
    ((int32_t *)b.constants[MULTIPLIER])[1] = 5;
    expect(&b, "(gemm): gemm_s8s8: column 1: expected multiplier in [2^30, 2^31), got 5");
    ((int32_t *)b.constants[MULTIPLIER])[1] = 1 << 30;
    ((int32_t *)b.constants[BIAS])[0] = INT32_MAX;
    expect(&b, "(gemm): gemm_s8s8: column 0: expected |bias| + 255 * sum |w| <= 2^31 - 1");
    ((int32_t *)b.constants[BIAS])[0] = 7;
    BREAK(table->inputs[1], W, "(table): expected input 1 of 256 elements, got 6");
    BREAK(ATTR(add, "a_multiplier"), 1 << 29, NULL); /* the larger of the two suffices */
    ATTR(add, "a_multiplier") = 1 << 29;
    BREAK(ATTR(add, "b_multiplier"), 1 << 29, "instruction 2 (add): add: ");
    BREAK(add->inputs[1], X, "(add): the 6 elements of input 1 do not divide the 4 of input 0");
    BREAK(ATTR(mean, "reduce"), 3, "(mean): expected input 0 of 6 elements, got 4");
    BREAK(ATTR(mean, "inner"), PQ_MAX_VALUE_SIZE, "(mean): outer * reduce * inner is too large");
    BREAK(ATTR(mean, "quant_min"), 1, "instruction 3 (mean): mean: ");
    build_free(&b);
}

/* x [2, 6] -> gemm_s8s4 [2, 1] in groups of 4, the second one short */
static void test_gemm_s8s4(void) {
    const uint8_t w[3] = {0x21, 0x43, 0x65}, factor[2] = {3, 255}, shift[1] = {40};
    const int32_t multiplier[1] = {1 << 30};
    build b;
    memset(&b, 0, sizeof b);
    const int64_t x = build_value(&b, PQ_VALUE_INPUT, PQ_S8, true, 12);
    const int64_t bytes = build_constant(&b, PQ_U8, w, 3);
    const int64_t factors = build_constant(&b, PQ_U8, factor, 2);
    const int64_t y = build_value(&b, PQ_VALUE_TEMP, PQ_S8, true, 2);
    pq_instruction *i = build_emit(&b, PQ_OP_GEMM_S8S4, y);
    i->inputs[0] = x;
    i->inputs[1] = bytes;
    i->inputs[3] = build_constant(&b, PQ_S32, multiplier, 1);
    i->inputs[4] = build_constant(&b, PQ_U8, shift, 1);
    i->inputs[5] = factors;
    build_set(i, "n", 1);
    build_set(i, "k", 6);
    build_set(i, "group_size", 4);
    build_set(i, "quant_min", -128);
    build_set(i, "quant_max", 127);
    b.outputs[b.output_count++] = y;
    expect(&b, NULL);
    BREAK(ATTR(i, "k"), 7, "(gemm_s8s4): expected input 1 of 4 elements, got 3");
    BREAK(ATTR(i, "k"), 4, "(gemm_s8s4): expected input 1 of 2 elements, got 3");
    BREAK(ATTR(i, "k"), 5, "(gemm_s8s4): expected input 0 of rows x 5 elements, got 12");
    BREAK(ATTR(i, "n"), 2, "(gemm_s8s4): expected input 1 of 6 elements, got 3");
    BREAK(ATTR(i, "n"), PQ_MAX_VALUE_SIZE, "(gemm_s8s4): n * k is too large");
    BREAK(ATTR(i, "group_size"), 0, "(gemm_s8s4): group_multiplier goes with a group_size");
    BREAK(ATTR(i, "group_size"), 8, "(gemm_s8s4): expected input 5 of 1 elements, got 2");
    BREAK(ATTR(i, "group_size"), 3, "(gemm_s8s4): gemm_s8s4: expected group_size to be 0 or");
    BREAK(ATTR(i, "group_size"), -4, "(gemm_s8s4): expected group_size in [0, ");
    BREAK(i->inputs[5], -1, "(gemm_s8s4): group_multiplier goes with a group_size");
    BREAK(i->inputs[5], i->inputs[3], "(gemm_s8s4): input 5 cannot have type 4");
    BREAK(i->inputs[1], x, "(gemm_s8s4): input 1 cannot have type 1");
    BREAK(i->inputs[4], -1, "(gemm_s8s4): multiplier and shift go with an s8 or s16 output");
    ((uint8_t *)b.constants[factors])[1] = 0;
    expect(&b, "(gemm_s8s4): gemm_s8s4: column 0: expected group_multiplier in [1, 255], got 0");
    build_free(&b);
}

static void test_layernorm(void) {
    enum { LX, GAIN, OFFSET, ALPHA, EXPONENT, SHORT, LY };
    const int32_t gain[4] = {1 << 30, 0, -(1 << 30), INT32_MAX};
    const int64_t offset[4] = {0, 1, 2, 3};
    uint8_t alpha[4] = {0, 1, 2, 3};
    const uint8_t exponent[4] = {36, 1, 9, 20};
    build b;
    memset(&b, 0, sizeof b);
    build_value(&b, PQ_VALUE_INPUT, PQ_S16, true, 8);
    build_constant(&b, PQ_S32, gain, 4);
    build_constant(&b, PQ_S64, offset, 4);
    build_constant(&b, PQ_U8, alpha, 4);
    build_constant(&b, PQ_U8, exponent, 4);
    build_constant(&b, PQ_U8, exponent, 3);
    build_value(&b, PQ_VALUE_TEMP, PQ_S8, true, 8);
    pq_instruction *i = build_emit(&b, PQ_OP_LAYERNORM, LY);
    for (int slot = 0; slot < 3; slot++) {
        i->inputs[slot] = slot;
    }
    build_set(i, "channels", 4);
    build_set(i, "shift", 32);
    build_set(i, "quant_min", -128);
    build_set(i, "quant_max", 127);
    b.outputs[b.output_count++] = LY;
    expect(&b, NULL);
    BREAK(ATTR(i, "method"), 5, "expected method in [0, 4], got 5");
    BREAK(ATTR(i, "method"), PQ_NORM_PTF, "alpha and exponent with method ptf");
    BREAK(ATTR(i, "iterations"), 3, "expected iterations 0 for a method without them, got 3");
    BREAK(i->inputs[ALPHA], ALPHA, "expected factors of channels only with method ptf");
    BREAK(ATTR(i, "ptf_shift"), 40, "expected factors of channels only with method ptf");
    build_set(i, "method", PQ_NORM_IVIT);
    BREAK(ATTR(i, "iterations"), 17, "expected iterations in [0, 16], got 17");
    BREAK(ATTR(i, "iterations"), 0, "expected iterations in [1, 16], got 0");
    build_set(i, "iterations", 5);
    expect(&b, NULL);
    BREAK(ATTR(i, "epsilon"), 1, "epsilon <= 0");
    build_set(i, "method", PQ_NORM_PTF);
    build_set(i, "iterations", 0);
    build_set(i, "ptf_multiplier", 1 << 30);
    build_set(i, "ptf_shift", 36);
    i->inputs[ALPHA] = ALPHA;
    BREAK(i->inputs[EXPONENT], SHORT, "expected input 4 of 4 elements, got 3");
    BREAK(i->inputs[EXPONENT], GAIN, "input 4 cannot have type");
    i->inputs[EXPONENT] = EXPONENT;
    expect(&b, NULL);
    BREAK(ATTR(i, "shift"), 33, "expected a shift of 32");
    BREAK(ATTR(i, "ptf_shift"), 60, "one to 8 bits of at most 59, got 32 and 60");
    BREAK(ATTR(i, "ptf_multiplier"), 1, "a multiplier in [2^30, 2^31)");
    BREAK(ATTR(i, "ptf_zero_point"), 128, "expected ptf_zero_point in [-128, 127], got 128");
    ((uint8_t *)b.constants[ALPHA])[2] = 4;
    expect(&b, "alpha in [0, 3] and exponent in [1, 36], got 4 and 9 at [2]");
    build_free(&b);
}

static void test_copy(void) {
    build b;
    memset(&b, 0, sizeof b);
    build_value(&b, PQ_VALUE_INPUT, PQ_S32, true, 12);
    build_value(&b, PQ_VALUE_TEMP, PQ_S32, true, 6);
    pq_instruction *i = build_emit(&b, PQ_OP_COPY, 1);
    i->inputs[0] = 0;
    b.outputs[b.output_count++] = 1;
    build_set(i, "offset", 11);
    build_set(i, "ndim", 2);
    build_set(i, "dim0", 3);
    build_set(i, "stride0", -4);
    build_set(i, "dim1", 2);
    build_set(i, "stride1", -3);
    expect(&b, NULL); /* reads 11 .. 0 */
    BREAK(ATTR(i, "offset"), 12, "leave the 12 elements of input 0");
    BREAK(ATTR(i, "offset"), 10, "leave the 12 elements of input 0");
    BREAK(ATTR(i, "stride1"), -4, "leave the 12 elements of input 0");
    BREAK(ATTR(i, "stride0"), 1, "leave the 12 elements of input 0");
    BREAK(ATTR(i, "dim0"), 4, "expected an output of 8 elements, got 6");
    BREAK(ATTR(i, "dim0"), PQ_MAX_VALUE_SIZE, "the product of dim0..dim1 is too large");
    BREAK(ATTR(i, "dim2"), 1, "dim2 and stride2 must be 0 with ndim 2");
    BREAK(ATTR(i, "stride7"), 1, "dim7 and stride7 must be 0 with ndim 2");
    BREAK(b.values[1].dtype, PQ_S16, "expected an output of type 4 as input 0, got type 3");
    BREAK(b.values[0].batched, 0, NULL); /* repeats for every sample */
    BREAK(b.values[1].batched, 0, "an input is batched, the output is not");
    build_free(&b);
}

static void test_concat_gather(void) {
    build b;
    memset(&b, 0, sizeof b);
    const int8_t table[6] = {1, 2, 3, 4, 5, 6};
    build_value(&b, PQ_VALUE_INPUT, PQ_S32, true, 2); /* 0 */
    build_constant(&b, PQ_S8, table, 6);              /* 1: 3 rows of 2 */
    build_value(&b, PQ_VALUE_TEMP, PQ_S8, true, 4);   /* 2 */
    build_value(&b, PQ_VALUE_TEMP, PQ_S8, true, 10);  /* 3 */
    pq_instruction *gather = build_emit(&b, PQ_OP_GATHER, 2);
    gather->inputs[0] = 0;
    gather->inputs[1] = 1;
    build_set(gather, "rows", 3);
    build_set(gather, "inner", 2);
    pq_instruction *concat = build_emit(&b, PQ_OP_CONCAT, 3);
    concat->inputs[0] = 1;
    concat->inputs[1] = 2;
    build_set(concat, "outer", 1);
    b.outputs[b.output_count++] = 3;
    expect(&b, NULL);
    BREAK(ATTR(gather, "rows"), 4, "(gather): expected input 1 of 8 elements, got 6");
    BREAK(b.values[2].size, 5, "(gather): expected an output of 4 elements, got 5");
    BREAK(ATTR(concat, "outer"), 2, "(concat): the unbatched input 0 needs outer = 1, got 2");
    BREAK(ATTR(concat, "outer"), 4, "(concat): outer 4 does not divide the 6 elements of input 0");
    BREAK(concat->inputs[3], 2, "(concat): input 3 follows an absent input");
    BREAK(concat->inputs[1], 0, "(concat): expected input 1 of type 1, got type 4");
    BREAK(b.values[3].size, 11, "(concat): expected an output of 10 elements, got 11");
    build_free(&b);
}

/* fused q, k, v: [2 tokens][3][2 heads][2]; y [2 tokens][2 heads][2] */
static void test_attention(void) {
    build b;
    memset(&b, 0, sizeof b);
    int16_t table[32];
    for (int j = 0; j < 32; j++) {
        table[j] = (int16_t)(510 - 8 * j);
    }
    const int32_t mask[4] = {0, -PQ_MASK_ADD_LIMIT, PQ_MASK_ADD_LIMIT, 3};
    build_value(&b, PQ_VALUE_INPUT, PQ_S8, true, 24);
    build_constant(&b, PQ_S16, table, 32);
    build_value(&b, PQ_VALUE_TEMP, PQ_S8, true, 8);
    build_constant(&b, PQ_S32, mask, 4);
    build_value(&b, PQ_VALUE_INPUT, PQ_U8, true, 4);
    b.outputs[b.output_count++] = 2;
    pq_instruction *i = build_emit(&b, PQ_OP_ATTENTION, 2);
    i->inputs[0] = i->inputs[1] = i->inputs[2] = 0;
    i->inputs[3] = 1;
    i->inputs[4] = 4;
    i->inputs[5] = 3;
    const struct {
        const char *name;
        int64_t value;
    } attrs[] = {
        {"groups", 1},
        {"heads", 2},
        {"kv_heads", 2},
        {"q_len", 2},
        {"k_len", 2},
        {"head_dim", 2},
        {"q_head", 2},
        {"q_token", 12},
        {"k_offset", 4},
        {"k_head", 2},
        {"k_token", 12},
        {"v_offset", 8},
        {"v_head", 2},
        {"v_token", 12},
        {"y_head", 2},
        {"y_token", 4},
        {"keep_query", 2},
        {"keep_key", 1},
        {"mask_query", 2},
        {"mask_key", 1},
        {"method", 1},
        {"delta_max", 100},
        {"softmax_multiplier", 9},
        {"softmax_shift", 4},
        {"pmax", 255},
        {"multiplier", 1 << 30},
        {"shift", 31},
        {"quant_min", -128},
        {"quant_max", 127},
    };
    for (size_t a = 0; a < sizeof attrs / sizeof attrs[0]; a++) {
        build_set(i, attrs[a].name, attrs[a].value);
    }
    expect(&b, NULL);
    BREAK(ATTR(i, "v_offset"), 9, "offset and strides leave the 24 elements of input 2");
    BREAK(ATTR(i, "q_group"), PQ_MAX_VALUE_SIZE, NULL); /* one group: never added */
    BREAK(ATTR(i, "q_head"), PQ_MAX_VALUE_SIZE, "leave the 24 elements of input 0");
    BREAK(ATTR(i, "k_token"), -12, "leave the 24 elements of input 1");
    BREAK(ATTR(i, "k_len"), PQ_MAX_VALUE_SIZE, "leave the 24 elements of input 1");
    BREAK(ATTR(i, "keep_key"), 3, "strides leave the 4 elements of input 4");
    BREAK(ATTR(i, "mask_query"), 4, "strides leave the 4 elements of input 5");
    BREAK(i->inputs[5], -1, "the strides of the absent input 5 must be 0");
    BREAK(ATTR(i, "y_token"), 2, "do not cover the 8 elements of the output once each");
    BREAK(ATTR(i, "y_token"), 8, "do not cover the 8 elements of the output once each");
    BREAK(ATTR(i, "y_head"), 4, "do not cover the 8 elements of the output once each");
    BREAK(ATTR(i, "y_offset"), 1, "do not cover the 8 elements of the output once each");
    BREAK(ATTR(i, "y_token"), -4, "do not cover the 8 elements of the output once each");
    ATTR(i, "y_offset") = 4;
    BREAK(ATTR(i, "y_token"), -4, NULL); /* backwards from the other end */
    ATTR(i, "y_offset") = 0;
    BREAK(b.values[2].size, 9, "expected an output of 8 elements, got 9");
    BREAK(ATTR(i, "kv_heads"), 3, "instruction 0 (attention): ");
    BREAK(ATTR(i, "causal"), 2, "expected causal in [0, 1], got 2");
    BREAK(ATTR(i, "method"), 9, "expected method in [0, 8], got 9");
    BREAK(ATTR(i, "method"), 2, "expected a table of s32 for softmax method 2");
    BREAK(ATTR(i, "softmax_bits"), 17, "expected softmax_bits in [0, 16], got 17");
    BREAK(ATTR(i, "pmax"), 254, "expected table[0] in [0, 2 * pmax], got 510");
    BREAK(ATTR(i, "delta_max"), UINT32_MAX, "instruction 0 (attention): attention_s8: ");
    ((int32_t *)b.constants[3])[2] = PQ_MASK_ADD_LIMIT + 1;
    expect(&b, "expected mask_add within +-2^24, got 16777217 at 2");
    build_free(&b);
}

/* x [2, 3] -> softmax (s16), by table16 and then by exponentials */
static void test_softmax(void) {
    build b;
    memset(&b, 0, sizeof b);
    int16_t table[32];
    for (int j = 0; j < 32; j++) {
        table[j] = (int16_t)(510 - 8 * j);
    }
    const int32_t exponentials[3] = {100, 50, 0};
    build_value(&b, PQ_VALUE_INPUT, PQ_S8, true, 6);
    build_constant(&b, PQ_S16, table, 32);
    build_value(&b, PQ_VALUE_TEMP, PQ_S16, true, 6);
    build_constant(&b, PQ_S32, exponentials, 3);
    b.outputs[b.output_count++] = 2;
    pq_instruction *i = build_emit(&b, PQ_OP_SOFTMAX, 2);
    i->inputs[0] = 0;
    i->inputs[1] = 1;
    build_set(i, "n", 3);
    build_set(i, "pmax", 255);
    build_set(i, "delta_max", 100);
    build_set(i, "softmax_multiplier", 9);
    build_set(i, "softmax_shift", 4);
    build_set(i, "multiplier", 1 << 30);
    build_set(i, "shift", 20);
    build_set(i, "quant_min", -32768);
    build_set(i, "quant_max", 32767);
    expect(&b, NULL);
    BREAK(ATTR(i, "n"), 0, "instruction 0 (softmax): expected n in [1, ");
    BREAK(ATTR(i, "n"), 4, "(softmax): expected input 0 of rows x 4 elements, got 6");
    BREAK(ATTR(i, "n"), PQ_MAX_VALUE_SIZE, "expected input 0 of rows x");
    BREAK(b.values[2].size, 5, "expected an output of 6 elements, got 5");
    BREAK(b.values[2].dtype, PQ_S32, "the output cannot have type 4");
    BREAK(b.values[0].dtype, PQ_S64, "input 0 cannot have type 5");
    BREAK(i->inputs[1], 3, "expected a table of s16 for softmax method 0");
    BREAK(ATTR(i, "method"), 5, "expected a table of s32 for softmax method 5");
    BREAK(ATTR(i, "method"), 9, "expected method in [0, 8], got 9");
    BREAK(ATTR(i, "pmax"), 254, "expected table[0] in [0, 2 * pmax], got 510");
    BREAK(ATTR(i, "pmax"), 256, "(softmax): softmax: expected table[0] = 2 * pmax = 512, got 510");
    BREAK(ATTR(i, "softmax_shift"), 32, "expected softmax_shift in [1, 31], got 32");
    BREAK(ATTR(i, "softmax_bits"), 17, "expected softmax_bits in [0, 16], got 17");
    BREAK(ATTR(i, "softmax_bits"), 3, "softmax bits in [0, 0], got 3");
    BREAK(ATTR(i, "delta_max"), UINT32_MAX, "(softmax): softmax: expected delta_max * multiplier");
    BREAK(ATTR(i, "shift"), 60, "a requantization of at most 62 bits, got shift 60");
    BREAK(ATTR(i, "zero_point"), 32768, "expected zero_point in [-32768, 32767], got 32768");
    i->inputs[1] = 3;
    ATTR(i, "method") = PQ_SOFTMAX_IPTQ;
    expect(&b, NULL);
    BREAK(ATTR(i, "pmax"), 99, "expected exponentials in [0, 99], got 100");
    BREAK(ATTR(i, "pmax"), 16385, "1 <= pmax <= 16384, got 16385");
    ((int32_t *)b.constants[3])[2] = -1;
    expect(&b, "expected exponentials in [0, 255], got -1");
    build_free(&b);
}

int main(void) {
    test_lists();
    test_values();
    test_structure();
    test_families();
    test_gemm_s8s4();
    test_layernorm();
    test_copy();
    test_concat_gather();
    test_attention();
    test_softmax();
    CHECK_EQ(pq_alloc_live(), 0);
    return check_finish("test_validate");
}
