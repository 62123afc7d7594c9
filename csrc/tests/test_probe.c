/* The probe's loops do the work that they are timed for, and the rates are sane. */
#include "check.h"
#include "core/probe_kernel.h"
#include "pyquant/probe.h"
#include "split_exec.h"

static uint32_t dot(pq_probe_dot kind, uint32_t a, uint32_t factor) {
    uint32_t sum = 0;
    switch (kind) {
    case PQ_PROBE_S32: return (uint32_t)((int16_t)a * (int16_t)factor);
    case PQ_PROBE_S16:
        for (int h = 0; h < 32; h += 16) {
            sum += (uint32_t)((int16_t)(a >> h) * (int16_t)(factor >> h));
        }
        return sum;
    case PQ_PROBE_U8S8:
    case PQ_PROBE_S8: break;
    }
    for (int b = 0; b < 32; b += 8) {
        const int x = kind == PQ_PROBE_S8 ? (int8_t)(a >> b) : (uint8_t)(a >> b);
        sum += (uint32_t)(x * (int8_t)(factor >> b));
    }
    return sum;
}

static uint32_t want_sum(const pq_probe_kernel *kernel, size_t rounds) {
    uint32_t sum = 0;
    for (size_t i = 0; i < kernel->chains * kernel->lanes; i++) {
        uint32_t a = (uint32_t)i + 1;
        for (size_t r = 0; r < rounds; r++) {
            a += dot(kernel->dot, a, pq_probe_factor(i % kernel->lanes));
        }
        sum += a;
    }
    return sum;
}

static void test_loops(const pq_probe_kernel *kernel) {
    for (size_t rounds = 0; rounds < 50; rounds++) {
        CHECK_EQ(kernel->multiply_add(rounds), want_sum(kernel, rounds));
    }
    enum { WORDS = 3 * PQ_PROBE_PAGE / 4 };
    static uint32_t words[WORDS + 1];
    uint64_t random = 4;
    uint32_t all = 0;
    for (size_t i = 0; i < WORDS; i++) {
        words[i] = (uint32_t)check_random(&random);
        all ^= words[i];
    }
    words[WORDS] = 1;
    CHECK_EQ(kernel->read(words, sizeof words - 4), all);
    CHECK_EQ(kernel->read(words, 0), 0);
}

static void test_rates(pq_exec exec) {
    pq_isa isa = PQ_ISA_COUNT;
    pq_probe_rate rate = {0, 0};
    CHECK_OK(pq_probe_multiply_add(&exec, &isa, &rate));
    CHECK(isa <= pq_isa_active());
    CHECK(rate.nanoseconds > 0 && rate.work > 0);
    CHECK(rate.work / rate.nanoseconds < 100000); /* no loop was left out */
    static const size_t sizes[] = {0, 1, 100000, 3000000};
    for (int i = 0; i < 4; i++) {
        CHECK_OK(pq_probe_read(&exec, sizes[i], &rate));
        CHECK(rate.nanoseconds > 0 && rate.work >= sizes[i] / 2);
        CHECK(rate.work / rate.nanoseconds < 100000);
    }
    CHECK_STATUS(pq_probe_read(&exec, SIZE_MAX, &rate), PQ_ERR_NOMEM);
    const long live = pq_alloc_live();
    long calls = 1;
    exec = stopping_exec(&calls, NULL, 0);
    CHECK_STATUS(pq_probe_multiply_add(&exec, &isa, &rate), PQ_ERR_INTERRUPTED);
    for (calls = 1; calls < 4; calls++) {
        long left = calls;
        exec = stopping_exec(&left, NULL, 0);
        CHECK_STATUS(pq_probe_read(&exec, 1 << 20, &rate), PQ_ERR_INTERRUPTED);
    }
    CHECK_EQ(pq_alloc_live(), live);
}

int main(void) {
    int count = 0;
    for (const pq_probe_kernel *const *k = pq_probe_kernels(); *k != NULL; k++, count++) {
#if defined(PQ_TEST_SIMDE)
        const bool can = true;
#else
        const bool can = pq_isa_eligible((*k)->isa, (*k)->needs);
#endif
        if (can) {
            test_loops(*k);
        }
    }
    CHECK(count >= 1);
    char message[256];
    test_rates(pq_exec_serial(message, sizeof message));
    test_rates(pq_exec_openmp(2, message, sizeof message));
    return check_finish("test_probe");
}
