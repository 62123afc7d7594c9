/* metrics: how far an approximation y is from x, in one pass, fixed memory, the same bits anywhere.
 *
 * Arrays are contiguous [samples, pieces, groups, length]; a row is one (sample, group), its
 * elements in the order (piece, position). That covers, without a copy of the data,
 *     one figure a sample      [B, ...]         (B, 1, 1, rest)
 *     a head of [B, H, T, d]   axis 1           (B, 1, H, T d)
 *     a head of [B, T, H, d]   axis 2           (B, T, H, d)
 *     a channel of [B, T, C]   axis 2           (B, T, C, 1)
 * A row whose pieces are shorter than a block is gathered into scratch first.
 *
 * Sums of a row: xx = sum x^2, yy = sum y^2, xy = sum x y, dd = sum (x - y)^2, largest |x - y|.
 *     block   PQ_METRICS_BLOCK elements of a row; element i is added to lane i % PQ_METRICS_LANES,
 *             in order, in float32: d = x - y, products, then sums, each rounded, never an FMA.
 *             Lanes are added in float64: lane i to lane i + 8, then + 4, + 2, + 1.
 *     chunk   PQ_METRICS_CHUNK elements: its blocks are added in order in float64.
 *     row     its chunks are added in order in float64. A thread does whole chunks.
 *
 * Error of xx, yy, dd: a lane holds at most 128 terms, each within 3 roundings of its own (d, which
 * a product has twice, and the product), and 127 more while adding: relative error < 131 u / (1 -
 * 131 u) = 7.9e-6 with u = 2^-24. xy: the same times sum |x y|. A ratio of two sums is then
 * within 1.6e-5, SQNR within 10 log10(1 + 1.6e-5) = 7e-5 dB. largest is within u of the true one.
 *
 * A block is summed again in float64, element by element, if by its float32 sums it may have lost
 * something: one of them is not finite, or xx or yy is below 2^-100, or dd is although largest > 0.
 * (Underflow costs a block at most 2048 * 2^-150, which is 2^-39 of 2^-100.) That is a rule about
 * values every variant has alike. NaN and infinity leave a sum that is not finite, so they are
 * found there at no cost before.
 *
 * A state is what is remembered of many samples, of one group: the sums over all of them, and
 *     ratios = sum sqrt(xx / dd), over the samples with dd > 0
 * added sample by sample in order, so that it does not depend on how samples come in batches.
 * From it: SQNR = 20 log10(ratios / (samples - exact)), mse = dd / count, cosine = xy / sqrt(xx
 * yy). A sample without error is counted in `exact` and has no ratio; a zero signal with an error
 * has ratio 0. A row of no elements is no sample. Merging adds: merge(a, b) and merge(b, a) have
 * the same bits; (a b) c and a (b c) agree in counts and largest, and within rounding in the sums.
 *
 * y is float32, or int8 / int16 standing for (q - zero_point) * scale, rounded once to float32.
 *
 * kl: KL(softmax(x) || softmax(y)) in nats of each row of n >= 1, in float64, in order:
 *     a = x - max x, b = y - max y, A = sum e^a, B = sum e^b
 *     KL = sum e^a (a - b) / A - log A + log B, and 0 where rounding made it negative.
 * exp and log are written out here, since bits of a libm depend on the machine. exp: a = k log 2 +
 * r, |r| <= 0.35, Taylor to r^13 (rest < 5e-18); below -708 it is 0. log: odd series of (m - 1) /
 * (m + 1), |.| <= 0.172, to power 23 (rest < 1e-20). Both are within 4 * 2^-53 of the true value,
 * relative for exp, of 1 + log v for log v. With M = max |a - b| and u = 2^-53: a - b is within
 * u (2 |a| + 2 M), and sum p |a| <= n; a sum of n terms adds n u of itself, and each of the two
 * logarithms (n + 8 + 4 log n) u. So the absolute error of KL is below (6 n + 40) u (2 + M).
 *
 * Errors: NaN is PQ_ERR_NAN, infinity PQ_ERR_VALUE, naming argument and flat index. A failed call
 * leaves states as they were.
 */
#ifndef PYQUANT_METRICS_H
#define PYQUANT_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "pyquant/exec.h"
#include "pyquant/types.h"

/* 16 lanes of 5 sums are 10 registers of AVX2 and 20 of NEON: 32 lanes would spill on AVX2. */
#define PQ_METRICS_LANES 16
#define PQ_METRICS_BLOCK 2048
#define PQ_METRICS_CHUNK 131072

typedef struct pq_metrics_shape {
    size_t samples, pieces, groups, length;
} pq_metrics_shape;

typedef struct pq_metrics_y {
    const float *values;  /* or NULL: then */
    const void *integers; /* of this type, */
    pq_dtype type;        /* PQ_S8 or PQ_S16 */
    float scale;          /* > 0, with 65536 * scale finite */
    int32_t zero_point;   /* of int16's range */
} pq_metrics_y;

typedef struct pq_metrics_sums {
    double xx, yy, xy, dd, largest;
    int64_t count;
} pq_metrics_sums;

typedef struct pq_metrics_state {
    pq_metrics_sums total;
    double ratios;
    int64_t samples, exact;
} pq_metrics_state;

/* sums [samples, groups]. */
PQ_NODISCARD pq_status pq_metrics_rows(const pq_exec *exec, const pq_metrics_shape *shape,
                                       const float *x, const pq_metrics_y *y,
                                       pq_metrics_sums *sums);

/* states [groups], all zero at first. */
PQ_NODISCARD pq_status pq_metrics_update(const pq_exec *exec, const pq_metrics_shape *shape,
                                         const float *x, const pq_metrics_y *y,
                                         pq_metrics_state *states);

/* PQ_ERR_VALUE for what no update can have left: negative, not finite, exact > samples. */
PQ_NODISCARD pq_status pq_metrics_merge(const pq_exec *exec, size_t groups, pq_metrics_state *into,
                                        const pq_metrics_state *from);

/* kl [rows]; x and y are [rows, n]. */
PQ_NODISCARD pq_status pq_metrics_kl(const pq_exec *exec, size_t rows, size_t n, const float *x,
                                     const float *y, double *kl);

#endif
