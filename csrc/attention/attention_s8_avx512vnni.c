/* The exact form with VNNI (attention_tile_avx512vnni.h says how scores are multiplied). With
 * table8 the output does likewise: weights are u8, values s8, and z_v * L comes off each sum. */
#include "attention/attention_tile_avx512vnni.h"

static const pq_attention_form *form_of(pq_softmax_method method) {
    static const pq_attention_form table8 = {.key_unit = 4,
                                             .value_unit = 4,
                                             .bias = pq_pack_bias,
                                             .scores = pq_multiply_u8,
                                             .output = pq_multiply_u8,
                                             .softmax = pq_softmax_table_avx512_bytes};
    static const pq_attention_form table16 = {.key_unit = 4,
                                              .value_unit = 2,
                                              .bias = pq_pack_bias,
                                              .scores = pq_multiply_u8,
                                              .output = pq_multiply_s16,
                                              .softmax = pq_softmax_table_avx512};
    static const pq_attention_form lookup = {.key_unit = 4,
                                             .value_unit = 2,
                                             .bias = pq_pack_bias,
                                             .scores = pq_multiply_u8,
                                             .output = pq_multiply_s16,
                                             .softmax = pq_softmax_lookup_avx512};
    if (!pq_softmax_by_octaves(method)) {
        return &lookup;
    }
    return method == PQ_SOFTMAX_TABLE8 ? &table8 : &table16;
}

static size_t packed_size(const pq_attention_args *args) {
    return pq_packed_bytes(args, form_of(args->softmax.method));
}

static size_t scratch_size(const pq_attention_args *args) {
    return pq_scratch_bytes(args, form_of(args->softmax.method));
}

static void pack(const pq_attention_args *args, size_t batch, size_t group, size_t kv_head,
                 size_t begin, size_t end, void *packed) {
    const pq_attention_form *const form = form_of(args->softmax.method);
    const pq_attention_shape s = pq_shape_of(args, form);
    pq_pack_512(
        args, form, &s, args->k + pq_token_offset(args->k_strides, batch, group, kv_head, 0),
        args->v + pq_token_offset(args->v_strides, batch, group, kv_head, 0), begin, end, packed);
}

static void run(const pq_attention_args *args, const pq_attention_rows *rows, const void *packed,
                void *scratch) {
    pq_run_512(args, form_of(args->softmax.method), rows, packed, scratch);
}

const struct pq_attention_s8_kernel pq_attention_s8_avx512vnni = {
    .rows = pq_block_rows,
    .packed_size = packed_size,
    .scratch_size = scratch_size,
    .pack = pack,
    .run = run,
    .pack_step = PQ_LANES,
    .macs_per_ms = 100 * 1000 * 1000,
};
