/* What AVX-512 files use on 128 and 256 bits and AVX2 has already: never emulated, but then no
 * intrinsic of such a file is without a row. */
#include "core/simd_avx512.h"
#include "simd_rows.h"

static __m256i a256, b256;
static __m128i a128, b128;

static void load(void) {
    memcpy(&a256, &x, sizeof a256);
    memcpy(&b256, &y, sizeof b256);
    memcpy(&a128, &x, sizeof a128);
    memcpy(&b128, &y, sizeof b128);
}

static void load_and_store(void) {
    ROW(_mm_loadu_si128, __m128i, u64, ((const __m128i *)(const void *)before), before[0].u64[i]);
    STORE_ROW(_mm_storeu_si128, u64, 2, ((__m128i *)(void *)memory, a128), x.u64[i]);
    ROW(_mm_load_si128, __m128i, u64, ((const __m128i *)(const void *)before), before[0].u64[i]);
    STORE_ROW(_mm_store_si128, u64, 2, ((__m128i *)(void *)memory, a128), x.u64[i]);
    ROW(_mm_setzero_si128, __m128i, u64, (), 0 * (uint64_t)i);
    ROW(_mm_set1_epi8, __m128i, u8, (x.s8[0]), x.u8[0 * i]);
    ROW(_mm_set1_epi16, __m128i, u16, (x.s16[0]), x.u16[0 * i]);
    ROW(_mm_set1_epi32, __m128i, u32, (x.s32[0]), x.u32[0 * i]);
    ROW(_mm_set1_epi64x, __m128i, u64, (x.s64[0]), x.u64[0 * i]);
    ROW(_mm256_loadu_si256, __m256i, u64, ((const __m256i *)(const void *)before),
        before[0].u64[i]);
    STORE_ROW(_mm256_storeu_si256, u64, 4, ((__m256i *)(void *)memory, a256), x.u64[i]);
    ROW(_mm256_load_si256, __m256i, u64, ((const __m256i *)(const void *)before), before[0].u64[i]);
    STORE_ROW(_mm256_store_si256, u64, 4, ((__m256i *)(void *)memory, a256), x.u64[i]);
    ROW(_mm256_setzero_si256, __m256i, u64, (), 0 * (uint64_t)i);
    ROW(_mm256_set1_epi8, __m256i, u8, (x.s8[0]), x.u8[0 * i]);
    ROW(_mm256_set1_epi16, __m256i, u16, (x.s16[0]), x.u16[0 * i]);
    ROW(_mm256_set1_epi32, __m256i, u32, (x.s32[0]), x.u32[0 * i]);
    ROW(_mm256_set1_epi64x, __m256i, u64, (x.s64[0]), x.u64[0 * i]);
    ROW(_mm_loadl_epi64, __m128i, u64, ((const __m128i *)(const void *)before),
        i == 0 ? before[0].u64[0] : 0);
    STORE_ROW(_mm_storel_epi64, u64, 1, ((__m128i *)(void *)memory, a128), x.u64[i]);
    ROW(_mm_cvtsi32_si128, __m128i, u32, (x.s32[0]), i == 0 ? x.u32[0] : 0);
    ROW(_mm_cvtsi128_si32, int, s32, (a128), x.s32[i]);
    ROW(_mm_cvtsi64_si128, __m128i, u64, (x.s64[0]), i == 0 ? x.u64[0] : 0);
    ROW(_mm_cvtsi128_si64, int64_t, s64, (a128), x.s64[i]);
    ROW(_mm256_castsi256_si128, __m128i, u64, (a256), x.u64[i]);
    ROW(_mm256_extracti128_si256, __m128i, u64, (a256, 1), x.u64[i + 2]);
    ROW(_mm256_inserti128_si256, __m256i, u64, (a256, b128, 1), i < 2 ? x.u64[i] : y.u64[i - 2]);
    ROW(_mm256_permute4x64_epi64, __m256i, u64, (a256, 0xD8), x.u64[0xD8 >> 2 * i & 3]);
}

static void arithmetic(void) {
    ROW(_mm_add_epi8, __m128i, u8, (a128, b128), (uint8_t)(x.u8[i] + y.u8[i]));
    ROW(_mm_sub_epi8, __m128i, u8, (a128, b128), (uint8_t)(x.u8[i] - y.u8[i]));
    ROW(_mm_add_epi16, __m128i, u16, (a128, b128), (uint16_t)(x.u16[i] + y.u16[i]));
    ROW(_mm_sub_epi16, __m128i, u16, (a128, b128), (uint16_t)(x.u16[i] - y.u16[i]));
    ROW(_mm_add_epi32, __m128i, u32, (a128, b128), (uint32_t)(x.u32[i] + y.u32[i]));
    ROW(_mm_sub_epi32, __m128i, u32, (a128, b128), (uint32_t)(x.u32[i] - y.u32[i]));
    ROW(_mm_add_epi64, __m128i, u64, (a128, b128), (uint64_t)(x.u64[i] + y.u64[i]));
    ROW(_mm_sub_epi64, __m128i, u64, (a128, b128), (uint64_t)(x.u64[i] - y.u64[i]));
    ROW(_mm_min_epi8, __m128i, s8, (a128, b128), x.s8[i] < y.s8[i] ? x.s8[i] : y.s8[i]);
    ROW(_mm_max_epi8, __m128i, s8, (a128, b128), x.s8[i] > y.s8[i] ? x.s8[i] : y.s8[i]);
    ROW(_mm_min_epi16, __m128i, s16, (a128, b128), x.s16[i] < y.s16[i] ? x.s16[i] : y.s16[i]);
    ROW(_mm_max_epi16, __m128i, s16, (a128, b128), x.s16[i] > y.s16[i] ? x.s16[i] : y.s16[i]);
    ROW(_mm_min_epi32, __m128i, s32, (a128, b128), x.s32[i] < y.s32[i] ? x.s32[i] : y.s32[i]);
    ROW(_mm_max_epi32, __m128i, s32, (a128, b128), x.s32[i] > y.s32[i] ? x.s32[i] : y.s32[i]);
    ROW(_mm_madd_epi16, __m128i, u32, (a128, b128),
        (uint32_t)(x.s16[2 * i] * y.s16[2 * i]) + (uint32_t)(x.s16[2 * i + 1] * y.s16[2 * i + 1]));
    ROW(_mm_and_si128, __m128i, u64, (a128, b128), x.u64[i] & y.u64[i]);
    ROW(_mm_or_si128, __m128i, u64, (a128, b128), x.u64[i] | y.u64[i]);
    ROW(_mm_xor_si128, __m128i, u64, (a128, b128), x.u64[i] ^ y.u64[i]);
    ROW(_mm_andnot_si128, __m128i, u64, (a128, b128), ~x.u64[i] & y.u64[i]);
    ROW(_mm_slli_epi16, __m128i, u16, (a128, 3), (uint16_t)((uint64_t)x.u16[i] << 3));
    ROW(_mm_srli_epi16, __m128i, u16, (a128, 3), (uint16_t)(x.u16[i] >> 3));
    ROW(_mm_slli_epi32, __m128i, u32, (a128, 3), (uint32_t)((uint64_t)x.u32[i] << 3));
    ROW(_mm_srli_epi32, __m128i, u32, (a128, 3), (uint32_t)(x.u32[i] >> 3));
    ROW(_mm_slli_epi64, __m128i, u64, (a128, 3), (uint64_t)((uint64_t)x.u64[i] << 3));
    ROW(_mm_srli_epi64, __m128i, u64, (a128, 3), (uint64_t)(x.u64[i] >> 3));
    ROW(_mm_srai_epi16, __m128i, s16, (a128, 3), (int16_t)(x.s16[i] >> 3));
    ROW(_mm_srai_epi32, __m128i, s32, (a128, 3), (int32_t)(x.s32[i] >> 3));
    ROW(_mm256_add_epi8, __m256i, u8, (a256, b256), (uint8_t)(x.u8[i] + y.u8[i]));
    ROW(_mm256_sub_epi8, __m256i, u8, (a256, b256), (uint8_t)(x.u8[i] - y.u8[i]));
    ROW(_mm256_add_epi16, __m256i, u16, (a256, b256), (uint16_t)(x.u16[i] + y.u16[i]));
    ROW(_mm256_sub_epi16, __m256i, u16, (a256, b256), (uint16_t)(x.u16[i] - y.u16[i]));
    ROW(_mm256_add_epi32, __m256i, u32, (a256, b256), (uint32_t)(x.u32[i] + y.u32[i]));
    ROW(_mm256_sub_epi32, __m256i, u32, (a256, b256), (uint32_t)(x.u32[i] - y.u32[i]));
    ROW(_mm256_add_epi64, __m256i, u64, (a256, b256), (uint64_t)(x.u64[i] + y.u64[i]));
    ROW(_mm256_sub_epi64, __m256i, u64, (a256, b256), (uint64_t)(x.u64[i] - y.u64[i]));
    ROW(_mm256_min_epi8, __m256i, s8, (a256, b256), x.s8[i] < y.s8[i] ? x.s8[i] : y.s8[i]);
    ROW(_mm256_max_epi8, __m256i, s8, (a256, b256), x.s8[i] > y.s8[i] ? x.s8[i] : y.s8[i]);
    ROW(_mm256_min_epi16, __m256i, s16, (a256, b256), x.s16[i] < y.s16[i] ? x.s16[i] : y.s16[i]);
    ROW(_mm256_max_epi16, __m256i, s16, (a256, b256), x.s16[i] > y.s16[i] ? x.s16[i] : y.s16[i]);
    ROW(_mm256_min_epi32, __m256i, s32, (a256, b256), x.s32[i] < y.s32[i] ? x.s32[i] : y.s32[i]);
    ROW(_mm256_max_epi32, __m256i, s32, (a256, b256), x.s32[i] > y.s32[i] ? x.s32[i] : y.s32[i]);
    ROW(_mm256_madd_epi16, __m256i, u32, (a256, b256),
        (uint32_t)(x.s16[2 * i] * y.s16[2 * i]) + (uint32_t)(x.s16[2 * i + 1] * y.s16[2 * i + 1]));
    ROW(_mm256_and_si256, __m256i, u64, (a256, b256), x.u64[i] & y.u64[i]);
    ROW(_mm256_or_si256, __m256i, u64, (a256, b256), x.u64[i] | y.u64[i]);
    ROW(_mm256_xor_si256, __m256i, u64, (a256, b256), x.u64[i] ^ y.u64[i]);
    ROW(_mm256_andnot_si256, __m256i, u64, (a256, b256), ~x.u64[i] & y.u64[i]);
    ROW(_mm256_slli_epi16, __m256i, u16, (a256, 3), (uint16_t)((uint64_t)x.u16[i] << 3));
    ROW(_mm256_srli_epi16, __m256i, u16, (a256, 3), (uint16_t)(x.u16[i] >> 3));
    ROW(_mm256_slli_epi32, __m256i, u32, (a256, 3), (uint32_t)((uint64_t)x.u32[i] << 3));
    ROW(_mm256_srli_epi32, __m256i, u32, (a256, 3), (uint32_t)(x.u32[i] >> 3));
    ROW(_mm256_slli_epi64, __m256i, u64, (a256, 3), (uint64_t)((uint64_t)x.u64[i] << 3));
    ROW(_mm256_srli_epi64, __m256i, u64, (a256, 3), (uint64_t)(x.u64[i] >> 3));
    ROW(_mm256_srai_epi16, __m256i, s16, (a256, 3), (int16_t)(x.s16[i] >> 3));
    ROW(_mm256_srai_epi32, __m256i, s32, (a256, 3), (int32_t)(x.s32[i] >> 3));
}

static void widths_and_order(void) {
    ROW(_mm256_cvtepi8_epi16, __m256i, s16, (a128), x.s8[i]);
    ROW(_mm256_cvtepu8_epi16, __m256i, u16, (a128), x.u8[i]);
    ROW(_mm256_cvtepi8_epi32, __m256i, s32, (a128), x.s8[i]);
    ROW(_mm256_cvtepu8_epi32, __m256i, u32, (a128), x.u8[i]);
    ROW(_mm256_cvtepi16_epi32, __m256i, s32, (a128), x.s16[i]);
    ROW(_mm256_cvtepu16_epi32, __m256i, u32, (a128), x.u16[i]);
    ROW(_mm256_cvtepi32_epi64, __m256i, s64, (a128), x.s32[i]);
    ROW(_mm256_cvtepu32_epi64, __m256i, u64, (a128), x.u32[i]);
    ROW(_mm_cvtepi8_epi16, __m128i, s16, (a128), x.s8[i]);
    ROW(_mm_cvtepu8_epi16, __m128i, u16, (a128), x.u8[i]);
    ROW(_mm_cvtepi16_epi32, __m128i, s32, (a128), x.s16[i]);
    ROW(_mm_cvtepu16_epi32, __m128i, u32, (a128), x.u16[i]);
    ROW(_mm_unpacklo_epi8, __m128i, u8, (a128, b128),
        (i % 2 == 0 ? x : y).u8[i / 16 * 16 + i % 16 / 2]);
    ROW(_mm_unpackhi_epi8, __m128i, u8, (a128, b128),
        (i % 2 == 0 ? x : y).u8[i / 16 * 16 + 8 + i % 16 / 2]);
    ROW(_mm_unpacklo_epi16, __m128i, u16, (a128, b128),
        (i % 2 == 0 ? x : y).u16[i / 8 * 8 + i % 8 / 2]);
    ROW(_mm_unpackhi_epi16, __m128i, u16, (a128, b128),
        (i % 2 == 0 ? x : y).u16[i / 8 * 8 + 4 + i % 8 / 2]);
    ROW(_mm_unpacklo_epi32, __m128i, u32, (a128, b128),
        (i % 2 == 0 ? x : y).u32[i / 4 * 4 + i % 4 / 2]);
    ROW(_mm_unpackhi_epi32, __m128i, u32, (a128, b128),
        (i % 2 == 0 ? x : y).u32[i / 4 * 4 + 2 + i % 4 / 2]);
    ROW(_mm_unpacklo_epi64, __m128i, u64, (a128, b128),
        (i % 2 == 0 ? x : y).u64[i / 2 * 2 + i % 2 / 2]);
    ROW(_mm_unpackhi_epi64, __m128i, u64, (a128, b128),
        (i % 2 == 0 ? x : y).u64[i / 2 * 2 + 1 + i % 2 / 2]);
    ROW(_mm_packs_epi16, __m128i, s8, (a128, b128),
        (int8_t)saturate_s8((i % 16 < 8 ? x : y).s16[i / 16 * 8 + i % 8]));
    ROW(_mm_packus_epi16, __m128i, u8, (a128, b128),
        (uint8_t)saturate((i % 16 < 8 ? x : y).s16[i / 16 * 8 + i % 8], 0, UINT8_MAX));
    ROW(_mm_packs_epi32, __m128i, s16, (a128, b128),
        (int16_t)saturate_s16((i % 8 < 4 ? x : y).s32[i / 8 * 4 + i % 4]));
    ROW(_mm_packus_epi32, __m128i, u16, (a128, b128),
        (uint16_t)saturate((i % 8 < 4 ? x : y).s32[i / 8 * 4 + i % 4], 0, UINT16_MAX));
    ROW(_mm_shuffle_epi8, __m128i, u8, (a128, b128),
        y.u8[i] > 127 ? 0 : x.u8[i / 16 * 16 + y.u8[i] % 16]);
    ROW(_mm_shuffle_epi32, __m128i, u32, (a128, 0x4E), x.u32[i / 4 * 4 + (i + 2) % 4]);
    ROW(_mm256_unpacklo_epi8, __m256i, u8, (a256, b256),
        (i % 2 == 0 ? x : y).u8[i / 16 * 16 + i % 16 / 2]);
    ROW(_mm256_unpackhi_epi8, __m256i, u8, (a256, b256),
        (i % 2 == 0 ? x : y).u8[i / 16 * 16 + 8 + i % 16 / 2]);
    ROW(_mm256_unpacklo_epi16, __m256i, u16, (a256, b256),
        (i % 2 == 0 ? x : y).u16[i / 8 * 8 + i % 8 / 2]);
    ROW(_mm256_unpackhi_epi16, __m256i, u16, (a256, b256),
        (i % 2 == 0 ? x : y).u16[i / 8 * 8 + 4 + i % 8 / 2]);
    ROW(_mm256_unpacklo_epi32, __m256i, u32, (a256, b256),
        (i % 2 == 0 ? x : y).u32[i / 4 * 4 + i % 4 / 2]);
    ROW(_mm256_unpackhi_epi32, __m256i, u32, (a256, b256),
        (i % 2 == 0 ? x : y).u32[i / 4 * 4 + 2 + i % 4 / 2]);
    ROW(_mm256_unpacklo_epi64, __m256i, u64, (a256, b256),
        (i % 2 == 0 ? x : y).u64[i / 2 * 2 + i % 2 / 2]);
    ROW(_mm256_unpackhi_epi64, __m256i, u64, (a256, b256),
        (i % 2 == 0 ? x : y).u64[i / 2 * 2 + 1 + i % 2 / 2]);
    ROW(_mm256_packs_epi16, __m256i, s8, (a256, b256),
        (int8_t)saturate_s8((i % 16 < 8 ? x : y).s16[i / 16 * 8 + i % 8]));
    ROW(_mm256_packus_epi16, __m256i, u8, (a256, b256),
        (uint8_t)saturate((i % 16 < 8 ? x : y).s16[i / 16 * 8 + i % 8], 0, UINT8_MAX));
    ROW(_mm256_packs_epi32, __m256i, s16, (a256, b256),
        (int16_t)saturate_s16((i % 8 < 4 ? x : y).s32[i / 8 * 4 + i % 4]));
    ROW(_mm256_packus_epi32, __m256i, u16, (a256, b256),
        (uint16_t)saturate((i % 8 < 4 ? x : y).s32[i / 8 * 4 + i % 4], 0, UINT16_MAX));
    ROW(_mm256_shuffle_epi8, __m256i, u8, (a256, b256),
        y.u8[i] > 127 ? 0 : x.u8[i / 16 * 16 + y.u8[i] % 16]);
    ROW(_mm256_shuffle_epi32, __m256i, u32, (a256, 0x4E), x.u32[i / 4 * 4 + (i + 2) % 4]);
}

static void rows(void) {
    load_and_store();
    arithmetic();
    widths_and_order();
}

int main(void) {
    return simd_run("test_simd_narrow_avx512", PQ_CPU_AVX512, load, rows);
}
