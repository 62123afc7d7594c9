/* A random gemm, an oracle that uses none of the project's arithmetic, and what every kernel must
 * do with packed weights. */
#ifndef PYQUANT_TESTS_GEMM_CASE_H
#define PYQUANT_TESTS_GEMM_CASE_H

#include "check.h"
#include "core/dispatch.h"
#include "gemm/gemm_s8s8_kernel.h"

static char message[256];

typedef struct problem {
    size_t m, n, k, ldx, ldy;
    int8_t *x, *w;
    int32_t *bias, *multiplier;
    uint8_t *shift;
    pq_gemm_pack_args args;
    int64_t (*oracle)(const struct problem *p, size_t i, size_t j);
} problem;

/* Exactly as large as promised, so that AddressSanitizer sees one byte too many. */
static inline void *exact(size_t size) {
    void *block = malloc(size == 0 ? 1 : size);
    if (block == NULL) {
        abort();
    }
    return block;
}

static inline size_t x_size(const problem *p) {
    return p->m == 0 ? 0 : (p->m - 1) * p->ldx + p->k;
}

static inline size_t y_size(const problem *p) {
    return p->m == 0 ? 0 : (p->m - 1) * p->ldy + p->n;
}

enum { RANDOM, LOWEST, HIGHEST, SPREADS };

static inline int8_t draw(uint64_t *seed, int spread) {
    return spread == LOWEST    ? INT8_MIN
           : spread == HIGHEST ? INT8_MAX
                               : (int8_t)check_random_in(seed, -128, 127);
}

/* Multipliers of which about half the outputs are inside the clamp, some columns at the ends of
 * what is allowed. */
static inline void draw_columns(problem *p, uint64_t *seed) {
    const int64_t room = (INT64_C(1) << 31) - 1 - 255 * 128 * (int64_t)p->k;
    for (size_t j = 0; j < p->n; j++) {
        p->bias[j] = (int32_t)check_random_in(seed, -room, room) >> check_random_in(seed, 0, 30);
        p->multiplier[j] = (int32_t)check_random_in(seed, 1 << 30, INT32_MAX);
        p->shift[j] = (uint8_t)check_random_in(seed, 33, 46);
        switch (check_random_in(seed, 0, 15)) {
        case 0: p->shift[j] = 1; break;
        case 1: p->shift[j] = 62; break;
        case 2: p->multiplier[j] = 1 << 30; break;
        case 3: p->multiplier[j] = INT32_MAX; break;
        case 4: p->bias[j] = (int32_t)room; break;
        case 5: p->bias[j] = (int32_t)-room; break;
        default: break;
        }
    }
}

/* What becomes of an accumulator of column j. floor(t / 2^s) by division. */
static inline int64_t oracle_finish(const problem *p, size_t j, int64_t acc) {
    if (p->args.y_type == PQ_S32) {
        return acc;
    }
    const int64_t half = INT64_C(1) << (p->shift[j] - 1), unit = 2 * half;
    const int64_t sum = acc * p->multiplier[j] + half;
    const int64_t value = sum / unit - (sum % unit < 0) + p->args.out.zero_point;
    return value < p->args.out.quant_min   ? p->args.out.quant_min
           : value > p->args.out.quant_max ? p->args.out.quant_max
                                           : value;
}

/* The equation of gemm.h, without any of the project's arithmetic. */
static inline int64_t oracle_at(const problem *p, size_t i, size_t j) {
    int64_t acc = p->args.bias == NULL ? 0 : p->args.bias[j];
    for (size_t q = 0; q < p->k; q++) {
        acc += ((int64_t)p->x[i * p->ldx + q] - p->args.x_zero_point) * p->w[j * p->k + q];
    }
    return oracle_finish(p, j, acc);
}

static inline problem make_problem(uint64_t *seed, size_t m, size_t n, size_t k, pq_dtype type,
                                   int spread) {
    problem p = {.m = m, .n = n, .k = k, .ldx = k, .ldy = n, .oracle = oracle_at};
    if (check_random(seed) % 2 == 0) {
        p.ldx += (size_t)check_random_in(seed, 0, 9);
        p.ldy += (size_t)check_random_in(seed, 0, 9);
    }
    p.x = exact(x_size(&p));
    p.w = exact(n * k);
    p.bias = exact(4 * n);
    p.multiplier = exact(4 * n);
    p.shift = exact(n);
    for (size_t i = 0; i < x_size(&p); i++) {
        p.x[i] = draw(seed, spread);
    }
    for (size_t i = 0; i < n * k; i++) {
        p.w[i] = draw(seed, spread == RANDOM || check_random(seed) % 4 != 0 ? spread : RANDOM);
    }
    draw_columns(&p, seed);
    const int32_t limit = type == PQ_S8 ? 128 : 32768;
    const int32_t low = (int32_t)check_random_in(seed, -limit, 0);
    const int32_t high = (int32_t)check_random_in(seed, low, limit - 1);
    p.args = (pq_gemm_pack_args){.n = n,
                                 .k = k,
                                 .w = p.w,
                                 .bias = check_random(seed) % 4 == 0 ? NULL : p.bias,
                                 .multiplier = type == PQ_S32 ? NULL : p.multiplier,
                                 .shift = type == PQ_S32 ? NULL : p.shift,
                                 .x_zero_point = (int32_t)check_random_in(seed, -128, 127),
                                 .y_type = type,
                                 .out = {(int32_t)check_random_in(seed, low, high), low, high}};
    return p;
}

static inline void free_problem(problem *p) {
    free(p->x);
    free(p->w);
    free(p->bias);
    free(p->multiplier);
    free(p->shift);
}

static inline int64_t element(const void *y, size_t i, pq_dtype type) {
    return type == PQ_S8    ? ((const int8_t *)y)[i]
           : type == PQ_S16 ? ((const int16_t *)y)[i]
                            : ((const int32_t *)y)[i];
}

static inline bool same_as_oracle(const problem *p, const void *y, const char *what) {
    for (size_t i = 0; i < p->m; i++) {
        for (size_t j = 0; j < p->n; j++) {
            if (!CHECK_EQ(element(y, i * p->ldy + j, p->args.y_type), p->oracle(p, i, j))) {
                fprintf(stderr, "  %s, %zu x %zu x %zu at (%zu, %zu)\n", what, p->m, p->n, p->k, i,
                        j);
                return false;
            }
        }
    }
    return true;
}

/* What lies between the rows must be as it was. */
static inline bool check_gaps(const problem *p, const unsigned char *y, unsigned char filled) {
    const size_t size = pq_dtype_size(p->args.y_type);
    bool untouched = true;
    for (size_t i = 0; i + 1 < p->m; i++) {
        for (size_t b = (i * p->ldy + p->n) * size; b < (i + 1) * p->ldy * size; b++) {
            untouched = untouched && y[b] == filled;
        }
    }
    return CHECK_EQ(untouched, true);
}

/* The kernel itself, on blocks of any size that it may get. */
static inline void run_blocks(uint64_t *seed, const problem *p, const pq_gemm_weights *weights,
                              unsigned char *y) {
    const struct pq_gemm_s8s8_kernel *kernel = weights->kernel;
    const size_t tile = kernel->column_tile, most = weights->blocking.columns / tile;
    void *workspace = pq_alloc(kernel->workspace(&weights->blocking));
    for (size_t row = 0, end; row < p->m; row = end) {
        const size_t rows = pq_min_size(weights->blocking.rows, p->m - row);
        end = row + (size_t)check_random_in(seed, 1, (int64_t)rows);
        for (size_t j = 0, right; j < p->n; j = right) {
            const size_t tiles = (size_t)check_random_in(seed, 1, (int64_t)most);
            right = pq_min_size(p->n, j + tiles * tile);
            const pq_gemm_block block = {.rows = end - row,
                                         .column_begin = j,
                                         .column_end = right,
                                         .x = p->x + row * p->ldx,
                                         .ldx = p->ldx,
                                         .y =
                                             y + (row * p->ldy + j) * pq_dtype_size(p->args.y_type),
                                         .ldy = p->ldy};
            kernel->run(weights, &block, workspace);
        }
    }
    pq_free(workspace);
}

/* Weights give what the oracle gives, on 1 and 3 threads and in arbitrary blocks. */
static inline bool check_weights(uint64_t *seed, const problem *p, const pq_gemm_weights *weights) {
    const pq_exec serial = pq_exec_serial(message, sizeof message);
    const pq_exec threads = pq_exec_openmp(3, message, sizeof message);
    const size_t bytes = y_size(p) * pq_dtype_size(p->args.y_type);
    unsigned char *y = exact(bytes), *other = exact(bytes);
    memset(y, 0x5a, bytes);
    CHECK_OK(pq_gemm_s8s8(&serial, p->m, p->x, p->ldx, weights, y, p->ldy));
    bool same = same_as_oracle(p, y, pq_isa_name(pq_gemm_weights_kernel(weights).isa)) &&
                check_gaps(p, y, 0x5a);
    memset(other, 0x5a, bytes);
    CHECK_OK(pq_gemm_s8s8(&threads, p->m, p->x, p->ldx, weights, other, p->ldy));
    same = CHECK_SAME(other, y, bytes) && same;
    memset(other, 0x5a, bytes);
    run_blocks(seed, p, weights, other);
    same = CHECK_SAME(other, y, bytes) && same;
    free(y);
    free(other);
    return same;
}

static inline const struct pq_gemm_s8s8_kernel *kernel_of(int isa) {
    return pq_kernel_present(PQ_KERNEL_OP_gemm_s8s8, (pq_isa)isa);
}

#endif
