/* fake: uniform fake-quantization forward and backward, learned scales, and gradients behind edges
 * and behind tables.
 *
 * Arrays are float32 of n elements; element i belongs to channel c = (i / inner) % channels, and n
 * is a multiple of channels * inner. That is per tensor (1, any), per channel, per token, per head
 * and per group. With s = scale[c], z its zero point, low = quant_min - z, high = quant_max - z and
 * v = fl(x / s), the correctly rounded quotient, k = rne(v) (half to even):
 *
 *     forward            x_hat = clamp(k, low, high) * s           one rounding, as in quantize.h
 *                        mask bit i: low <= k <= high, before the clamp; bit i % 8 of byte i / 8,
 *                        bits behind n are 0
 *     backward           dx = g where the mask bit is set, else 0
 *     learned backward   inside: low < v < high (strictly: LSQ, eq. 3)
 *                        dx = g inside, else 0
 *                        ds[c] = sum g t,  t = k - v inside, low at v <= low, high at v >= high
 *                        dz[c] = -s sum g outside
 *     stochastic         x_hat = clamp(floor(fl(v + u)), low, high) * s, v brought into [low - 1,
 *                        high + 1] before; u of element i is the upper 24 bits of word i % 4 of
 *                        Philox4x32-10(key = seed, counter = i / 4), times 2^-24
 *
 * and behind an edge, whose values y lie on one grid (low, high, s as above), where `real` is the
 * float function before its rounding, v = fl(real / s) and r = fl(1 / s):
 *
 *     edge               dx = g where fl(low s) < y < fl(high s), else 0
 *     edge, learned      dx = g where low < v < high, else 0
 *                        sum = sum g t,  t = k - v inside, else clamp(v, low, high)
 *                        k = clamp(rne(fl(y r)), low, high), which is q - z for y on the grid:
 *                        |y r - (q - z)| <= 3 * 2^-24 * 2^17 < 1/2
 *
 * and behind a table, that is a function of an int8 operand x on a grid, of which slope[q + 128] is
 * the derivative and step[q + 128] that of the result's scale, k = clamp(rne(fl(x r)), low, high):
 *
 *     lookup             dx = fl(g slope[k + z + 128])
 *                        sum = sum g step[k + z + 128]
 *
 * Sums have the same bits on any machine, for any thread count and split. t and g t are rounded to
 * float32, never an FMA; then
 *     long runs   (channels = 1, or inner >= 16) The inner elements of one channel are a run. Each
 *                 PQ_FAKE_BLOCK of them are a block: element i goes to float32 lane i % 16 (at most
 *                 32 terms each, in order), and the lanes, in float64, are added by halving.
 *                 The blocks of a run are added by halving, then the runs of a channel.
 *     short runs  channels * inner elements are a row. PQ_FAKE_ROWS rows are a block, and each
 *                 column of it a float32 lane, added in order. A column's blocks are added in
 *                 float64 by halving, then the `inner` columns of a channel.
 * Halving m values: with p the power of two at or above m and missing values 0, value i + p / 2 is
 * added to value i < p / 2, and so on. Error: 31 additions, a product and a difference, each within
 * u = 2^-24, so below 34 u sum |g t|. (A term that underflows adds 2^-150.)
 *
 * Bounds: |v + u| and |k| are below 2^17, where adding 1.5 * 2^23 rounds to an integer.
 *
 * x = +-inf saturates. NaN in x is PQ_ERR_NAN, which names its index, and nothing is promised about
 * outputs then; behind a table it is low, where the forward pass has refused it. NaN and infinity in g flow into dx and the sums; `real` = NaN makes the sum NaN;
 * y = NaN lies outside. dx may be g; outputs overlap nothing else. Which NaN a sum is, is not
 * promised.
 *
 * Sources: Esser et al., Learned Step Size Quantization, arXiv 1902.08153, eq. 3 and 5; Bhalgat et
 * al., LSQ+, arXiv 2004.09576; Jain et al., Trained Quantization Thresholds, arXiv 1903.08066, eq.
 * 7; Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011.
 */
#ifndef PYQUANT_FAKE_H
#define PYQUANT_FAKE_H

#include <stddef.h>
#include <stdint.h>

#include "pyquant/exec.h"
#include "pyquant/types.h"

#define PQ_FAKE_BLOCK 512
#define PQ_FAKE_ROWS 32

typedef struct pq_fake_args {
    size_t n;
    size_t channels, inner;       /* 1, 1 for per tensor */
    const float *scale;           /* [channels], each in [2^-100, 2^100] */
    const int32_t *zero_point;    /* [channels], or [1]; quant_min <= z <= quant_max */
    size_t zero_points;           /* channels or 1 */
    int32_t quant_min, quant_max; /* of int16's range */
} pq_fake_args;

/* mask [ceil(n / 8)] or NULL. */
PQ_NODISCARD pq_status pq_fake_forward(const pq_exec *exec, const pq_fake_args *args,
                                       const float *x, float *x_hat, uint8_t *mask);
PQ_NODISCARD pq_status pq_fake_backward(const pq_exec *exec, size_t n, const float *g,
                                        const uint8_t *mask, float *dx);
/* ds, dz [channels]; dz may be NULL. */
PQ_NODISCARD pq_status pq_fake_learned_backward(const pq_exec *exec, const pq_fake_args *args,
                                                const float *x, const float *g, float *dx,
                                                double *ds, double *dz);

/* Words of Philox4x32-10. */
void pq_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t words[4]);
/* Counters are of the whole array. */
PQ_NODISCARD pq_status pq_fake_stochastic(const pq_exec *exec, const pq_fake_args *args,
                                          uint64_t seed, const float *x, float *x_hat);

/* rounded = 2^rne(log2 scale), from the bits: log2 of a float lies in the middle of two integers
 * for none. Scales in [2^-100, 2^100]; rounded may be scale. Its gradient by TQT, eq. 7:
 * d / d log2 s = s log(2) ds. */
PQ_NODISCARD pq_status pq_fake_power_of_two(const pq_exec *exec, size_t n, const float *scale,
                                            float *rounded);

PQ_NODISCARD pq_status pq_edge_backward(const pq_exec *exec, size_t n, pq_affine grid,
                                        const float *g, const float *y, float *dx);
PQ_NODISCARD pq_status pq_edge_backward_learned(const pq_exec *exec, size_t n, pq_affine grid,
                                                const float *g, const float *real, const float *y,
                                                float *dx, double *sum);
/* slope [256]; step [256], or NULL: then the sum is 0. grid within int8. */
PQ_NODISCARD pq_status pq_lookup_backward(const pq_exec *exec, size_t n, pq_affine grid,
                                          const float *slope, const float *step, const float *g,
                                          const float *x, float *dx, double *sum);

#endif
