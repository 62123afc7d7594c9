#include "core/probe_kernel.h"
#include "core/simd_avx2.h"

/* 12 chains: vpmaddwd and vpaddd take 6 cycles together where two of them begin in each. */
enum { CHAINS = 12, LANES = 8, STREAMS = 4 };

static uint32_t sum_lanes(__m256i v) {
    uint32_t lanes[LANES], sum = 0;
    _mm256_storeu_si256((__m256i *)lanes, v);
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
    __m256i a[CHAINS];
    const __m256i factor = _mm256_loadu_si256((const __m256i *)factors);
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; c++) {
        a[c] = _mm256_loadu_si256((const __m256i *)first[c]);
    }
    for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) {
            a[c] = _mm256_add_epi32(a[c], _mm256_madd_epi16(a[c], factor));
        }
    }
    __m256i sum = a[0];
#pragma GCC unroll 12
    for (int c = 1; c < CHAINS; c++) {
        sum = _mm256_add_epi32(sum, a[c]);
    }
    return sum_lanes(sum);
}

static uint32_t read_words(const void *data, size_t bytes) {
    const char *p = data;
    const size_t stream = bytes / STREAMS;
    __m256i x[STREAMS][2];
#pragma GCC unroll 4
    for (int s = 0; s < STREAMS; s++) {
        x[s][0] = x[s][1] = _mm256_setzero_si256();
    }
    for (size_t i = 0; i < stream; i += 64) {
#pragma GCC unroll 4
        for (size_t s = 0; s < STREAMS; s++) {
            const char *at = p + s * stream + i;
            x[s][0] = _mm256_xor_si256(x[s][0], _mm256_loadu_si256((const __m256i *)at));
            x[s][1] = _mm256_xor_si256(x[s][1], _mm256_loadu_si256((const __m256i *)(at + 32)));
        }
    }
    __m256i all = _mm256_setzero_si256();
    for (int s = 0; s < STREAMS; s++) {
        all = _mm256_xor_si256(all, _mm256_xor_si256(x[s][0], x[s][1]));
    }
    uint32_t lanes[LANES], word = 0;
    _mm256_storeu_si256((__m256i *)lanes, all);
    for (int l = 0; l < LANES; l++) {
        word ^= lanes[l];
    }
    return word;
}

const pq_probe_kernel pq_probe_avx2 = {.isa = PQ_ISA_AVX2,
                                       .needs = PQ_CPU_AVX2,
                                       .dot = PQ_PROBE_S16,
                                       .chains = CHAINS,
                                       .lanes = LANES,
                                       .multiply_add = multiply_add,
                                       .read = read_words};
