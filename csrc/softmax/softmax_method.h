/* One row of scores becomes weights P, their sum, and the divisor L (pyquant/softmax.h).
 *
 * There are two kernels on each ISA: `table` computes TABLE16 and TABLE8 by octaves, `lookup` all
 * methods whose exponentials are a table. Attention calls them through these types. It divides
 * once, by L, after P times V.
 */
#ifndef PYQUANT_SOFTMAX_SOFTMAX_METHOD_H
#define PYQUANT_SOFTMAX_SOFTMAX_METHOD_H

#include <stddef.h>
#include <stdint.h>

#include "pyquant/softmax.h"
#include "pyquant/types.h"

/* What a row's weights add up to, and what they are to be divided by: L, at least 1. */
typedef struct pq_softmax_sums {
    uint32_t weights, divisor;
} pq_softmax_sums;

/* requant / L as a dyadic number: what one unit of P or of P times V is worth in the output.
 *     t = (multiplier << 32) / L >= 2^30,  b = bitlen(t);  t >> (b - 31),  shift + 63 - b */
static inline pq_dyadic pq_softmax_normalizer(pq_dyadic requant, uint32_t l) {
    const uint64_t t = ((uint64_t)requant.multiplier << 32) / l;
    const int bits = 64 - __builtin_clzll(t);
    return (pq_dyadic){.multiplier = (int32_t)(t >> (bits - 31)),
                       .shift = (uint8_t)(requant.shift + 63 - bits)};
}

/* That shift grows with L. `divisor` is the greatest that can be; the shift must stay inside 62. */
PQ_NODISCARD pq_status pq_softmax_check_requant(const pq_exec *exec, const char *op,
                                                pq_dyadic requant, uint32_t divisor);

/* The definition. score[n], keep[n] (0 excludes) -> p[n]. */
typedef pq_softmax_sums pq_softmax_ref_fn(const pq_softmax *softmax, size_t n, const int32_t *score,
                                   const uint8_t *keep, uint16_t *p);

/* A score that marks an excluded key in a panel: no true score is that low (|score| < 2^31). */
#define PQ_SCORE_EXCLUDED INT32_MIN

/* Keys that a wide softmax of x86 takes in one step; AVX-512 takes two of them where weights are
 * bytes. */
enum { PQ_SOFTMAX_STEP = 32 };

/* Some rows of scores, `stride` s32 apart, each of n scores; n is a multiple of the step and may be
 * 0. None of the first plain[i] scores of row i is excluded, the others may be PQ_SCORE_EXCLUDED.
 * Rows are aligned to 64 bytes. */
typedef struct pq_softmax_panel {
    size_t rows, n, stride;
    int32_t *scores;
    const size_t *plain;
    uint32_t *sums;     /* of each row's weights: written */
    uint32_t *divisors; /* L of each row: written by `lookup`; for `table` it is the sum */
} pq_softmax_panel;

/* A wide form, in place: leaves n weights at the start of each row. All rows of a block in one
 * call, because tables and constants take as long to spread as some 100 keys. */
typedef void pq_softmax_panel_fn(const pq_softmax *softmax, const pq_softmax_panel *panel);

/* Leaves s16 (pmax < 2^15). Of every 16 keys the weights of i and i + 8 lie side by side, i = 0..7:
 * the pairs that one multiply-add takes. */
pq_softmax_panel_fn pq_softmax_table_avx2, pq_softmax_lookup_avx2;

/* The online form (attention_online.h): the scores of a row fall into blocks of 64 keys. most[b *
 * rows
 * + i] is the greatest score of row i before block b; raise makes those after a block from those
 * before it, beginning with b = 0. below weighs each block's keys below the maximum after it. The
 * weights of blocks that leave the maximum are summed with those of the block before:
 * sums[b * rows + i] is then 0. n > 0. */
typedef void pq_softmax_raise_fn(const pq_softmax_panel *panel, int32_t *most);
typedef void pq_softmax_below_fn(const pq_softmax *softmax, const pq_softmax_panel *panel,
                                 const int32_t *most);
pq_softmax_raise_fn pq_softmax_raise_avx2, pq_softmax_raise_avx512;
pq_softmax_below_fn pq_softmax_table_below_avx2, pq_softmax_table_below_avx512;

/* Leave s16, and u8 (pmax <= 255), in the order of the keys; n is a multiple of two steps. */
pq_softmax_panel_fn pq_softmax_table_avx512, pq_softmax_table_avx512_bytes;
pq_softmax_panel_fn pq_softmax_lookup_avx512; /* s16 */

/* Pairs of pq_softmax_table_avx2's order that hold the first n keys. */
static inline size_t pq_softmax_pairs(size_t n) {
    return n / 16 * 8 + (n % 16 < 8 ? n % 16 : 8);
}

pq_softmax_ref_fn pq_softmax_table_ref, pq_softmax_lookup_ref;

static inline pq_softmax_ref_fn *pq_softmax_ref_of(pq_softmax_method method) {
    return pq_softmax_by_octaves(method) ? pq_softmax_table_ref : pq_softmax_lookup_ref;
}

/* Its weight of one key, `delta` below the maximum. */
uint16_t pq_softmax_table_weight(const pq_softmax *softmax, uint32_t delta);

#endif
