/* AVX-512 VNNI: four products of u8 and s8 a lane.
 *
 * Scores. The query is the unsigned operand, q + 128, the keys are as they are:
 *     sum_d (q - z_q) k = sum_d (q + 128) k - (128 + z_q) sum_d k
 * and the last term depends on the key only: packing computes it, the sums begin with it. Sums wrap
 * around on the way and are exact at the end, since |score| < 2^31 (attention.h).
 * Output. Weights of s16 and v - z_v take vpdpwssd, with half as many products. */
#ifndef PYQUANT_ATTENTION_ATTENTION_TILE_AVX512VNNI_H
#define PYQUANT_ATTENTION_ATTENTION_TILE_AVX512VNNI_H

#include "attention/attention_avx512.h"

#define PQ_STEP(sums, a, b) _mm512_dpbusd_epi32(sums, a, b)
#define PQ_TILE_NAME pq_multiply_u8
#include "attention/attention_tile_avx512.h"

#define PQ_STEP(sums, a, b) _mm512_dpwssd_epi32(sums, a, b)
#define PQ_TILE_NAME pq_multiply_s16
#include "attention/attention_tile_avx512.h"

/* -(128 + z_q) * sum k of 16 keys, from their packed block. */
static inline void pq_pack_bias(const pq_attention_args *args, const char *block, size_t steps,
                                int32_t *bias) {
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < steps; i++) {
        sum = _mm512_dpbusd_epi32(sum, ones, _mm512_load_si512(block + i * PQ_VECTOR));
    }
    _mm512_store_si512(bias, _mm512_mullo_epi32(sum, _mm512_set1_epi32(-128 - args->q_zero_point)));
}

#endif
