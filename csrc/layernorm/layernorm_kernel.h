/* What a variant of layernorm is (PQ_NORM_EXACT), the arithmetic of one row and one channel, and
 * what the methods share. Integer only: the objects of this family are disassembled by a test. */
#ifndef PYQUANT_LAYERNORM_KERNEL_H
#define PYQUANT_LAYERNORM_KERNEL_H

#include "pyquant/layernorm.h"
#include "pyquant/rnu.h"

struct pq_layernorm_kernel {
    /* Rows [begin, end) of checked arguments. */
    void (*rows)(const pq_layernorm_args *args, size_t begin, size_t end);
};

static inline int32_t pq_layernorm_load(pq_dtype type, const void *x, size_t i) {
    return type == PQ_S8 ? ((const int8_t *)x)[i] : ((const int16_t *)x)[i];
}

static inline void pq_layernorm_store(pq_dtype type, void *y, size_t i, int32_t value) {
    if (type == PQ_S8) {
        ((int8_t *)y)[i] = (int8_t)value;
    } else {
        ((int16_t *)y)[i] = (int16_t)value;
    }
}

/* sum x and sum x^2 of the row that begins at element `begin`. */
static inline void pq_layernorm_sums(const pq_layernorm_args *args, size_t begin, int64_t *sum,
                                     int64_t *square_sum) {
    *sum = *square_sum = 0;
    for (size_t j = 0; j < args->channels; j++) {
        const int64_t x = pq_layernorm_load(args->x_type, args->x, begin + j);
        *sum += x;
        *square_sum += x * x;
    }
}

/* rnu_affine and the clamp (layernorm.h): y of channel c whose normalised value is z. */
static inline int32_t pq_layernorm_affine(const pq_layernorm_args *args, size_t c, int64_t z) {
    const int64_t v =
        (z * args->gain[c] + args->offset[c] + (INT64_C(1) << (args->shift - 1))) >> args->shift;
    return (int32_t)pq_clamp_s64(v + args->out.zero_point, args->out.quant_min,
                                 args->out.quant_max);
}

/* What the channels of one row share:
 *     z[c] = (channels * x[c] - centre) * multiplier, rounded, >> shift */
typedef struct pq_layernorm_row {
    int32_t channels;
    int32_t centre; /* sum x, or channels * z_x for RMSNorm */
    int32_t multiplier;
    int32_t shift;
} pq_layernorm_row;

/* floor(sqrt(n)), bit by bit. */
static inline uint32_t pq_isqrt_u64(uint64_t n) {
    uint64_t root = 0; /* of the digits seen so far, shifted up to where the next one is tried */
    for (uint64_t digit = UINT64_C(1) << 62; digit != 0; digit >>= 2) {
        const uint64_t trial = root + digit;
        const uint64_t mask = UINT64_C(0) - (uint64_t)(n >= trial);
        n -= trial & mask;
        root = (root >> 1) + (digit & mask);
    }
    return (uint32_t)root;
}

/* W of the header and the centre, from sum = sum x and square_sum = sum x^2, both exact. */
static inline uint64_t pq_layernorm_w(const pq_layernorm_args *args, int64_t sum,
                                      int64_t square_sum, int32_t *centre) {
    const int64_t c = (int64_t)args->channels, zero_point = args->x_zero_point;
    int64_t v = c * square_sum - sum * sum;
    *centre = (int32_t)sum;
    if (args->rms) {
        /* sum (x - z)^2 = sum x^2 - 2 z sum x + C z^2, all terms below 2^47. */
        v = c * (square_sum - 2 * zero_point * sum + c * zero_point * zero_point);
        *centre = (int32_t)(c * zero_point);
    }
    const uint64_t w = (uint64_t)v + args->epsilon;
    return w == 0 ? 1 : w;
}

/* 2^16 / sqrt(w) ~ multiplier / 2^shift, for w in [1, 2^63). */
typedef struct pq_layernorm_reciprocal {
    int32_t multiplier, shift;
} pq_layernorm_reciprocal;

static inline pq_layernorm_reciprocal pq_layernorm_reciprocal_of(uint64_t w) {
    const int k = __builtin_clzll(w) & ~1;
    const uint64_t multiplier = (UINT64_C(1) << 62) / pq_isqrt_u64(w << k);
    return (pq_layernorm_reciprocal){
        multiplier > INT32_MAX ? INT32_MAX : (int32_t)multiplier, 46 - k / 2};
}

static inline pq_layernorm_row pq_layernorm_row_of(const pq_layernorm_args *args, int64_t sum,
                                                   int64_t square_sum) {
    pq_layernorm_row row = {.channels = (int32_t)args->channels};
    const pq_layernorm_reciprocal r =
        pq_layernorm_reciprocal_of(pq_layernorm_w(args, sum, square_sum, &row.centre));
    row.multiplier = r.multiplier;
    row.shift = r.shift;
    return row;
}

/* y of channel c whose input is x: rnu, then rnu_affine (layernorm.h). */
static inline int32_t pq_layernorm_channel(const pq_layernorm_args *args, pq_layernorm_row row,
                                           size_t c, int32_t x) {
    return pq_layernorm_affine(
        args, c, pq_rnu((int64_t)row.channels * x - row.centre, row.multiplier, row.shift));
}

extern const struct pq_layernorm_kernel pq_layernorm_ref, pq_layernorm_avx2, pq_layernorm_avx512,
    pq_layernorm_neon;

#endif
