/* Integer arithmetic, logic, shifts, comparisons and reductions of AVX-512. */
#include "core/simd_avx512.h"
#include "simd_rows.h"

static __m512i a, b, c, counts16, counts32, counts64;
static __m256i a256, b256;
static __m128i a128, b128, count;

static void load(void) {
    memcpy(&a, &x, sizeof a);
    memcpy(&b, &y, sizeof b);
    memcpy(&c, &z, sizeof c);
    memcpy(&counts16, &n16, sizeof counts16);
    memcpy(&counts32, &n32, sizeof counts32);
    memcpy(&counts64, &n64, sizeof counts64);
    memcpy(&a256, &x, sizeof a256);
    memcpy(&b256, &y, sizeof b256);
    memcpy(&a128, &x, sizeof a128);
    memcpy(&b128, &y, sizeof b128);
    memcpy(&count, &n64, sizeof count);
}

static uint64_t differences(const uint8_t *p, const uint8_t *q) {
    uint64_t sum = 0;
    for (int i = 0; i < 8; i++) {
        sum += (uint64_t)abs(p[i] - q[i]);
    }
    return sum;
}

/* Of the lanes of x whose bit is set in `of`. */
#define REDUCTION(name, type, lane, start, expression) \
    static type name(uint64_t of) { \
        type r = (start); \
        for (int i = 0; i < LANES_OF(__m512i, lane); i++) { \
            const type v = x.lane[i]; \
            r = bit_of(of, i) ? (expression) : r; \
        } \
        return r; \
    }

enum { ALL = 0xffff };

/* Of lanes shifted down so far that the sums fit: gcc's header adds them as signed, and a sanitizer
 * looks. */
REDUCTION(sum_s32, int32_t, s32, 0, r + (v >> 4))
REDUCTION(sum_s64, int64_t, s64, 0, r + (v >> 3))
REDUCTION(or_u32, uint32_t, u32, 0, r | v)
REDUCTION(and_u32, uint32_t, u32, UINT32_MAX, r &v)
REDUCTION(max_u32, uint32_t, u32, 0, v > r ? v : r)
REDUCTION(min_u32, uint32_t, u32, UINT32_MAX, v < r ? v : r)
REDUCTION(max_s32, int32_t, s32, INT32_MIN, v > r ? v : r)
REDUCTION(min_s32, int32_t, s32, INT32_MAX, v < r ? v : r)
REDUCTION(max_s64, int64_t, s64, INT64_MIN, v > r ? v : r)
REDUCTION(min_s64, int64_t, s64, INT64_MAX, v < r ? v : r)

static void add_subtract(void) {
    ROW(_mm512_add_epi8, __m512i, u8, (a, b), (uint8_t)(x.u8[i] + y.u8[i]));
    ROW(_mm512_sub_epi8, __m512i, u8, (a, b), (uint8_t)(x.u8[i] - y.u8[i]));
    ROW(_mm512_add_epi16, __m512i, u16, (a, b), (uint16_t)(x.u16[i] + y.u16[i]));
    ROW(_mm512_sub_epi16, __m512i, u16, (a, b), (uint16_t)(x.u16[i] - y.u16[i]));
    ROW(_mm512_add_epi32, __m512i, u32, (a, b), (uint32_t)(x.u32[i] + y.u32[i]));
    ROW(_mm512_sub_epi32, __m512i, u32, (a, b), (uint32_t)(x.u32[i] - y.u32[i]));
    ROW(_mm512_add_epi64, __m512i, u64, (a, b), (uint64_t)(x.u64[i] + y.u64[i]));
    ROW(_mm512_sub_epi64, __m512i, u64, (a, b), (uint64_t)(x.u64[i] - y.u64[i]));
    ROW(_mm512_adds_epi8, __m512i, s8, (a, b), (int8_t)saturate_s8(x.s8[i] + y.s8[i]));
    ROW(_mm512_adds_epu8, __m512i, u8, (a, b), (uint8_t)saturate(x.u8[i] + y.u8[i], 0, UINT8_MAX));
    ROW(_mm512_adds_epi16, __m512i, s16, (a, b), (int16_t)saturate_s16(x.s16[i] + y.s16[i]));
    ROW(_mm512_adds_epu16, __m512i, u16, (a, b),
        (uint16_t)saturate(x.u16[i] + y.u16[i], 0, UINT16_MAX));
    ROW(_mm512_subs_epi8, __m512i, s8, (a, b), (int8_t)saturate_s8(x.s8[i] - y.s8[i]));
    ROW(_mm512_subs_epu8, __m512i, u8, (a, b), (uint8_t)saturate(x.u8[i] - y.u8[i], 0, UINT8_MAX));
    ROW(_mm512_subs_epi16, __m512i, s16, (a, b), (int16_t)saturate_s16(x.s16[i] - y.s16[i]));
    ROW(_mm512_subs_epu16, __m512i, u16, (a, b),
        (uint16_t)saturate(x.u16[i] - y.u16[i], 0, UINT16_MAX));
    ROW(_mm512_avg_epu8, __m512i, u8, (a, b), (uint8_t)((x.u8[i] + y.u8[i] + 1) / 2));
    ROW(_mm512_avg_epu16, __m512i, u16, (a, b), (uint16_t)((x.u16[i] + y.u16[i] + 1) / 2));
    ROW(_mm512_mask_add_epi32, __m512i, u32, (c, (__mmask16)k, a, b),
        bit_of(k, i) ? x.u32[i] + y.u32[i] : z.u32[i]);
    ROW(_mm512_mask_sub_epi32, __m512i, u32, (c, (__mmask16)k, a, b),
        bit_of(k, i) ? x.u32[i] - y.u32[i] : z.u32[i]);
    ROW(_mm512_mask_add_epi64, __m512i, u64, (c, (__mmask8)k, a, b),
        bit_of(k, i) ? x.u64[i] + y.u64[i] : z.u64[i]);
    ROW(_mm512_mask_sub_epi64, __m512i, u64, (c, (__mmask8)k, a, b),
        bit_of(k, i) ? x.u64[i] - y.u64[i] : z.u64[i]);
    ROW(_mm512_maskz_add_epi32, __m512i, u32, ((__mmask16)k, a, b),
        bit_of(k, i) ? x.u32[i] + y.u32[i] : 0);
    ROW(_mm512_maskz_sub_epi32, __m512i, u32, ((__mmask16)k, a, b),
        bit_of(k, i) ? x.u32[i] - y.u32[i] : 0);
    ROW(_mm512_sad_epu8, __m512i, u64, (a, b), differences(x.u8 + 8 * i, y.u8 + 8 * i));
}

static void multiply(void) {
    ROW(_mm512_mul_epi32, __m512i, s64, (a, b), (int64_t)x.s32[2 * i] * y.s32[2 * i]);
    ROW(_mm512_mul_epu32, __m512i, u64, (a, b), (uint64_t)x.u32[2 * i] * y.u32[2 * i]);
    ROW(_mm512_mullo_epi16, __m512i, u16, (a, b), (uint16_t)((uint32_t)x.u16[i] * y.u16[i]));
    ROW(_mm512_mullo_epi32, __m512i, u32, (a, b), x.u32[i] * y.u32[i]);
    ROW(_mm512_mullo_epi64, __m512i, u64, (a, b), x.u64[i] * y.u64[i]);
    ROW(_mm512_mulhi_epi16, __m512i, s16, (a, b), (int16_t)((x.s16[i] * y.s16[i]) >> 16));
    ROW(_mm512_mulhi_epu16, __m512i, u16, (a, b), (uint16_t)((uint32_t)x.u16[i] * y.u16[i] >> 16));
    ROW(_mm512_mulhrs_epi16, __m512i, s16, (a, b),
        (int16_t)(uint16_t)((x.s16[i] * y.s16[i] + 0x4000) >> 15));
    ROW(_mm512_madd_epi16, __m512i, u32, (a, b),
        (uint32_t)(x.s16[2 * i] * y.s16[2 * i]) + (uint32_t)(x.s16[2 * i + 1] * y.s16[2 * i + 1]));
    ROW(_mm512_maddubs_epi16, __m512i, s16, (a, b),
        (int16_t)saturate_s16(x.u8[2 * i] * y.s8[2 * i] + x.u8[2 * i + 1] * y.s8[2 * i + 1]));
}

static void least_and_greatest(void) {
    ROW(_mm512_min_epi8, __m512i, s8, (a, b), x.s8[i] < y.s8[i] ? x.s8[i] : y.s8[i]);
    ROW(_mm512_max_epi8, __m512i, s8, (a, b), x.s8[i] > y.s8[i] ? x.s8[i] : y.s8[i]);
    ROW(_mm512_min_epu8, __m512i, u8, (a, b), x.u8[i] < y.u8[i] ? x.u8[i] : y.u8[i]);
    ROW(_mm512_max_epu8, __m512i, u8, (a, b), x.u8[i] > y.u8[i] ? x.u8[i] : y.u8[i]);
    ROW(_mm512_abs_epi8, __m512i, u8, (a), (uint8_t)(x.s8[i] < 0 ? 0u - x.u8[i] : x.u8[i]));
    ROW(_mm512_min_epi16, __m512i, s16, (a, b), x.s16[i] < y.s16[i] ? x.s16[i] : y.s16[i]);
    ROW(_mm512_max_epi16, __m512i, s16, (a, b), x.s16[i] > y.s16[i] ? x.s16[i] : y.s16[i]);
    ROW(_mm512_min_epu16, __m512i, u16, (a, b), x.u16[i] < y.u16[i] ? x.u16[i] : y.u16[i]);
    ROW(_mm512_max_epu16, __m512i, u16, (a, b), x.u16[i] > y.u16[i] ? x.u16[i] : y.u16[i]);
    ROW(_mm512_abs_epi16, __m512i, u16, (a), (uint16_t)(x.s16[i] < 0 ? 0u - x.u16[i] : x.u16[i]));
    ROW(_mm512_min_epi32, __m512i, s32, (a, b), x.s32[i] < y.s32[i] ? x.s32[i] : y.s32[i]);
    ROW(_mm512_max_epi32, __m512i, s32, (a, b), x.s32[i] > y.s32[i] ? x.s32[i] : y.s32[i]);
    ROW(_mm512_min_epu32, __m512i, u32, (a, b), x.u32[i] < y.u32[i] ? x.u32[i] : y.u32[i]);
    ROW(_mm512_max_epu32, __m512i, u32, (a, b), x.u32[i] > y.u32[i] ? x.u32[i] : y.u32[i]);
    ROW(_mm512_abs_epi32, __m512i, u32, (a), (uint32_t)(x.s32[i] < 0 ? 0u - x.u32[i] : x.u32[i]));
    ROW(_mm512_min_epi64, __m512i, s64, (a, b), x.s64[i] < y.s64[i] ? x.s64[i] : y.s64[i]);
    ROW(_mm512_max_epi64, __m512i, s64, (a, b), x.s64[i] > y.s64[i] ? x.s64[i] : y.s64[i]);
    ROW(_mm512_min_epu64, __m512i, u64, (a, b), x.u64[i] < y.u64[i] ? x.u64[i] : y.u64[i]);
    ROW(_mm512_max_epu64, __m512i, u64, (a, b), x.u64[i] > y.u64[i] ? x.u64[i] : y.u64[i]);
    ROW(_mm512_abs_epi64, __m512i, u64, (a), (uint64_t)(x.s64[i] < 0 ? 0u - x.u64[i] : x.u64[i]));
    ROW(_mm512_mask_min_epi32, __m512i, s32, (c, (__mmask16)k, a, b),
        !bit_of(k, i)         ? z.s32[i]
        : x.s32[i] < y.s32[i] ? x.s32[i]
                              : y.s32[i]);
    ROW(_mm512_maskz_min_epi32, __m512i, s32, ((__mmask16)k, a, b),
        !bit_of(k, i)         ? 0
        : x.s32[i] < y.s32[i] ? x.s32[i]
                              : y.s32[i]);
    ROW(_mm256_min_epi64, __m256i, s64, (a256, b256), x.s64[i] < y.s64[i] ? x.s64[i] : y.s64[i]);
    ROW(_mm512_mask_max_epi32, __m512i, s32, (c, (__mmask16)k, a, b),
        !bit_of(k, i)         ? z.s32[i]
        : x.s32[i] > y.s32[i] ? x.s32[i]
                              : y.s32[i]);
    ROW(_mm512_maskz_max_epi32, __m512i, s32, ((__mmask16)k, a, b),
        !bit_of(k, i)         ? 0
        : x.s32[i] > y.s32[i] ? x.s32[i]
                              : y.s32[i]);
    ROW(_mm256_max_epi64, __m256i, s64, (a256, b256), x.s64[i] > y.s64[i] ? x.s64[i] : y.s64[i]);
}

static void logic(void) {
    ROW(_mm512_and_si512, __m512i, u64, (a, b), x.u64[i] & y.u64[i]);
    ROW(_mm512_or_si512, __m512i, u64, (a, b), x.u64[i] | y.u64[i]);
    ROW(_mm512_xor_si512, __m512i, u64, (a, b), x.u64[i] ^ y.u64[i]);
    ROW(_mm512_andnot_si512, __m512i, u64, (a, b), ~x.u64[i] & y.u64[i]);
    ROW(_mm512_and_epi32, __m512i, u32, (a, b), x.u32[i] & y.u32[i]);
    ROW(_mm512_or_epi32, __m512i, u32, (a, b), x.u32[i] | y.u32[i]);
    ROW(_mm512_xor_epi32, __m512i, u32, (a, b), x.u32[i] ^ y.u32[i]);
    ROW(_mm512_andnot_epi32, __m512i, u32, (a, b), ~x.u32[i] & y.u32[i]);
    ROW(_mm512_and_epi64, __m512i, u64, (a, b), x.u64[i] & y.u64[i]);
    ROW(_mm512_or_epi64, __m512i, u64, (a, b), x.u64[i] | y.u64[i]);
    ROW(_mm512_xor_epi64, __m512i, u64, (a, b), x.u64[i] ^ y.u64[i]);
    ROW(_mm512_andnot_epi64, __m512i, u64, (a, b), ~x.u64[i] & y.u64[i]);
    ROW(_mm512_ternarylogic_epi32, __m512i, u64, (a, b, c, 0x96),
        ternary(0x96, x.u64[i], y.u64[i], z.u64[i]));
    ROW(_mm512_ternarylogic_epi32, __m512i, u64, (a, b, c, 0xCA),
        ternary(0xCA, x.u64[i], y.u64[i], z.u64[i]));
    ROW(_mm512_ternarylogic_epi64, __m512i, u64, (a, b, c, 0x78),
        ternary(0x78, x.u64[i], y.u64[i], z.u64[i]));
}

static void shift(void) {
    ROW(_mm512_slli_epi16, __m512i, u16, (a, 1), (uint16_t)shift_left(x.u16[i], 1));
    ROW(_mm512_srli_epi16, __m512i, u16, (a, 1), (uint16_t)shift_right_u(x.u16[i], 1));
    ROW(_mm512_srai_epi16, __m512i, s16, (a, 1), (int16_t)shift_right(x.s16[i], 1));
    ROW(_mm512_slli_epi16, __m512i, u16, (a, 15), (uint16_t)shift_left(x.u16[i], 15));
    ROW(_mm512_srli_epi16, __m512i, u16, (a, 15), (uint16_t)shift_right_u(x.u16[i], 15));
    ROW(_mm512_srai_epi16, __m512i, s16, (a, 15), (int16_t)shift_right(x.s16[i], 15));
    ROW(_mm512_slli_epi16, __m512i, u16, (a, 16), (uint16_t)shift_left(x.u16[i], 16));
    ROW(_mm512_srli_epi16, __m512i, u16, (a, 16), (uint16_t)shift_right_u(x.u16[i], 16));
    ROW(_mm512_srai_epi16, __m512i, s16, (a, 16), (int16_t)shift_right(x.s16[i], 16));
    ROW(_mm512_sllv_epi16, __m512i, u16, (a, counts16), (uint16_t)shift_left(x.u16[i], n16.u16[i]));
    ROW(_mm512_srlv_epi16, __m512i, u16, (a, counts16),
        (uint16_t)shift_right_u(x.u16[i], n16.u16[i]));
    ROW(_mm512_srav_epi16, __m512i, s16, (a, counts16), (int16_t)shift_right(x.s16[i], n16.u16[i]));
    ROW(_mm512_sll_epi16, __m512i, u16, (a, count), (uint16_t)shift_left(x.u16[i], n64.u64[0]));
    ROW(_mm512_srl_epi16, __m512i, u16, (a, count), (uint16_t)shift_right_u(x.u16[i], n64.u64[0]));
    ROW(_mm512_sra_epi16, __m512i, s16, (a, count), (int16_t)shift_right(x.s16[i], n64.u64[0]));
    ROW(_mm512_slli_epi32, __m512i, u32, (a, 1), (uint32_t)shift_left(x.u32[i], 1));
    ROW(_mm512_srli_epi32, __m512i, u32, (a, 1), (uint32_t)shift_right_u(x.u32[i], 1));
    ROW(_mm512_srai_epi32, __m512i, s32, (a, 1), (int32_t)shift_right(x.s32[i], 1));
    ROW(_mm512_slli_epi32, __m512i, u32, (a, 31), (uint32_t)shift_left(x.u32[i], 31));
    ROW(_mm512_srli_epi32, __m512i, u32, (a, 31), (uint32_t)shift_right_u(x.u32[i], 31));
    ROW(_mm512_srai_epi32, __m512i, s32, (a, 31), (int32_t)shift_right(x.s32[i], 31));
    ROW(_mm512_slli_epi32, __m512i, u32, (a, 32), (uint32_t)shift_left(x.u32[i], 32));
    ROW(_mm512_srli_epi32, __m512i, u32, (a, 32), (uint32_t)shift_right_u(x.u32[i], 32));
    ROW(_mm512_srai_epi32, __m512i, s32, (a, 32), (int32_t)shift_right(x.s32[i], 32));
    ROW(_mm512_sllv_epi32, __m512i, u32, (a, counts32), (uint32_t)shift_left(x.u32[i], n32.u32[i]));
    ROW(_mm512_srlv_epi32, __m512i, u32, (a, counts32),
        (uint32_t)shift_right_u(x.u32[i], n32.u32[i]));
    ROW(_mm512_srav_epi32, __m512i, s32, (a, counts32), (int32_t)shift_right(x.s32[i], n32.u32[i]));
    ROW(_mm512_sll_epi32, __m512i, u32, (a, count), (uint32_t)shift_left(x.u32[i], n64.u64[0]));
    ROW(_mm512_srl_epi32, __m512i, u32, (a, count), (uint32_t)shift_right_u(x.u32[i], n64.u64[0]));
    ROW(_mm512_sra_epi32, __m512i, s32, (a, count), (int32_t)shift_right(x.s32[i], n64.u64[0]));
    ROW(_mm512_slli_epi64, __m512i, u64, (a, 1), (uint64_t)shift_left(x.u64[i], 1));
    ROW(_mm512_srli_epi64, __m512i, u64, (a, 1), (uint64_t)shift_right_u(x.u64[i], 1));
    ROW(_mm512_srai_epi64, __m512i, s64, (a, 1), (int64_t)shift_right(x.s64[i], 1));
    ROW(_mm512_slli_epi64, __m512i, u64, (a, 63), (uint64_t)shift_left(x.u64[i], 63));
    ROW(_mm512_srli_epi64, __m512i, u64, (a, 63), (uint64_t)shift_right_u(x.u64[i], 63));
    ROW(_mm512_srai_epi64, __m512i, s64, (a, 63), (int64_t)shift_right(x.s64[i], 63));
    ROW(_mm512_slli_epi64, __m512i, u64, (a, 64), (uint64_t)shift_left(x.u64[i], 64));
    ROW(_mm512_srli_epi64, __m512i, u64, (a, 64), (uint64_t)shift_right_u(x.u64[i], 64));
    ROW(_mm512_srai_epi64, __m512i, s64, (a, 64), (int64_t)shift_right(x.s64[i], 64));
    ROW(_mm512_sllv_epi64, __m512i, u64, (a, counts64), (uint64_t)shift_left(x.u64[i], n64.u64[i]));
    ROW(_mm512_srlv_epi64, __m512i, u64, (a, counts64),
        (uint64_t)shift_right_u(x.u64[i], n64.u64[i]));
    ROW(_mm512_srav_epi64, __m512i, s64, (a, counts64), (int64_t)shift_right(x.s64[i], n64.u64[i]));
    ROW(_mm512_sll_epi64, __m512i, u64, (a, count), (uint64_t)shift_left(x.u64[i], n64.u64[0]));
    ROW(_mm512_srl_epi64, __m512i, u64, (a, count), (uint64_t)shift_right_u(x.u64[i], n64.u64[0]));
    ROW(_mm512_sra_epi64, __m512i, s64, (a, count), (int64_t)shift_right(x.s64[i], n64.u64[0]));
    ROW(_mm512_mask_slli_epi64, __m512i, u64, (c, (__mmask8)k, a, 32),
        bit_of(k, i) ? x.u64[i] << 32 : z.u64[i]);
    ROW(_mm512_mask_srli_epi64, __m512i, u64, (c, (__mmask8)k, a, 32),
        bit_of(k, i) ? x.u64[i] >> 32 : z.u64[i]);
    ROW(_mm512_mask_srai_epi32, __m512i, s32, (c, (__mmask16)k, a, 5),
        bit_of(k, i) ? x.s32[i] >> 5 : z.s32[i]);
    ROW(_mm512_mask_srlv_epi64, __m512i, u64, (c, (__mmask8)k, a, counts64),
        bit_of(k, i) ? shift_right_u(x.u64[i], n64.u64[i]) : z.u64[i]);
    ROW(_mm256_srai_epi64, __m256i, s64, (a256, 7), shift_right(x.s64[i], 7));
    ROW(_mm256_sra_epi64, __m256i, s64, (a256, count), shift_right(x.s64[i], n64.u64[0]));
    ROW(_mm256_srav_epi64, __m256i, s64, (a256, _mm512_castsi512_si256(counts64)),
        shift_right(x.s64[i], n64.u64[i]));
    ROW(_mm512_bslli_epi128, __m512i, u8, (a, 5), i % 16 < 5 ? 0 : x.u8[i - 5]);
    ROW(_mm512_bsrli_epi128, __m512i, u8, (a, 5), i % 16 > 10 ? 0 : x.u8[i + 5]);
    ROW(_mm512_rol_epi32, __m512i, u32, (a, 7), x.u32[i] << 7 | x.u32[i] >> 25);
    ROW(_mm512_ror_epi32, __m512i, u32, (a, 7), x.u32[i] >> 7 | x.u32[i] << 25);
}

static void compare_lanes(void) {
    MASK_ROW(_mm512_cmpeq_epi8_mask, 64, (a, b), x.s8[i] == y.s8[i]);
    MASK_ROW(_mm512_cmpneq_epi8_mask, 64, (a, b), x.s8[i] != y.s8[i]);
    MASK_ROW(_mm512_cmplt_epi8_mask, 64, (a, b), x.s8[i] < y.s8[i]);
    MASK_ROW(_mm512_cmple_epi8_mask, 64, (a, b), x.s8[i] <= y.s8[i]);
    MASK_ROW(_mm512_cmpgt_epi8_mask, 64, (a, b), x.s8[i] > y.s8[i]);
    MASK_ROW(_mm512_cmpge_epi8_mask, 64, (a, b), x.s8[i] >= y.s8[i]);
    MASK_ROW(_mm512_cmp_epi8_mask, 64, (a, b, _MM_CMPINT_LE), x.s8[i] <= y.s8[i]);
    MASK_ROW(_mm512_cmp_epi8_mask, 64, (a, b, _MM_CMPINT_NLT), x.s8[i] >= y.s8[i]);
    MASK_ROW(_mm512_cmpeq_epu8_mask, 64, (a, b), x.u8[i] == y.u8[i]);
    MASK_ROW(_mm512_cmpneq_epu8_mask, 64, (a, b), x.u8[i] != y.u8[i]);
    MASK_ROW(_mm512_cmplt_epu8_mask, 64, (a, b), x.u8[i] < y.u8[i]);
    MASK_ROW(_mm512_cmple_epu8_mask, 64, (a, b), x.u8[i] <= y.u8[i]);
    MASK_ROW(_mm512_cmpgt_epu8_mask, 64, (a, b), x.u8[i] > y.u8[i]);
    MASK_ROW(_mm512_cmpge_epu8_mask, 64, (a, b), x.u8[i] >= y.u8[i]);
    MASK_ROW(_mm512_cmp_epu8_mask, 64, (a, b, _MM_CMPINT_LE), x.u8[i] <= y.u8[i]);
    MASK_ROW(_mm512_cmp_epu8_mask, 64, (a, b, _MM_CMPINT_NLT), x.u8[i] >= y.u8[i]);
    MASK_ROW(_mm512_test_epi8_mask, 64, (a, b), (x.u8[i] & y.u8[i]) != 0);
    MASK_ROW(_mm512_movepi8_mask, 64, (a), x.s8[i] < 0);
    ROW(_mm512_movm_epi8, __m512i, s8, ((__mmask64)k), bit_of(k, i) ? -1 : 0);
    MASK_ROW(_mm512_cmpeq_epi16_mask, 32, (a, b), x.s16[i] == y.s16[i]);
    MASK_ROW(_mm512_cmpneq_epi16_mask, 32, (a, b), x.s16[i] != y.s16[i]);
    MASK_ROW(_mm512_cmplt_epi16_mask, 32, (a, b), x.s16[i] < y.s16[i]);
    MASK_ROW(_mm512_cmple_epi16_mask, 32, (a, b), x.s16[i] <= y.s16[i]);
    MASK_ROW(_mm512_cmpgt_epi16_mask, 32, (a, b), x.s16[i] > y.s16[i]);
    MASK_ROW(_mm512_cmpge_epi16_mask, 32, (a, b), x.s16[i] >= y.s16[i]);
    MASK_ROW(_mm512_cmp_epi16_mask, 32, (a, b, _MM_CMPINT_LE), x.s16[i] <= y.s16[i]);
    MASK_ROW(_mm512_cmp_epi16_mask, 32, (a, b, _MM_CMPINT_NLT), x.s16[i] >= y.s16[i]);
    MASK_ROW(_mm512_cmpeq_epu16_mask, 32, (a, b), x.u16[i] == y.u16[i]);
    MASK_ROW(_mm512_cmpneq_epu16_mask, 32, (a, b), x.u16[i] != y.u16[i]);
    MASK_ROW(_mm512_cmplt_epu16_mask, 32, (a, b), x.u16[i] < y.u16[i]);
    MASK_ROW(_mm512_cmple_epu16_mask, 32, (a, b), x.u16[i] <= y.u16[i]);
    MASK_ROW(_mm512_cmpgt_epu16_mask, 32, (a, b), x.u16[i] > y.u16[i]);
    MASK_ROW(_mm512_cmpge_epu16_mask, 32, (a, b), x.u16[i] >= y.u16[i]);
    MASK_ROW(_mm512_cmp_epu16_mask, 32, (a, b, _MM_CMPINT_LE), x.u16[i] <= y.u16[i]);
    MASK_ROW(_mm512_cmp_epu16_mask, 32, (a, b, _MM_CMPINT_NLT), x.u16[i] >= y.u16[i]);
    MASK_ROW(_mm512_test_epi16_mask, 32, (a, b), (x.u16[i] & y.u16[i]) != 0);
    MASK_ROW(_mm512_movepi16_mask, 32, (a), x.s16[i] < 0);
    ROW(_mm512_movm_epi16, __m512i, s16, ((__mmask32)k), bit_of(k, i) ? -1 : 0);
    MASK_ROW(_mm512_cmpeq_epi32_mask, 16, (a, b), x.s32[i] == y.s32[i]);
    MASK_ROW(_mm512_cmpneq_epi32_mask, 16, (a, b), x.s32[i] != y.s32[i]);
    MASK_ROW(_mm512_cmplt_epi32_mask, 16, (a, b), x.s32[i] < y.s32[i]);
    MASK_ROW(_mm512_cmple_epi32_mask, 16, (a, b), x.s32[i] <= y.s32[i]);
    MASK_ROW(_mm512_cmpgt_epi32_mask, 16, (a, b), x.s32[i] > y.s32[i]);
    MASK_ROW(_mm512_cmpge_epi32_mask, 16, (a, b), x.s32[i] >= y.s32[i]);
    MASK_ROW(_mm512_cmp_epi32_mask, 16, (a, b, _MM_CMPINT_LE), x.s32[i] <= y.s32[i]);
    MASK_ROW(_mm512_cmp_epi32_mask, 16, (a, b, _MM_CMPINT_NLT), x.s32[i] >= y.s32[i]);
    MASK_ROW(_mm512_cmpeq_epu32_mask, 16, (a, b), x.u32[i] == y.u32[i]);
    MASK_ROW(_mm512_cmpneq_epu32_mask, 16, (a, b), x.u32[i] != y.u32[i]);
    MASK_ROW(_mm512_cmplt_epu32_mask, 16, (a, b), x.u32[i] < y.u32[i]);
    MASK_ROW(_mm512_cmple_epu32_mask, 16, (a, b), x.u32[i] <= y.u32[i]);
    MASK_ROW(_mm512_cmpgt_epu32_mask, 16, (a, b), x.u32[i] > y.u32[i]);
    MASK_ROW(_mm512_cmpge_epu32_mask, 16, (a, b), x.u32[i] >= y.u32[i]);
    MASK_ROW(_mm512_cmp_epu32_mask, 16, (a, b, _MM_CMPINT_LE), x.u32[i] <= y.u32[i]);
    MASK_ROW(_mm512_cmp_epu32_mask, 16, (a, b, _MM_CMPINT_NLT), x.u32[i] >= y.u32[i]);
    MASK_ROW(_mm512_test_epi32_mask, 16, (a, b), (x.u32[i] & y.u32[i]) != 0);
    MASK_ROW(_mm512_movepi32_mask, 16, (a), x.s32[i] < 0);
    ROW(_mm512_movm_epi32, __m512i, s32, ((__mmask16)k), bit_of(k, i) ? -1 : 0);
    MASK_ROW(_mm512_cmpeq_epi64_mask, 8, (a, b), x.s64[i] == y.s64[i]);
    MASK_ROW(_mm512_cmpneq_epi64_mask, 8, (a, b), x.s64[i] != y.s64[i]);
    MASK_ROW(_mm512_cmplt_epi64_mask, 8, (a, b), x.s64[i] < y.s64[i]);
    MASK_ROW(_mm512_cmple_epi64_mask, 8, (a, b), x.s64[i] <= y.s64[i]);
    MASK_ROW(_mm512_cmpgt_epi64_mask, 8, (a, b), x.s64[i] > y.s64[i]);
    MASK_ROW(_mm512_cmpge_epi64_mask, 8, (a, b), x.s64[i] >= y.s64[i]);
    MASK_ROW(_mm512_cmp_epi64_mask, 8, (a, b, _MM_CMPINT_LE), x.s64[i] <= y.s64[i]);
    MASK_ROW(_mm512_cmp_epi64_mask, 8, (a, b, _MM_CMPINT_NLT), x.s64[i] >= y.s64[i]);
    MASK_ROW(_mm512_test_epi64_mask, 8, (a, b), (x.u64[i] & y.u64[i]) != 0);
    MASK_ROW(_mm512_movepi64_mask, 8, (a), x.s64[i] < 0);
    ROW(_mm512_movm_epi64, __m512i, s64, ((__mmask8)k), bit_of(k, i) ? -1 : 0);
    MASK_ROW(_mm512_testn_epi8_mask, 64, (a, b), (x.u8[i] & y.u8[i]) == 0);
    MASK_ROW(_mm512_testn_epi32_mask, 16, (a, b), (x.u32[i] & y.u32[i]) == 0);
    MASK_ROW(_mm512_mask_cmpeq_epi32_mask, 16, ((__mmask16)k, a, b),
             bit_of(k, i) && x.u32[i] == y.u32[i]);
    MASK_ROW(_mm512_mask_cmpgt_epi32_mask, 16, ((__mmask16)k, a, b),
             bit_of(k, i) && x.s32[i] > y.s32[i]);
    MASK_ROW(_mm256_cmpeq_epi8_mask, 32, (a256, b256), x.s8[i] == y.s8[i]);
    MASK_ROW(_mm_cmpeq_epi8_mask, 16, (a128, b128), x.s8[i] == y.s8[i]);
    MASK_ROW(_mm256_cmplt_epi8_mask, 32, (a256, b256), x.s8[i] < y.s8[i]);
    MASK_ROW(_mm_cmplt_epi8_mask, 16, (a128, b128), x.s8[i] < y.s8[i]);
    MASK_ROW(_mm256_cmpgt_epi8_mask, 32, (a256, b256), x.s8[i] > y.s8[i]);
    MASK_ROW(_mm_cmpgt_epi8_mask, 16, (a128, b128), x.s8[i] > y.s8[i]);
    MASK_ROW(_mm256_cmpeq_epi16_mask, 16, (a256, b256), x.s16[i] == y.s16[i]);
    MASK_ROW(_mm_cmpeq_epi16_mask, 8, (a128, b128), x.s16[i] == y.s16[i]);
    MASK_ROW(_mm256_cmplt_epi16_mask, 16, (a256, b256), x.s16[i] < y.s16[i]);
    MASK_ROW(_mm_cmplt_epi16_mask, 8, (a128, b128), x.s16[i] < y.s16[i]);
    MASK_ROW(_mm256_cmpgt_epi16_mask, 16, (a256, b256), x.s16[i] > y.s16[i]);
    MASK_ROW(_mm_cmpgt_epi16_mask, 8, (a128, b128), x.s16[i] > y.s16[i]);
    MASK_ROW(_mm256_cmpeq_epi32_mask, 8, (a256, b256), x.s32[i] == y.s32[i]);
    MASK_ROW(_mm_cmpeq_epi32_mask, 4, (a128, b128), x.s32[i] == y.s32[i]);
    MASK_ROW(_mm256_cmplt_epi32_mask, 8, (a256, b256), x.s32[i] < y.s32[i]);
    MASK_ROW(_mm_cmplt_epi32_mask, 4, (a128, b128), x.s32[i] < y.s32[i]);
    MASK_ROW(_mm256_cmpgt_epi32_mask, 8, (a256, b256), x.s32[i] > y.s32[i]);
    MASK_ROW(_mm_cmpgt_epi32_mask, 4, (a128, b128), x.s32[i] > y.s32[i]);
    MASK_ROW(_mm256_cmp_epi8_mask, 32, (a256, b256, _MM_CMPINT_NE), x.s8[i] != y.s8[i]);
    MASK_ROW(_mm256_cmp_epi16_mask, 16, (a256, b256, _MM_CMPINT_LE), x.s16[i] <= y.s16[i]);
    MASK_ROW(_mm256_cmp_epi32_mask, 8, (a256, b256, _MM_CMPINT_NLT), x.s32[i] >= y.s32[i]);
    MASK_ROW(_mm_cmp_epi8_mask, 16, (a128, b128, _MM_CMPINT_NE), x.s8[i] != y.s8[i]);
    MASK_ROW(_mm_cmp_epi16_mask, 8, (a128, b128, _MM_CMPINT_LE), x.s16[i] <= y.s16[i]);
    MASK_ROW(_mm_cmp_epi32_mask, 4, (a128, b128, _MM_CMPINT_NLT), x.s32[i] >= y.s32[i]);
    MASK_ROW(_mm_test_epi8_mask, 16, (a128, b128), (x.u8[i] & y.u8[i]) != 0);
}

static void reduce(void) {
    ROW(_mm512_reduce_add_epi32, int32_t, s32, (_mm512_srai_epi32(a, 4)), sum_s32(ALL));
    ROW(_mm512_reduce_max_epi32, int32_t, s32, (a), max_s32(ALL));
    ROW(_mm512_reduce_min_epi32, int32_t, s32, (a), min_s32(ALL));
    ROW(_mm512_reduce_add_epi64, int64_t, s64, (_mm512_srai_epi64(a, 3)), sum_s64(ALL));
    ROW(_mm512_reduce_max_epi64, int64_t, s64, (a), max_s64(ALL));
    ROW(_mm512_reduce_min_epi64, int64_t, s64, (a), min_s64(ALL));
    ROW(_mm512_reduce_max_epu32, uint32_t, u32, (a), max_u32(ALL));
    ROW(_mm512_reduce_min_epu32, uint32_t, u32, (a), min_u32(ALL));
    ROW(_mm512_reduce_or_epi32, int32_t, u32, (a), or_u32(ALL));
    ROW(_mm512_reduce_and_epi32, int32_t, u32, (a), and_u32(ALL));
    ROW(_mm512_mask_reduce_add_epi32, int32_t, s32, ((__mmask16)k, _mm512_srai_epi32(a, 4)),
        sum_s32(k));
    ROW(_mm512_mask_reduce_max_epi32, int32_t, s32, ((__mmask16)k, a), max_s32(k));
    ROW(_mm512_mask_reduce_min_epi32, int32_t, s32, ((__mmask16)k, a), min_s32(k));
}

static void rows(void) {
    add_subtract();
    multiply();
    least_and_greatest();
    logic();
    shift();
    compare_lanes();
    reduce();
}

int main(void) {
    return simd_run("test_simd_arithmetic_avx512", PQ_CPU_AVX512, load, rows);
}
