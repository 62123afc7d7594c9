/* Integer arithmetic of NEON, of one width and widening. */
#include "simd_rows_neon.h"

static void load(void) {}

static void arithmetic(void) {
    ROW(vaddq_s8, int8x16_t, u8, (q_s8(&x), q_s8(&y)), (uint8_t)(x.u8[i] + y.u8[i]));
    ROW(vsubq_s8, int8x16_t, u8, (q_s8(&x), q_s8(&y)), (uint8_t)(x.u8[i] - y.u8[i]));
    ROW(vaddq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), (uint8_t)(x.u8[i] + y.u8[i]));
    ROW(vsubq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), (uint8_t)(x.u8[i] - y.u8[i]));
    ROW(vaddq_s16, int16x8_t, u16, (q_s16(&x), q_s16(&y)), (uint16_t)(x.u16[i] + y.u16[i]));
    ROW(vsubq_s16, int16x8_t, u16, (q_s16(&x), q_s16(&y)), (uint16_t)(x.u16[i] - y.u16[i]));
    ROW(vaddq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), (uint16_t)(x.u16[i] + y.u16[i]));
    ROW(vsubq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), (uint16_t)(x.u16[i] - y.u16[i]));
    ROW(vaddq_s32, int32x4_t, u32, (q_s32(&x), q_s32(&y)), (uint32_t)(x.u32[i] + y.u32[i]));
    ROW(vsubq_s32, int32x4_t, u32, (q_s32(&x), q_s32(&y)), (uint32_t)(x.u32[i] - y.u32[i]));
    ROW(vaddq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), (uint32_t)(x.u32[i] + y.u32[i]));
    ROW(vsubq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), (uint32_t)(x.u32[i] - y.u32[i]));
    ROW(vaddq_s64, int64x2_t, u64, (q_s64(&x), q_s64(&y)), (uint64_t)(x.u64[i] + y.u64[i]));
    ROW(vsubq_s64, int64x2_t, u64, (q_s64(&x), q_s64(&y)), (uint64_t)(x.u64[i] - y.u64[i]));
    ROW(vaddq_u64, uint64x2_t, u64, (q_u64(&x), q_u64(&y)), (uint64_t)(x.u64[i] + y.u64[i]));
    ROW(vsubq_u64, uint64x2_t, u64, (q_u64(&x), q_u64(&y)), (uint64_t)(x.u64[i] - y.u64[i]));
    ROW(vqaddq_s8, int8x16_t, s8, (q_s8(&x), q_s8(&y)),
        (int8_t)saturate(x.s8[i] + y.s8[i], INT8_MIN, INT8_MAX));
    ROW(vqsubq_s8, int8x16_t, s8, (q_s8(&x), q_s8(&y)),
        (int8_t)saturate(x.s8[i] - y.s8[i], INT8_MIN, INT8_MAX));
    ROW(vminq_s8, int8x16_t, s8, (q_s8(&x), q_s8(&y)), x.s8[i] < y.s8[i] ? x.s8[i] : y.s8[i]);
    ROW(vmaxq_s8, int8x16_t, s8, (q_s8(&x), q_s8(&y)), x.s8[i] > y.s8[i] ? x.s8[i] : y.s8[i]);
    ROW(vqaddq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)),
        (uint8_t)saturate(x.u8[i] + y.u8[i], 0, UINT8_MAX));
    ROW(vqsubq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)),
        (uint8_t)saturate(x.u8[i] - y.u8[i], 0, UINT8_MAX));
    ROW(vminq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), x.u8[i] < y.u8[i] ? x.u8[i] : y.u8[i]);
    ROW(vmaxq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), x.u8[i] > y.u8[i] ? x.u8[i] : y.u8[i]);
    ROW(vqaddq_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)),
        (int16_t)saturate(x.s16[i] + y.s16[i], INT16_MIN, INT16_MAX));
    ROW(vqsubq_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)),
        (int16_t)saturate(x.s16[i] - y.s16[i], INT16_MIN, INT16_MAX));
    ROW(vminq_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)),
        x.s16[i] < y.s16[i] ? x.s16[i] : y.s16[i]);
    ROW(vmaxq_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)),
        x.s16[i] > y.s16[i] ? x.s16[i] : y.s16[i]);
    ROW(vqaddq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)),
        (uint16_t)saturate(x.u16[i] + y.u16[i], 0, UINT16_MAX));
    ROW(vqsubq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)),
        (uint16_t)saturate(x.u16[i] - y.u16[i], 0, UINT16_MAX));
    ROW(vminq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)),
        x.u16[i] < y.u16[i] ? x.u16[i] : y.u16[i]);
    ROW(vmaxq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)),
        x.u16[i] > y.u16[i] ? x.u16[i] : y.u16[i]);
    ROW(vqaddq_s32, int32x4_t, s32, (q_s32(&x), q_s32(&y)),
        (int32_t)saturate((int64_t)x.s32[i] + y.s32[i], INT32_MIN, INT32_MAX));
    ROW(vqsubq_s32, int32x4_t, s32, (q_s32(&x), q_s32(&y)),
        (int32_t)saturate((int64_t)x.s32[i] - y.s32[i], INT32_MIN, INT32_MAX));
    ROW(vminq_s32, int32x4_t, s32, (q_s32(&x), q_s32(&y)),
        x.s32[i] < y.s32[i] ? x.s32[i] : y.s32[i]);
    ROW(vmaxq_s32, int32x4_t, s32, (q_s32(&x), q_s32(&y)),
        x.s32[i] > y.s32[i] ? x.s32[i] : y.s32[i]);
    ROW(vqaddq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)),
        (uint32_t)saturate((int64_t)x.u32[i] + y.u32[i], 0, UINT32_MAX));
    ROW(vqsubq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)),
        (uint32_t)saturate((int64_t)x.u32[i] - y.u32[i], 0, UINT32_MAX));
    ROW(vminq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)),
        x.u32[i] < y.u32[i] ? x.u32[i] : y.u32[i]);
    ROW(vmaxq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)),
        x.u32[i] > y.u32[i] ? x.u32[i] : y.u32[i]);
    ROW(vnegq_s8, int8x16_t, u8, (q_s8(&x)), (uint8_t)(0u - x.u8[i]));
    ROW(vnegq_s16, int16x8_t, u16, (q_s16(&x)), (uint16_t)(0u - x.u16[i]));
    ROW(vnegq_s32, int32x4_t, u32, (q_s32(&x)), (uint32_t)(0u - x.u32[i]));
    ROW(vnegq_s64, int64x2_t, u64, (q_s64(&x)), (uint64_t)(0u - x.u64[i]));
    ROW(vabsq_s8, int8x16_t, u8, (q_s8(&x)), (uint8_t)(x.s8[i] < 0 ? 0u - x.u8[i] : x.u8[i]));
    ROW(vabsq_s16, int16x8_t, u16, (q_s16(&x)),
        (uint16_t)(x.s16[i] < 0 ? 0u - x.u16[i] : x.u16[i]));
    ROW(vabsq_s32, int32x4_t, u32, (q_s32(&x)),
        (uint32_t)(x.s32[i] < 0 ? 0u - x.u32[i] : x.u32[i]));
    ROW(vmulq_s16, int16x8_t, u16, (q_s16(&x), q_s16(&y)),
        (uint16_t)((uint32_t)x.u16[i] * y.u16[i]));
    ROW(vmlaq_s16, int16x8_t, u16, (q_s16(&z), q_s16(&x), q_s16(&y)),
        (uint16_t)(z.u16[i] + (uint32_t)x.u16[i] * y.u16[i]));
    ROW(vmulq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)),
        (uint16_t)((uint32_t)x.u16[i] * y.u16[i]));
    ROW(vmlaq_u16, uint16x8_t, u16, (q_u16(&z), q_u16(&x), q_u16(&y)),
        (uint16_t)(z.u16[i] + (uint32_t)x.u16[i] * y.u16[i]));
    ROW(vmulq_s32, int32x4_t, u32, (q_s32(&x), q_s32(&y)),
        (uint32_t)((uint32_t)x.u32[i] * y.u32[i]));
    ROW(vmlaq_s32, int32x4_t, u32, (q_s32(&z), q_s32(&x), q_s32(&y)),
        (uint32_t)(z.u32[i] + (uint32_t)x.u32[i] * y.u32[i]));
    ROW(vmulq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)),
        (uint32_t)((uint32_t)x.u32[i] * y.u32[i]));
    ROW(vmlaq_u32, uint32x4_t, u32, (q_u32(&z), q_u32(&x), q_u32(&y)),
        (uint32_t)(z.u32[i] + (uint32_t)x.u32[i] * y.u32[i]));
    ROW(vqrdmulhq_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)),
        (int16_t)saturate_s16((x.s16[i] * y.s16[i] + 0x4000) >> 15));
    ROW(vqdmulhq_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)),
        (int16_t)saturate_s16((x.s16[i] * y.s16[i]) >> 15));
    ROW(vqrdmulhq_n_s16, int16x8_t, s16, (q_s16(&x), y.s16[0]),
        (int16_t)saturate_s16((x.s16[i] * y.s16[0] + 0x4000) >> 15));
}

static void widening_arithmetic(void) {
    ROW(vmovl_s8, int16x8_t, s16, (d_s8(&x)), x.s8[i]);
    ROW(vaddl_s8, int16x8_t, s16, (d_s8(&x), d_s8(&y)), (int16_t)((int16_t)x.s8[i] + y.s8[i]));
    ROW(vsubl_s8, int16x8_t, s16, (d_s8(&x), d_s8(&y)), (int16_t)((int16_t)x.s8[i] - y.s8[i]));
    ROW(vaddw_s8, int16x8_t, u16, (q_s16(&z), d_s8(&x)),
        (uint16_t)(z.u16[i] + (uint64_t)(int64_t)x.s8[i]));
    ROW(vmull_s8, int16x8_t, s16, (d_s8(&x), d_s8(&y)), (int16_t)((int16_t)x.s8[i] * y.s8[i]));
    ROW(vmlal_s8, int16x8_t, u16, (q_s16(&z), d_s8(&x), d_s8(&y)),
        (uint16_t)(z.u16[i] + (uint16_t)((int16_t)x.s8[i] * y.s8[i])));
    ROW(vmovl_high_s8, int16x8_t, s16, (q_s8(&x)), x.s8[i + 8]);
    ROW(vaddl_high_s8, int16x8_t, s16, (q_s8(&x), q_s8(&y)),
        (int16_t)((int16_t)x.s8[i + 8] + y.s8[i + 8]));
    ROW(vsubl_high_s8, int16x8_t, s16, (q_s8(&x), q_s8(&y)),
        (int16_t)((int16_t)x.s8[i + 8] - y.s8[i + 8]));
    ROW(vaddw_high_s8, int16x8_t, u16, (q_s16(&z), q_s8(&x)),
        (uint16_t)(z.u16[i] + (uint64_t)(int64_t)x.s8[i + 8]));
    ROW(vmull_high_s8, int16x8_t, s16, (q_s8(&x), q_s8(&y)),
        (int16_t)((int16_t)x.s8[i + 8] * y.s8[i + 8]));
    ROW(vmlal_high_s8, int16x8_t, u16, (q_s16(&z), q_s8(&x), q_s8(&y)),
        (uint16_t)(z.u16[i] + (uint16_t)((int16_t)x.s8[i + 8] * y.s8[i + 8])));
    ROW(vpaddlq_s8, int16x8_t, s16, (q_s8(&x)), (int16_t)((int16_t)x.s8[2 * i] + x.s8[2 * i + 1]));
    ROW(vpadalq_s8, int16x8_t, u16, (q_s16(&z), q_s8(&x)),
        (uint16_t)(z.u16[i] + (uint16_t)((int16_t)x.s8[2 * i] + x.s8[2 * i + 1])));
    ROW(vmovl_u8, uint16x8_t, u16, (d_u8(&x)), x.u8[i]);
    ROW(vaddl_u8, uint16x8_t, u16, (d_u8(&x), d_u8(&y)), (uint16_t)((uint16_t)x.u8[i] + y.u8[i]));
    ROW(vsubl_u8, uint16x8_t, u16, (d_u8(&x), d_u8(&y)), (uint16_t)((uint16_t)x.u8[i] - y.u8[i]));
    ROW(vaddw_u8, uint16x8_t, u16, (q_u16(&z), d_u8(&x)),
        (uint16_t)(z.u16[i] + (uint64_t)(int64_t)x.u8[i]));
    ROW(vmull_u8, uint16x8_t, u16, (d_u8(&x), d_u8(&y)), (uint16_t)((uint16_t)x.u8[i] * y.u8[i]));
    ROW(vmlal_u8, uint16x8_t, u16, (q_u16(&z), d_u8(&x), d_u8(&y)),
        (uint16_t)(z.u16[i] + (uint16_t)((uint16_t)x.u8[i] * y.u8[i])));
    ROW(vmovl_high_u8, uint16x8_t, u16, (q_u8(&x)), x.u8[i + 8]);
    ROW(vaddl_high_u8, uint16x8_t, u16, (q_u8(&x), q_u8(&y)),
        (uint16_t)((uint16_t)x.u8[i + 8] + y.u8[i + 8]));
    ROW(vsubl_high_u8, uint16x8_t, u16, (q_u8(&x), q_u8(&y)),
        (uint16_t)((uint16_t)x.u8[i + 8] - y.u8[i + 8]));
    ROW(vaddw_high_u8, uint16x8_t, u16, (q_u16(&z), q_u8(&x)),
        (uint16_t)(z.u16[i] + (uint64_t)(int64_t)x.u8[i + 8]));
    ROW(vmull_high_u8, uint16x8_t, u16, (q_u8(&x), q_u8(&y)),
        (uint16_t)((uint16_t)x.u8[i + 8] * y.u8[i + 8]));
    ROW(vmlal_high_u8, uint16x8_t, u16, (q_u16(&z), q_u8(&x), q_u8(&y)),
        (uint16_t)(z.u16[i] + (uint16_t)((uint16_t)x.u8[i + 8] * y.u8[i + 8])));
    ROW(vpaddlq_u8, uint16x8_t, u16, (q_u8(&x)),
        (uint16_t)((uint16_t)x.u8[2 * i] + x.u8[2 * i + 1]));
    ROW(vpadalq_u8, uint16x8_t, u16, (q_u16(&z), q_u8(&x)),
        (uint16_t)(z.u16[i] + (uint16_t)((uint16_t)x.u8[2 * i] + x.u8[2 * i + 1])));
    ROW(vmovl_s16, int32x4_t, s32, (d_s16(&x)), x.s16[i]);
    ROW(vaddl_s16, int32x4_t, s32, (d_s16(&x), d_s16(&y)), (int32_t)((int32_t)x.s16[i] + y.s16[i]));
    ROW(vsubl_s16, int32x4_t, s32, (d_s16(&x), d_s16(&y)), (int32_t)((int32_t)x.s16[i] - y.s16[i]));
    ROW(vaddw_s16, int32x4_t, u32, (q_s32(&z), d_s16(&x)),
        (uint32_t)(z.u32[i] + (uint64_t)(int64_t)x.s16[i]));
    ROW(vmull_s16, int32x4_t, s32, (d_s16(&x), d_s16(&y)), (int32_t)((int32_t)x.s16[i] * y.s16[i]));
    ROW(vmlal_s16, int32x4_t, u32, (q_s32(&z), d_s16(&x), d_s16(&y)),
        (uint32_t)(z.u32[i] + (uint32_t)((int32_t)x.s16[i] * y.s16[i])));
    ROW(vmovl_high_s16, int32x4_t, s32, (q_s16(&x)), x.s16[i + 4]);
    ROW(vaddl_high_s16, int32x4_t, s32, (q_s16(&x), q_s16(&y)),
        (int32_t)((int32_t)x.s16[i + 4] + y.s16[i + 4]));
    ROW(vsubl_high_s16, int32x4_t, s32, (q_s16(&x), q_s16(&y)),
        (int32_t)((int32_t)x.s16[i + 4] - y.s16[i + 4]));
    ROW(vaddw_high_s16, int32x4_t, u32, (q_s32(&z), q_s16(&x)),
        (uint32_t)(z.u32[i] + (uint64_t)(int64_t)x.s16[i + 4]));
    ROW(vmull_high_s16, int32x4_t, s32, (q_s16(&x), q_s16(&y)),
        (int32_t)((int32_t)x.s16[i + 4] * y.s16[i + 4]));
    ROW(vmlal_high_s16, int32x4_t, u32, (q_s32(&z), q_s16(&x), q_s16(&y)),
        (uint32_t)(z.u32[i] + (uint32_t)((int32_t)x.s16[i + 4] * y.s16[i + 4])));
    ROW(vpaddlq_s16, int32x4_t, s32, (q_s16(&x)),
        (int32_t)((int32_t)x.s16[2 * i] + x.s16[2 * i + 1]));
    ROW(vpadalq_s16, int32x4_t, u32, (q_s32(&z), q_s16(&x)),
        (uint32_t)(z.u32[i] + (uint32_t)((int32_t)x.s16[2 * i] + x.s16[2 * i + 1])));
    ROW(vmovl_u16, uint32x4_t, u32, (d_u16(&x)), x.u16[i]);
    ROW(vaddl_u16, uint32x4_t, u32, (d_u16(&x), d_u16(&y)),
        (uint32_t)((uint32_t)x.u16[i] + y.u16[i]));
    ROW(vsubl_u16, uint32x4_t, u32, (d_u16(&x), d_u16(&y)),
        (uint32_t)((uint32_t)x.u16[i] - y.u16[i]));
    ROW(vaddw_u16, uint32x4_t, u32, (q_u32(&z), d_u16(&x)),
        (uint32_t)(z.u32[i] + (uint64_t)(int64_t)x.u16[i]));
    ROW(vmull_u16, uint32x4_t, u32, (d_u16(&x), d_u16(&y)),
        (uint32_t)((uint32_t)x.u16[i] * y.u16[i]));
    ROW(vmlal_u16, uint32x4_t, u32, (q_u32(&z), d_u16(&x), d_u16(&y)),
        (uint32_t)(z.u32[i] + (uint32_t)((uint32_t)x.u16[i] * y.u16[i])));
    ROW(vmovl_high_u16, uint32x4_t, u32, (q_u16(&x)), x.u16[i + 4]);
    ROW(vaddl_high_u16, uint32x4_t, u32, (q_u16(&x), q_u16(&y)),
        (uint32_t)((uint32_t)x.u16[i + 4] + y.u16[i + 4]));
    ROW(vsubl_high_u16, uint32x4_t, u32, (q_u16(&x), q_u16(&y)),
        (uint32_t)((uint32_t)x.u16[i + 4] - y.u16[i + 4]));
    ROW(vaddw_high_u16, uint32x4_t, u32, (q_u32(&z), q_u16(&x)),
        (uint32_t)(z.u32[i] + (uint64_t)(int64_t)x.u16[i + 4]));
    ROW(vmull_high_u16, uint32x4_t, u32, (q_u16(&x), q_u16(&y)),
        (uint32_t)((uint32_t)x.u16[i + 4] * y.u16[i + 4]));
    ROW(vmlal_high_u16, uint32x4_t, u32, (q_u32(&z), q_u16(&x), q_u16(&y)),
        (uint32_t)(z.u32[i] + (uint32_t)((uint32_t)x.u16[i + 4] * y.u16[i + 4])));
    ROW(vpaddlq_u16, uint32x4_t, u32, (q_u16(&x)),
        (uint32_t)((uint32_t)x.u16[2 * i] + x.u16[2 * i + 1]));
    ROW(vpadalq_u16, uint32x4_t, u32, (q_u32(&z), q_u16(&x)),
        (uint32_t)(z.u32[i] + (uint32_t)((uint32_t)x.u16[2 * i] + x.u16[2 * i + 1])));
    ROW(vmovl_s32, int64x2_t, s64, (d_s32(&x)), x.s32[i]);
    ROW(vaddl_s32, int64x2_t, s64, (d_s32(&x), d_s32(&y)), (int64_t)((int64_t)x.s32[i] + y.s32[i]));
    ROW(vsubl_s32, int64x2_t, s64, (d_s32(&x), d_s32(&y)), (int64_t)((int64_t)x.s32[i] - y.s32[i]));
    ROW(vaddw_s32, int64x2_t, u64, (q_s64(&z), d_s32(&x)),
        (uint64_t)(z.u64[i] + (uint64_t)(int64_t)x.s32[i]));
    ROW(vmull_s32, int64x2_t, s64, (d_s32(&x), d_s32(&y)), (int64_t)((int64_t)x.s32[i] * y.s32[i]));
    ROW(vmlal_s32, int64x2_t, u64, (q_s64(&z), d_s32(&x), d_s32(&y)),
        (uint64_t)(z.u64[i] + (uint64_t)((int64_t)x.s32[i] * y.s32[i])));
    ROW(vmovl_high_s32, int64x2_t, s64, (q_s32(&x)), x.s32[i + 2]);
    ROW(vaddl_high_s32, int64x2_t, s64, (q_s32(&x), q_s32(&y)),
        (int64_t)((int64_t)x.s32[i + 2] + y.s32[i + 2]));
    ROW(vsubl_high_s32, int64x2_t, s64, (q_s32(&x), q_s32(&y)),
        (int64_t)((int64_t)x.s32[i + 2] - y.s32[i + 2]));
    ROW(vaddw_high_s32, int64x2_t, u64, (q_s64(&z), q_s32(&x)),
        (uint64_t)(z.u64[i] + (uint64_t)(int64_t)x.s32[i + 2]));
    ROW(vmull_high_s32, int64x2_t, s64, (q_s32(&x), q_s32(&y)),
        (int64_t)((int64_t)x.s32[i + 2] * y.s32[i + 2]));
    ROW(vmlal_high_s32, int64x2_t, u64, (q_s64(&z), q_s32(&x), q_s32(&y)),
        (uint64_t)(z.u64[i] + (uint64_t)((int64_t)x.s32[i + 2] * y.s32[i + 2])));
    ROW(vpaddlq_s32, int64x2_t, s64, (q_s32(&x)),
        (int64_t)((int64_t)x.s32[2 * i] + x.s32[2 * i + 1]));
    ROW(vpadalq_s32, int64x2_t, u64, (q_s64(&z), q_s32(&x)),
        (uint64_t)(z.u64[i] + (uint64_t)((int64_t)x.s32[2 * i] + x.s32[2 * i + 1])));
    ROW(vmovl_u32, uint64x2_t, u64, (d_u32(&x)), x.u32[i]);
    ROW(vaddl_u32, uint64x2_t, u64, (d_u32(&x), d_u32(&y)),
        (uint64_t)((uint64_t)x.u32[i] + y.u32[i]));
    ROW(vsubl_u32, uint64x2_t, u64, (d_u32(&x), d_u32(&y)),
        (uint64_t)((uint64_t)x.u32[i] - y.u32[i]));
    ROW(vaddw_u32, uint64x2_t, u64, (q_u64(&z), d_u32(&x)),
        (uint64_t)(z.u64[i] + (uint64_t)(int64_t)x.u32[i]));
    ROW(vmull_u32, uint64x2_t, u64, (d_u32(&x), d_u32(&y)),
        (uint64_t)((uint64_t)x.u32[i] * y.u32[i]));
    ROW(vmlal_u32, uint64x2_t, u64, (q_u64(&z), d_u32(&x), d_u32(&y)),
        (uint64_t)(z.u64[i] + (uint64_t)((uint64_t)x.u32[i] * y.u32[i])));
    ROW(vmovl_high_u32, uint64x2_t, u64, (q_u32(&x)), x.u32[i + 2]);
    ROW(vaddl_high_u32, uint64x2_t, u64, (q_u32(&x), q_u32(&y)),
        (uint64_t)((uint64_t)x.u32[i + 2] + y.u32[i + 2]));
    ROW(vsubl_high_u32, uint64x2_t, u64, (q_u32(&x), q_u32(&y)),
        (uint64_t)((uint64_t)x.u32[i + 2] - y.u32[i + 2]));
    ROW(vaddw_high_u32, uint64x2_t, u64, (q_u64(&z), q_u32(&x)),
        (uint64_t)(z.u64[i] + (uint64_t)(int64_t)x.u32[i + 2]));
    ROW(vmull_high_u32, uint64x2_t, u64, (q_u32(&x), q_u32(&y)),
        (uint64_t)((uint64_t)x.u32[i + 2] * y.u32[i + 2]));
    ROW(vmlal_high_u32, uint64x2_t, u64, (q_u64(&z), q_u32(&x), q_u32(&y)),
        (uint64_t)(z.u64[i] + (uint64_t)((uint64_t)x.u32[i + 2] * y.u32[i + 2])));
    ROW(vpaddlq_u32, uint64x2_t, u64, (q_u32(&x)),
        (uint64_t)((uint64_t)x.u32[2 * i] + x.u32[2 * i + 1]));
    ROW(vpadalq_u32, uint64x2_t, u64, (q_u64(&z), q_u32(&x)),
        (uint64_t)(z.u64[i] + (uint64_t)((uint64_t)x.u32[2 * i] + x.u32[2 * i + 1])));
}

static void rows(void) {
    arithmetic();
    widening_arithmetic();
}

int main(void) {
    return simd_run("test_simd_arithmetic_neon", PQ_CPU_NEON, load, rows);
}
