/* Fuzzing pq_program_create and pq_program_run on instruction structures.
 *
 * The bytes are a recipe: a seed for a valid random program, then one mutation after the other,
 * each changing one field of the description. libFuzzer thereby works on the structure, and most
 * programs are near the border between valid and not. Whatever create accepts is run on random
 * bytes for batches of 0 to 3, twice each: with outputs filled differently before and another
 * split of the batch, and the outputs must agree (all written, nothing read that nobody wrote).
 * Without libFuzzer, test_fuzz_program.c makes the bytes.
 */
#include "fuzz_program.h"

#include "engine_call.h"

fuzz_counts fuzz_program_counts;

/* Refused runs are counted: an accepted program may ask for more than a test machine has. */
enum { RUN_BYTES = 1 << 22, RUN_WORK = 1 << 24 };

typedef struct recipe {
    const uint8_t *data;
    size_t size;
} recipe;

static uint64_t take(recipe *r, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes && r->size > 0; i++, r->data++, r->size--) {
        value = value << 8 | *r->data;
    }
    return value;
}

/* A new value for a field: near the old one, at a limit, any, or of another field. */
static int64_t mutate(recipe *r, int64_t old, const int64_t *others, size_t other_count) {
    static const int64_t limits[] = {0,
                                     1,
                                     -1,
                                     2,
                                     3,
                                     127,
                                     128,
                                     -128,
                                     -129,
                                     255,
                                     256,
                                     32767,
                                     32768,
                                     -32768,
                                     65535,
                                     65536,
                                     1 << 24,
                                     1 << 30,
                                     INT32_MAX,
                                     INT32_MIN,
                                     UINT32_MAX,
                                     INT64_MAX,
                                     INT64_MIN,
                                     INT64_C(1) << 31,
                                     INT64_C(1) << 40,
                                     (INT64_C(1) << 40) + 1,
                                     INT64_C(1) << 61,
                                     INT64_C(1) << 62};
    switch (take(r, 1) % 6) {
    case 0: return (int64_t)((uint64_t)old + 1);
    case 1: return (int64_t)((uint64_t)old - 1);
    case 2: return limits[take(r, 1) % (sizeof limits / sizeof limits[0])];
    case 3: return (int64_t)take(r, 1);
    case 4: return (int64_t)take(r, 8);
    default: return other_count == 0 ? -old : others[take(r, 1) % other_count];
    }
}

static void mutate_value(build *b, recipe *r) {
    const size_t index = take(r, 1) % b->value_count;
    pq_value *value = &b->values[index];
    switch (take(r, 1) % 4) {
    case 0: value->kind = mutate(r, value->kind, NULL, 0); break;
    case 1: value->dtype = mutate(r, value->dtype, NULL, 0); break;
    case 2: value->batched = mutate(r, value->batched, NULL, 0); break;
    default: value->size = mutate(r, value->size, &b->values[take(r, 1) % b->value_count].size, 1);
    }
}

/* Bytes of a constant, or its block: another size (honestly told), absent, or out of step. */
static void mutate_constant(build *b, recipe *r) {
    const size_t index = take(r, 1) % b->value_count;
    const size_t size = b->constant_sizes[index];
    switch (take(r, 1) % 5) {
    case 0:
        free(b->constants[index]);
        b->constants[index] = NULL;
        break;
    case 1: b->constant_sizes[index] = size / 2; break;
    case 2: {
        const int64_t elements = b->values[index].size;
        const size_t wanted = pq_dtype_size((pq_dtype)b->values[index].dtype) * (size_t)elements;
        if (elements >= 0 && elements < 4096 && wanted > 0) {
            free(b->constants[index]);
            b->constants[index] = build_block(wanted);
            memset(b->constants[index], (int)take(r, 1), wanted);
            b->constant_sizes[index] = wanted;
        }
        break;
    }
    default:
        for (size_t n = 1 + take(r, 1) % 4; n > 0 && size > 0 && b->constants[index]; n--) {
            const size_t at = take(r, 2) % size;
            ((uint8_t *)b->constants[index])[at] = (uint8_t)take(r, 1);
        }
    }
}

static void mutate_instruction(build *b, recipe *r) {
    pq_instruction *i = &b->instructions[take(r, 1) % b->instruction_count];
    const pq_instruction *other = &b->instructions[take(r, 1) % b->instruction_count];
    switch (take(r, 1) % 8) {
    case 0: i->opcode = mutate(r, i->opcode, &other->opcode, 1); break;
    case 1: i->output = mutate(r, i->output, &other->output, 1); break;
    case 2:
    case 3: {
        int64_t *input = &i->inputs[take(r, 1) % PQ_MAX_INPUTS];
        *input = mutate(r, *input, other->inputs, PQ_MAX_INPUTS);
        break;
    }
    case 4: { /* exchange two: orders, and instructions that are valid by themselves */
        const pq_instruction kept = *i;
        *i = *other;
        b->instructions[other - b->instructions] = kept;
        break;
    }
    default: {
        int64_t *attr = &i->attrs[take(r, 1) % PQ_MAX_ATTRS];
        *attr = mutate(r, *attr, i->attrs, PQ_MAX_ATTRS);
    }
    }
}

static void mutate_program(build *b, recipe *r) {
    switch (take(r, 1) % 8) {
    case 0:
    case 1: mutate_value(b, r); break;
    case 2: mutate_constant(b, r); break;
    case 3: {
        int64_t *output = &b->outputs[take(r, 1) % b->output_count];
        *output = mutate(r, *output, b->outputs, b->output_count);
        break;
    }
    default:
        if (b->instruction_count > 0) {
            mutate_instruction(b, r);
        }
    }
}

/* Whether a run at `batch` is small enough to try. Values are valid here, so sums fit. */
static bool affordable(const build *b, const pq_program *program, size_t batch) {
    uint64_t bytes = pq_program_arena_size(program), work = 0;
    for (size_t v = 0; v < b->value_count; v++) {
        bytes += call_bytes(&b->values[v], 1);
    }
    for (size_t i = 0; i < b->instruction_count; i++) {
        const pq_instruction *in = &b->instructions[i];
        if (in->opcode == PQ_OP_ATTENTION) {
            work += (uint64_t)b->values[in->output].size * (1 + (uint64_t)build_get(in, "k_len"));
        } else if (in->opcode == PQ_OP_GEMM || in->opcode == PQ_OP_GEMM_S8S4) {
            work += (uint64_t)b->values[in->output].size * (uint64_t)build_get(in, "k");
        }
    }
    return bytes <= RUN_BYTES / (batch + 1) && work <= RUN_WORK / (batch + 1);
}

static void fail(const char *what) {
    fprintf(stderr, "fuzz_program: %s\n", what);
    abort();
}

static void run_program(const build *b, pq_program *program, size_t batch, uint64_t seed) {
    char message[512];
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    call first, second;
    call_make(&first, b, batch, seed, seed % 2 == 0);
    call_make(&second, b, batch, seed, seed % 2 == 0);
    call_fill(&second, 0x55);
    pq_program_set_slice_bytes(program, SIZE_MAX);
    const pq_status status = call_run(&first, program, &exec);
    pq_program_set_slice_bytes(program, 0);
    const pq_status again = call_run(&second, program, &exec);
    if (status != again || (status != PQ_OK && status != PQ_ERR_INDEX)) {
        fprintf(stderr, "%s, %s: %s\n", pq_status_name(status), pq_status_name(again), message);
        fail("an accepted program failed to run");
    }
    for (size_t j = 0; j < b->output_count && status == PQ_OK && batch > 0; j++) {
        if (memcmp(first.outputs[j], second.outputs[j], call_output_bytes(&first, j)) != 0) {
            fail("outputs depend on what was there, or on the split of the batch");
        }
    }
    call_free(&first);
    call_free(&second);
    fuzz_program_counts.runs++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    recipe r = {data, size};
    const uint64_t seed = take(&r, 2);
    const int length = (int)(1 + take(&r, 1) % 16);
    build b;
    random_program(&b, seed, length);
    while (r.size > 0) {
        mutate_program(&b, &r);
        fuzz_program_counts.mutations++;
    }
    char message[512] = "";
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const pq_program_desc desc = build_desc(&b);
    pq_program *program = NULL;
    const long live = pq_alloc_live();
    const pq_status status = pq_program_create(&exec, &desc, &program);
    fuzz_program_counts.programs++;
    if (status == PQ_OK) {
        fuzz_program_counts.accepted++;
        for (size_t batch = 0; batch <= 3; batch++) {
            if (affordable(&b, program, batch)) {
                run_program(&b, program, batch, seed + batch);
            } else {
                fuzz_program_counts.too_large++;
            }
        }
        pq_program_free(program);
    } else if (status != PQ_ERR_PROGRAM || program != NULL) {
        fail("expected PQ_ERR_PROGRAM and no program");
    } else if (strncmp(message, "program: ", 9) != 0) {
        fail("expected a sentence that begins with \"program: \"");
    }
    if (pq_alloc_live() != live) {
        fail("memory leaked");
    }
    build_free(&b);
    return 0;
}
