/* What the machine can do at most: register-only multiply-add loops, and a memory copy.
 *
 * Prints one line a probe, "name value unit". Each loop holds its accumulators in registers (12 chains, enough to
 * cover latency times throughput on every core we know), so the figure is the limit of the execution units.
 *     cc -O2 -o probe probe.c && ./probe
 */
#define _POSIX_C_SOURCE 200809L
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define CHAINS 12
#define ROUNDS 2000000

/* The asm statement keeps the compiler from merging the chains or hoisting the loop. */
__attribute__((target("avx2,fma"))) static double fma_f32(void) {
    __m256 acc[CHAINS], a = _mm256_set1_ps(1.0F), b = _mm256_set1_ps(1e-9F);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) acc[i] = _mm256_setzero_ps();
    const double begin = now();
    for (int r = 0; r < ROUNDS; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            acc[i] = _mm256_fmadd_ps(a, b, acc[i]);
            __asm__ volatile("" : "+x"(acc[i]));
        }
    }
    return (double)ROUNDS * CHAINS * 8 / (now() - begin);
}

__attribute__((target("avx2"))) static double madd_s16(void) {
    __m256i acc[CHAINS], a = _mm256_set1_epi16(3), b = _mm256_set1_epi16(5);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) acc[i] = _mm256_setzero_si256();
    const double begin = now();
    for (int r = 0; r < ROUNDS; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            __asm__ volatile("" : "+x"(b)); /* or the product is worked out once, before the loop */
            __m256i product = _mm256_madd_epi16(a, b);
            acc[i] = _mm256_add_epi32(acc[i], product);
            __asm__ volatile("" : "+x"(acc[i]));
        }
    }
    return (double)ROUNDS * CHAINS * 16 / (now() - begin);
}

__attribute__((target("avx512f,avx512vnni"))) static double dot_u8s8(void) {
    __m512i acc[CHAINS], a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_setzero_si512();
    const double begin = now();
    for (int r = 0; r < ROUNDS; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            acc[i] = _mm512_dpbusd_epi32(acc[i], a, b);
            __asm__ volatile("" : "+v"(acc[i]));
        }
    }
    return (double)ROUNDS * CHAINS * 64 / (now() - begin);
}

/* Bytes copied a second, 32 MB at a time into a reused buffer. */
static double copy(void) {
    const size_t size = (size_t)32 << 20;
    char *from = malloc(size), *to = malloc(size);
    if (from == NULL || to == NULL) abort();
    memset(from, 1, size);
    memset(to, 2, size);
    double best = 0;
    for (int i = 0; i < 8; i++) {
        const double begin = now();
        memcpy(to, from, size);
        __asm__ volatile("" : : "r"(to) : "memory");
        const double rate = (double)size / (now() - begin);
        best = rate > best ? rate : best;
    }
    free(from);
    free(to);
    return best;
}

int main(void) {
    printf("copy %.3g GB/s\n", copy() * 1e-9);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        printf("fma_f32 %.4g GMAC/s\n", fma_f32() * 1e-9);
        printf("vpmaddwd_s16 %.4g GMAC/s\n", madd_s16() * 1e-9);
    }
    if (__builtin_cpu_supports("avx512vnni")) {
        printf("vpdpbusd_u8s8 %.4g GMAC/s\n", dot_u8s8() * 1e-9);
    }
    return 0;
}
