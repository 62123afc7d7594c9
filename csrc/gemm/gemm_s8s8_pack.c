/* s8 weights into the layout of gemm_s8s8_kernel.h. */
#include <string.h>

#include "core/dispatch.h"
#include "gemm/gemm_chains.h"
#include "gemm/gemm_pack.h"

/* Groups of k that are written for all columns of a panel before the next: 16 KiB of 64 columns. */
enum { GROUPS_AT_ONCE = 64 };

/* The groups [begin, end) of a column, `step` apart. Inlined with a constant `group`. */
static inline void pack_groups(int8_t *column, const int8_t *row, size_t begin, size_t end,
                               size_t group, size_t step) {
    for (size_t g = begin; g < end; g++) {
        memcpy(column + g * step, row + g * group, group);
    }
}

static void pack_block(int8_t *column, const int8_t *row, size_t begin, size_t end, size_t group,
                       size_t step) {
    if (group == 4) {
        pack_groups(column, row, begin, end, 4, step);
    } else if (group == 2) {
        pack_groups(column, row, begin, end, 2, step);
    } else {
        pack_groups(column, row, begin, end, group, step);
    }
}

static void pack_panels(pq_gemm_weights *weights, const int8_t *w) {
    const size_t tile = weights->kernel->column_tile, group = weights->kernel->k_group;
    const size_t k = weights->k, whole = k / group, step = tile * group;
    for (size_t first = 0; first < weights->n; first += tile) {
        int8_t *panel = weights->panels + first / tile * weights->panel_size;
        const size_t columns = pq_min_size(tile, weights->n - first);
        for (size_t begin = 0; begin < whole; begin += GROUPS_AT_ONCE) {
            const size_t end = pq_min_size(whole, begin + GROUPS_AT_ONCE);
            for (size_t j = 0; j < columns; j++) {
                pack_block(panel + j * group, w + (first + j) * k, begin, end, group, step);
            }
        }
        for (size_t j = 0; j < columns; j++) {
            memcpy(panel + whole * step + j * group, w + (first + j) * k + whole * group,
                   k % group);
        }
    }
}

/* Chains where they save multiplies: less than that is not worth their order of k. Else NULL. */
static pq_status pack_chains(const pq_exec *exec, const struct pq_gemm_chains_kernel *kernel,
                             const pq_gemm_pack_args *args, pq_gemm_weights **weights) {
    const pq_status status = pq_gemm_chains_pack_for(exec, kernel, args, weights);
    if (status != PQ_OK) {
        return status;
    }
    const pq_gemm_chains *chains = (*weights)->extra;
    if (chains->multiplies > chains->plain_multiplies / 100 * 95) {
        pq_gemm_weights_free(*weights);
        *weights = NULL;
    }
    return PQ_OK;
}

static pq_status pack_plain(const pq_exec *exec, const struct pq_gemm_s8s8_kernel *kernel,
                            const pq_gemm_pack_args *args, pq_gemm_weights **weights) {
    size_t panel_size;
    pq_gemm_weights *packed = NULL;
    if (pq_mul_size(pq_round_up(args->k, kernel->k_group), kernel->column_tile, &panel_size)) {
        packed = pq_gemm_allocate(kernel, args, panel_size, 0);
    }
    if (packed == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "gemm_s8s8: no memory to pack weights of %zu x %zu",
                       args->n, args->k);
    }
    if (args->k > 0) {
        pack_panels(packed, args->w);
    }
    pq_gemm_pack_columns(packed, args);
    *weights = packed;
    return PQ_OK;
}

pq_status pq_gemm_s8s8_pack_for(const pq_exec *exec, const struct pq_gemm_s8s8_kernel *kernel,
                                const pq_gemm_pack_args *args, pq_gemm_weights **weights) {
    *weights = NULL;
    const bool chains = kernel->chains != NULL && args->k > 0 && !args->once;
    const pq_status status =
        chains ? pack_chains(exec, kernel->chains, args, weights) : pq_gemm_s8s8_check(exec, args);
    return status != PQ_OK || *weights != NULL ? status : pack_plain(exec, kernel, args, weights);
}

pq_status pq_gemm_s8s8_pack(const pq_exec *exec, const pq_gemm_pack_args *args,
                            pq_gemm_weights **weights) {
    return pq_gemm_s8s8_pack_for(exec, pq_kernel_choose(PQ_KERNEL_OP_gemm_s8s8), args, weights);
}

pq_status pq_gemm_s8s8_pack_chains(const pq_exec *exec, const pq_gemm_pack_args *args,
                                   pq_gemm_weights **weights) {
    return pq_gemm_chains_pack_for(exec, pq_kernel_choose(PQ_KERNEL_OP_gemm_chains), args, weights);
}
