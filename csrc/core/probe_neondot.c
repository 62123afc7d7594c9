#include "core/probe_kernel.h"
#include "core/simd_neon.h"

/* 16 chains: sdot takes 3 or 4 cycles, and wide cores begin four in each. */
enum { CHAINS = 16, LANES = 4, STREAMS = 4 };

static uint32_t multiply_add(size_t rounds) {
    int32_t first[CHAINS][LANES], factors[LANES];
    for (size_t i = 0; i < (size_t)CHAINS * LANES; i++) {
        first[i / LANES][i % LANES] = (int32_t)i + 1;
        factors[i % LANES] = (int32_t)pq_probe_factor(i % LANES);
    }
    int32x4_t a[CHAINS];
    const int8x16_t factor = vreinterpretq_s8_s32(vld1q_s32(factors));
#pragma GCC unroll 16
    for (int c = 0; c < CHAINS; c++) {
        a[c] = vld1q_s32(first[c]);
    }
    for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 16
        for (int c = 0; c < CHAINS; c++) {
            a[c] = vdotq_s32(a[c], vreinterpretq_s8_s32(a[c]), factor);
        }
    }
    uint32_t sum = 0;
#pragma GCC unroll 16
    for (int c = 0; c < CHAINS; c++) {
        int32_t lanes[LANES];
        vst1q_s32(lanes, a[c]);
        for (int l = 0; l < LANES; l++) {
            sum += (uint32_t)lanes[l];
        }
    }
    return sum;
}

static uint32_t read_words(const void *data, size_t bytes) {
    const char *p = data;
    const size_t stream = bytes / STREAMS;
    uint8x16_t x[STREAMS][2];
#pragma GCC unroll 4
    for (int s = 0; s < STREAMS; s++) {
        x[s][0] = x[s][1] = vdupq_n_u8(0);
    }
    for (size_t i = 0; i < stream; i += 32) {
#pragma GCC unroll 4
        for (size_t s = 0; s < STREAMS; s++) {
            const uint8_t *at = (const uint8_t *)p + s * stream + i;
            x[s][0] = veorq_u8(x[s][0], vld1q_u8(at));
            x[s][1] = veorq_u8(x[s][1], vld1q_u8(at + 16));
        }
    }
    uint8x16_t all = vdupq_n_u8(0);
    for (int s = 0; s < STREAMS; s++) {
        all = veorq_u8(all, veorq_u8(x[s][0], x[s][1]));
    }
    uint32_t lanes[LANES], word = 0;
    vst1q_u32(lanes, vreinterpretq_u32_u8(all));
    for (int l = 0; l < LANES; l++) {
        word ^= lanes[l];
    }
    return word;
}

const pq_probe_kernel pq_probe_neondot = {.isa = PQ_ISA_NEONDOT,
                                          .needs = PQ_CPU_NEON | PQ_CPU_DOTPROD,
                                          .dot = PQ_PROBE_S8,
                                          .chains = CHAINS,
                                          .lanes = LANES,
                                          .multiply_add = multiply_add,
                                          .read = read_words};
