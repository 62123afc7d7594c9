/* Loads, stores, conversions of width, shuffles and masks of AVX-512. */
#include "core/simd_avx512.h"
#include "simd_rows.h"

static __m512i a, b, c, aligned, indices32, indices64;
static __m256i a256, b256, c256;
static __m128i a128, b128;
static uint32_t table[66];

static void load(void) {
    memcpy(&a, &x, sizeof a);
    memcpy(&b, &y, sizeof b);
    memcpy(&c, &z, sizeof c);
    memcpy(&a256, &x, sizeof a256);
    memcpy(&b256, &y, sizeof b256);
    memcpy(&c256, &z, sizeof c256);
    memcpy(&a128, &x, sizeof a128);
    memcpy(&b128, &y, sizeof b128);
    aligned = a;
    indices32 = _mm512_and_si512(a, _mm512_set1_epi32(63));
    indices64 = _mm512_and_si512(a, _mm512_set1_epi64(63));
    for (int i = 0; i < 66; i++) {
        table[i] = (uint32_t)check_random(&seed);
    }
}

static const uint8_t *before_bytes(void) {
    return (const uint8_t *)before;
}

static uint32_t unaligned_u32(uint64_t at) {
    uint32_t value;
    memcpy(&value, (const char *)table + at, sizeof value);
    return value;
}

static uint64_t unaligned_u64(uint64_t at) {
    uint64_t value;
    memcpy(&value, (const char *)table + at, sizeof value);
    return value;
}

static void load_and_store(void) {
    ROW(_mm512_loadu_si512, __m512i, u64, (memory), before[0].u64[i]);
    ROW(_mm512_load_si512, __m512i, u64, (&aligned), x.u64[i]);
    ROW(_mm512_loadu_epi8, __m512i, u8, ((const char *)memory + 3), before_bytes()[3 + i]);
    STORE_ROW(_mm512_storeu_epi8, u64, 8, (memory, a), x.u64[i]);
    ROW(_mm512_loadu_epi16, __m512i, u8, ((const char *)memory + 3), before_bytes()[3 + i]);
    STORE_ROW(_mm512_storeu_epi16, u64, 8, (memory, a), x.u64[i]);
    ROW(_mm512_loadu_epi32, __m512i, u8, ((const char *)memory + 3), before_bytes()[3 + i]);
    STORE_ROW(_mm512_storeu_epi32, u64, 8, (memory, a), x.u64[i]);
    ROW(_mm512_loadu_epi64, __m512i, u8, ((const char *)memory + 3), before_bytes()[3 + i]);
    STORE_ROW(_mm512_storeu_epi64, u64, 8, (memory, a), x.u64[i]);
    STORE_ROW(_mm512_storeu_si512, u64, 8, (memory, a), x.u64[i]);
    STORE_ROW(_mm512_store_si512, u64, 8, (memory, a), x.u64[i]);
    STORE_ROW(_mm512_stream_si512, u64, 8, ((void *)memory, a), x.u64[i]);
}

static void load_and_store_masked(void) {
    ROW(_mm512_maskz_loadu_epi8, __m512i, u8, ((__mmask64)k, memory),
        bit_of(k, i) ? before[0].u8[i] : 0);
    ROW(_mm512_mask_loadu_epi8, __m512i, u8, (a, (__mmask64)k, memory),
        (bit_of(k, i) ? before[0] : x).u8[i]);
    STORE_ROW(_mm512_mask_storeu_epi8, u8, 64, (memory, (__mmask64)k, a),
              (bit_of(k, i) ? x : before[0]).u8[i]);
    ROW(_mm256_maskz_loadu_epi8, __m256i, u8, ((__mmask32)k, memory),
        bit_of(k, i) ? before[0].u8[i] : 0);
    ROW(_mm256_mask_loadu_epi8, __m256i, u8, (a256, (__mmask32)k, memory),
        (bit_of(k, i) ? before[0] : x).u8[i]);
    STORE_ROW(_mm256_mask_storeu_epi8, u8, 32, (memory, (__mmask32)k, a256),
              (bit_of(k, i) ? x : before[0]).u8[i]);
    ROW(_mm_maskz_loadu_epi8, __m128i, u8, ((__mmask16)k, memory),
        bit_of(k, i) ? before[0].u8[i] : 0);
    ROW(_mm_mask_loadu_epi8, __m128i, u8, (a128, (__mmask16)k, memory),
        (bit_of(k, i) ? before[0] : x).u8[i]);
    STORE_ROW(_mm_mask_storeu_epi8, u8, 16, (memory, (__mmask16)k, a128),
              (bit_of(k, i) ? x : before[0]).u8[i]);
    ROW(_mm512_maskz_loadu_epi16, __m512i, u16, ((__mmask32)k, memory),
        bit_of(k, i) ? before[0].u16[i] : 0);
    ROW(_mm512_mask_loadu_epi16, __m512i, u16, (a, (__mmask32)k, memory),
        (bit_of(k, i) ? before[0] : x).u16[i]);
    STORE_ROW(_mm512_mask_storeu_epi16, u16, 32, (memory, (__mmask32)k, a),
              (bit_of(k, i) ? x : before[0]).u16[i]);
    ROW(_mm256_maskz_loadu_epi16, __m256i, u16, ((__mmask16)k, memory),
        bit_of(k, i) ? before[0].u16[i] : 0);
    ROW(_mm256_mask_loadu_epi16, __m256i, u16, (a256, (__mmask16)k, memory),
        (bit_of(k, i) ? before[0] : x).u16[i]);
    STORE_ROW(_mm256_mask_storeu_epi16, u16, 16, (memory, (__mmask16)k, a256),
              (bit_of(k, i) ? x : before[0]).u16[i]);
    ROW(_mm_maskz_loadu_epi16, __m128i, u16, ((__mmask8)k, memory),
        bit_of(k, i) ? before[0].u16[i] : 0);
    ROW(_mm_mask_loadu_epi16, __m128i, u16, (a128, (__mmask8)k, memory),
        (bit_of(k, i) ? before[0] : x).u16[i]);
    STORE_ROW(_mm_mask_storeu_epi16, u16, 8, (memory, (__mmask8)k, a128),
              (bit_of(k, i) ? x : before[0]).u16[i]);
    ROW(_mm512_maskz_loadu_epi32, __m512i, u32, ((__mmask16)k, memory),
        bit_of(k, i) ? before[0].u32[i] : 0);
    ROW(_mm512_mask_loadu_epi32, __m512i, u32, (a, (__mmask16)k, memory),
        (bit_of(k, i) ? before[0] : x).u32[i]);
    STORE_ROW(_mm512_mask_storeu_epi32, u32, 16, (memory, (__mmask16)k, a),
              (bit_of(k, i) ? x : before[0]).u32[i]);
    ROW(_mm256_maskz_loadu_epi32, __m256i, u32, ((__mmask8)k, memory),
        bit_of(k, i) ? before[0].u32[i] : 0);
    ROW(_mm256_mask_loadu_epi32, __m256i, u32, (a256, (__mmask8)k, memory),
        (bit_of(k, i) ? before[0] : x).u32[i]);
    STORE_ROW(_mm256_mask_storeu_epi32, u32, 8, (memory, (__mmask8)k, a256),
              (bit_of(k, i) ? x : before[0]).u32[i]);
    ROW(_mm_maskz_loadu_epi32, __m128i, u32, ((__mmask8)k, memory),
        bit_of(k, i) ? before[0].u32[i] : 0);
    ROW(_mm_mask_loadu_epi32, __m128i, u32, (a128, (__mmask8)k, memory),
        (bit_of(k, i) ? before[0] : x).u32[i]);
    STORE_ROW(_mm_mask_storeu_epi32, u32, 4, (memory, (__mmask8)k, a128),
              (bit_of(k, i) ? x : before[0]).u32[i]);
    ROW(_mm512_maskz_loadu_epi64, __m512i, u64, ((__mmask8)k, memory),
        bit_of(k, i) ? before[0].u64[i] : 0);
    ROW(_mm512_mask_loadu_epi64, __m512i, u64, (a, (__mmask8)k, memory),
        (bit_of(k, i) ? before[0] : x).u64[i]);
    STORE_ROW(_mm512_mask_storeu_epi64, u64, 8, (memory, (__mmask8)k, a),
              (bit_of(k, i) ? x : before[0]).u64[i]);
    ROW(_mm256_maskz_loadu_epi64, __m256i, u64, ((__mmask8)k, memory),
        bit_of(k, i) ? before[0].u64[i] : 0);
    ROW(_mm256_mask_loadu_epi64, __m256i, u64, (a256, (__mmask8)k, memory),
        (bit_of(k, i) ? before[0] : x).u64[i]);
    STORE_ROW(_mm256_mask_storeu_epi64, u64, 4, (memory, (__mmask8)k, a256),
              (bit_of(k, i) ? x : before[0]).u64[i]);
    ROW(_mm_maskz_loadu_epi64, __m128i, u64, ((__mmask8)k, memory),
        bit_of(k, i) ? before[0].u64[i] : 0);
    ROW(_mm_mask_loadu_epi64, __m128i, u64, (a128, (__mmask8)k, memory),
        (bit_of(k, i) ? before[0] : x).u64[i]);
    STORE_ROW(_mm_mask_storeu_epi64, u64, 2, (memory, (__mmask8)k, a128),
              (bit_of(k, i) ? x : before[0]).u64[i]);
}

static void set_and_broadcast(void) {
    ROW(_mm512_set1_epi8, __m512i, u8, (x.s8[0]), x.u8[0 * i]);
    ROW(_mm512_mask_set1_epi8, __m512i, u8, (a, (__mmask64)k, y.s8[0]),
        bit_of(k, i) ? y.u8[0] : x.u8[i]);
    ROW(_mm512_maskz_set1_epi8, __m512i, u8, ((__mmask64)k, y.s8[0]), bit_of(k, i) ? y.u8[0] : 0);
    ROW(_mm512_set1_epi16, __m512i, u16, (x.s16[0]), x.u16[0 * i]);
    ROW(_mm512_mask_set1_epi16, __m512i, u16, (a, (__mmask32)k, y.s16[0]),
        bit_of(k, i) ? y.u16[0] : x.u16[i]);
    ROW(_mm512_maskz_set1_epi16, __m512i, u16, ((__mmask32)k, y.s16[0]),
        bit_of(k, i) ? y.u16[0] : 0);
    ROW(_mm512_set1_epi32, __m512i, u32, (x.s32[0]), x.u32[0 * i]);
    ROW(_mm512_mask_set1_epi32, __m512i, u32, (a, (__mmask16)k, y.s32[0]),
        bit_of(k, i) ? y.u32[0] : x.u32[i]);
    ROW(_mm512_maskz_set1_epi32, __m512i, u32, ((__mmask16)k, y.s32[0]),
        bit_of(k, i) ? y.u32[0] : 0);
    ROW(_mm512_set1_epi64, __m512i, u64, (x.s64[0]), x.u64[0 * i]);
    ROW(_mm512_mask_set1_epi64, __m512i, u64, (a, (__mmask8)k, y.s64[0]),
        bit_of(k, i) ? y.u64[0] : x.u64[i]);
    ROW(_mm512_maskz_set1_epi64, __m512i, u64, ((__mmask8)k, y.s64[0]),
        bit_of(k, i) ? y.u64[0] : 0);
    ROW(_mm512_setzero_si512, __m512i, u64, (), 0 * (uint64_t)i);
    ROW(_mm512_setr_epi32, __m512i, s32,
        (x.s32[0], x.s32[1], x.s32[2], x.s32[3], x.s32[4], x.s32[5], x.s32[6], x.s32[7], x.s32[8],
         x.s32[9], x.s32[10], x.s32[11], x.s32[12], x.s32[13], x.s32[14], x.s32[15]),
        x.s32[i]);
    ROW(_mm512_set_epi32, __m512i, s32,
        (x.s32[0], x.s32[1], x.s32[2], x.s32[3], x.s32[4], x.s32[5], x.s32[6], x.s32[7], x.s32[8],
         x.s32[9], x.s32[10], x.s32[11], x.s32[12], x.s32[13], x.s32[14], x.s32[15]),
        x.s32[15 - i]);
    ROW(_mm512_setr_epi64, __m512i, s64,
        (x.s64[0], x.s64[1], x.s64[2], x.s64[3], x.s64[4], x.s64[5], x.s64[6], x.s64[7]), x.s64[i]);
    ROW(_mm512_set_epi64, __m512i, s64,
        (x.s64[0], x.s64[1], x.s64[2], x.s64[3], x.s64[4], x.s64[5], x.s64[6], x.s64[7]),
        x.s64[7 - i]);
    ROW(_mm512_set_epi16, __m512i, s16,
        (x.s16[0], x.s16[1], x.s16[2], x.s16[3], x.s16[4], x.s16[5], x.s16[6], x.s16[7], x.s16[8],
         x.s16[9], x.s16[10], x.s16[11], x.s16[12], x.s16[13], x.s16[14], x.s16[15], x.s16[16],
         x.s16[17], x.s16[18], x.s16[19], x.s16[20], x.s16[21], x.s16[22], x.s16[23], x.s16[24],
         x.s16[25], x.s16[26], x.s16[27], x.s16[28], x.s16[29], x.s16[30], x.s16[31]),
        x.s16[31 - i]);
    ROW(_mm512_set_epi8, __m512i, s8,
        (x.s8[0], x.s8[1], x.s8[2], x.s8[3], x.s8[4], x.s8[5], x.s8[6], x.s8[7], x.s8[8], x.s8[9],
         x.s8[10], x.s8[11], x.s8[12], x.s8[13], x.s8[14], x.s8[15], x.s8[16], x.s8[17], x.s8[18],
         x.s8[19], x.s8[20], x.s8[21], x.s8[22], x.s8[23], x.s8[24], x.s8[25], x.s8[26], x.s8[27],
         x.s8[28], x.s8[29], x.s8[30], x.s8[31], x.s8[32], x.s8[33], x.s8[34], x.s8[35], x.s8[36],
         x.s8[37], x.s8[38], x.s8[39], x.s8[40], x.s8[41], x.s8[42], x.s8[43], x.s8[44], x.s8[45],
         x.s8[46], x.s8[47], x.s8[48], x.s8[49], x.s8[50], x.s8[51], x.s8[52], x.s8[53], x.s8[54],
         x.s8[55], x.s8[56], x.s8[57], x.s8[58], x.s8[59], x.s8[60], x.s8[61], x.s8[62], x.s8[63]),
        x.s8[63 - i]);
    ROW(_mm512_broadcastb_epi8, __m512i, u8, (a128), x.u8[0 * i]);
    ROW(_mm512_broadcastw_epi16, __m512i, u16, (a128), x.u16[0 * i]);
    ROW(_mm512_broadcastd_epi32, __m512i, u32, (a128), x.u32[0 * i]);
    ROW(_mm512_broadcastq_epi64, __m512i, u64, (a128), x.u64[0 * i]);
    ROW(_mm512_broadcast_i32x2, __m512i, u32, (a128), x.u32[i % 2]);
    ROW(_mm512_broadcast_i32x4, __m512i, u32, (a128), x.u32[i % 4]);
    ROW(_mm512_broadcast_i64x2, __m512i, u64, (a128), x.u64[i % 2]);
    ROW(_mm512_broadcast_i32x8, __m512i, u32, (a256), x.u32[i % 8]);
    ROW(_mm512_broadcast_i64x4, __m512i, u64, (a256), x.u64[i % 4]);
}

static void widen(void) {
    ROW(_mm512_cvtepi8_epi16, __m512i, s16, (a256), x.s8[i]);
    ROW(_mm512_cvtepi8_epi32, __m512i, s32, (a128), x.s8[i]);
    ROW(_mm512_cvtepi8_epi64, __m512i, s64, (a128), x.s8[i]);
    ROW(_mm512_cvtepi16_epi32, __m512i, s32, (a256), x.s16[i]);
    ROW(_mm512_cvtepi16_epi64, __m512i, s64, (a128), x.s16[i]);
    ROW(_mm512_cvtepi32_epi64, __m512i, s64, (a256), x.s32[i]);
    ROW(_mm512_cvtepu8_epi16, __m512i, u16, (a256), x.u8[i]);
    ROW(_mm512_cvtepu8_epi32, __m512i, u32, (a128), x.u8[i]);
    ROW(_mm512_cvtepu16_epi32, __m512i, u32, (a256), x.u16[i]);
    ROW(_mm512_cvtepu32_epi64, __m512i, u64, (a256), x.u32[i]);
}

static void narrow(void) {
    ROW(_mm512_cvtepi16_epi8, __m256i, u8, (a), (uint8_t)x.u16[i]);
    ROW(_mm512_cvtsepi16_epi8, __m256i, s8, (a), (int8_t)saturate(x.s16[i], INT8_MIN, INT8_MAX));
    ROW(_mm512_cvtepi32_epi16, __m256i, u16, (a), (uint16_t)x.u32[i]);
    ROW(_mm512_cvtsepi32_epi16, __m256i, s16, (a),
        (int16_t)saturate(x.s32[i], INT16_MIN, INT16_MAX));
    ROW(_mm512_cvtepi64_epi32, __m256i, u32, (a), (uint32_t)x.u64[i]);
    ROW(_mm512_cvtsepi64_epi32, __m256i, s32, (a),
        (int32_t)saturate(x.s64[i], INT32_MIN, INT32_MAX));
    ROW(_mm512_cvtepi32_epi8, __m128i, u8, (a), (uint8_t)x.u32[i]);
    ROW(_mm512_cvtsepi32_epi8, __m128i, s8, (a), (int8_t)saturate(x.s32[i], INT8_MIN, INT8_MAX));
    ROW(_mm512_cvtepi64_epi16, __m128i, u16, (a), (uint16_t)x.u64[i]);
    ROW(_mm512_cvtsepi64_epi16, __m128i, s16, (a),
        (int16_t)saturate(x.s64[i], INT16_MIN, INT16_MAX));
    ROW(_mm512_cvtepi64_epi8, __m128i, u8, (a), i < 8 ? (uint8_t)x.u64[i] : 0);
    ROW(_mm512_cvtsepi64_epi8, __m128i, s8, (a),
        i < 8 ? (int8_t)saturate(x.s64[i], INT8_MIN, INT8_MAX) : 0);
    ROW(_mm512_cvtusepi16_epi8, __m256i, u8, (a), (uint8_t)saturate(x.u16[i], 0, UINT8_MAX));
    ROW(_mm512_cvtusepi32_epi8, __m128i, u8, (a), (uint8_t)saturate(x.u32[i], 0, UINT8_MAX));
    ROW(_mm512_cvtusepi32_epi16, __m256i, u16, (a), (uint16_t)saturate(x.u32[i], 0, UINT16_MAX));
    ROW(_mm256_cvtepi16_epi8, __m128i, u8, (a256), (uint8_t)x.u16[i]);
    ROW(_mm256_cvtsepi16_epi8, __m128i, s8, (a256), (int8_t)saturate(x.s16[i], INT8_MIN, INT8_MAX));
    ROW(_mm256_cvtepi32_epi8, __m128i, u8, (a256), i < 8 ? (uint8_t)x.u32[i] : 0);
    ROW(_mm256_cvtsepi32_epi8, __m128i, s8, (a256),
        i < 8 ? (int8_t)saturate(x.s32[i], INT8_MIN, INT8_MAX) : 0);
    ROW(_mm256_cvtepi32_epi16, __m128i, u16, (a256), (uint16_t)x.u32[i]);
    ROW(_mm256_cvtsepi32_epi16, __m128i, s16, (a256),
        (int16_t)saturate(x.s32[i], INT16_MIN, INT16_MAX));
    ROW(_mm256_cvtepi64_epi32, __m128i, u32, (a256), (uint32_t)x.u64[i]);
    ROW(_mm256_cvtsepi64_epi32, __m128i, s32, (a256),
        (int32_t)saturate(x.s64[i], INT32_MIN, INT32_MAX));
    STORE_ROW(_mm512_mask_cvtepi16_storeu_epi8, u8, 32, (memory, (__mmask32)k, a),
              bit_of(k, i) ? (uint8_t)x.u16[i] : before[0].u8[i]);
    STORE_ROW(_mm512_mask_cvtepi32_storeu_epi8, u8, 16, (memory, (__mmask16)k, a),
              bit_of(k, i) ? (uint8_t)x.u32[i] : before[0].u8[i]);
    STORE_ROW(_mm512_mask_cvtepi32_storeu_epi16, u16, 16, (memory, (__mmask16)k, a),
              bit_of(k, i) ? (uint16_t)x.u32[i] : before[0].u16[i]);
    STORE_ROW(_mm512_mask_cvtepi64_storeu_epi32, u32, 8, (memory, (__mmask8)k, a),
              bit_of(k, i) ? (uint32_t)x.u64[i] : before[0].u32[i]);
    STORE_ROW(_mm512_mask_cvtsepi16_storeu_epi8, s8, 32, (memory, (__mmask32)k, a),
              bit_of(k, i) ? (int8_t)saturate(x.s16[i], INT8_MIN, INT8_MAX) : before[0].s8[i]);
    STORE_ROW(_mm512_mask_cvtsepi32_storeu_epi8, s8, 16, (memory, (__mmask16)k, a),
              bit_of(k, i) ? (int8_t)saturate(x.s32[i], INT8_MIN, INT8_MAX) : before[0].s8[i]);
    STORE_ROW(_mm512_mask_cvtsepi32_storeu_epi16, s16, 16, (memory, (__mmask16)k, a),
              bit_of(k, i) ? (int16_t)saturate(x.s32[i], INT16_MIN, INT16_MAX) : before[0].s16[i]);
}

static void pack(void) {
    ROW(_mm512_packs_epi16, __m512i, s8, (a, b),
        (int8_t)saturate((i % 16 < 8 ? x : y).s16[i / 16 * 8 + i % 8], INT8_MIN, INT8_MAX));
    ROW(_mm512_packus_epi16, __m512i, u8, (a, b),
        (uint8_t)saturate((i % 16 < 8 ? x : y).s16[i / 16 * 8 + i % 8], 0, UINT8_MAX));
    ROW(_mm512_packs_epi32, __m512i, s16, (a, b),
        (int16_t)saturate((i % 8 < 4 ? x : y).s32[i / 8 * 4 + i % 4], INT16_MIN, INT16_MAX));
    ROW(_mm512_packus_epi32, __m512i, u16, (a, b),
        (uint16_t)saturate((i % 8 < 4 ? x : y).s32[i / 8 * 4 + i % 4], 0, UINT16_MAX));
    ROW(_mm512_unpacklo_epi8, __m512i, u8, (a, b),
        (i % 2 == 0 ? x : y).u8[i / 16 * 16 + i % 16 / 2]);
    ROW(_mm512_unpackhi_epi8, __m512i, u8, (a, b),
        (i % 2 == 0 ? x : y).u8[i / 16 * 16 + 8 + i % 16 / 2]);
    ROW(_mm512_unpacklo_epi16, __m512i, u16, (a, b),
        (i % 2 == 0 ? x : y).u16[i / 8 * 8 + i % 8 / 2]);
    ROW(_mm512_unpackhi_epi16, __m512i, u16, (a, b),
        (i % 2 == 0 ? x : y).u16[i / 8 * 8 + 4 + i % 8 / 2]);
    ROW(_mm512_unpacklo_epi32, __m512i, u32, (a, b),
        (i % 2 == 0 ? x : y).u32[i / 4 * 4 + i % 4 / 2]);
    ROW(_mm512_unpackhi_epi32, __m512i, u32, (a, b),
        (i % 2 == 0 ? x : y).u32[i / 4 * 4 + 2 + i % 4 / 2]);
    ROW(_mm512_unpacklo_epi64, __m512i, u64, (a, b),
        (i % 2 == 0 ? x : y).u64[i / 2 * 2 + i % 2 / 2]);
    ROW(_mm512_unpackhi_epi64, __m512i, u64, (a, b),
        (i % 2 == 0 ? x : y).u64[i / 2 * 2 + 1 + i % 2 / 2]);
}

static void shuffle(void) {
    ROW(_mm512_shuffle_epi8, __m512i, u8, (a, b),
        y.u8[i] > 127 ? 0 : x.u8[i / 16 * 16 + y.u8[i] % 16]);
    ROW(_mm512_mask_shuffle_epi8, __m512i, u8, (c, (__mmask64)k, a, b),
        !bit_of(k, i)   ? z.u8[i]
        : y.u8[i] > 127 ? 0
                        : x.u8[i / 16 * 16 + y.u8[i] % 16]);
    ROW(_mm512_maskz_shuffle_epi8, __m512i, u8, ((__mmask64)k, a, b),
        !bit_of(k, i) || y.u8[i] > 127 ? 0 : x.u8[i / 16 * 16 + y.u8[i] % 16]);
    ROW(_mm512_shuffle_epi32, __m512i, u32, (a, (_MM_PERM_ENUM)0xB1),
        x.u32[i / 4 * 4 + (0xB1 >> i % 4 * 2 & 3)]);
    ROW(_mm512_shuffle_epi32, __m512i, u32, (a, (_MM_PERM_ENUM)0x4E),
        x.u32[i / 4 * 4 + (0x4E >> i % 4 * 2 & 3)]);
    ROW(_mm512_shufflelo_epi16, __m512i, u16, (a, 0x1B),
        i % 8 < 4 ? x.u16[i / 8 * 8 + 3 - i % 4] : x.u16[i]);
    ROW(_mm512_shufflehi_epi16, __m512i, u16, (a, 0x1B),
        i % 8 < 4 ? x.u16[i] : x.u16[i / 8 * 8 + 7 - i % 4]);
    ROW(_mm512_shuffle_i32x4, __m512i, u32, (a, b, 0x88),
        (i < 8 ? x : y).u32[(0x88 >> i / 4 * 2 & 3) * 4 + i % 4]);
    ROW(_mm512_shuffle_i64x2, __m512i, u64, (a, b, 0x88),
        (i < 4 ? x : y).u64[(0x88 >> i / 2 * 2 & 3) * 2 + i % 2]);
    ROW(_mm512_shuffle_i32x4, __m512i, u32, (a, b, 0xDD),
        (i < 8 ? x : y).u32[(0xDD >> i / 4 * 2 & 3) * 4 + i % 4]);
    ROW(_mm512_shuffle_i64x2, __m512i, u64, (a, b, 0xDD),
        (i < 4 ? x : y).u64[(0xDD >> i / 2 * 2 & 3) * 2 + i % 2]);
    ROW(_mm512_shuffle_i32x4, __m512i, u32, (a, b, 0x4E),
        (i < 8 ? x : y).u32[(0x4E >> i / 4 * 2 & 3) * 4 + i % 4]);
    ROW(_mm512_shuffle_i64x2, __m512i, u64, (a, b, 0x4E),
        (i < 4 ? x : y).u64[(0x4E >> i / 2 * 2 & 3) * 2 + i % 2]);
    ROW(_mm512_permutexvar_epi16, __m512i, u16, (b, a), x.u16[y.u16[i] % 32]);
    ROW(_mm512_permutexvar_epi32, __m512i, u32, (b, a), x.u32[y.u32[i] % 16]);
    ROW(_mm512_permutexvar_epi64, __m512i, u64, (b, a), x.u64[y.u64[i] % 8]);
    ROW(_mm512_mask_permutexvar_epi16, __m512i, u16, (c, (__mmask32)k, b, a),
        bit_of(k, i) ? x.u16[y.u16[i] % 32] : z.u16[i]);
    ROW(_mm512_maskz_permutexvar_epi32, __m512i, u32, ((__mmask16)k, b, a),
        bit_of(k, i) ? x.u32[y.u32[i] % 16] : 0);
    ROW(_mm512_permutex2var_epi16, __m512i, u16, (a, b, c),
        (y.u16[i] / 32 % 2 == 0 ? x : z).u16[y.u16[i] % 32]);
    ROW(_mm512_permutex2var_epi32, __m512i, u32, (a, b, c),
        (y.u32[i] / 16 % 2 == 0 ? x : z).u32[y.u32[i] % 16]);
    ROW(_mm512_permutex2var_epi64, __m512i, u64, (a, b, c),
        (y.u64[i] / 8 % 2 == 0 ? x : z).u64[y.u64[i] % 8]);
    ROW(_mm512_permutex_epi64, __m512i, u64, (a, 0xD8), x.u64[i / 4 * 4 + (0xD8 >> i % 4 * 2 & 3)]);
    ROW(_mm512_permutex_epi64, __m512i, u64, (a, 0x4E), x.u64[i / 4 * 4 + (i + 2) % 4]);
    ROW(_mm256_permutexvar_epi16, __m256i, u16, (b256, a256), x.u16[y.u16[i] % 16]);
    ROW(_mm256_permutex2var_epi16, __m256i, u16, (a256, b256, c256),
        (y.u16[i] / 16 % 2 == 0 ? x : z).u16[y.u16[i] % 16]);
    ROW(_mm256_permutexvar_epi64, __m256i, u64, (b256, a256), x.u64[y.u64[i] % 4]);
    ROW(_mm512_alignr_epi8, __m512i, u8, (a, b, 5),
        i % 16 + 5 < 16 ? y.u8[i + 5] : x.u8[i + 5 - 16]);
    ROW(_mm512_alignr_epi8, __m512i, u8, (a, b, 20), i % 16 + 4 < 16 ? x.u8[i + 4] : 0);
    ROW(_mm512_alignr_epi32, __m512i, u32, (a, b, 3),
        i + 3 < 16 ? y.u32[i + 3] : x.u32[i + 3 - 16]);
    ROW(_mm512_alignr_epi64, __m512i, u64, (a, b, 5), i + 5 < 8 ? y.u64[i + 5] : x.u64[i + 5 - 8]);
}

static void parts(void) {
    ROW(_mm512_castsi512_si256, __m256i, u64, (a), x.u64[i]);
    ROW(_mm512_castsi512_si128, __m128i, u64, (a), x.u64[i]);
    ROW(_mm512_zextsi256_si512, __m512i, u64, (a256), i < 4 ? x.u64[i] : 0);
    ROW(_mm512_zextsi128_si512, __m512i, u64, (a128), i < 2 ? x.u64[i] : 0);
    ROW(_mm512_cvtsi512_si32, int, s32, (a), x.s32[i]);
    ROW(_mm512_extracti32x4_epi32, __m128i, u32, (a, 0), x.u32[i + 0]);
    ROW(_mm512_extracti32x4_epi32, __m128i, u32, (a, 3), x.u32[i + 12]);
    ROW(_mm512_extracti64x2_epi64, __m128i, u64, (a, 0), x.u64[i + 0]);
    ROW(_mm512_extracti64x2_epi64, __m128i, u64, (a, 3), x.u64[i + 6]);
    ROW(_mm512_extracti64x4_epi64, __m256i, u64, (a, 0), x.u64[i + 0]);
    ROW(_mm512_extracti64x4_epi64, __m256i, u64, (a, 1), x.u64[i + 4]);
    ROW(_mm512_extracti32x8_epi32, __m256i, u32, (a, 0), x.u32[i + 0]);
    ROW(_mm512_extracti32x8_epi32, __m256i, u32, (a, 1), x.u32[i + 8]);
    ROW(_mm512_inserti32x4, __m512i, u32, (a, b128, 0), i / 4 == 0 ? y.u32[i % 4] : x.u32[i]);
    ROW(_mm512_inserti32x4, __m512i, u32, (a, b128, 2), i / 4 == 2 ? y.u32[i % 4] : x.u32[i]);
    ROW(_mm512_inserti64x2, __m512i, u64, (a, b128, 0), i / 2 == 0 ? y.u64[i % 2] : x.u64[i]);
    ROW(_mm512_inserti64x2, __m512i, u64, (a, b128, 2), i / 2 == 2 ? y.u64[i % 2] : x.u64[i]);
    ROW(_mm512_inserti64x4, __m512i, u64, (a, b256, 0), i / 4 == 0 ? y.u64[i % 4] : x.u64[i]);
    ROW(_mm512_inserti64x4, __m512i, u64, (a, b256, 1), i / 4 == 1 ? y.u64[i % 4] : x.u64[i]);
    ROW(_mm512_inserti32x8, __m512i, u32, (a, b256, 0), i / 8 == 0 ? y.u32[i % 8] : x.u32[i]);
    ROW(_mm512_inserti32x8, __m512i, u32, (a, b256, 1), i / 8 == 1 ? y.u32[i % 8] : x.u32[i]);
    /* The upper part is undefined: only the lower one is looked at. */
    ROW(_mm512_castsi512_si256, __m256i, u64, (_mm512_castsi256_si512(a256)), x.u64[i]);
    ROW(_mm512_castsi512_si128, __m128i, u64, (_mm512_castsi128_si512(a128)), x.u64[i]);
}

static void blend(void) {
    ROW(_mm512_mask_blend_epi8, __m512i, u8, ((__mmask64)k, a, b), (bit_of(k, i) ? y : x).u8[i]);
    ROW(_mm512_mask_mov_epi8, __m512i, u8, (a, (__mmask64)k, b), (bit_of(k, i) ? y : x).u8[i]);
    ROW(_mm512_maskz_mov_epi8, __m512i, u8, ((__mmask64)k, a), bit_of(k, i) ? x.u8[i] : 0);
    ROW(_mm512_mask_blend_epi16, __m512i, u16, ((__mmask32)k, a, b), (bit_of(k, i) ? y : x).u16[i]);
    ROW(_mm512_mask_mov_epi16, __m512i, u16, (a, (__mmask32)k, b), (bit_of(k, i) ? y : x).u16[i]);
    ROW(_mm512_maskz_mov_epi16, __m512i, u16, ((__mmask32)k, a), bit_of(k, i) ? x.u16[i] : 0);
    ROW(_mm512_mask_blend_epi32, __m512i, u32, ((__mmask16)k, a, b), (bit_of(k, i) ? y : x).u32[i]);
    ROW(_mm512_mask_mov_epi32, __m512i, u32, (a, (__mmask16)k, b), (bit_of(k, i) ? y : x).u32[i]);
    ROW(_mm512_maskz_mov_epi32, __m512i, u32, ((__mmask16)k, a), bit_of(k, i) ? x.u32[i] : 0);
    ROW(_mm512_mask_blend_epi64, __m512i, u64, ((__mmask8)k, a, b), (bit_of(k, i) ? y : x).u64[i]);
    ROW(_mm512_mask_mov_epi64, __m512i, u64, (a, (__mmask8)k, b), (bit_of(k, i) ? y : x).u64[i]);
    ROW(_mm512_maskz_mov_epi64, __m512i, u64, ((__mmask8)k, a), bit_of(k, i) ? x.u64[i] : 0);
    ROW(_mm256_mask_blend_epi8, __m256i, u8, ((__mmask32)k, a256, b256),
        (bit_of(k, i) ? y : x).u8[i]);
    ROW(_mm256_mask_blend_epi16, __m256i, u16, ((__mmask16)k, a256, b256),
        (bit_of(k, i) ? y : x).u16[i]);
}

static void gather(void) {
    ROW(_mm512_i32gather_epi32, __m512i, u32, (indices32, table, 4), table[x.u32[i] % 64]);
    ROW(_mm512_i32gather_epi32, __m512i, u32, (indices32, table, 1), unaligned_u32(x.u32[i] % 64));
    ROW(_mm512_mask_i32gather_epi32, __m512i, u32, (b, (__mmask16)k, indices32, table, 4),
        bit_of(k, i) ? table[x.u32[i] % 64] : y.u32[i]);
    ROW(_mm512_i32gather_epi64, __m512i, u64, (_mm512_castsi512_si256(indices32), table, 4),
        unaligned_u64(4 * (x.u32[i] % 64)));
    ROW(_mm512_i64gather_epi64, __m512i, u64, (indices64, table, 4),
        unaligned_u64(4 * (x.u64[i] % 64)));
}

static void rows(void) {
    load_and_store();
    load_and_store_masked();
    set_and_broadcast();
    widen();
    narrow();
    pack();
    shuffle();
    parts();
    blend();
    gather();
}

int main(void) {
    return simd_run("test_simd_moves_avx512", PQ_CPU_AVX512, load, rows);
}
