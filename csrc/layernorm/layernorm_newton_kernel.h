/* LayerNorm by an integer Newton root: I-BERT's and I-ViT's (layernorm.h has equations and bounds).
 *
 * Source: I-BERT, arXiv:2101.01321, Alg. 4; I-ViT, arXiv:2207.01405, I-LayerNorm. Derived in
 * docs/numerics/layernorm_methods.md. */
#ifndef PYQUANT_LAYERNORM_LAYERNORM_NEWTON_KERNEL_H
#define PYQUANT_LAYERNORM_LAYERNORM_NEWTON_KERNEL_H

#include "layernorm/layernorm_kernel.h"

struct pq_layernorm_newton_kernel {
    /* Rows [begin, end) of checked arguments. */
    void (*rows)(const pq_layernorm_args *args, size_t begin, size_t end);
};

/* What the channels of one row share: z[c] = (x[c] - centre) * factor >> 1. */
typedef struct pq_layernorm_newton_row {
    int32_t centre;
    uint32_t factor; /* [1, 2^31] */
} pq_layernorm_newton_row;

/* 2^ceil(b / 2) for n >= 1 of b bits: at least sqrt(n), at most twice that. */
static inline uint64_t pq_newton_start(uint64_t n) {
    return UINT64_C(1) << (65 - __builtin_clzll(n)) / 2;
}

static inline uint64_t pq_newton_step(uint64_t k, uint64_t n) {
    return (k + n / k) >> 1;
}

/* floor(sqrt(n)). From above, a step falls until it stands on the floor of the root. */
static inline uint64_t pq_newton_root_ibert(uint64_t n) {
    uint64_t k = pq_newton_start(n);
    for (uint64_t next = pq_newton_step(k, n); next < k; next = pq_newton_step(k, n)) {
        k = next;
    }
    return k;
}

/* A fixed number of steps. A converged root stays, but where n + 1 is the square of k + 1 it goes
 * back and forth between k and k + 1, which is nearer to sqrt(n). */
static inline uint64_t pq_newton_root_ivit(uint64_t n, uint64_t start, int32_t steps) {
    uint64_t k = start;
    for (int32_t i = 0; i < steps; i++) {
        k = pq_newton_step(k, n);
    }
    return k;
}

static inline uint64_t pq_newton_root(const pq_layernorm_args *args, uint64_t n) {
    enum { PUBLISHED_START = 1 << 16, PUBLISHED_STEPS = 10 };
    if (args->method == PQ_NORM_IBERT) {
        return pq_newton_root_ibert(n);
    }
    if (args->method == PQ_NORM_IVIT) {
        return pq_newton_root_ivit(n, pq_newton_start(n), args->iterations);
    }
    return pq_newton_root_ivit(n, PUBLISHED_START, PUBLISHED_STEPS);
}

static inline int64_t pq_floor_divide(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

static inline pq_layernorm_newton_row pq_layernorm_newton_row_of(const pq_layernorm_args *args,
                                                                 int64_t sum, int64_t square_sum) {
    const int64_t c = (int64_t)args->channels;
    const int64_t m = args->rms ? args->x_zero_point : pq_floor_divide(2 * sum + c, 2 * c);
    const int64_t var = square_sum - 2 * m * sum + c * m * m; /* sum (x - m)^2, terms below 2^48 */
    const uint64_t std = pq_newton_root(args, var > 0 ? (uint64_t)var : 1);
    const uint64_t numerator = (UINT64_C(1) << 31) - (args->method != PQ_NORM_IBERT);
    return (pq_layernorm_newton_row){(int32_t)m, (uint32_t)(numerator / std)};
}

/* y of channel c whose input is x. */
static inline int32_t pq_layernorm_newton_channel(const pq_layernorm_args *args,
                                                  pq_layernorm_newton_row row, size_t c,
                                                  int32_t x) {
    return pq_layernorm_affine(args, c, ((int64_t)x - row.centre) * row.factor >> 1);
}

extern const struct pq_layernorm_newton_kernel pq_layernorm_newton_ref, pq_layernorm_newton_avx2,
    pq_layernorm_newton_avx512;

#endif
