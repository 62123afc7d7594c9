/* s8 weights into the layout of gemm_s8s8_kernel.h. */
#include "core/dispatch.h"
#include "gemm/gemm_chains.h"
#include "gemm/gemm_pack.h"

static void pack_panels(pq_gemm_weights *weights, const int8_t *w) {
    const size_t tile = weights->kernel->column_tile, group = weights->kernel->k_group;
    for (size_t j = 0; j < weights->n; j++) {
        int8_t *column = weights->panels + j / tile * weights->panel_size + j % tile * group;
        for (size_t p = 0; p < weights->k; p++) {
            column[p / group * tile * group + p % group] = w[j * weights->k + p];
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
