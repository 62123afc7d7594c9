/* gemm_s8s4 on the AArch64 dot product. Weights are unpacked in registers, three shifts for two
 * vectors (core/neon_dot.h): for six rows that is 12 instructions more for 96 dot products, for one
 * row the memory is the limit, half a byte a weight.
 *
 * Without factors a tile sums all of a cut of k, as gemm_s8s8 does. With them, it sums one group at
 * a time from zero, and the result is multiplied into the sums: 24 loads, multiply-adds and stores
 * for a group, which in a group of 64 meet 384 dot products.
 */
#include <stdbool.h>

#include "gemm/gemm_neon.h"
#include "gemm/gemm_s8s4_kernel.h"
#include "gemm/gemm_walk.h"

enum {
    ROWS = PQ_DOT_ROWS,
    COLUMNS = PQ_DOT_COLUMNS,
    TILE = PQ_GEMM_NEON_TILE,
    QUAD_SIZE = 2 * COLUMNS /* bytes of four k of a panel */
};

static __attribute__((noinline)) void multiply(size_t rows, const pq_dot_tile *tile) {
    pq_dot_rows(rows, PQ_DOT_S8S4, tile);
}

/* sums = (first ? 0 : sums) + factor of the column * group sums. */
static void add_group(size_t rows, bool first, const int32_t *group, const uint8_t *factor,
                      int32_t *sums) {
    const uint8x16_t bytes = vld1q_u8(factor);
    const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_high_u8(bytes);
    const uint32x4_t wide[4] = {vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low),
                                vmovl_u16(vget_low_u16(high)), vmovl_high_u16(high)};
    for (size_t i = 0; i < rows; i++) {
        PQ_UNROLL
        for (size_t c = 0; c < 4; c++) {
            const size_t at = i * COLUMNS + 4 * c;
            const int32x4_t begin = first ? vdupq_n_s32(0) : vld1q_s32(sums + at);
            vst1q_s32(sums + at,
                      vmlaq_s32(begin, vld1q_s32(group + at), vreinterpretq_s32_u32(wide[c])));
        }
    }
}

/* The groups of k in [begin, end), each times its factors. */
static void sum_groups(const pq_gemm_s8s4_groups *groups, size_t panel, size_t rows,
                       const int8_t *x, size_t ldx, const int8_t *w, size_t begin, size_t end,
                       int32_t *sums) {
    for (size_t k = begin; k < end;) {
        const size_t group = k / groups->size;
        const size_t next = pq_min_size((group + 1) * groups->size, end);
        const uint8_t *factor = groups->multiplier + (panel * groups->count + group) * COLUMNS;
        int32_t sum[TILE];
        pq_gemm_sum_tile(multiply, rows, x + (k - begin), ldx, w + (k - begin) / 4 * QUAD_SIZE,
                         next - k, pq_dot_zeros, 0, sum);
        add_group(rows, k == 0, sum, factor, sums);
        k = next;
    }
}

static void tile(const pq_gemm_weights *weights, size_t j, size_t rows, const int8_t *x, size_t ldx,
                 size_t begin, size_t end, int32_t *sums) {
    const pq_gemm_s8s4_groups *groups = weights->extra;
    const size_t panel = j / COLUMNS;
    const int8_t *w = weights->panels + panel * weights->panel_size + begin / 4 * QUAD_SIZE;
    if (groups->scaled && end > begin) {
        sum_groups(groups, panel, rows, x, ldx, w, begin, end, sums);
    } else {
        pq_gemm_sum_tile(multiply, rows, x, ldx, w, end - begin, begin == 0 ? pq_dot_zeros : sums,
                         begin == 0 ? 0 : COLUMNS, sums);
    }
}

static const pq_gemm_walk walk = {
    .row_tile = ROWS, .column_tile = COLUMNS, .tile = tile, .finish = pq_gemm_finish_tile};

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    pq_gemm_walk_run(&walk, weights, block, workspace);
}

static size_t workspace_size(const pq_gemm_blocking *b) {
    return pq_gemm_walk_workspace(&walk, b);
}

const struct pq_gemm_s8s4_kernel pq_gemm_s8s4_neondot = {
    .gemm = {.row_tile = ROWS,
             .column_tile = COLUMNS,
             .k_group = 4,
             .lanes = PQ_GEMM_NEON_LANES,
             .x_offset = 0,
             .x_bytes = 1,
             .w_bytes = 1,
             .block_macs = (size_t)1 << 25, /* 4 ms at 8 multiply-adds a cycle and 1 GHz */
             .workspace = workspace_size,
             .run = run},
    .signed_halves = true,
};
