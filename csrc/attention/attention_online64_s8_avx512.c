/* AVX-512 without VNNI: vpmaddwd on s16 pairs, with q - z_q and v - z_v widened as on AVX2. */
#include "attention/attention_online64_avx512.h"

#define PQ_STEP(sums, a, b) _mm512_add_epi32(sums, _mm512_madd_epi16(a, b))
#define PQ_TILE_NAME multiply_s16
#include "attention/attention_tile_avx512.h"

static const pq_attention_form form = {
    .key_unit = 2, .value_unit = 2, .scores = multiply_s16, .output = multiply_s16};

static size_t block_rows(const pq_attention_args *args) {
    return pq_online_block_rows(args, pq_online_shape_of(args, &form).rows);
}

static size_t scratch_size(const pq_attention_args *args) {
    return pq_online_scratch_512(args, &form);
}

static void run(const pq_attention_args *args, const pq_attention_rows *rows, void *scratch) {
    pq_online_run_512(args, &form, rows, scratch);
}

const struct pq_attention_online64_s8_kernel pq_attention_online64_s8_avx512 = {
    .rows = block_rows,
    .scratch_size = scratch_size,
    .run = run,
    .macs_per_ms = 60 * 1000 * 1000,
};
