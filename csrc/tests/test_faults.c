/* Every allocation of create and of run fails once: an error, no leak, and the next try works. */
#include "engine_call.h"

static char message[512];

/* The number of allocations that create makes; checks each of them. */
static long test_create(const pq_program_desc *desc) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const long before = pq_alloc_live();
    for (long n = 0;; n++) {
        pq_program *program = NULL;
        pq_alloc_fail_after(n);
        const pq_status status = pq_program_create(&exec, desc, &program);
        pq_alloc_fail_after(-1);
        if (status == PQ_OK) {
            pq_program_free(program);
            CHECK_EQ(pq_alloc_live(), before);
            return n;
        }
        CHECK_STATUS(status, PQ_ERR_NOMEM);
        CHECK(program == NULL);
        CHECK_TEXT(message, "memory");
        CHECK_EQ(pq_alloc_live(), before);
    }
}

/* The same for run, with a program that has never run. */
static long test_run(const build *b, const pq_program_desc *desc, uint64_t seed) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const long before = pq_alloc_live();
    call failed, good;
    call_make(&failed, b, 3, seed, true);
    call_make(&good, b, 3, seed, true);
    pq_program *program = NULL;
    CHECK_OK(pq_program_create(&exec, desc, &program));
    CHECK_OK(call_run(&good, program, &exec));
    pq_program_free(program);
    long n = 0;
    for (pq_status status = PQ_ERR_NOMEM; status != PQ_OK; n++) {
        CHECK_OK(pq_program_create(&exec, desc, &program));
        const long created = pq_alloc_live();
        pq_alloc_fail_after(n);
        status = call_run(&failed, program, &exec);
        pq_alloc_fail_after(-1);
        if (status != PQ_OK) {
            CHECK_STATUS(status, PQ_ERR_NOMEM);
            /* At most the context, which is back in the list. */
            CHECK(pq_alloc_live() - created <= 3);
        }
        CHECK_OK(call_run(&failed, program, &exec));
        CHECK_EQ(pq_program_context_count(program), 1);
        for (size_t j = 0; j < b->output_count; j++) {
            CHECK_SAME(failed.outputs[j], good.outputs[j], call_output_bytes(&good, j));
        }
        pq_program_free(program);
        CHECK_EQ(pq_alloc_live(), before);
    }
    call_free(&failed);
    call_free(&good);
    return n;
}

int main(void) {
    long in_create = 0, in_run = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        build b;
        random_program(&b, seed, 24);
        const pq_program_desc desc = build_desc(&b);
        in_create += test_create(&desc);
        in_run += test_run(&b, &desc, seed);
        build_free(&b);
    }
    CHECK(in_create >= 60 * 12); /* the program's own lists, and one or more per gemm */
    CHECK(in_run >= 60 * 2);
    return check_finish("test_faults");
}
