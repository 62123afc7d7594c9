/* The sums of weights in chains, in plain loops: what each s16 lane holds is written out, and must
 * fit. */
#include <assert.h>

#include "gemm/gemm_chains.h"
#include "gemm/gemm_ref.h"

enum { COLUMNS = PQ_GEMM_CHAIN_COLUMNS, LANES = PQ_GEMM_CHAIN_LANES };

/* Adds one chain of `length` groups: s16 lanes, of which two make a column. */
static void add_chain(const int8_t *x, size_t k, const uint16_t *order, const int8_t *w,
                      unsigned length, int64_t *sums) {
    int32_t lanes[LANES] = {0};
    for (unsigned l = 0; l < length; l++, w += PQ_GEMM_CHAIN_GROUP) {
        for (size_t i = 0; i < PQ_GEMM_CHAIN_GROUP; i++) {
            const size_t p = 4 * (size_t)order[l] + i % 4;
            const int value = p < k ? x[p] : 0;
            lanes[i / 2] += value < 0 ? -value * ~w[i] : value * w[i];
        }
    }
    for (size_t i = 0; i < LANES; i++) {
        assert(lanes[i] >= INT16_MIN && lanes[i] <= INT16_MAX);
        sums[i / 2] += lanes[i];
    }
}

/* What |x| * (w ^ m) lacks. */
static int64_t negatives(const int8_t *x, size_t k) {
    int64_t sum = 0;
    for (size_t p = 0; p < k; p++) {
        sum -= x[p] < 0 ? x[p] : 0;
    }
    return sum;
}

/* One row times one panel: 16 sums. */
static void add_panel(const pq_gemm_weights *weights, const int8_t *x, size_t panel,
                      int64_t *sums) {
    const size_t step = weights->blocking.k;
    for (size_t c = 0; c * step < weights->k; c++) {
        const pq_gemm_chain_cut *cut = pq_gemm_chains_cut(weights, panel, c);
        const uint16_t *order = pq_gemm_chains_order(weights, panel, cut);
        const int8_t *w = pq_gemm_chains_groups(weights, panel, cut);
        const uint32_t counts[] = {cut->ones, cut->twos, cut->threes};
        for (unsigned length = 3; length > 0; length--) {
            for (uint32_t i = 0; i < counts[length - 1]; i++) {
                add_chain(x + c * step, weights->k - c * step, order, w, length, sums);
                order += length;
                w += length * PQ_GEMM_CHAIN_GROUP;
            }
        }
    }
}

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    (void)workspace;
    for (size_t i = 0; i < block->rows; i++) {
        for (size_t j = block->column_begin; j < block->column_end; j += COLUMNS) {
            int64_t sums[COLUMNS] = {0}, row = negatives(block->x + i * block->ldx, weights->k);
            add_panel(weights, block->x + i * block->ldx, j / COLUMNS, sums);
            for (size_t c = j; c < block->column_end && c < j + COLUMNS; c++) {
                /* bias holds what the zero point adds, modulo 2^32. */
                const int32_t acc =
                    (int32_t)((uint32_t)(sums[c - j] + row) + (uint32_t)weights->bias[c]);
                pq_gemm_ref_finish(weights, block, i, c, acc);
            }
        }
    }
}

const struct pq_gemm_chains_kernel pq_gemm_chains_ref = {
    .gemm = {.row_tile = 1,
             .column_tile = COLUMNS,
             .k_group = 4,
             .lanes = 1,
             .x_offset = 0,
             .x_bytes = 1,
             .w_bytes = 1,
             .block_macs = (size_t)1 << 20, /* 0.3 GMAC/s and more: under 4 ms */
             .workspace = pq_gemm_ref_workspace,
             .run = run},
};
