/* AVX-512 VNNI: four products of u8 and s8 a lane.
 *
 * Scores. The query is the unsigned operand, q + 128, the keys are as they are:
 *     sum_d (q - z_q) k = sum_d (q + 128) k - (128 + z_q) sum_d k
 * and the last term depends on the key only: packing computes it, the sums begin with it. Sums wrap
 * around on the way and are exact at the end, since |score| < 2^31 (attention.h).
 * Output. table8: weights are u8, values s8, and z_v * L comes off each sum. table16: weights are
 * s16, and so are v - z_v (vpdpwssd, half as many products). */
#include "attention/attention_avx512.h"

#define PQ_STEP(sums, a, b) _mm512_dpbusd_epi32(sums, a, b)
#define PQ_TILE_NAME multiply_u8
#include "attention/attention_tile_avx512.h"

#define PQ_STEP(sums, a, b) _mm512_dpwssd_epi32(sums, a, b)
#define PQ_TILE_NAME multiply_s16
#include "attention/attention_tile_avx512.h"

static const pq_attention_form *form_of(pq_softmax_method method) {
    static const pq_attention_form table8 = {.key_unit = 4,
                                             .value_unit = 4,
                                             .scores = multiply_u8,
                                             .output = multiply_u8,
                                             .softmax = pq_softmax_table_avx512_bytes};
    static const pq_attention_form table16 = {.key_unit = 4,
                                              .value_unit = 2,
                                              .scores = multiply_u8,
                                              .output = multiply_s16,
                                              .softmax = pq_softmax_table_avx512};
    switch (method) {
    case PQ_SOFTMAX_TABLE16: return &table16;
    case PQ_SOFTMAX_TABLE8: return &table8;
    }
    assert(false);
    return NULL;
}

static size_t packed_size(const pq_attention_args *args) {
    return pq_packed_bytes(args, form_of(args->softmax.method));
}

static size_t scratch_size(const pq_attention_args *args) {
    return pq_scratch_bytes(args, form_of(args->softmax.method));
}

/* -(128 + z_q) * sum k of 16 keys, from their packed block. */
static void pack_bias(const pq_attention_args *args, const char *block, size_t steps,
                      int32_t *bias) {
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < steps; i++) {
        sum = _mm512_dpbusd_epi32(sum, ones, _mm512_load_si512(block + i * PQ_VECTOR));
    }
    _mm512_store_si512(bias, _mm512_mullo_epi32(sum, _mm512_set1_epi32(-128 - args->q_zero_point)));
}

static void pack(const pq_attention_args *args, size_t batch, size_t group, size_t kv_head,
                 size_t begin, size_t end, void *packed) {
    const pq_attention_form *const form = form_of(args->softmax.method);
    const pq_attention_shape s = pq_shape_of(args, form);
    char *const keys = (char *)packed + s.bias_size;
    assert(begin % PQ_LANES == 0);
    pq_pack_keys_512(args, form, &s,
                     args->k + pq_token_offset(args->k_strides, batch, group, kv_head, 0), begin,
                     end, keys);
    for (size_t j = begin; j < end; j += PQ_LANES) {
        pack_bias(args, keys + j / PQ_LANES * s.key_steps * PQ_VECTOR, s.key_steps,
                  (int32_t *)packed + j);
    }
    pq_pack_values_512(args, form, &s,
                       args->v + pq_token_offset(args->v_strides, batch, group, kv_head, 0), begin,
                       end, keys + s.keys_size);
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
