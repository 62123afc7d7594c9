/* AVX-512 VNNI: scores from u8 and s8 fours, weights times values from s16 pairs. */
#include "attention/attention_online64_avx512.h"
#include "attention/attention_tile_avx512vnni.h"

static const pq_attention_form form = {.key_unit = 4,
                                       .value_unit = 2,
                                       .bias = pq_pack_bias,
                                       .scores = pq_multiply_u8,
                                       .output = pq_multiply_s16};

static size_t block_rows(const pq_attention_args *args) {
    return pq_online_block_rows(args, pq_online_shape_of(args, &form).rows);
}

static size_t scratch_size(const pq_attention_args *args) {
    return pq_online_scratch_512(args, &form);
}

static void run(const pq_attention_args *args, const pq_attention_rows *rows, void *scratch) {
    pq_online_run_512(args, &form, rows, scratch);
}

const struct pq_attention_online64_s8_kernel pq_attention_online64_s8_avx512vnni = {
    .rows = block_rows,
    .scratch_size = scratch_size,
    .run = run,
    .macs_per_ms = 100 * 1000 * 1000,
};
