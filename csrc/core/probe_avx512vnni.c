#include "core/probe_kernel.h"
#include "core/simd_avx512.h"

/* 12 chains: vpdpbusd takes 5 cycles, and two of them begin in each. */
enum { CHAINS = 12, LANES = 16, STREAMS = 4 };

static uint32_t sum_lanes(__m512i v) {
    uint32_t lanes[LANES], sum = 0;
    _mm512_storeu_si512(lanes, v);
    for (int l = 0; l < LANES; l++) {
        sum += lanes[l];
    }
    return sum;
}

static uint32_t multiply_add(size_t rounds) {
    uint32_t first[CHAINS][LANES], factors[LANES];
    for (size_t i = 0; i < (size_t)CHAINS * LANES; i++) {
        first[i / LANES][i % LANES] = (uint32_t)i + 1;
        factors[i % LANES] = pq_probe_factor(i % LANES);
    }
    __m512i a[CHAINS];
    const __m512i factor = _mm512_loadu_si512(factors);
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; c++) {
        a[c] = _mm512_loadu_si512(first[c]);
    }
    for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) {
            a[c] = _mm512_dpbusd_epi32(a[c], a[c], factor);
        }
    }
    __m512i sum = a[0];
#pragma GCC unroll 12
    for (int c = 1; c < CHAINS; c++) {
        sum = _mm512_add_epi32(sum, a[c]);
    }
    return sum_lanes(sum);
}

static uint32_t read_words(const void *data, size_t bytes) {
    const char *p = data;
    const size_t stream = bytes / STREAMS;
    __m512i x[STREAMS][2];
#pragma GCC unroll 4
    for (int s = 0; s < STREAMS; s++) {
        x[s][0] = x[s][1] = _mm512_setzero_si512();
    }
    for (size_t i = 0; i < stream; i += 128) {
#pragma GCC unroll 4
        for (size_t s = 0; s < STREAMS; s++) {
            const char *at = p + s * stream + i;
            x[s][0] = _mm512_xor_si512(x[s][0], _mm512_loadu_si512(at));
            x[s][1] = _mm512_xor_si512(x[s][1], _mm512_loadu_si512(at + 64));
        }
    }
    __m512i all = _mm512_setzero_si512();
    for (int s = 0; s < STREAMS; s++) {
        all = _mm512_xor_si512(all, _mm512_xor_si512(x[s][0], x[s][1]));
    }
    uint32_t lanes[LANES], word = 0;
    _mm512_storeu_si512(lanes, all);
    for (int l = 0; l < LANES; l++) {
        word ^= lanes[l];
    }
    return word;
}

const pq_probe_kernel pq_probe_avx512vnni = {.isa = PQ_ISA_AVX512VNNI,
                                             .needs = PQ_CPU_AVX512 | PQ_CPU_AVX512VNNI,
                                             .dot = PQ_PROBE_U8S8,
                                             .chains = CHAINS,
                                             .lanes = LANES,
                                             .multiply_add = multiply_add,
                                             .read = read_words};
