/* The seam between packing of s4 weights and their kernels. The entry is that of gemm_s8s8.
 *
 * Plain kernels (lanes = 1, column_tile = 1) read w as it was given: a panel is a row of it.
 *
 * The others read four k of a column from one lane of 32 bits. A panel of column_tile columns is
 *
 *   [ceil(k / 4)][column_tile / (2 * lanes)] vectors of `lanes` lanes of 4 bytes,
 *
 * where byte p of lane c in vector v holds k = 4 * i + p of column 2 * lanes * v + c in its low
 * half and of the column `lanes` further in its high half: an AND and a shift give two vectors that
 * meet the same four x.
 *
 * A half holds w + 8, in [0, 15]. As the unsigned operand of vpmaddubsw and vpdpbusd it needs no
 * extension of its sign, and x keeps its own. The kernel takes 8 * sum(x) off: one number a
 * row for all columns, where the usual offset of x by 128 costs a number a column and halves the
 * room in s16. Missing k and columns hold weights of 0; missing x must be 0.
 * A kernel whose instructions want s8 on both sides asks for signed_halves: w in two's complement,
 * whose sign two shifts extend.
 */
#ifndef PYQUANT_GEMM_GEMM_S8S4_KERNEL_H
#define PYQUANT_GEMM_GEMM_S8S4_KERNEL_H

#include "gemm/gemm_s8s8_kernel.h"
#include "pyquant/gemm_s8s4.h"

struct pq_gemm_s8s4_kernel {
    struct pq_gemm_s8s8_kernel gemm;
    bool signed_halves;
};

/* What weights->extra points to. */
typedef struct pq_gemm_s8s4_groups {
    size_t size;               /* k of a group; all of k, rounded up to 4, where there is one */
    size_t count;              /* groups */
    const uint8_t *multiplier; /* [panels][count][column_tile], padded by 1 */
    bool scaled;               /* some multiplier may differ from 1 */
    /* Four k whose sums one s16 lane holds whatever x is: see gemm_s8s4_pack.c. */
    size_t chain;
} pq_gemm_s8s4_groups;

/* The fields that all types of weights have, as gemm_pack.h takes them; w is NULL. */
pq_gemm_pack_args pq_gemm_s8s4_common(const pq_gemm_s8s4_pack_args *args);

/* pq_gemm_s8s4_pack for a given kernel, eligible or not: for tests and benchmarks. */
PQ_NODISCARD pq_status pq_gemm_s8s4_pack_for(const pq_exec *exec,
                                             const struct pq_gemm_s8s4_kernel *kernel,
                                             const pq_gemm_s8s4_pack_args *args,
                                             pq_gemm_weights **weights);

#endif
