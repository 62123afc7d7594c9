/* Loads, stores, halves, permutations, tables and narrowing of NEON. */
#include "simd_rows_neon.h"

static lanes at; /* indices, a fifth of them beyond every table */

#define TABLES(name, quad, two, four) \
    static inline two two_##name(void) { \
        return (two){{q_##name(&x), q_##name(&y)}}; \
    } \
    static inline four four_##name(void) { \
        return (four){{q_##name(&x), q_##name(&y), q_##name(&z), q_##name(&at)}}; \
    }

TABLES(u8, uint8x16_t, uint8x16x2_t, uint8x16x4_t)
TABLES(s8, int8x16_t, int8x16x2_t, int8x16x4_t)

static const lanes *of_four(int index) {
    const lanes *const parts[] = {&x, &y, &z, &at};
    return parts[index / 16];
}

static void load(void) {
    for (int i = 0; i < 64; i++) {
        at.u8[i] = (uint8_t)check_random_in(&seed, 0, 79);
    }
}

static void load_and_store(void) {
    ROW(vld1q_s8, int8x16_t, s8, (x.s8), x.s8[i]);
    ROW(vld1_s8, int8x8_t, s8, (x.s8), x.s8[i]);
    STORE_ROW(vst1q_s8, s8, 16, (memory[0].s8, q_s8(&x)), x.s8[i]);
    STORE_ROW(vst1_s8, s8, 8, (memory[0].s8, d_s8(&x)), x.s8[i]);
    ROW(vdupq_n_s8, int8x16_t, s8, (x.s8[0]), x.s8[0 * i]);
    ROW(vdup_n_s8, int8x8_t, s8, (x.s8[0]), x.s8[0 * i]);
    ROW(vld1q_u8, uint8x16_t, u8, (x.u8), x.u8[i]);
    ROW(vld1_u8, uint8x8_t, u8, (x.u8), x.u8[i]);
    STORE_ROW(vst1q_u8, u8, 16, (memory[0].u8, q_u8(&x)), x.u8[i]);
    STORE_ROW(vst1_u8, u8, 8, (memory[0].u8, d_u8(&x)), x.u8[i]);
    ROW(vdupq_n_u8, uint8x16_t, u8, (x.u8[0]), x.u8[0 * i]);
    ROW(vdup_n_u8, uint8x8_t, u8, (x.u8[0]), x.u8[0 * i]);
    ROW(vld1q_s16, int16x8_t, s16, (x.s16), x.s16[i]);
    ROW(vld1_s16, int16x4_t, s16, (x.s16), x.s16[i]);
    STORE_ROW(vst1q_s16, s16, 8, (memory[0].s16, q_s16(&x)), x.s16[i]);
    STORE_ROW(vst1_s16, s16, 4, (memory[0].s16, d_s16(&x)), x.s16[i]);
    ROW(vdupq_n_s16, int16x8_t, s16, (x.s16[0]), x.s16[0 * i]);
    ROW(vdup_n_s16, int16x4_t, s16, (x.s16[0]), x.s16[0 * i]);
    ROW(vld1q_u16, uint16x8_t, u16, (x.u16), x.u16[i]);
    ROW(vld1_u16, uint16x4_t, u16, (x.u16), x.u16[i]);
    STORE_ROW(vst1q_u16, u16, 8, (memory[0].u16, q_u16(&x)), x.u16[i]);
    STORE_ROW(vst1_u16, u16, 4, (memory[0].u16, d_u16(&x)), x.u16[i]);
    ROW(vdupq_n_u16, uint16x8_t, u16, (x.u16[0]), x.u16[0 * i]);
    ROW(vdup_n_u16, uint16x4_t, u16, (x.u16[0]), x.u16[0 * i]);
    ROW(vld1q_s32, int32x4_t, s32, (x.s32), x.s32[i]);
    ROW(vld1_s32, int32x2_t, s32, (x.s32), x.s32[i]);
    STORE_ROW(vst1q_s32, s32, 4, (memory[0].s32, q_s32(&x)), x.s32[i]);
    STORE_ROW(vst1_s32, s32, 2, (memory[0].s32, d_s32(&x)), x.s32[i]);
    ROW(vdupq_n_s32, int32x4_t, s32, (x.s32[0]), x.s32[0 * i]);
    ROW(vdup_n_s32, int32x2_t, s32, (x.s32[0]), x.s32[0 * i]);
    ROW(vld1q_u32, uint32x4_t, u32, (x.u32), x.u32[i]);
    ROW(vld1_u32, uint32x2_t, u32, (x.u32), x.u32[i]);
    STORE_ROW(vst1q_u32, u32, 4, (memory[0].u32, q_u32(&x)), x.u32[i]);
    STORE_ROW(vst1_u32, u32, 2, (memory[0].u32, d_u32(&x)), x.u32[i]);
    ROW(vdupq_n_u32, uint32x4_t, u32, (x.u32[0]), x.u32[0 * i]);
    ROW(vdup_n_u32, uint32x2_t, u32, (x.u32[0]), x.u32[0 * i]);
    ROW(vld1q_s64, int64x2_t, s64, (x.s64), x.s64[i]);
    ROW(vld1_s64, int64x1_t, s64, (x.s64), x.s64[i]);
    STORE_ROW(vst1q_s64, s64, 2, (memory[0].s64, q_s64(&x)), x.s64[i]);
    STORE_ROW(vst1_s64, s64, 1, (memory[0].s64, d_s64(&x)), x.s64[i]);
    ROW(vdupq_n_s64, int64x2_t, s64, (x.s64[0]), x.s64[0 * i]);
    ROW(vdup_n_s64, int64x1_t, s64, (x.s64[0]), x.s64[0 * i]);
    ROW(vld1q_u64, uint64x2_t, u64, (x.u64), x.u64[i]);
    ROW(vld1_u64, uint64x1_t, u64, (x.u64), x.u64[i]);
    STORE_ROW(vst1q_u64, u64, 2, (memory[0].u64, q_u64(&x)), x.u64[i]);
    STORE_ROW(vst1_u64, u64, 1, (memory[0].u64, d_u64(&x)), x.u64[i]);
    ROW(vdupq_n_u64, uint64x2_t, u64, (x.u64[0]), x.u64[0 * i]);
    ROW(vdup_n_u64, uint64x1_t, u64, (x.u64[0]), x.u64[0 * i]);
    ROW(vld1q_f32, float32x4_t, u32, (x.f32), x.u32[i]);
    ROW(vld1_f32, float32x2_t, u32, (x.f32), x.u32[i]);
    STORE_ROW(vst1q_f32, u32, 4, (memory[0].f32, q_f32(&x)), x.u32[i]);
    STORE_ROW(vst1_f32, u32, 2, (memory[0].f32, d_f32(&x)), x.u32[i]);
    ROW(vdupq_n_f32, float32x4_t, u32, (fx.f32[0]), fx.u32[0 * i]);
    ROW(vld2q_u8, uint8x16x2_t, u8, (x.u8), x.u8[i % 16 * 2 + i / 16]);
    ROW(vld2q_s8, int8x16x2_t, s8, (x.s8), x.s8[i % 16 * 2 + i / 16]);
    ROW(vld2q_s16, int16x8x2_t, s16, (x.s16), x.s16[i % 8 * 2 + i / 8]);
    STORE_ROW(vst2q_u8, u8, 32, (memory[0].u8, two_u8()), (i % 2 == 0 ? x : y).u8[i / 2]);
    STORE_ROW(vst4q_u8, u8, 64, (memory[0].u8, four_u8()),
              (i % 4 == 0   ? x
               : i % 4 == 1 ? y
               : i % 4 == 2 ? z
                            : at)
                  .u8[i / 4]);
    STORE_ROW(vst2q_s8, s8, 32, (memory[0].s8, two_s8()), (i % 2 == 0 ? x : y).s8[i / 2]);
    STORE_ROW(vst4q_s8, s8, 64, (memory[0].s8, four_s8()),
              (i % 4 == 0   ? x
               : i % 4 == 1 ? y
               : i % 4 == 2 ? z
                            : at)
                  .s8[i / 4]);
}

static void halves_and_types(void) {
    ROW(vget_low_s8, int8x8_t, s8, (q_s8(&x)), x.s8[i]);
    ROW(vget_high_s8, int8x8_t, s8, (q_s8(&x)), x.s8[i + 8]);
    ROW(vcombine_s8, int8x16_t, s8, (d_s8(&x), d_s8(&y)), i < 8 ? x.s8[i] : y.s8[i - 8]);
    ROW(vgetq_lane_s8, int8_t, s8, (q_s8(&x), 15), x.s8[15]);
    ROW(vget_low_u8, uint8x8_t, u8, (q_u8(&x)), x.u8[i]);
    ROW(vget_high_u8, uint8x8_t, u8, (q_u8(&x)), x.u8[i + 8]);
    ROW(vcombine_u8, uint8x16_t, u8, (d_u8(&x), d_u8(&y)), i < 8 ? x.u8[i] : y.u8[i - 8]);
    ROW(vgetq_lane_u8, uint8_t, u8, (q_u8(&x), 15), x.u8[15]);
    ROW(vget_low_s16, int16x4_t, s16, (q_s16(&x)), x.s16[i]);
    ROW(vget_high_s16, int16x4_t, s16, (q_s16(&x)), x.s16[i + 4]);
    ROW(vcombine_s16, int16x8_t, s16, (d_s16(&x), d_s16(&y)), i < 4 ? x.s16[i] : y.s16[i - 4]);
    ROW(vgetq_lane_s16, int16_t, s16, (q_s16(&x), 7), x.s16[7]);
    ROW(vget_low_u16, uint16x4_t, u16, (q_u16(&x)), x.u16[i]);
    ROW(vget_high_u16, uint16x4_t, u16, (q_u16(&x)), x.u16[i + 4]);
    ROW(vcombine_u16, uint16x8_t, u16, (d_u16(&x), d_u16(&y)), i < 4 ? x.u16[i] : y.u16[i - 4]);
    ROW(vgetq_lane_u16, uint16_t, u16, (q_u16(&x), 7), x.u16[7]);
    ROW(vget_low_s32, int32x2_t, s32, (q_s32(&x)), x.s32[i]);
    ROW(vget_high_s32, int32x2_t, s32, (q_s32(&x)), x.s32[i + 2]);
    ROW(vcombine_s32, int32x4_t, s32, (d_s32(&x), d_s32(&y)), i < 2 ? x.s32[i] : y.s32[i - 2]);
    ROW(vgetq_lane_s32, int32_t, s32, (q_s32(&x), 3), x.s32[3]);
    ROW(vget_low_u32, uint32x2_t, u32, (q_u32(&x)), x.u32[i]);
    ROW(vget_high_u32, uint32x2_t, u32, (q_u32(&x)), x.u32[i + 2]);
    ROW(vcombine_u32, uint32x4_t, u32, (d_u32(&x), d_u32(&y)), i < 2 ? x.u32[i] : y.u32[i - 2]);
    ROW(vgetq_lane_u32, uint32_t, u32, (q_u32(&x), 3), x.u32[3]);
    ROW(vget_low_s64, int64x1_t, s64, (q_s64(&x)), x.s64[i]);
    ROW(vget_high_s64, int64x1_t, s64, (q_s64(&x)), x.s64[i + 1]);
    ROW(vcombine_s64, int64x2_t, s64, (d_s64(&x), d_s64(&y)), (i == 0 ? x : y).s64[0]);
    ROW(vgetq_lane_s64, int64_t, s64, (q_s64(&x), 1), x.s64[1]);
    ROW(vget_low_u64, uint64x1_t, u64, (q_u64(&x)), x.u64[i]);
    ROW(vget_high_u64, uint64x1_t, u64, (q_u64(&x)), x.u64[i + 1]);
    ROW(vcombine_u64, uint64x2_t, u64, (d_u64(&x), d_u64(&y)), (i == 0 ? x : y).u64[0]);
    ROW(vgetq_lane_u64, uint64_t, u64, (q_u64(&x), 1), x.u64[1]);
    ROW(vreinterpretq_s8_u8, int8x16_t, u64, (q_u8(&x)), x.u64[i]);
    ROW(vreinterpretq_u8_s8, uint8x16_t, u64, (q_s8(&x)), x.u64[i]);
    ROW(vreinterpretq_u8_u16, uint8x16_t, u64, (q_u16(&x)), x.u64[i]);
    ROW(vreinterpretq_u16_u8, uint16x8_t, u64, (q_u8(&x)), x.u64[i]);
    ROW(vreinterpretq_s16_u16, int16x8_t, u64, (q_u16(&x)), x.u64[i]);
    ROW(vreinterpretq_u16_s16, uint16x8_t, u64, (q_s16(&x)), x.u64[i]);
    ROW(vreinterpretq_s32_u32, int32x4_t, u64, (q_u32(&x)), x.u64[i]);
    ROW(vreinterpretq_u32_s32, uint32x4_t, u64, (q_s32(&x)), x.u64[i]);
    ROW(vreinterpretq_s32_s8, int32x4_t, u64, (q_s8(&x)), x.u64[i]);
    ROW(vreinterpretq_s8_s32, int8x16_t, u64, (q_s32(&x)), x.u64[i]);
    ROW(vreinterpretq_u32_u8, uint32x4_t, u64, (q_u8(&x)), x.u64[i]);
    ROW(vreinterpretq_u8_u32, uint8x16_t, u64, (q_u32(&x)), x.u64[i]);
    ROW(vreinterpretq_s64_s32, int64x2_t, u64, (q_s32(&x)), x.u64[i]);
    ROW(vreinterpretq_s32_s64, int32x4_t, u64, (q_s64(&x)), x.u64[i]);
    ROW(vreinterpretq_s8_s64, int8x16_t, u64, (q_s64(&x)), x.u64[i]);
    ROW(vreinterpretq_s64_s8, int64x2_t, u64, (q_s8(&x)), x.u64[i]);
    ROW(vreinterpretq_s16_s8, int16x8_t, u64, (q_s8(&x)), x.u64[i]);
    ROW(vreinterpretq_s8_s16, int8x16_t, u64, (q_s16(&x)), x.u64[i]);
    ROW(vreinterpretq_s16_s32, int16x8_t, u64, (q_s32(&x)), x.u64[i]);
    ROW(vreinterpretq_s32_s16, int32x4_t, u64, (q_s16(&x)), x.u64[i]);
    ROW(vreinterpretq_u64_u8, uint64x2_t, u64, (q_u8(&x)), x.u64[i]);
    ROW(vreinterpretq_u8_u64, uint8x16_t, u64, (q_u64(&x)), x.u64[i]);
    ROW(vreinterpretq_u32_f32, uint32x4_t, u64, (q_f32(&fx)), fx.u64[i]);
    ROW(vreinterpretq_f32_u32, float32x4_t, u64, (q_u32(&x)), x.u64[i]);
    ROW(vreinterpretq_s32_f32, int32x4_t, u64, (q_f32(&fx)), fx.u64[i]);
    ROW(vreinterpretq_f32_s32, float32x4_t, u64, (q_s32(&x)), x.u64[i]);
}

static void permute(void) {
    ROW(vzip1q_s8, int8x16_t, s8, (q_s8(&x), q_s8(&y)), (i % 2 == 0 ? x : y).s8[i / 2]);
    ROW(vzip2q_s8, int8x16_t, s8, (q_s8(&x), q_s8(&y)), (i % 2 == 0 ? x : y).s8[i / 2 + 8]);
    ROW(vuzp1q_s8, int8x16_t, s8, (q_s8(&x), q_s8(&y)), (i < 8 ? x : y).s8[i % 8 * 2]);
    ROW(vuzp2q_s8, int8x16_t, s8, (q_s8(&x), q_s8(&y)), (i < 8 ? x : y).s8[i % 8 * 2 + 1]);
    ROW(vtrn1q_s8, int8x16_t, s8, (q_s8(&x), q_s8(&y)), (i % 2 == 0 ? x : y).s8[i / 2 * 2]);
    ROW(vtrn2q_s8, int8x16_t, s8, (q_s8(&x), q_s8(&y)), (i % 2 == 0 ? x : y).s8[i / 2 * 2 + 1]);
    ROW(vextq_s8, int8x16_t, s8, (q_s8(&x), q_s8(&y), 1), i < 15 ? x.s8[i + 1] : y.s8[i - 15]);
    ROW(vzip1q_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), (i % 2 == 0 ? x : y).u8[i / 2]);
    ROW(vzip2q_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), (i % 2 == 0 ? x : y).u8[i / 2 + 8]);
    ROW(vuzp1q_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), (i < 8 ? x : y).u8[i % 8 * 2]);
    ROW(vuzp2q_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), (i < 8 ? x : y).u8[i % 8 * 2 + 1]);
    ROW(vtrn1q_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), (i % 2 == 0 ? x : y).u8[i / 2 * 2]);
    ROW(vtrn2q_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), (i % 2 == 0 ? x : y).u8[i / 2 * 2 + 1]);
    ROW(vextq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y), 1), i < 15 ? x.u8[i + 1] : y.u8[i - 15]);
    ROW(vzip1q_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)), (i % 2 == 0 ? x : y).s16[i / 2]);
    ROW(vzip2q_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)), (i % 2 == 0 ? x : y).s16[i / 2 + 4]);
    ROW(vuzp1q_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)), (i < 4 ? x : y).s16[i % 4 * 2]);
    ROW(vuzp2q_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)), (i < 4 ? x : y).s16[i % 4 * 2 + 1]);
    ROW(vtrn1q_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)), (i % 2 == 0 ? x : y).s16[i / 2 * 2]);
    ROW(vtrn2q_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)),
        (i % 2 == 0 ? x : y).s16[i / 2 * 2 + 1]);
    ROW(vextq_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y), 1), i < 7 ? x.s16[i + 1] : y.s16[i - 7]);
    ROW(vzip1q_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), (i % 2 == 0 ? x : y).u16[i / 2]);
    ROW(vzip2q_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), (i % 2 == 0 ? x : y).u16[i / 2 + 4]);
    ROW(vuzp1q_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), (i < 4 ? x : y).u16[i % 4 * 2]);
    ROW(vuzp2q_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), (i < 4 ? x : y).u16[i % 4 * 2 + 1]);
    ROW(vtrn1q_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), (i % 2 == 0 ? x : y).u16[i / 2 * 2]);
    ROW(vtrn2q_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)),
        (i % 2 == 0 ? x : y).u16[i / 2 * 2 + 1]);
    ROW(vextq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y), 1), i < 7 ? x.u16[i + 1] : y.u16[i - 7]);
    ROW(vzip1q_s32, int32x4_t, s32, (q_s32(&x), q_s32(&y)), (i % 2 == 0 ? x : y).s32[i / 2]);
    ROW(vzip2q_s32, int32x4_t, s32, (q_s32(&x), q_s32(&y)), (i % 2 == 0 ? x : y).s32[i / 2 + 2]);
    ROW(vuzp1q_s32, int32x4_t, s32, (q_s32(&x), q_s32(&y)), (i < 2 ? x : y).s32[i % 2 * 2]);
    ROW(vuzp2q_s32, int32x4_t, s32, (q_s32(&x), q_s32(&y)), (i < 2 ? x : y).s32[i % 2 * 2 + 1]);
    ROW(vtrn1q_s32, int32x4_t, s32, (q_s32(&x), q_s32(&y)), (i % 2 == 0 ? x : y).s32[i / 2 * 2]);
    ROW(vtrn2q_s32, int32x4_t, s32, (q_s32(&x), q_s32(&y)),
        (i % 2 == 0 ? x : y).s32[i / 2 * 2 + 1]);
    ROW(vextq_s32, int32x4_t, s32, (q_s32(&x), q_s32(&y), 1), i < 3 ? x.s32[i + 1] : y.s32[i - 3]);
    ROW(vzip1q_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), (i % 2 == 0 ? x : y).u32[i / 2]);
    ROW(vzip2q_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), (i % 2 == 0 ? x : y).u32[i / 2 + 2]);
    ROW(vuzp1q_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), (i < 2 ? x : y).u32[i % 2 * 2]);
    ROW(vuzp2q_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), (i < 2 ? x : y).u32[i % 2 * 2 + 1]);
    ROW(vtrn1q_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), (i % 2 == 0 ? x : y).u32[i / 2 * 2]);
    ROW(vtrn2q_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)),
        (i % 2 == 0 ? x : y).u32[i / 2 * 2 + 1]);
    ROW(vextq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y), 1), i < 3 ? x.u32[i + 1] : y.u32[i - 3]);
    ROW(vzip1q_s64, int64x2_t, s64, (q_s64(&x), q_s64(&y)), (i % 2 == 0 ? x : y).s64[i / 2]);
    ROW(vzip2q_s64, int64x2_t, s64, (q_s64(&x), q_s64(&y)), (i % 2 == 0 ? x : y).s64[i / 2 + 1]);
    ROW(vuzp1q_s64, int64x2_t, s64, (q_s64(&x), q_s64(&y)), (i < 1 ? x : y).s64[i % 1 * 2]);
    ROW(vuzp2q_s64, int64x2_t, s64, (q_s64(&x), q_s64(&y)), (i < 1 ? x : y).s64[i % 1 * 2 + 1]);
    ROW(vtrn1q_s64, int64x2_t, s64, (q_s64(&x), q_s64(&y)), (i % 2 == 0 ? x : y).s64[i / 2 * 2]);
    ROW(vtrn2q_s64, int64x2_t, s64, (q_s64(&x), q_s64(&y)),
        (i % 2 == 0 ? x : y).s64[i / 2 * 2 + 1]);
    ROW(vextq_s64, int64x2_t, s64, (q_s64(&x), q_s64(&y), 1), i == 0 ? x.s64[1] : y.s64[0]);
    ROW(vzip1q_u64, uint64x2_t, u64, (q_u64(&x), q_u64(&y)), (i % 2 == 0 ? x : y).u64[i / 2]);
    ROW(vzip2q_u64, uint64x2_t, u64, (q_u64(&x), q_u64(&y)), (i % 2 == 0 ? x : y).u64[i / 2 + 1]);
    ROW(vuzp1q_u64, uint64x2_t, u64, (q_u64(&x), q_u64(&y)), (i < 1 ? x : y).u64[i % 1 * 2]);
    ROW(vuzp2q_u64, uint64x2_t, u64, (q_u64(&x), q_u64(&y)), (i < 1 ? x : y).u64[i % 1 * 2 + 1]);
    ROW(vtrn1q_u64, uint64x2_t, u64, (q_u64(&x), q_u64(&y)), (i % 2 == 0 ? x : y).u64[i / 2 * 2]);
    ROW(vtrn2q_u64, uint64x2_t, u64, (q_u64(&x), q_u64(&y)),
        (i % 2 == 0 ? x : y).u64[i / 2 * 2 + 1]);
    ROW(vextq_u64, uint64x2_t, u64, (q_u64(&x), q_u64(&y), 1), i == 0 ? x.u64[1] : y.u64[0]);
    ROW(vqtbl1q_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&at)), at.u8[i] < 16 ? x.u8[at.u8[i]] : 0);
    ROW(vqtbl2q_u8, uint8x16_t, u8, (two_u8(), q_u8(&at)),
        at.u8[i] < 32 ? (at.u8[i] < 16 ? x : y).u8[at.u8[i] % 16] : 0);
    ROW(vqtbl4q_u8, uint8x16_t, u8, (four_u8(), q_u8(&at)),
        at.u8[i] < 64 ? of_four(at.u8[i])->u8[at.u8[i] % 16] : 0);
    ROW(vqtbx4q_u8, uint8x16_t, u8, (q_u8(&memory[0]), four_u8(), q_u8(&at)),
        at.u8[i] < 64 ? of_four(at.u8[i])->u8[at.u8[i] % 16] : before[0].u8[i]);
    ROW(vqtbl1q_s8, int8x16_t, s8, (q_s8(&x), q_u8(&at)), at.u8[i] < 16 ? x.s8[at.u8[i]] : 0);
    ROW(vqtbl2q_s8, int8x16_t, s8, (two_s8(), q_u8(&at)),
        at.u8[i] < 32 ? (at.u8[i] < 16 ? x : y).s8[at.u8[i] % 16] : 0);
    ROW(vqtbl4q_s8, int8x16_t, s8, (four_s8(), q_u8(&at)),
        at.u8[i] < 64 ? of_four(at.u8[i])->s8[at.u8[i] % 16] : 0);
    ROW(vqtbx4q_s8, int8x16_t, s8, (q_s8(&memory[0]), four_s8(), q_u8(&at)),
        at.u8[i] < 64 ? of_four(at.u8[i])->s8[at.u8[i] % 16] : before[0].s8[i]);
}

static void narrow(void) {
    ROW(vmovn_s16, int8x8_t, u8, (q_s16(&x)), (uint8_t)x.u16[i]);
    ROW(vmovn_high_s16, int8x16_t, u8, (d_s8(&y), q_s16(&x)),
        i < 8 ? y.u8[i] : (uint8_t)x.u16[i - 8]);
    ROW(vqmovn_s16, int8x8_t, s8, (q_s16(&x)), (int8_t)saturate(x.s16[i], INT8_MIN, INT8_MAX));
    ROW(vqmovn_high_s16, int8x16_t, s8, (d_s8(&y), q_s16(&x)),
        i < 8 ? y.s8[i] : (int8_t)saturate(x.s16[i - 8], INT8_MIN, INT8_MAX));
    ROW(vmovn_u16, uint8x8_t, u8, (q_u16(&x)), (uint8_t)x.u16[i]);
    ROW(vmovn_high_u16, uint8x16_t, u8, (d_u8(&y), q_u16(&x)),
        i < 8 ? y.u8[i] : (uint8_t)x.u16[i - 8]);
    ROW(vqmovn_u16, uint8x8_t, u8, (q_u16(&x)), (uint8_t)saturate(x.u16[i], 0, UINT8_MAX));
    ROW(vqmovn_high_u16, uint8x16_t, u8, (d_u8(&y), q_u16(&x)),
        i < 8 ? y.u8[i] : (uint8_t)saturate(x.u16[i - 8], 0, UINT8_MAX));
    ROW(vmovn_s32, int16x4_t, u16, (q_s32(&x)), (uint16_t)x.u32[i]);
    ROW(vmovn_high_s32, int16x8_t, u16, (d_s16(&y), q_s32(&x)),
        i < 4 ? y.u16[i] : (uint16_t)x.u32[i - 4]);
    ROW(vqmovn_s32, int16x4_t, s16, (q_s32(&x)), (int16_t)saturate(x.s32[i], INT16_MIN, INT16_MAX));
    ROW(vqmovn_high_s32, int16x8_t, s16, (d_s16(&y), q_s32(&x)),
        i < 4 ? y.s16[i] : (int16_t)saturate(x.s32[i - 4], INT16_MIN, INT16_MAX));
    ROW(vmovn_u32, uint16x4_t, u16, (q_u32(&x)), (uint16_t)x.u32[i]);
    ROW(vmovn_high_u32, uint16x8_t, u16, (d_u16(&y), q_u32(&x)),
        i < 4 ? y.u16[i] : (uint16_t)x.u32[i - 4]);
    ROW(vqmovn_u32, uint16x4_t, u16, (q_u32(&x)), (uint16_t)saturate(x.u32[i], 0, UINT16_MAX));
    ROW(vqmovn_high_u32, uint16x8_t, u16, (d_u16(&y), q_u32(&x)),
        i < 4 ? y.u16[i] : (uint16_t)saturate(x.u32[i - 4], 0, UINT16_MAX));
    ROW(vmovn_s64, int32x2_t, u32, (q_s64(&x)), (uint32_t)x.u64[i]);
    ROW(vmovn_high_s64, int32x4_t, u32, (d_s32(&y), q_s64(&x)),
        i < 2 ? y.u32[i] : (uint32_t)x.u64[i - 2]);
    ROW(vqmovn_s64, int32x2_t, s32, (q_s64(&x)), (int32_t)saturate(x.s64[i], INT32_MIN, INT32_MAX));
    ROW(vqmovn_high_s64, int32x4_t, s32, (d_s32(&y), q_s64(&x)),
        i < 2 ? y.s32[i] : (int32_t)saturate(x.s64[i - 2], INT32_MIN, INT32_MAX));
    ROW(vmovn_u64, uint32x2_t, u32, (q_u64(&x)), (uint32_t)x.u64[i]);
    ROW(vmovn_high_u64, uint32x4_t, u32, (d_u32(&y), q_u64(&x)),
        i < 2 ? y.u32[i] : (uint32_t)x.u64[i - 2]);
    ROW(vqmovn_u64, uint32x2_t, u32, (q_u64(&x)),
        x.u64[i] > UINT32_MAX ? UINT32_MAX : (uint32_t)x.u64[i]);
    ROW(vqmovun_s16, uint8x8_t, u8, (q_s16(&x)), (uint8_t)saturate(x.s16[i], 0, UINT8_MAX));
    ROW(vqmovun_s32, uint16x4_t, u16, (q_s32(&x)), (uint16_t)saturate(x.s32[i], 0, UINT16_MAX));
}

static void rows(void) {
    load_and_store();
    halves_and_types();
    permute();
    narrow();
}

int main(void) {
    return simd_run("test_simd_moves_neon", PQ_CPU_NEON, load, rows);
}
