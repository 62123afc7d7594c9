/* Dot products of AVX-512 VNNI. The forms without a final s wrap around. */
#include "core/simd_avx512.h"
#include "simd_rows.h"

static __m512i a, b, c;
static __m256i a256, b256, c256;

static void load(void) {
    memcpy(&a, &x, sizeof a);
    memcpy(&b, &y, sizeof b);
    memcpy(&c, &z, sizeof c);
    memcpy(&a256, &x, sizeof a256);
    memcpy(&b256, &y, sizeof b256);
    memcpy(&c256, &z, sizeof c256);
}

static int64_t dot_bytes(int lane) {
    int64_t sum = 0;
    for (int i = 4 * lane; i < 4 * lane + 4; i++) {
        sum += y.u8[i] * z.s8[i];
    }
    return sum;
}

static int64_t dot_words(int lane) {
    return (int64_t)y.s16[2 * lane] * z.s16[2 * lane] +
           (int64_t)y.s16[2 * lane + 1] * z.s16[2 * lane + 1];
}

static void rows(void) {
    ROW(_mm512_dpbusd_epi32, __m512i, u32, (a, b, c), x.u32[i] + (uint32_t)dot_bytes(i));
    ROW(_mm512_dpwssd_epi32, __m512i, u32, (a, b, c), x.u32[i] + (uint32_t)dot_words(i));
    ROW(_mm256_dpbusd_epi32, __m256i, u32, (a256, b256, c256), x.u32[i] + (uint32_t)dot_bytes(i));
    ROW(_mm256_dpwssd_epi32, __m256i, u32, (a256, b256, c256), x.u32[i] + (uint32_t)dot_words(i));
}

int main(void) {
    return simd_run("test_simd_avx512vnni", PQ_CPU_AVX512 | PQ_CPU_AVX512VNNI, load, rows);
}
