/* LayerNorm on powers-of-two factors: FQ-ViT's (layernorm.h has equations and bounds).
 *
 * Source: FQ-ViT, arXiv:2111.13824, Powers-of-Two Factor and its integer LayerNorm. Derived in
 * docs/numerics/layernorm_methods.md. */
#ifndef PYQUANT_LAYERNORM_LAYERNORM_PTF_KERNEL_H
#define PYQUANT_LAYERNORM_LAYERNORM_PTF_KERNEL_H

#include "layernorm/layernorm_newton_kernel.h"

struct pq_layernorm_ptf_kernel {
    /* Rows [begin, end) of checked arguments. */
    void (*rows)(const pq_layernorm_args *args, size_t begin, size_t end);
};

enum {
    PQ_PTF_MEAN_BITS = 20,     /* of the fraction of the mean */
    PQ_PTF_HALF_SHIFT_MIN = 6, /* V < 2^52 */
};

/* What the channels of one row share. */
typedef struct pq_layernorm_ptf_row {
    int32_t mean;      /* of X, in 2^-20 */
    int32_t inverse;   /* m_r: 1 / sqrt(V) ~ m_r / 2^(62 - half_shift); 0 without variance */
    int32_t half_shift; /* [6, 31]; 6 without variance, where it makes N large */
} pq_layernorm_ptf_row;

/* X: x of channel c on 8 bits and the channel's own scale, then on the scale of all. */
static inline int32_t pq_layernorm_ptf_expand(const pq_layernorm_args *args, size_t c, int32_t x) {
    const int alpha = args->alpha[c];
    const int64_t step = pq_rnu((int64_t)x - args->x_zero_point, args->requant.multiplier,
                                args->requant.shift + alpha);
    return (int32_t)pq_clamp_s64(step, INT8_MIN - args->zero_point, INT8_MAX - args->zero_point) *
           (1 << alpha);
}

/* V and the mean, from sum X and sum X^2. */
static inline uint64_t pq_layernorm_ptf_v(const pq_layernorm_args *args, int64_t sum,
                                          int64_t square_sum, int32_t *mean) {
    const int64_t c = (int64_t)args->channels, s1 = args->rms ? 0 : sum;
    *mean = (int32_t)pq_floor_divide(s1 * (INT64_C(2) << PQ_PTF_MEAN_BITS) + c, 2 * c);
    return (uint64_t)(c * square_sum - s1 * s1);
}

static inline pq_layernorm_ptf_row pq_layernorm_ptf_row_of(const pq_layernorm_args *args,
                                                           int64_t sum, int64_t square_sum) {
    pq_layernorm_ptf_row row = {.half_shift = PQ_PTF_HALF_SHIFT_MIN};
    const uint64_t v = pq_layernorm_ptf_v(args, sum, square_sum, &row.mean);
    if (v > 0) {
        const pq_layernorm_reciprocal r = pq_layernorm_reciprocal_of(v);
        row.inverse = r.multiplier;
        row.half_shift = 46 - r.shift;
    }
    return row;
}

/* y of channel c from its X. */
static inline int32_t pq_layernorm_ptf_channel(const pq_layernorm_args *args,
                                               pq_layernorm_ptf_row row, size_t c, int32_t x) {
    const int64_t gain = args->gain[c];
    const int32_t exponent = args->exponent[c];
    const int64_t a = (gain < 0 ? -gain : gain) * row.inverse >> 32;
    const int64_t n = pq_clamp_s64(exponent + 9 - row.half_shift - (a >> 29), 0, 31);
    const int down = exponent + 30 - row.half_shift - (int)n;
    const int mean_down = PQ_PTF_MEAN_BITS + down;
    const int64_t mean = (row.mean * a + (INT64_C(1) << (mean_down - 1))) >> mean_down;
    const int64_t term = (a >> down) * x - mean;
    const int64_t bias = (args->offset[c] + (INT64_C(1) << (PQ_NORM_PTF_SHIFT - 1 - n))) >>
                         (PQ_NORM_PTF_SHIFT - n);
    const int64_t y = ((gain < 0 ? -term : term) + bias + (INT64_C(1) << n >> 1)) >> n;
    return (int32_t)pq_clamp_s64(y + args->out.zero_point, args->out.quant_min,
                                 args->out.quant_max);
}

extern const struct pq_layernorm_ptf_kernel pq_layernorm_ptf_ref, pq_layernorm_ptf_avx2,
    pq_layernorm_ptf_avx512;

#endif
