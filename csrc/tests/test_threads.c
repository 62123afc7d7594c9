/* Eight threads run one program at once: the same bits as one. Made for SAN=thread, with the
 * serial driver (libgomp is not instrumented). */
#include <pthread.h>

#include "engine_call.h"

enum { THREADS = 8, ROUNDS = 12, BATCHES = 4 };

/* check.h counts without atomics, so a thread counts its own failures. */
typedef struct worker {
    pthread_t thread;
    pq_program *program;
    call calls[BATCHES];
    const call *expected;
    int first, failures;
} worker;

static void *work(void *argument) {
    worker *w = argument;
    for (int round = 0; round < ROUNDS; round++) {
        call *c = &w->calls[(w->first + round) % BATCHES];
        const call *want = &w->expected[(w->first + round) % BATCHES];
        char message[256];
        const pq_exec exec = pq_exec_serial(message, sizeof message);
        call_fill(c, round);
        if (round % 3 == 0) {
            pq_program_set_slice_bytes(w->program, (size_t)round * 512);
        }
        w->failures += call_run(c, w->program, &exec) != PQ_OK;
        for (size_t j = 0; j < c->program->output_count; j++) {
            w->failures += memcmp(c->outputs[j], want->outputs[j], call_output_bytes(c, j)) != 0;
        }
    }
    return NULL;
}

static void test_program(uint64_t seed) {
    build b;
    random_program(&b, seed, 24);
    const pq_program_desc desc = build_desc(&b);
    const pq_exec exec = pq_exec_serial(NULL, 0);
    pq_program *program = NULL;
    CHECK_OK(pq_program_create(&exec, &desc, &program));
    call expected[BATCHES];
    worker *workers = build_block(THREADS * sizeof *workers);
    for (int i = 0; i < BATCHES; i++) {
        call_make(&expected[i], &b, (size_t)(1 + 4 * i), seed + (uint64_t)i, true);
        CHECK_OK(call_run(&expected[i], program, &exec));
    }
    for (int t = 0; t < THREADS; t++) {
        workers[t] = (worker){.program = program, .expected = expected, .first = t};
        for (int i = 0; i < BATCHES; i++) {
            call_make(&workers[t].calls[i], &b, (size_t)(1 + 4 * i), seed + (uint64_t)i, true);
        }
    }
    for (int t = 0; t < THREADS; t++) {
        CHECK_EQ(pthread_create(&workers[t].thread, NULL, work, &workers[t]), 0);
    }
    for (int t = 0; t < THREADS; t++) {
        CHECK_EQ(pthread_join(workers[t].thread, NULL), 0);
        CHECK_EQ(workers[t].failures, 0);
        for (int i = 0; i < BATCHES; i++) {
            call_free(&workers[t].calls[i]);
        }
    }
    CHECK(pq_program_context_count(program) >= 1);
    CHECK(pq_program_context_count(program) <= THREADS);
    for (int i = 0; i < BATCHES; i++) {
        call_free(&expected[i]);
    }
    free(workers);
    pq_program_free(program);
    build_free(&b);
}

int main(void) {
    for (uint64_t seed = 1; seed <= 25; seed++) {
        test_program(seed);
    }
    CHECK_EQ(pq_alloc_live(), 0);
    return check_finish("test_threads");
}
