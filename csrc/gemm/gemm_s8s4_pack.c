/* s4 weights into the layouts of gemm_s8s4_kernel.h. */
#include <string.h>

#include "core/dispatch.h"
#include "gemm/gemm_pack.h"
#include "gemm/gemm_s8s4_kernel.h"

static void pack_plain(pq_gemm_weights *weights, const uint8_t *w) {
    if (weights->panel_size > 0) {
        memcpy(weights->panels, w, weights->n * weights->panel_size);
    }
}

/* w + 8, or w in two's complement. */
static void pack_lanes(pq_gemm_weights *weights, const uint8_t *w, bool signed_halves) {
    const int offset = signed_halves ? 0 : 8;
    const size_t tile = weights->kernel->column_tile, lanes = weights->kernel->lanes;
    const size_t panels = pq_round_up(weights->n, tile) / tile;
    uint8_t *const out = (uint8_t *)weights->panels;
    memset(out, offset * 0x11, panels * weights->panel_size); /* weights of 0 */
    for (size_t j = 0; j < weights->n; j++) {
        const uint8_t *row = w + j * pq_s4_row_size(weights->k);
        const size_t column = j % tile, pair = column % (2 * lanes);
        uint8_t *first = out + j / tile * weights->panel_size + column / (2 * lanes) * lanes * 4 +
                         pair % lanes * 4;
        const int shift = pair < lanes ? 0 : 4;
        for (size_t p = 0; p < weights->k; p++) {
            uint8_t *byte = first + p / 4 * (tile * 2) + p % 4;
            const int stored = (pq_s4_get(row, p) + offset) & 15;
            *byte = (uint8_t)((*byte & (0xF0 >> shift)) | stored << shift);
        }
    }
}

/* `given` is NULL without groups. */
static void pack_multipliers(pq_gemm_weights *weights, const uint8_t *given, size_t count,
                             uint8_t *out) {
    const size_t tile = weights->kernel->column_tile;
    memset(out, 1, pq_round_up(weights->n, tile) * count);
    for (size_t j = 0; given != NULL && j < weights->n; j++) {
        for (size_t g = 0; g < count; g++) {
            out[(j / tile * count + g) * tile + j % tile] = given[j * count + g];
        }
    }
}

/* The sum of column j, each group times its factor. */
static int64_t column_sum(const pq_gemm_s8s4_pack_args *args, const pq_gemm_s8s4_groups *groups,
                          size_t j) {
    int64_t sum = 0;
    for (size_t p = 0; p < args->k; p++) {
        const int factor =
            groups->scaled ? args->group_multiplier[j * groups->count + p / groups->size] : 1;
        sum += factor * pq_s4_get(args->w + j * pq_s4_row_size(args->k), p);
    }
    return sum;
}

/* True if no aligned run of `chain` times four k, begun anew in each group, can leave s16 in one of
 * the two lanes that a column has there (k % 4 < 2 and >= 2). Each product is at most 128 * |w| in
 * size: sum |w| <= 255 keeps to 32,640. */
static bool chain_fits(const pq_gemm_s8s4_pack_args *args, size_t group_size, size_t chain) {
    for (size_t j = 0; j < args->n; j++) {
        const uint8_t *row = args->w + j * pq_s4_row_size(args->k);
        int sums[2] = {0, 0};
        for (size_t p = 0; p < args->k; p++) {
            if (p % group_size % (4 * chain) == 0) {
                sums[0] = sums[1] = 0;
            }
            const int w = pq_s4_get(row, p);
            int *sum = &sums[p % 4 / 2];
            *sum += w < 0 ? -w : w;
            if (*sum > 255) {
                return false;
            }
        }
    }
    return true;
}

/* The longest chain worth proving. Sums of weights grow with its length, the cost of widening
 * falls: 3 instructions for each 2 * chain + 3. Whatever the weights, 15 fit (15 * 2 * 8 = 240)
 * and, where none is -8, 18 (252): 16 of them, as groups and cuts of k are multiples of 64 as a
 * rule. */
static size_t longest_chain(const pq_gemm_s8s4_pack_args *args, size_t group_size) {
    static const size_t lengths[] = {64, 32, 16};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        if (chain_fits(args, group_size, lengths[i])) {
            return lengths[i];
        }
    }
    return 8;
}

static bool panel_bytes(const struct pq_gemm_s8s8_kernel *kernel, size_t k, size_t *size) {
    const size_t row = kernel->lanes == 1 ? pq_s4_row_size(k) : pq_round_up(k, 4) / 2;
    return pq_mul_size(row, kernel->column_tile, size);
}

pq_status pq_gemm_s8s4_pack_for(const pq_exec *exec, const struct pq_gemm_s8s4_kernel *kernel,
                                const pq_gemm_s8s4_pack_args *args, pq_gemm_weights **weights) {
    *weights = NULL;
    const pq_gemm_pack_args common = pq_gemm_s8s4_common(args);
    const pq_status status = pq_gemm_s8s4_check(exec, args);
    if (status != PQ_OK) {
        return status;
    }
    const size_t count = args->group_size == 0 ? 1 : pq_s4_groups(args->k, args->group_size);
    const size_t columns = pq_round_up(args->n, kernel->gemm.column_tile);
    size_t panel_size, extra_size;
    pq_gemm_weights *packed = NULL;
    if (panel_bytes(&kernel->gemm, args->k, &panel_size) &&
        pq_mul_size(columns, count, &extra_size) && extra_size < PTRDIFF_MAX) {
        packed = pq_gemm_allocate(&kernel->gemm, &common, panel_size,
                                  sizeof(pq_gemm_s8s4_groups) + extra_size);
    }
    if (packed == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "gemm_s8s4: no memory to pack weights of %zu x %zu",
                       args->n, args->k);
    }
    pq_gemm_s8s4_groups *groups = packed->extra;
    uint8_t *const factor = (uint8_t *)(groups + 1);
    const size_t whole = args->k == 0 ? 4 : pq_round_up(args->k, 4);
    *groups = (pq_gemm_s8s4_groups){
        .size = count > 1 ? args->group_size : whole,
        .count = count,
        .multiplier = factor,
        .scaled = args->group_size != 0,
    };
    if (args->k > 0) {
        if (kernel->gemm.lanes == 1) {
            pack_plain(packed, args->w);
        } else {
            pack_lanes(packed, args->w, kernel->signed_halves);
        }
        groups->chain = longest_chain(args, groups->size);
    }
    pack_multipliers(packed, args->group_multiplier, count, factor);
    for (size_t j = 0; j < args->n; j++) {
        pq_gemm_pack_column(packed, &common, j, column_sum(args, groups, j));
    }
    *weights = packed;
    return PQ_OK;
}

pq_status pq_gemm_s8s4_pack(const pq_exec *exec, const pq_gemm_s8s4_pack_args *args,
                            pq_gemm_weights **weights) {
    return pq_gemm_s8s4_pack_for(exec, pq_kernel_choose(PQ_KERNEL_OP_gemm_s8s4), args, weights);
}
