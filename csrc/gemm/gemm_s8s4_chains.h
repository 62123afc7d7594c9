/* What the x86 kernels of gemm_s8s4 share: everything but the instructions.
 *
 * A block is done cut by cut of k and panel by panel, in row tiles. k is summed in chains: runs of
 * four k ("quads") in one group, and short enough for the kernel's accumulators. A chain begins at
 * the row's offset, -8 * sum(x) over its k (gemm_s8s4_kernel.h), and what comes out is multiplied
 * by the factors of its group into the s32 sums of the tile.
 *
 * Blocks of few rows read several panels at once: memory is then the limit, half a byte a weight,
 * and several streams of reads are served faster than one.
 */
#ifndef PYQUANT_GEMM_GEMM_S8S4_CHAINS_H
#define PYQUANT_GEMM_GEMM_S8S4_CHAINS_H

#include <string.h>

#include "gemm/gemm_s8s4_kernel.h"

enum { PQ_S8S4_ROWS = 6, PQ_S8S4_PANELS = 4 /* at most, of one row */ };

typedef struct pq_s8s4_chain {
    uint32_t quads, group;
} pq_s8s4_chain;

/* What a tile of some rows and panels works on; strides in elements. */
typedef struct pq_s8s4_operands {
    const int8_t *x;
    size_t x_stride;
    const int32_t *offsets; /* per row and chain */
    size_t offset_stride;
    const uint8_t *w;
    size_t w_stride; /* between panels */
    const uint8_t *factors;
    size_t factor_stride; /* between panels */
    const pq_s8s4_chain *chains;
    size_t chain_count;
    int32_t *sums;
    size_t sum_stride; /* between panels */
} pq_s8s4_operands;

/* What a kernel brings. */
typedef struct pq_s8s4_form {
    size_t columns;    /* of a panel */
    size_t quad_bytes; /* of a panel, packed */
    bool s16;          /* accumulators are s16: chains end where the weights demand it */
    size_t
        packed_rows; /* blocks of at most so many rows read packed panels, others unpacked ones */
    /* -8 * sum(x), in the form in which accumulators of the kernel begin. */
    int32_t (*offset)(const int8_t *x, size_t quads);
    /* A panel of so many quads, twice as large; NULL if no block wants it. */
    void (*unpack)(const uint8_t *w, size_t quads, uint8_t *out);
    /* sums += x * w; panels is pq_s8s4_panels(rows) or 1. */
    void (*tile)(size_t rows, size_t panels, bool packed, bool scaled, const pq_s8s4_operands *o);
    void (*finish)(const pq_gemm_weights *weights, const pq_gemm_block *block, size_t row,
                   size_t rows, size_t j, size_t columns, const int32_t *sums);
} pq_s8s4_form;

/* The pieces of the workspace. */
typedef struct pq_s8s4_scratch {
    int8_t *x;     /* rows of this cut of k, zeros behind */
    uint8_t *w;    /* a panel, unpacked */
    int32_t *sums; /* tile by tile, panel by panel */
    pq_s8s4_chain *chains;
    int32_t *offsets;
    size_t x_stride, offset_stride, panel_sums, size;
    size_t chain_count;
} pq_s8s4_scratch;

/* Panels that `rows` rows take at once: enough sums to hide the latency of a chain. */
static inline size_t pq_s8s4_panels(size_t rows) {
    return rows == 1 ? 4 : rows == 2 ? 2 : 1;
}

/* The next piece of the workspace, if there is one: NULL while only the size is asked for. */
static inline void *pq_s8s4_take(void *workspace, size_t *used, size_t bytes) {
    void *piece = workspace == NULL ? NULL : (char *)workspace + *used;
    *used += (bytes + 63) / 64 * 64;
    return piece;
}

/* Rows of x lie an odd number of cache lines apart (blocking.k is a multiple of 64), so that they
 * spread over cache sets, with room for the zeros. A chain may be as short as four k. */
static inline pq_s8s4_scratch pq_s8s4_lay_out(const pq_s8s4_form *form, const pq_gemm_blocking *b,
                                              void *workspace) {
    const size_t tile = PQ_S8S4_ROWS * form->columns, chains = b->k / 4;
    const size_t sums = b->sums > PQ_S8S4_PANELS * tile ? b->sums : PQ_S8S4_PANELS * tile;
    pq_s8s4_scratch s = {.x_stride = ((b->k / 64 + 1) | 1) * 64,
                         .offset_stride = chains,
                         .panel_sums = b->sums == 0 ? tile : b->rows * form->columns};
    s.x = pq_s8s4_take(workspace, &s.size, b->rows * s.x_stride);
    s.w = pq_s8s4_take(workspace, &s.size, form->unpack == NULL ? 0 : b->k * form->columns);
    s.sums = pq_s8s4_take(workspace, &s.size, sums * sizeof *s.sums);
    s.chains = pq_s8s4_take(workspace, &s.size, chains * sizeof *s.chains);
    s.offsets = pq_s8s4_take(workspace, &s.size, b->rows * chains * sizeof *s.offsets);
    return s;
}

/* The chains of k in [begin, end); begin is a multiple of four. */
static inline void pq_s8s4_make_chains(const pq_gemm_s8s4_groups *groups, size_t longest,
                                       size_t begin, size_t end, pq_s8s4_scratch *s) {
    const size_t group_quads = groups->size / 4, end_quad = (end + 3) / 4;
    s->chain_count = 0;
    for (size_t quad = begin / 4; quad < end_quad;) {
        const size_t group = quad / group_quads, inside = quad % group_quads;
        const size_t most = pq_min_size(longest - inside % longest, group_quads - inside);
        const size_t quads = pq_min_size(most, end_quad - quad);
        s->chains[s->chain_count++] = (pq_s8s4_chain){(uint32_t)quads, (uint32_t)group};
        quad += quads;
    }
}

/* Rows of x with k in [begin, end), and their offsets. Nothing behind a row is read. */
static inline void pq_s8s4_take_rows(const pq_s8s4_form *form, const pq_gemm_block *block,
                                     size_t begin, size_t end, const pq_s8s4_scratch *s) {
    for (size_t i = 0; i < block->rows; i++) {
        int8_t *row = s->x + i * s->x_stride;
        memcpy(row, block->x + i * block->ldx + begin, end - begin);
        memset(row + (end - begin), 0, 4);
        for (size_t c = 0; c < s->chain_count; c++) {
            s->offsets[i * s->offset_stride + c] = form->offset(row, s->chains[c].quads);
            row += 4 * (size_t)s->chains[c].quads;
        }
    }
}

/* `panels` panels from column j on against all rows of the block, k in [begin, end). */
static inline void pq_s8s4_run_panels(const pq_s8s4_form *form, const pq_gemm_weights *weights,
                                      const pq_gemm_block *block, size_t j, size_t panels,
                                      size_t begin, size_t end, const pq_s8s4_scratch *s) {
    const pq_gemm_s8s4_groups *groups = weights->extra;
    const size_t columns = form->columns, tile = PQ_S8S4_ROWS * columns;
    const size_t factor_stride = groups->count * columns;
    const bool first = begin == 0, last = end == weights->k;
    const bool packed = block->rows <= form->packed_rows;
    const uint8_t *w = (const uint8_t *)weights->panels + j / columns * weights->panel_size +
                       begin / 4 * form->quad_bytes;
    pq_s8s4_operands o = {
        .x_stride = s->x_stride,
        .offset_stride = s->offset_stride,
        .w = packed ? w : s->w,
        .w_stride = weights->panel_size,
        .factors = groups->multiplier + j / columns * factor_stride,
        .factor_stride = factor_stride,
        .chains = s->chains,
        .chain_count = s->chain_count,
        .sums = s->sums + (first && last ? 0 : (j - block->column_begin) / columns * s->panel_sums),
        .sum_stride = s->panel_sums,
    };
    if (!packed) {
        form->unpack(w, (end - begin + 3) / 4, s->w);
    }
    for (size_t i = 0; i < block->rows; i += PQ_S8S4_ROWS) {
        const size_t rows = pq_min_size(PQ_S8S4_ROWS, block->rows - i);
        o.x = s->x + i * s->x_stride;
        o.offsets = s->offsets + i * s->offset_stride;
        for (size_t p = 0; first && p < panels; p++) {
            memset(o.sums + p * s->panel_sums, 0, rows * columns * sizeof *o.sums);
        }
        form->tile(rows, panels, packed, groups->scaled, &o);
        for (size_t p = 0; last && p < panels; p++) {
            const size_t at = j + p * columns;
            form->finish(weights, block, i, rows, at, pq_min_size(columns, block->column_end - at),
                         o.sums + p * s->panel_sums);
        }
        /* Sums of a tile that is finished at once stay in one place, in L1. */
        o.sums += first && last ? 0 : tile;
    }
}

static inline void pq_s8s4_run(const pq_s8s4_form *form, const pq_gemm_weights *weights,
                               const pq_gemm_block *block, void *workspace) {
    const pq_gemm_s8s4_groups *groups = weights->extra;
    const size_t longest = form->s16 ? groups->chain : SIZE_MAX;
    pq_s8s4_scratch s = pq_s8s4_lay_out(form, &weights->blocking, workspace);
    size_t begin = 0;
    do { /* once for k = 0 too: y is then the bias */
        const size_t end = pq_min_size(begin + weights->blocking.k, weights->k);
        if (end > begin) {
            pq_s8s4_make_chains(groups, longest, begin, end, &s);
            pq_s8s4_take_rows(form, block, begin, end, &s);
        }
        for (size_t j = block->column_begin; j < block->column_end;) {
            const size_t left = (block->column_end - j + form->columns - 1) / form->columns;
            const size_t wanted = pq_s8s4_panels(block->rows), panels = wanted <= left ? wanted : 1;
            pq_s8s4_run_panels(form, weights, block, j, panels, begin, end, &s);
            j += panels * form->columns;
        }
        begin = end;
    } while (begin < weights->k);
}

#endif
