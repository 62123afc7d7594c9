/* Weights in chains: past the limit of vpmaddwd, exactly (docs/numerics/gemm.md).
 *
 * vpmaddubsw multiplies twice as many bytes as vpmaddwd, but adds its two products in s16. With
 * m = -1 where x < 0 and 0 elsewhere,
 *
 *   x * w = |x| * (w ^ m) + (x < 0 ? |x| : 0),
 *
 * where w ^ m is w or -w - 1 and fits s8 for every w, and the last term is the same for all
 * columns: one number a row. |x| <= 127 meets w and |x| <= 128 meets -w - 1, so that a weight takes
 * at most 128 * load of s16, load(w) = w + 1 for w >= 0 and -w for w < 0, and a lane may add up
 * products whose loads make at most 256, whatever x is. (Its least sum is then -32768; the greatest
 * is below 32768, since a positive product is less than 128 * load unless all w are -128, and two
 * of those make 32512.) A lane of one group holds two weights, 256 at most: it always fits.
 *
 * Packing looks for groups of four k that may be added up so in all lanes of a panel, chains of up
 * to three, and orders k by them. A chain of L groups costs L vpmaddubsw and one vpmaddwd (by ones,
 * which adds the two lanes of a column) where plain weights cost 2 L vpmaddwd.
 *
 *   panels    [ceil(n / 16)][ceil(k / 4)][16][4] s8, in the order of chains; zero-padded
 *
 * k is cut as blocking.k says (at most 2^18), and a chain lies in one cut.
 */
#ifndef PYQUANT_GEMM_GEMM_CHAINS_H
#define PYQUANT_GEMM_GEMM_CHAINS_H

#include "gemm/gemm_s8s8_kernel.h"

enum {
    PQ_GEMM_CHAIN_COLUMNS = 16,
    PQ_GEMM_CHAIN_GROUP = 4 * PQ_GEMM_CHAIN_COLUMNS, /* bytes of weights */
    PQ_GEMM_CHAIN_LANES = 2 * PQ_GEMM_CHAIN_COLUMNS, /* of s16 */
    PQ_GEMM_CHAIN_LONGEST = 3,
    PQ_GEMM_CHAIN_ROOM = 256 /* of the loads in a lane */
};

/* The chains of one panel in one cut of k: those of three groups, of two, then single groups. */
typedef struct pq_gemm_chain_cut {
    uint32_t begin; /* the first group, of those of the panel */
    uint32_t threes, twos, ones;
} pq_gemm_chain_cut;

/* What weights->extra points to. */
typedef struct pq_gemm_chains {
    size_t cut_count, group_count; /* cuts of k; groups of a panel */
    const pq_gemm_chain_cut *cuts; /* [panels][cut_count] */
    const uint16_t *order;         /* [panels][group_count]: at which group of the cut x is met */
    size_t multiplies;             /* of all chains, and of vpmaddwd on the same weights */
    size_t plain_multiplies;
} pq_gemm_chains;

/* Kernels read a cut by this. */
static inline const pq_gemm_chain_cut *pq_gemm_chains_cut(const pq_gemm_weights *weights,
                                                          size_t panel, size_t cut) {
    const pq_gemm_chains *chains = weights->extra;
    return &chains->cuts[panel * chains->cut_count + cut];
}

static inline const uint16_t *pq_gemm_chains_order(const pq_gemm_weights *weights, size_t panel,
                                                   const pq_gemm_chain_cut *cut) {
    const pq_gemm_chains *chains = weights->extra;
    return chains->order + panel * chains->group_count + cut->begin;
}

static inline const int8_t *pq_gemm_chains_groups(const pq_gemm_weights *weights, size_t panel,
                                                  const pq_gemm_chain_cut *cut) {
    return weights->panels + panel * weights->panel_size + (size_t)cut->begin * PQ_GEMM_CHAIN_GROUP;
}

/* A variant for weights in chains: column_tile is PQ_GEMM_CHAIN_COLUMNS and k_group 4. */
struct pq_gemm_chains_kernel {
    struct pq_gemm_s8s8_kernel gemm;
};

extern const struct pq_gemm_chains_kernel pq_gemm_chains_ref, pq_gemm_chains_avx2;

/* Packs in chains for `kernel`, whatever that brings: pq_gemm_s8s8_pack takes chains where they
 * save multiplies. Statuses are those of pq_gemm_s8s8_pack. */
PQ_NODISCARD pq_status pq_gemm_chains_pack_for(const pq_exec *exec,
                                               const struct pq_gemm_chains_kernel *kernel,
                                               const pq_gemm_pack_args *args,
                                               pq_gemm_weights **weights);

#endif
