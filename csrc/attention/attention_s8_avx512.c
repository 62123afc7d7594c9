/* AVX-512 without VNNI: vpmaddwd on s16 pairs, with q - z_q and v - z_v widened as on AVX2. */
#include "attention/attention_avx512.h"

#define PQ_STEP(sums, a, b) _mm512_add_epi32(sums, _mm512_madd_epi16(a, b))
#define PQ_TILE_NAME multiply_s16
#include "attention/attention_tile_avx512.h"

static const pq_attention_form *form_of(pq_softmax_method method) {
    static const pq_attention_form table = {.key_unit = 2,
                                            .value_unit = 2,
                                            .scores = multiply_s16,
                                            .output = multiply_s16,
                                            .softmax = pq_softmax_table_avx512};
    static const pq_attention_form lookup = {.key_unit = 2,
                                             .value_unit = 2,
                                             .scores = multiply_s16,
                                             .output = multiply_s16,
                                             .softmax = pq_softmax_lookup_avx512};
    return pq_softmax_by_octaves(method) ? &table : &lookup;
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

const struct pq_attention_s8_kernel pq_attention_s8_avx512 = {
    .rows = pq_block_rows,
    .packed_size = packed_size,
    .scratch_size = scratch_size,
    .pack = pack,
    .run = run,
    .pack_step = PQ_LANES,
    .macs_per_ms = 60 * 1000 * 1000,
};
