/* Stochastic rounding, and scales that are powers of two: plain C for every machine. */
#include <stdatomic.h>
#include <string.h>

#include "core/grain.h"
#include "core/sizes.h"
#include "fake/fake_tables.h"

enum { UNIT = 64, ELEMENT_PS = 4000, PHILOX_ROUNDS = 10 };

void pq_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t words[4]) {
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]}, k[2] = {key[0], key[1]};
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        const uint64_t even = UINT64_C(0xD2511F53) * c[0], odd = UINT64_C(0xCD9E8D57) * c[2];
        const uint32_t next[4] = {(uint32_t)(odd >> 32) ^ c[1] ^ k[0], (uint32_t)odd,
                                  (uint32_t)(even >> 32) ^ c[3] ^ k[1], (uint32_t)even};
        memcpy(c, next, sizeof c);
        k[0] += UINT32_C(0x9E3779B9);
        k[1] += UINT32_C(0xBB67AE85);
    }
    memcpy(words, c, sizeof c);
}

typedef struct task {
    const pq_fake_args *args;
    const pq_fake_tables *tables;
    const float *x;
    float *x_hat;
    uint64_t seed;
    atomic_bool nan;
} task;

static pq_fake_grid grid_of(const task *t, size_t i) {
    const size_t row = t->tables->row;
    return pq_fake_grid_from(t->tables->grid,
                             row > 0 ? i % row : i / t->args->inner % t->args->channels);
}

static float rounded_down(float v) {
    const float k = pq_fake_round(v);
    return k > v ? k - 1.0f : k;
}

static void range(void *pointer, size_t begin, size_t end, int slot) {
    task *t = pointer;
    const uint32_t key[2] = {(uint32_t)t->seed, (uint32_t)(t->seed >> 32)};
    const size_t last = pq_min_size(t->args->n, end * UNIT);
    bool nan = false;
    uint32_t words[4] = {0};
    (void)slot;
    for (size_t i = begin * UNIT; i < last; i++) {
        if (i % 4 == 0) { /* as it is at the first element of a unit */
            const uint64_t index = i / 4;
            const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), 0, 0};
            pq_philox4x32(counter, key, words);
        }
        const pq_fake_grid grid = grid_of(t, i);
        const float low = *grid.low, high = *grid.high, value = t->x[i];
        const float u = (float)(words[i % 4] >> 8) * 0x1p-24f;
        const float v = pq_fake_clamp(value / *grid.scale, low - 1.0f, high + 1.0f);
        nan |= value != value;
        t->x_hat[i] = pq_fake_clamp(rounded_down(v + u), low, high) * *grid.scale;
    }
    if (nan) {
        atomic_store_explicit(&t->nan, true, memory_order_relaxed);
    }
}

pq_status pq_fake_stochastic(const pq_exec *exec, const pq_fake_args *args, uint64_t seed,
                             const float *x, float *x_hat) {
    static const char op[] = "fake_quantize_stochastic";
    pq_status status = pq_fake_check(exec, op, args);
    if (status != PQ_OK || args->n == 0) {
        return status;
    }
    status = pq_fake_operand(exec, op, "x", x, sizeof *x);
    status = status != PQ_OK ? status : pq_fake_operand(exec, op, "the output", x_hat, sizeof *x);
    status = status != PQ_OK ? status : pq_fake_overlap(exec, op, args->n, x_hat, x, "x", false);
    pq_fake_tables tables;
    status = status != PQ_OK ? status : pq_fake_tables_make(exec, op, args, &tables);
    if (status != PQ_OK) {
        return status;
    }
    task t = {.args = args, .tables = &tables, .x = x, .x_hat = x_hat, .seed = seed};
    atomic_init(&t.nan, false);
    const size_t units = pq_ceil_div(args->n, UNIT);
    const size_t grain = pq_grain(exec, units, 1, UNIT * ELEMENT_PS);
    status = exec->parallel_for(exec, units, grain, range, &t);
    pq_fake_tables_free(&tables);
    if (status == PQ_OK && atomic_load_explicit(&t.nan, memory_order_relaxed)) {
        return pq_fake_nan(exec, op, args->n, x);
    }
    return status;
}

pq_status pq_fake_power_of_two(const pq_exec *exec, size_t n, const float *scale, float *rounded) {
    static const char op[] = "power_of_two_scale";
    for (size_t i = 0; i < n; i++) {
        if (!(scale[i] >= 0x1p-100f && scale[i] <= 0x1p100f)) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: element %zu: expected a scale in [2^-100, 2^100], got %g", op, i,
                           (double)scale[i]);
        }
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &scale[i], sizeof bits);
        /* 1.f >= sqrt 2 <=> 1.f^2 >= 2, exactly, and never equal: sqrt 2 is no float. */
        const uint64_t mantissa = (bits & 0x7fffffu) | 0x800000u;
        const uint32_t up = mantissa * mantissa > UINT64_C(1) << 47;
        bits = ((bits >> 23) + up) << 23;
        memcpy(&rounded[i], &bits, sizeof bits);
    }
    return PQ_OK;
}
