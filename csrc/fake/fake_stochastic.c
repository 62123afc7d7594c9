/* Stochastic rounding, and scales that are powers of two: plain C for every machine. */
#include <stdatomic.h>
#include <string.h>

#include "core/grain.h"
#include "core/sizes.h"
#include "fake/fake_tables.h"

enum { UNIT = 64, COUNTERS = UNIT / 4, ELEMENT_PS = 4000, PHILOX_ROUNDS = 10 };

#if defined(_OPENMP)
#define PQ_COUNTERS_SIMD _Pragma("omp simd")
#else
#define PQ_COUNTERS_SIMD
#endif

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
    size_t entries; /* of the tables */
    atomic_bool nan;
} task;

/* The grid of element i, and how it moves on: a division for every element costs more than u. */
typedef struct place {
    size_t entry, offset, length; /* `length` elements have one entry */
} place;

static place place_of(const task *t, size_t i) {
    const size_t row = t->tables->row;
    if (t->args->channels == 1) {
        return (place){0, 0, SIZE_MAX};
    }
    return row > 0 ? (place){i % row, 0, 1}
                   : (place){i / t->args->inner % t->args->channels, i % t->args->inner,
                             t->args->inner};
}

static void advance(const task *t, place *at) {
    if (++at->offset < at->length) {
        return;
    }
    at->offset = 0;
    at->entry = at->entry + 1 < t->entries ? at->entry + 1 : 0;
}

/* The words of one unit, 16 counters side by side. */
static void unit_words(uint64_t unit, uint64_t seed, uint32_t words[UNIT]) {
    uint32_t c[4][COUNTERS], k[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (uint32_t j = 0; j < COUNTERS; j++) {
        const uint64_t index = unit * COUNTERS + j;
        c[0][j] = (uint32_t)index;
        c[1][j] = (uint32_t)(index >> 32);
        c[2][j] = c[3][j] = 0;
    }
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        PQ_COUNTERS_SIMD
        for (int j = 0; j < COUNTERS; j++) {
            const uint64_t even = UINT64_C(0xD2511F53) * c[0][j];
            const uint64_t odd = UINT64_C(0xCD9E8D57) * c[2][j];
            c[0][j] = (uint32_t)(odd >> 32) ^ c[1][j] ^ k[0];
            c[1][j] = (uint32_t)odd;
            c[2][j] = (uint32_t)(even >> 32) ^ c[3][j] ^ k[1];
            c[3][j] = (uint32_t)even;
        }
        k[0] += UINT32_C(0x9E3779B9);
        k[1] += UINT32_C(0xBB67AE85);
    }
    for (int j = 0; j < COUNTERS; j++) {
        for (int w = 0; w < 4; w++) {
            words[4 * j + w] = c[w][j];
        }
    }
}

static float rounded_down(float v) {
    const float k = pq_fake_round(v);
    return k - (k > v ? 1.0f : 0.0f);
}

static void range(void *pointer, size_t begin, size_t end, int slot) {
    task *t = pointer;
    const pq_fake_grid grid = t->tables->grid;
    place at = place_of(t, begin * UNIT);
    bool nan = false;
    (void)slot;
    for (size_t unit = begin; unit < end; unit++) {
        const size_t first = unit * UNIT, n = pq_min_size(t->args->n - first, UNIT);
        uint32_t words[UNIT];
        unit_words(unit, t->seed, words);
        for (size_t i = 0; i < n; i++, advance(t, &at)) {
            const float low = grid.low[at.entry], high = grid.high[at.entry];
            const float scale = grid.scale[at.entry], value = t->x[first + i];
            const float u = (float)(int32_t)(words[i] >> 8) * 0x1p-24f;
            const float v = pq_fake_clamp(value / scale, low - 1.0f, high + 1.0f);
            nan |= value != value;
            t->x_hat[first + i] = pq_fake_clamp(rounded_down(v + u), low, high) * scale;
        }
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
    t.entries = tables.row > 0 ? tables.row : args->channels;
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
