/* status, cpu, dispatch, drivers and allocation. */
#define _POSIX_C_SOURCE 200809L /* fork, waitpid, nanosleep */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "core/byte_sums.h"
#include "core/dispatch.h"
#include "core/grain.h"
#include "pyquant/cpu.h"
#include "pyquant/exec.h"

static void test_status(void) {
    CHECK(strcmp(pq_status_name(PQ_OK), "ok") == 0);
    CHECK(strcmp(pq_status_name(PQ_ERR_UNSUPPORTED), "unsupported") == 0);
    CHECK(strcmp(pq_status_name((pq_status)99), "unknown") == 0);
}

static void test_fail(void) {
    char message[8];
    pq_exec exec = pq_exec_serial(message, sizeof message);
    CHECK(message[0] == '\0');
    CHECK_STATUS(pq_fail(&exec, PQ_ERR_VALUE, "n = %d", 12), PQ_ERR_VALUE);
    CHECK(strcmp(message, "n = 12") == 0);
    CHECK_STATUS(pq_fail(&exec, PQ_ERR_NAN, "%s", "longer than the buffer"), PQ_ERR_NAN);
    CHECK(strcmp(message, "longer ") == 0);
    exec.message = NULL;
    CHECK_STATUS(pq_fail(&exec, PQ_ERR_INDEX, "nowhere to go"), PQ_ERR_INDEX);
}

static void test_alloc(void) {
    const long live = pq_alloc_live();
    static const size_t sizes[] = {0, 1, 63, 64, 65, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *block = pq_alloc(sizes[i]);
        CHECK(block != NULL && (uintptr_t)block % 64 == 0);
        if (block != NULL) {
            memset(block, 0xa5, sizes[i]);
        }
        CHECK_EQ(pq_alloc_live(), live + 1);
        pq_free(block);
    }
    pq_free(NULL);
    CHECK(pq_alloc(SIZE_MAX) == NULL);
    CHECK(pq_alloc(SIZE_MAX - 64) == NULL);
    CHECK_EQ(pq_alloc_live(), live);

    pq_alloc_fail_after(2);
    void *blocks[4];
    for (int i = 0; i < 4; i++) {
        blocks[i] = pq_alloc(10);
        CHECK((blocks[i] == NULL) == (i == 2));
    }
    for (int i = 0; i < 4; i++) {
        pq_free(blocks[i]);
    }
    pq_alloc_fail_after(0);
    pq_alloc_fail_after(-1);
    void *block = pq_alloc(1);
    CHECK(block != NULL);
    pq_free(block);
    CHECK_EQ(pq_alloc_live(), live);

    size_t product = 0;
    CHECK(pq_mul_size(3, 5, &product) && product == 15);
    CHECK(pq_mul_size(0, SIZE_MAX, &product) && product == 0);
    CHECK(!pq_mul_size(SIZE_MAX / 2, 3, &product));
}

static void test_isa(void) {
    CHECK_OK(pq_isa_limit(NULL));
    const pq_isa best = pq_isa_active();
    CHECK(pq_isa_eligible(best, 0));
    CHECK(strcmp(pq_isa_name(PQ_ISA_AVX512VNNI), "avx512vnni") == 0);
    CHECK(strcmp(pq_isa_name(PQ_ISA_COUNT), "unknown") == 0);
    CHECK_STATUS(pq_isa_limit("sse"), PQ_ERR_VALUE);
    CHECK_EQ(pq_isa_active(), best);
    int present = 0;
    for (int i = 0; i < PQ_ISA_COUNT; i++) {
        const pq_isa isa = (pq_isa)i;
        CHECK_OK(pq_isa_limit(""));
        if (!pq_isa_eligible(isa, 0)) {
            CHECK_STATUS(pq_isa_limit(pq_isa_name(isa)), PQ_ERR_UNSUPPORTED);
            CHECK_EQ(pq_isa_active(), best);
            continue;
        }
        present++;
        CHECK_OK(pq_isa_limit(pq_isa_name(isa)));
        CHECK_EQ(pq_isa_active(), isa);
        CHECK(pq_isa_eligible(PQ_ISA_REF, 0));
        CHECK(isa == best || !pq_isa_eligible(best, 0));
    }
    CHECK(present >= 1);
    CHECK_OK(pq_isa_limit(NULL));
    CHECK(!pq_isa_eligible(PQ_ISA_REF, 1u << 29)); /* a need that no machine has */
#if defined(__x86_64__)
    /* The compiler's own detection, which checks the operating system's state too. */
    CHECK_EQ((pq_cpu_features() & PQ_CPU_AVX2) != 0, __builtin_cpu_supports("avx2") != 0);
    CHECK_EQ((pq_cpu_features() & PQ_CPU_AVX512) != 0,
             __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"));
#endif
}

/* The enumerator of an op's name. */
static int op_of(const char *name) {
    static const char *const names[] = {
#define PQ_KERNEL_OP(op) #op,
#include "core/kernels.def"
    };
    int op = 0;
    while (op < PQ_KERNEL_OP_COUNT && strcmp(names[op], name) != 0) {
        op++;
    }
    return op;
}

static void test_kernel_rows(void) {
    const int count = pq_kernel_rows(NULL, 0);
    CHECK(count >= PQ_KERNEL_OP_COUNT);
    pq_kernel_row *rows = calloc((size_t)count + 1, sizeof *rows);
    if (rows == NULL) {
        CHECK(rows != NULL);
        return;
    }
    CHECK_EQ(pq_kernel_rows(rows, count), count);
    for (int i = 0; i < count; i++) {
        const bool first = i == 0 || strcmp(rows[i].op, rows[i - 1].op) != 0;
        CHECK_EQ(rows[i].isa == PQ_ISA_REF, first); /* each op starts with its reference */
        CHECK(first || rows[i].isa > rows[i - 1].isa);
        CHECK(rows[i].isa != PQ_ISA_REF || (rows[i].needs == 0 && rows[i].eligible));
        CHECK(rows[i].isa == PQ_ISA_REF || rows[i].needs != 0);
    }
    free(rows);
    for (int op = 0; op < PQ_KERNEL_OP_COUNT; op++) {
        const void *reference = pq_kernel_find((pq_kernel_op)op, PQ_ISA_REF);
        CHECK(reference != NULL);
        CHECK_OK(pq_isa_limit("ref"));
        CHECK(pq_kernel_choose((pq_kernel_op)op) == reference);
        CHECK_OK(pq_isa_limit(NULL));
        CHECK(pq_kernel_choose((pq_kernel_op)op) != NULL);
        CHECK(pq_kernel_find((pq_kernel_op)op, PQ_ISA_COUNT) == NULL);
        for (int isa = 0; isa < PQ_ISA_COUNT; isa++) {
            const void *kernel = pq_kernel_find((pq_kernel_op)op, (pq_isa)isa);
            if (kernel != NULL) {
                CHECK_EQ(op_of(pq_kernel_row_of(kernel).op), op);
                CHECK_EQ((int)pq_kernel_row_of(kernel).isa, isa);
            }
        }
    }
}

enum { ITEMS = 1000, SLOTS = 8 };

typedef struct coverage {
    atomic_int seen[ITEMS];
    atomic_int busy[SLOTS];
    atomic_int ranges, bad;
    size_t grain;
    long sleep_ns;
} coverage;

static void cover(void *task, size_t begin, size_t end, int slot) {
    coverage *const c = task;
    if (slot < 0 || slot >= SLOTS || end <= begin || end - begin > c->grain || end > ITEMS) {
        atomic_fetch_add(&c->bad, 1);
        return;
    }
    if (atomic_exchange(&c->busy[slot], 1) != 0) {
        atomic_fetch_add(&c->bad, 1);
    }
    if (c->sleep_ns > 0) {
        nanosleep(&(struct timespec){.tv_nsec = c->sleep_ns}, NULL);
    }
    for (size_t i = begin; i < end; i++) {
        atomic_fetch_add(&c->seen[i], 1);
    }
    atomic_fetch_add(&c->ranges, 1);
    atomic_store(&c->busy[slot], 0);
}

static void check_coverage(const pq_exec *exec, size_t count, size_t grain) {
    coverage *const c = calloc(1, sizeof *c);
    if (c == NULL) {
        CHECK(c != NULL);
        return;
    }
    c->grain = grain;
    CHECK_OK(exec->parallel_for(exec, count, grain, cover, c));
    CHECK_EQ(c->bad, 0);
    int wrong = 0;
    for (size_t i = 0; i < ITEMS; i++) {
        wrong += c->seen[i] != (i < count);
    }
    CHECK_EQ(wrong, 0);
    free(c);
}

static void test_coverage(void) {
    const pq_exec drivers[] = {pq_exec_serial(NULL, 0), pq_exec_openmp(1, NULL, 0),
                               pq_exec_openmp(2, NULL, 0), pq_exec_openmp(SLOTS, NULL, 0)};
    static const size_t counts[] = {0, 1, 2, 7, 64, 997, ITEMS};
    static const size_t grains[] = {1, 3, 64, 1000, SIZE_MAX};
    for (size_t d = 0; d < 4; d++) {
        for (size_t i = 0; i < 7; i++) {
            for (size_t j = 0; j < 5; j++) {
                check_coverage(&drivers[d], counts[i], grains[j]);
            }
        }
    }
    CHECK(pq_exec_openmp(0, NULL, 0).num_threads >= 1);
    CHECK_EQ(pq_exec_openmp(3, NULL, 0).num_threads, 3);
    CHECK_EQ(pq_exec_serial(NULL, 0).num_threads, 1);
}

typedef struct stopper {
    int calls, stop_at;
    pthread_t caller;
    bool elsewhere;
} stopper;

static bool stop_at(void *arg) {
    stopper *const s = arg;
    s->elsewhere = s->elsewhere || pthread_equal(pthread_self(), s->caller) == 0;
    return ++s->calls >= s->stop_at;
}

static int interrupted_ranges(pq_exec exec, stopper *s) {
    char message[64] = "";
    coverage *const c = calloc(1, sizeof *c);
    if (c == NULL) {
        CHECK(c != NULL);
        return 0;
    }
    c->grain = 1;
    c->sleep_ns = 500 * 1000; /* 1000 ranges of half a millisecond: much longer than two polls */
    exec.message = message;
    exec.message_size = sizeof message;
    exec.poll = stop_at;
    exec.poll_arg = s;
    CHECK_STATUS(exec.parallel_for(&exec, ITEMS, 1, cover, c), PQ_ERR_INTERRUPTED);
    CHECK_TEXT(message, "interrupted");
    CHECK(!s->elsewhere);
    CHECK_EQ(s->calls, s->stop_at);
    const int ranges = c->ranges;
    free(c);
    return ranges;
}

static void test_poll(void) {
    stopper s = {.stop_at = 4, .caller = pthread_self()};
    CHECK_EQ(interrupted_ranges(pq_exec_serial(NULL, 0), &s), 3); /* asked before each range */
    for (int threads = 1; threads <= 3; threads++) {
        s = (stopper){.stop_at = 2, .caller = pthread_self()};
        CHECK(interrupted_ranges(pq_exec_openmp(threads, NULL, 0), &s) < ITEMS / 2);
    }
}

/* A range is long enough for a thread and short enough for the poll, whatever there is to do. */
static void test_grain(void) {
    static const uint64_t costs[] = {0, 1, 100, 500, 70000, UINT64_C(30000000), UINT64_MAX};
    static const size_t units[] = {1, 64};
    uint64_t random = 8;
    for (int i = 0; i < 20000; i++) {
        pq_exec exec = pq_exec_serial(NULL, 0);
        exec.num_threads = (int)check_random_in(&random, 1, 64);
        const uint64_t cost = costs[i % 7], unit = units[i % 2];
        const size_t count = (size_t)(check_random(&random) >> check_random_in(&random, 1, 63));
        const uint64_t grain = pq_grain(&exec, count, unit, cost), item = cost < 1 ? 1 : cost;
        const uint64_t ranges = count / grain + (count % grain != 0),
                       threads = (uint64_t)exec.num_threads;
        const bool longest = grain > PQ_RANGE_MOST_PS / item;
        CHECK(grain >= 1 && grain % unit == 0);
        CHECK(ranges <= 1 || grain * item > PQ_RANGE_LEAST_PS); /* worth a thread */
        CHECK(grain <= PQ_RANGE_MOST_PS / item + unit);         /* soon over */
        CHECK(longest || ranges <= (threads == 1 ? 1 : 4 * threads));
        /* All threads have as many, if one has two: but for what is rounded up to a unit. */
        CHECK(longest || ranges <= threads || unit > 1 || ranges % threads == 0 ||
              grain * (ranges + 1) > count);
    }
}

#if defined(_OPENMP)

/* The caller's range is over at once, the other one only after the poll has spoken. */
typedef struct waiter {
    atomic_bool begun, asked, late;
    atomic_int asked_again;
} waiter;

static bool ask(void *argument) {
    waiter *w = argument;
    if (!atomic_load(&w->begun)) {
        return false;
    }
    if (atomic_exchange(&w->asked, true)) {
        atomic_fetch_add(&w->asked_again, 1);
    }
    return true;
}

static void wait_for_poll(void *argument, size_t begin, size_t end, int slot) {
    waiter *w = argument;
    const time_t deadline = time(NULL) + 20;
    (void)begin, (void)end;
    while (!atomic_load(slot == 0 ? &w->begun : &w->asked) && time(NULL) < deadline) {
        atomic_store(&w->begun, atomic_load(&w->begun) || slot != 0);
    }
    atomic_store(&w->late, atomic_load(&w->late) || time(NULL) >= deadline);
    if (slot != 0) { /* the caller waits on: several times the interval of the poll */
        const struct timespec interval = {.tv_sec = 0, .tv_nsec = 40 * 1000 * 1000};
        nanosleep(&interval, NULL);
    }
}

static void test_poll_at_the_end(void) {
    waiter w = {false, false, false, 0};
    pq_exec exec = pq_exec_openmp(2, NULL, 0);
    exec.poll = ask;
    exec.poll_arg = &w;
    CHECK_STATUS(exec.parallel_for(&exec, 2, 1, wait_for_poll, &w), PQ_ERR_INTERRUPTED);
    CHECK(w.asked && !w.late);
    CHECK_EQ(w.asked_again, 0);
}

static void nested_body(void *task, size_t begin, size_t end, int slot) {
    (void)begin, (void)end, (void)slot;
    const pq_exec exec = pq_exec_openmp(2, NULL, 0);
    coverage *const c = calloc(1, sizeof *c);
    if (c == NULL) {
        return;
    }
    c->grain = 10;
    if (exec.parallel_for(&exec, ITEMS, 10, cover, c) == PQ_OK && c->bad == 0) {
        atomic_fetch_add((atomic_int *)task, c->ranges);
    }
    free(c);
}

static void test_nested(void) {
    atomic_int ranges = 0;
    const pq_exec exec = pq_exec_openmp(2, NULL, 0);
    CHECK_OK(exec.parallel_for(&exec, 8, 1, nested_body, &ranges));
    CHECK_EQ(ranges, 8 * ITEMS / 10);
}

/* libgomp would hang here: the alarm turns that into a failure. */
static void test_fork(void) {
    const pq_exec before = pq_exec_openmp(2, NULL, 0);
    check_coverage(&before, ITEMS, 1); /* the pool now has a sleeping worker */
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        check_failures = 0;
        check_coverage(&before, ITEMS, 1);
        const pq_exec after = pq_exec_openmp(0, NULL, 0);
        CHECK_EQ(after.num_threads, 1);
        check_coverage(&after, ITEMS, 1);
        _exit(check_failures == 0 ? 0 : 1);
    }
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    check_coverage(&before, ITEMS, 1); /* the parent is not affected */
}

#endif

/* Against adding one by one: at every length around words and folds, and all bytes as low or high as
 * they go. */
static void test_byte_sums(void) {
    enum { MOST = 8 * PQ_BYTE_STEPS * 2 + 17 };
    int8_t w[MOST];
    uint64_t random = 5;
    for (int kind = 0; kind < 3; kind++) {
        check_random_s8(&random, w, MOST);
        if (kind > 0) {
            memset(w, kind == 1 ? -128 : 127, MOST);
        }
        int64_t sum = 0;
        uint64_t size = 0;
        for (size_t n = 0; n <= MOST; n++) {
            uint64_t found_size = 1;
            const int64_t found = pq_byte_sums(n, w, &found_size);
            CHECK(found == sum && found_size == size);
            if (n < MOST) {
                sum += w[n];
                size += (uint64_t)(w[n] < 0 ? -w[n] : w[n]);
            }
        }
    }
}

int main(void) {
    test_byte_sums();
    test_status();
    test_fail();
    test_alloc();
    test_isa();
    test_kernel_rows();
    test_coverage();
    test_poll();
    test_grain();
#if defined(_OPENMP)
    test_poll_at_the_end();
    test_nested();
    test_fork();
#endif
    return check_finish("test_core");
}
