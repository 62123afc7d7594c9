/* Threads that take whole samples: bits, failures, interruption and memory. A driver of POSIX
 * threads does the work here, which ThreadSanitizer sees (SAN=thread), unlike libgomp. */
#include <pthread.h>
#include <stdatomic.h>

#include "core/driver.h"
#include "engine/program_internal.h"
#include "engine_call.h"
#include "engine_interpret.h"
#include "split_exec.h"

enum { THREADS = 3 };

static char message[512];

/* ---- a driver of POSIX threads ---- */

typedef struct shared_loop {
    const pq_exec *exec;
    size_t count, grain;
    pq_range_fn body;
    void *task;
    atomic_size_t next;
    atomic_bool stop;
} shared_loop;

typedef struct worker {
    pthread_t thread;
    shared_loop *loop;
    int slot;
} worker;

static void *work(void *argument) {
    const worker *w = argument;
    shared_loop *loop = w->loop;
    for (;;) {
        if (w->slot == 0 && loop->exec->poll != NULL && loop->exec->poll(loop->exec->poll_arg)) {
            atomic_store(&loop->stop, true);
        }
        const size_t begin = atomic_fetch_add(&loop->next, loop->grain);
        if (begin >= loop->count || atomic_load(&loop->stop)) {
            return NULL;
        }
        loop->body(loop->task, begin, begin + pq_range_end(0, loop->count - begin, loop->grain),
                   w->slot);
    }
}

static pq_status threaded_for(const pq_exec *exec, size_t count, size_t grain, pq_range_fn body,
                              void *task) {
    shared_loop loop = {exec, count, grain, body, task, 0, false};
    worker workers[THREADS];
    /* No more threads than ranges: emulators are slow in making them. */
    const size_t ranges = pq_range_count(count, grain);
    const int threads = ranges < THREADS ? (int)ranges + (ranges == 0) : THREADS;
    for (int t = 0; t < threads; t++) {
        workers[t] = (worker){.loop = &loop, .slot = t};
        if (t > 0 && pthread_create(&workers[t].thread, NULL, work, &workers[t]) != 0) {
            abort(); /* no CHECK: several callers may be here */
        }
    }
    work(&workers[0]);
    for (int t = 1; t < threads; t++) {
        (void)pthread_join(workers[t].thread, NULL);
    }
    return loop.stop ? pq_fail(exec, PQ_ERR_INTERRUPTED, "interrupted") : PQ_OK;
}

static pq_exec threaded_exec(char *text, size_t size) {
    pq_exec exec = pq_exec_serial(text, size);
    exec.parallel_for = threaded_for;
    exec.num_threads = THREADS;
    return exec;
}

/* A program for which threads pay however small it is. */
static pq_program *create(const build *b) {
    const pq_program_desc desc = build_desc(b);
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_program *program = NULL;
    CHECK_OK(pq_program_create(&exec, &desc, &program));
    program->sample_ns = UINT32_MAX;
    return program;
}

static void compare(call *c, const interpretation *in, uint64_t seed) {
    for (size_t j = 0; j < c->program->output_count; j++) {
        if (!CHECK_SAME(c->outputs[j], in->values[c->program->outputs[j]],
                        call_output_bytes(c, j))) {
            fprintf(stderr, "seed %llu, batch %zu\n", (unsigned long long)seed, c->batch);
        }
    }
    call_fill(c, 0x66);
}

static void test_bits(uint64_t seed) {
    static const size_t batches[] = {0, 1, 2, 3, 4, 7, 13};
    build b;
    random_program(&b, seed, 24);
    pq_program *program = create(&b);
    for (size_t n = 0; n < sizeof batches / sizeof batches[0]; n++) {
        call c;
        interpretation in;
        call_make(&c, &b, batches[n], seed + n, true);
        interpret(&in, &b, c.batch, (const void *const *)c.inputs);
        uint64_t state = seed;
        const pq_exec execs[] = {threaded_exec(message, sizeof message),
                                 split_exec(&state, message, sizeof message),
                                 pq_exec_openmp(2, message, sizeof message)};
        const size_t sizes[] = {SIZE_MAX, 0, 2 * program->fused.sample_size};
        for (size_t e = 0; e < sizeof execs / sizeof execs[0]; e++) {
            pq_program_set_slice_bytes(program, sizes[(e + seed) % 3]);
            CHECK_OK(call_run(&c, program, &execs[e]));
            compare(&c, &in, seed);
        }
        void *values[BUILD_VALUES] = {NULL}; /* a trace may go to threads as well */
        for (size_t i = 0; i < b.instruction_count; i++) {
            const int64_t v = b.instructions[i].output;
            values[v] = build_block(call_bytes(&b.values[v], c.batch));
        }
        CHECK_OK(pq_program_trace(program, &execs[0], c.batch, (const void *const *)c.inputs,
                                  c.outputs, values, NULL));
        for (size_t v = 0; v < b.value_count; v++) {
            if (values[v] != NULL) {
                CHECK_SAME(values[v], in.values[v], call_bytes(&b.values[v], c.batch));
            }
            free(values[v]);
        }
        compare(&c, &in, seed);
        interpret_free(&in);
        call_free(&c);
    }
    pq_program_free(program);
    build_free(&b);
}

/* ---- failures ---- */

/* One gather from a table of four rows, whose index is batched. */
static build gather_program(void) {
    build b = {.random = 5};
    const int64_t index = build_value(&b, PQ_VALUE_INPUT, PQ_S32, true, 1);
    const int64_t y = build_value(&b, PQ_VALUE_TEMP, PQ_S16, true, 3);
    pq_instruction *gather = build_emit(&b, PQ_OP_GATHER, y);
    gather->inputs[0] = index;
    gather->inputs[1] = build_random_constant(&b, PQ_S16, 12, -9, 9);
    build_set(gather, "rows", 4);
    build_set(gather, "inner", 3);
    b.outputs[b.output_count++] = y;
    return b;
}

/* Of several samples that fail, the first is reported, whichever thread was faster. */
static void test_failure(void) {
    build b = gather_program();
    pq_program *program = create(&b);
    pq_program_set_slice_bytes(program, 0);
    int32_t index[30];
    int16_t y[90];
    const void *inputs[] = {index};
    void *outputs[] = {y};
    for (int first = 0; first < 30; first += 7) {
        for (int i = 0; i < 30; i++) {
            index[i] = i < first ? 1 : 100 + i;
        }
        char want[64];
        snprintf(want, sizeof want, "%d", 100 + first);
        uint64_t state = 3;
        const pq_exec execs[] = {threaded_exec(message, sizeof message),
                                 split_exec(&state, message, sizeof message),
                                 pq_exec_openmp(2, message, sizeof message)};
        for (size_t e = 0; e < sizeof execs / sizeof execs[0]; e++) {
            message[0] = '\0';
            CHECK_STATUS(pq_program_run(program, &execs[e], 30, inputs, outputs), PQ_ERR_INDEX);
            CHECK_TEXT(message, "program: instruction 0 (gather): ");
            CHECK_TEXT(message, want);
        }
    }
    pq_program_free(program);
    build_free(&b);
}

/* ---- interruption ---- */

static bool stop_after(void *argument) {
    int *left = argument;
    CHECK(*left >= 0); /* not asked again after it said stop */
    return --*left < 0;
}

static void test_interruption(void) {
    build b;
    random_program(&b, 11, 24);
    pq_program *program = create(&b);
    pq_program_set_slice_bytes(program, 0);
    call c;
    call_make(&c, &b, 12, 1, true);
    for (int after = 0; after < 5; after++) {
        int left = after;
        pq_exec exec = threaded_exec(message, sizeof message);
        exec.poll = stop_after;
        exec.poll_arg = &left;
        const pq_status status = call_run(&c, program, &exec);
        CHECK(status == (left < 0 ? PQ_ERR_INTERRUPTED : PQ_OK));
        CHECK(after > 0 || left < 0);
    }
    call_free(&c);
    pq_program_free(program);
    build_free(&b);
}

/* The member of the calling thread hears of a stop inside a range, and so do the others. */
static void ask_inside(void *task, size_t begin, size_t end, int slot) {
    (void)begin, (void)end, (void)slot;
    atomic_fetch_add((atomic_int *)task, 1);
}

static void test_members(void) {
    int left = 1; /* the first poll says go on */
    pq_exec outer = pq_exec_serial(message, sizeof message);
    outer.poll = stop_after;
    outer.poll_arg = &left;
    pq_team team;
    pq_team_begin(&team, &outer);
    CHECK(!team.leader.poll(team.leader.poll_arg));
    const pq_exec member = pq_team_member(&team, message, sizeof message);
    atomic_int ranges = 0;
    while (!pq_team_stopped(&team)) { /* the poll is asked every 5 ms */
        const pq_status status = member.parallel_for(&member, 4, 1, ask_inside, &ranges);
        CHECK(status == PQ_OK || pq_team_stopped(&team));
    }
    ranges = 0;
    CHECK_STATUS(member.parallel_for(&member, 4, 1, ask_inside, &ranges), PQ_ERR_INTERRUPTED);
    CHECK_EQ(ranges, 0);
    CHECK(team.leader.poll(team.leader.poll_arg));
    CHECK_EQ(left, -1);
}

/* ---- memory ---- */

typedef struct runner {
    pthread_t thread;
    pq_program *program;
    call call;
    int failures;
} runner;

static void *run_often(void *argument) {
    runner *r = argument;
    char own[256];
    const pq_exec exec = threaded_exec(own, sizeof own);
    for (int round = 0; round < 4; round++) {
        r->failures += call_run(&r->call, r->program, &exec) != PQ_OK;
    }
    return NULL;
}

/* Once there are contexts for all callers, no run allocates: any allocation would fail here. */
static void test_steady_state(uint64_t seed) {
    enum { CALLERS = 4 };
    build b;
    random_program(&b, seed, 24);
    pq_program *program = create(&b);
    runner runners[CALLERS];
    pq_engine_context *contexts[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        runners[i] = (runner){.program = program};
        call_make(&runners[i].call, &b, 10, seed, true);
    }
    const pq_exec exec = threaded_exec(message, sizeof message);
    CHECK_OK(call_run(&runners[0].call, program, &exec));
    pq_engine_context *one = pq_engine_context_acquire(program, 0, 0);
    const size_t arena = one->arena_size, workspace = one->workspace_size;
    pq_engine_context_release(program, one);
    for (int i = 0; i < CALLERS; i++) {
        contexts[i] = pq_engine_context_acquire(program, arena, workspace);
        CHECK(contexts[i] != NULL);
    }
    for (int i = 0; i < CALLERS; i++) {
        pq_engine_context_release(program, contexts[i]);
    }
    const long live = pq_alloc_live();
    pq_alloc_fail_after(0);
    for (int i = 0; i < CALLERS; i++) {
        CHECK_EQ(pthread_create(&runners[i].thread, NULL, run_often, &runners[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        CHECK_EQ(pthread_join(runners[i].thread, NULL), 0);
        CHECK_EQ(runners[i].failures, 0);
        call_free(&runners[i].call);
    }
    pq_alloc_fail_after(-1);
    CHECK_EQ(pq_alloc_live(), live);
    CHECK_EQ(pq_program_context_count(program), CALLERS);
    pq_program_free(program);
    build_free(&b);
}

int main(void) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
        test_bits(seed);
    }
    test_failure();
    test_interruption();
    test_members();
    for (uint64_t seed = 1; seed <= 8; seed++) {
        test_steady_state(seed);
    }
    return check_finish("test_team");
}
