/* The seam between the entry of gemm_s8s8 (check, pack, plan) and its kernels.
 *
 * A kernel computes one block of y: some rows times some columns, the whole of k. How weights are
 * laid out follows from a few numbers of the kernel, so that packing is one routine for all:
 *
 *   panels    [ceil(n / column_tile)][ceil(k / k_group)][column_tile][k_group] s8, zero-padded
 *
 * and what a column needs after the sum stands in arrays padded to a multiple of column_tile:
 *
 *   bias      bias - (z_x + x_offset) * sum(w), modulo 2^32: the kernel multiplies x + x_offset
 *   low, high the accumulators from which on y is quant_min / quant_max
 *   wide arrays (shift, round: 64 bits a column) hold, for each vector of `lanes` columns, the even
 *   columns and then the odd ones, the order in which vpmuldq takes them
 *
 * Requantization in 32-bit lanes with 64-bit products. rnu and the clamp are monotone in acc, so
 *     y(acc) = y(min(max(acc, low), high)),
 * and between those two |rnu| < 2^30 + 2^17 (it can overshoot a bound by one step of m / 2^s only),
 * which fits 32 bits. There is no arithmetic 64-bit shift before AVX-512, hence
 *     rnu = ((acc * m + 2^(s-1) + 2^62) logically >> s) - (2^62 >> s),    s <= 62,
 * where the sum lies in [0, 2^64): round = 2^(s-1) + 2^62, post = z_y - (2^62 >> s) modulo 2^32.
 */
#ifndef PYQUANT_GEMM_GEMM_S8S8_KERNEL_H
#define PYQUANT_GEMM_GEMM_S8S8_KERNEL_H

#include "core/sizes.h"
#include "pyquant/cpu.h"
#include "pyquant/gemm.h"

/* Some rows, and columns [column_begin, column_end) of y; column_begin is a multiple of
 * column_tile. */
typedef struct pq_gemm_block {
    size_t rows, column_begin, column_end;
    const int8_t *x; /* the first row; may be NULL where k = 0 */
    size_t ldx;
    void *y; /* the first row at column_begin */
    size_t ldy;
} pq_gemm_block;

/* The largest block that run() takes, in whole tiles, and the steps, multiples of 64, in which it
 * may cut k. */
typedef struct pq_gemm_blocking {
    size_t rows, columns, k;
    size_t sums;         /* rows * columns where k is cut, so that sums wait; else 0 */
    size_t read_columns; /* <= columns: of a block whose product is read again while in cache */
} pq_gemm_blocking;

/* Any kernel of this family, whatever the type of its weights: the entry runs it on the weights
 * that were packed for it. A kernel of another op wraps it, so that a row of kernels.def has the
 * type of its op:  struct pq_gemm_s8s4_kernel { struct pq_gemm_s8s8_kernel gemm; }; */
struct pq_gemm_s8s8_kernel {
    const struct pq_gemm_chains_kernel *chains; /* the variant for chains (gemm_chains.h) or NULL */
    size_t row_tile, column_tile, k_group, lanes;
    int32_t x_offset;
    size_t x_bytes, w_bytes; /* an x and a weight where the loop over k reads them: 2 if widened */
    size_t block_macs;       /* multiply-adds of a block that surely take under 10 ms */
    size_t (*workspace)(const pq_gemm_blocking *blocking); /* bytes, 64-byte aligned */
    /* `block` is within weights->blocking, and `workspace` as large as that asks for. */
    void (*run)(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace);
};

struct pq_gemm_weights {
    const struct pq_gemm_s8s8_kernel *kernel;
    size_t n, k;
    int32_t x_zero_point;
    pq_dtype y_type;
    pq_clamp out;
    pq_gemm_blocking blocking;
    /* As given to pack. */
    int32_t *plain_bias, *plain_multiplier;
    uint8_t *plain_shift;
    /* In the kernel's layout. */
    int8_t *panels;
    size_t panel_size; /* bytes from one panel to the next */
    void *extra;       /* what the kernel packed besides, in a layout of its own */
    int32_t *bias, *low, *high, *multiplier, *post;
    uint64_t *shift, *round;
};

/* pq_gemm_s8s8_pack for a given kernel, eligible or not: for tests and benchmarks. */
PQ_NODISCARD pq_status pq_gemm_s8s8_pack_for(const pq_exec *exec,
                                             const struct pq_gemm_s8s8_kernel *kernel,
                                             const pq_gemm_pack_args *args,
                                             pq_gemm_weights **weights);

#endif
