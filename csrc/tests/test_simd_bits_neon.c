/* Logic, comparisons, shifts and reductions of NEON. */
#include "simd_rows_neon.h"

static lanes by8, by16, by32, by64; /* shift counts: left, or right where negative */

static void load(void) {
    for (int i = 0; i < 16; i++) {
        by8.s8[i] = (int8_t)check_random_in(&seed, -10, 10);
        by16.s16[i % 8] = (int16_t)check_random_in(&seed, -18, 18);
        by32.s32[i % 4] = (int32_t)check_random_in(&seed, -34, 34);
        by64.s64[i % 2] = check_random_in(&seed, -66, 66);
    }
}

static int64_t shifted_s(int64_t value, int64_t by, bool round) {
    if (by >= 0) {
        return (int64_t)shift_left((uint64_t)value, (uint64_t)by);
    }
    const int64_t half = round ? shift_right(value, (uint64_t)(-by - 1)) & 1 : 0;
    return shift_right(value, (uint64_t)-by) + half;
}

static uint64_t shifted_u(uint64_t value, int64_t by, bool round) {
    if (by >= 0) {
        return shift_left(value, (uint64_t)by);
    }
    const uint64_t half = round ? shift_right_u(value, (uint64_t)(-by - 1)) & 1 : 0;
    return shift_right_u(value, (uint64_t)-by) + half;
}

/* Of the 128 bits of x. */
#define FOLD(name, type, lane, expression) \
    static type name(void) { \
        type r = x.lane[0]; \
        for (int i = 1; i < 16 / (int)sizeof x.lane[0]; i++) { \
            r = (type)(expression); \
        } \
        return r; \
    }

#define PAIRS(name, type, lane) \
    static type name(int i) { \
        const int half = 8 / (int)sizeof(type); \
        const lanes *const of = i < half ? &x : &y; \
        const int p = i % half * 2; \
        return (type)(of->lane[p] + of->lane[p + 1]); \
    }

FOLD(total_u8, uint8_t, u8, r + x.u8[i])
PAIRS(pair_sum_u8, uint8_t, u8)
FOLD(total_u16, uint16_t, u16, r + x.u16[i])
PAIRS(pair_sum_u16, uint16_t, u16)
FOLD(total_u32, uint32_t, u32, r + x.u32[i])
PAIRS(pair_sum_u32, uint32_t, u32)
FOLD(total_u64, uint64_t, u64, r + x.u64[i])
PAIRS(pair_sum_u64, uint64_t, u64)
FOLD(most_s8, int8_t, s8, x.s8[i] > r ? x.s8[i] : r)
FOLD(least_s8, int8_t, s8, x.s8[i] < r ? x.s8[i] : r)
FOLD(long_s8, int64_t, s8, r + x.s8[i])
FOLD(most_u8, uint8_t, u8, x.u8[i] > r ? x.u8[i] : r)
FOLD(least_u8, uint8_t, u8, x.u8[i] < r ? x.u8[i] : r)
FOLD(long_u8, int64_t, u8, r + x.u8[i])
FOLD(most_s16, int16_t, s16, x.s16[i] > r ? x.s16[i] : r)
FOLD(least_s16, int16_t, s16, x.s16[i] < r ? x.s16[i] : r)
FOLD(long_s16, int64_t, s16, r + x.s16[i])
FOLD(most_u16, uint16_t, u16, x.u16[i] > r ? x.u16[i] : r)
FOLD(least_u16, uint16_t, u16, x.u16[i] < r ? x.u16[i] : r)
FOLD(long_u16, int64_t, u16, r + x.u16[i])
FOLD(most_s32, int32_t, s32, x.s32[i] > r ? x.s32[i] : r)
FOLD(least_s32, int32_t, s32, x.s32[i] < r ? x.s32[i] : r)
FOLD(long_s32, int64_t, s32, r + x.s32[i])
FOLD(most_u32, uint32_t, u32, x.u32[i] > r ? x.u32[i] : r)
FOLD(least_u32, uint32_t, u32, x.u32[i] < r ? x.u32[i] : r)
FOLD(long_u32, int64_t, u32, r + x.u32[i])

static void logic_and_compare(void) {
    ROW(vandq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), x.u8[i] & y.u8[i]);
    ROW(vorrq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), x.u8[i] | y.u8[i]);
    ROW(veorq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), x.u8[i] ^ y.u8[i]);
    ROW(vbicq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), x.u8[i] & ~y.u8[i]);
    ROW(vbslq_u8, uint8x16_t, u8, (q_u8(&z), q_u8(&x), q_u8(&y)),
        (uint8_t)((x.u8[i] & z.u8[i]) | (y.u8[i] & ~z.u8[i])));
    ROW(vandq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), x.u16[i] & y.u16[i]);
    ROW(vorrq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), x.u16[i] | y.u16[i]);
    ROW(veorq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), x.u16[i] ^ y.u16[i]);
    ROW(vbicq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), x.u16[i] & ~y.u16[i]);
    ROW(vbslq_u16, uint16x8_t, u16, (q_u16(&z), q_u16(&x), q_u16(&y)),
        (uint16_t)((x.u16[i] & z.u16[i]) | (y.u16[i] & ~z.u16[i])));
    ROW(vandq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), x.u32[i] & y.u32[i]);
    ROW(vorrq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), x.u32[i] | y.u32[i]);
    ROW(veorq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), x.u32[i] ^ y.u32[i]);
    ROW(vbicq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), x.u32[i] & ~y.u32[i]);
    ROW(vbslq_u32, uint32x4_t, u32, (q_u32(&z), q_u32(&x), q_u32(&y)),
        (uint32_t)((x.u32[i] & z.u32[i]) | (y.u32[i] & ~z.u32[i])));
    ROW(vandq_u64, uint64x2_t, u64, (q_u64(&x), q_u64(&y)), x.u64[i] & y.u64[i]);
    ROW(vorrq_u64, uint64x2_t, u64, (q_u64(&x), q_u64(&y)), x.u64[i] | y.u64[i]);
    ROW(veorq_u64, uint64x2_t, u64, (q_u64(&x), q_u64(&y)), x.u64[i] ^ y.u64[i]);
    ROW(vbicq_u64, uint64x2_t, u64, (q_u64(&x), q_u64(&y)), x.u64[i] & ~y.u64[i]);
    ROW(vbslq_u64, uint64x2_t, u64, (q_u64(&z), q_u64(&x), q_u64(&y)),
        (uint64_t)((x.u64[i] & z.u64[i]) | (y.u64[i] & ~z.u64[i])));
    ROW(vandq_s8, int8x16_t, s8, (q_s8(&x), q_s8(&y)), x.s8[i] & y.s8[i]);
    ROW(vorrq_s8, int8x16_t, s8, (q_s8(&x), q_s8(&y)), x.s8[i] | y.s8[i]);
    ROW(veorq_s8, int8x16_t, s8, (q_s8(&x), q_s8(&y)), x.s8[i] ^ y.s8[i]);
    ROW(vbicq_s8, int8x16_t, s8, (q_s8(&x), q_s8(&y)), x.s8[i] & ~y.s8[i]);
    ROW(vbslq_s8, int8x16_t, s8, (q_u8(&z), q_s8(&x), q_s8(&y)),
        (int8_t)((x.s8[i] & z.s8[i]) | (y.s8[i] & ~z.s8[i])));
    ROW(vandq_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)), x.s16[i] & y.s16[i]);
    ROW(vorrq_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)), x.s16[i] | y.s16[i]);
    ROW(veorq_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)), x.s16[i] ^ y.s16[i]);
    ROW(vbicq_s16, int16x8_t, s16, (q_s16(&x), q_s16(&y)), x.s16[i] & ~y.s16[i]);
    ROW(vbslq_s16, int16x8_t, s16, (q_u16(&z), q_s16(&x), q_s16(&y)),
        (int16_t)((x.s16[i] & z.s16[i]) | (y.s16[i] & ~z.s16[i])));
    ROW(vandq_s32, int32x4_t, s32, (q_s32(&x), q_s32(&y)), x.s32[i] & y.s32[i]);
    ROW(vorrq_s32, int32x4_t, s32, (q_s32(&x), q_s32(&y)), x.s32[i] | y.s32[i]);
    ROW(veorq_s32, int32x4_t, s32, (q_s32(&x), q_s32(&y)), x.s32[i] ^ y.s32[i]);
    ROW(vbicq_s32, int32x4_t, s32, (q_s32(&x), q_s32(&y)), x.s32[i] & ~y.s32[i]);
    ROW(vbslq_s32, int32x4_t, s32, (q_u32(&z), q_s32(&x), q_s32(&y)),
        (int32_t)((x.s32[i] & z.s32[i]) | (y.s32[i] & ~z.s32[i])));
    ROW(vandq_s64, int64x2_t, s64, (q_s64(&x), q_s64(&y)), x.s64[i] & y.s64[i]);
    ROW(vorrq_s64, int64x2_t, s64, (q_s64(&x), q_s64(&y)), x.s64[i] | y.s64[i]);
    ROW(veorq_s64, int64x2_t, s64, (q_s64(&x), q_s64(&y)), x.s64[i] ^ y.s64[i]);
    ROW(vbicq_s64, int64x2_t, s64, (q_s64(&x), q_s64(&y)), x.s64[i] & ~y.s64[i]);
    ROW(vbslq_s64, int64x2_t, s64, (q_u64(&z), q_s64(&x), q_s64(&y)),
        (int64_t)((x.s64[i] & z.s64[i]) | (y.s64[i] & ~z.s64[i])));
    ROW(vmvnq_s8, int8x16_t, s8, (q_s8(&x)), (int8_t)~x.s8[i]);
    ROW(vceqq_s8, uint8x16_t, u8, (q_s8(&x), q_s8(&y)), x.s8[i] == y.s8[i] ? UINT8_MAX : 0);
    ROW(vcltq_s8, uint8x16_t, u8, (q_s8(&x), q_s8(&y)), x.s8[i] < y.s8[i] ? UINT8_MAX : 0);
    ROW(vcleq_s8, uint8x16_t, u8, (q_s8(&x), q_s8(&y)), x.s8[i] <= y.s8[i] ? UINT8_MAX : 0);
    ROW(vcgtq_s8, uint8x16_t, u8, (q_s8(&x), q_s8(&y)), x.s8[i] > y.s8[i] ? UINT8_MAX : 0);
    ROW(vcgeq_s8, uint8x16_t, u8, (q_s8(&x), q_s8(&y)), x.s8[i] >= y.s8[i] ? UINT8_MAX : 0);
    ROW(vceqzq_s8, uint8x16_t, u8, (q_s8(&x)), x.s8[i] == 0 ? UINT8_MAX : 0);
    ROW(vtstq_s8, uint8x16_t, u8, (q_s8(&x), q_s8(&y)), (x.s8[i] & y.s8[i]) != 0 ? UINT8_MAX : 0);
    ROW(vmvnq_u8, uint8x16_t, u8, (q_u8(&x)), (uint8_t)~x.u8[i]);
    ROW(vceqq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), x.u8[i] == y.u8[i] ? UINT8_MAX : 0);
    ROW(vcltq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), x.u8[i] < y.u8[i] ? UINT8_MAX : 0);
    ROW(vcleq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), x.u8[i] <= y.u8[i] ? UINT8_MAX : 0);
    ROW(vcgtq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), x.u8[i] > y.u8[i] ? UINT8_MAX : 0);
    ROW(vcgeq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), x.u8[i] >= y.u8[i] ? UINT8_MAX : 0);
    ROW(vceqzq_u8, uint8x16_t, u8, (q_u8(&x)), x.u8[i] == 0 ? UINT8_MAX : 0);
    ROW(vtstq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), (x.u8[i] & y.u8[i]) != 0 ? UINT8_MAX : 0);
    ROW(vmvnq_s16, int16x8_t, s16, (q_s16(&x)), (int16_t)~x.s16[i]);
    ROW(vceqq_s16, uint16x8_t, u16, (q_s16(&x), q_s16(&y)), x.s16[i] == y.s16[i] ? UINT16_MAX : 0);
    ROW(vcltq_s16, uint16x8_t, u16, (q_s16(&x), q_s16(&y)), x.s16[i] < y.s16[i] ? UINT16_MAX : 0);
    ROW(vcleq_s16, uint16x8_t, u16, (q_s16(&x), q_s16(&y)), x.s16[i] <= y.s16[i] ? UINT16_MAX : 0);
    ROW(vcgtq_s16, uint16x8_t, u16, (q_s16(&x), q_s16(&y)), x.s16[i] > y.s16[i] ? UINT16_MAX : 0);
    ROW(vcgeq_s16, uint16x8_t, u16, (q_s16(&x), q_s16(&y)), x.s16[i] >= y.s16[i] ? UINT16_MAX : 0);
    ROW(vceqzq_s16, uint16x8_t, u16, (q_s16(&x)), x.s16[i] == 0 ? UINT16_MAX : 0);
    ROW(vtstq_s16, uint16x8_t, u16, (q_s16(&x), q_s16(&y)),
        (x.s16[i] & y.s16[i]) != 0 ? UINT16_MAX : 0);
    ROW(vmvnq_u16, uint16x8_t, u16, (q_u16(&x)), (uint16_t)~x.u16[i]);
    ROW(vceqq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), x.u16[i] == y.u16[i] ? UINT16_MAX : 0);
    ROW(vcltq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), x.u16[i] < y.u16[i] ? UINT16_MAX : 0);
    ROW(vcleq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), x.u16[i] <= y.u16[i] ? UINT16_MAX : 0);
    ROW(vcgtq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), x.u16[i] > y.u16[i] ? UINT16_MAX : 0);
    ROW(vcgeq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), x.u16[i] >= y.u16[i] ? UINT16_MAX : 0);
    ROW(vceqzq_u16, uint16x8_t, u16, (q_u16(&x)), x.u16[i] == 0 ? UINT16_MAX : 0);
    ROW(vtstq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)),
        (x.u16[i] & y.u16[i]) != 0 ? UINT16_MAX : 0);
    ROW(vmvnq_s32, int32x4_t, s32, (q_s32(&x)), (int32_t)~x.s32[i]);
    ROW(vceqq_s32, uint32x4_t, u32, (q_s32(&x), q_s32(&y)), x.s32[i] == y.s32[i] ? UINT32_MAX : 0);
    ROW(vcltq_s32, uint32x4_t, u32, (q_s32(&x), q_s32(&y)), x.s32[i] < y.s32[i] ? UINT32_MAX : 0);
    ROW(vcleq_s32, uint32x4_t, u32, (q_s32(&x), q_s32(&y)), x.s32[i] <= y.s32[i] ? UINT32_MAX : 0);
    ROW(vcgtq_s32, uint32x4_t, u32, (q_s32(&x), q_s32(&y)), x.s32[i] > y.s32[i] ? UINT32_MAX : 0);
    ROW(vcgeq_s32, uint32x4_t, u32, (q_s32(&x), q_s32(&y)), x.s32[i] >= y.s32[i] ? UINT32_MAX : 0);
    ROW(vceqzq_s32, uint32x4_t, u32, (q_s32(&x)), x.s32[i] == 0 ? UINT32_MAX : 0);
    ROW(vtstq_s32, uint32x4_t, u32, (q_s32(&x), q_s32(&y)),
        (x.s32[i] & y.s32[i]) != 0 ? UINT32_MAX : 0);
    ROW(vmvnq_u32, uint32x4_t, u32, (q_u32(&x)), (uint32_t)~x.u32[i]);
    ROW(vceqq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), x.u32[i] == y.u32[i] ? UINT32_MAX : 0);
    ROW(vcltq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), x.u32[i] < y.u32[i] ? UINT32_MAX : 0);
    ROW(vcleq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), x.u32[i] <= y.u32[i] ? UINT32_MAX : 0);
    ROW(vcgtq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), x.u32[i] > y.u32[i] ? UINT32_MAX : 0);
    ROW(vcgeq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), x.u32[i] >= y.u32[i] ? UINT32_MAX : 0);
    ROW(vceqzq_u32, uint32x4_t, u32, (q_u32(&x)), x.u32[i] == 0 ? UINT32_MAX : 0);
    ROW(vtstq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)),
        (x.u32[i] & y.u32[i]) != 0 ? UINT32_MAX : 0);
}

static void shift(void) {
    ROW(vshlq_n_s8, int8x16_t, u8, (q_s8(&x), 1), (uint8_t)((uint64_t)x.u8[i] << 1));
    ROW(vshrq_n_s8, int8x16_t, s8, (q_s8(&x), 1), (int8_t)(x.s8[i] >> 1));
    ROW(vrshrq_n_s8, int8x16_t, s8, (q_s8(&x), 1), (int8_t)((x.s8[i] >> 1) + (x.s8[i] & 1)));
    ROW(vshlq_n_s8, int8x16_t, u8, (q_s8(&x), 7), (uint8_t)((uint64_t)x.u8[i] << 7));
    ROW(vshrq_n_s8, int8x16_t, s8, (q_s8(&x), 7), (int8_t)(x.s8[i] >> 7));
    ROW(vrshrq_n_s8, int8x16_t, s8, (q_s8(&x), 7), (int8_t)((x.s8[i] >> 7) + (x.s8[i] >> 6 & 1)));
    ROW(vshlq_s8, int8x16_t, s8, (q_s8(&x), q_s8(&by8)),
        (int8_t)shifted_s(x.s8[i], by8.s8[i], false));
    ROW(vrshlq_s8, int8x16_t, s8, (q_s8(&x), q_s8(&by8)),
        (int8_t)shifted_s(x.s8[i], by8.s8[i], true));
    ROW(vshlq_n_u8, uint8x16_t, u8, (q_u8(&x), 1), (uint8_t)((uint64_t)x.u8[i] << 1));
    ROW(vshrq_n_u8, uint8x16_t, u8, (q_u8(&x), 1), (uint8_t)(x.u8[i] >> 1));
    ROW(vrshrq_n_u8, uint8x16_t, u8, (q_u8(&x), 1), (uint8_t)((x.u8[i] >> 1) + (x.u8[i] & 1)));
    ROW(vshlq_n_u8, uint8x16_t, u8, (q_u8(&x), 7), (uint8_t)((uint64_t)x.u8[i] << 7));
    ROW(vshrq_n_u8, uint8x16_t, u8, (q_u8(&x), 7), (uint8_t)(x.u8[i] >> 7));
    ROW(vrshrq_n_u8, uint8x16_t, u8, (q_u8(&x), 7), (uint8_t)((x.u8[i] >> 7) + (x.u8[i] >> 6 & 1)));
    ROW(vshlq_u8, uint8x16_t, u8, (q_u8(&x), q_s8(&by8)),
        (uint8_t)shifted_u(x.u8[i], by8.s8[i], false));
    ROW(vrshlq_u8, uint8x16_t, u8, (q_u8(&x), q_s8(&by8)),
        (uint8_t)shifted_u(x.u8[i], by8.s8[i], true));
    ROW(vshlq_n_s16, int16x8_t, u16, (q_s16(&x), 1), (uint16_t)((uint64_t)x.u16[i] << 1));
    ROW(vshrq_n_s16, int16x8_t, s16, (q_s16(&x), 1), (int16_t)(x.s16[i] >> 1));
    ROW(vrshrq_n_s16, int16x8_t, s16, (q_s16(&x), 1), (int16_t)((x.s16[i] >> 1) + (x.s16[i] & 1)));
    ROW(vshlq_n_s16, int16x8_t, u16, (q_s16(&x), 15), (uint16_t)((uint64_t)x.u16[i] << 15));
    ROW(vshrq_n_s16, int16x8_t, s16, (q_s16(&x), 15), (int16_t)(x.s16[i] >> 15));
    ROW(vrshrq_n_s16, int16x8_t, s16, (q_s16(&x), 15),
        (int16_t)((x.s16[i] >> 15) + (x.s16[i] >> 14 & 1)));
    ROW(vshlq_s16, int16x8_t, s16, (q_s16(&x), q_s16(&by16)),
        (int16_t)shifted_s(x.s16[i], by16.s16[i], false));
    ROW(vrshlq_s16, int16x8_t, s16, (q_s16(&x), q_s16(&by16)),
        (int16_t)shifted_s(x.s16[i], by16.s16[i], true));
    ROW(vshlq_n_u16, uint16x8_t, u16, (q_u16(&x), 1), (uint16_t)((uint64_t)x.u16[i] << 1));
    ROW(vshrq_n_u16, uint16x8_t, u16, (q_u16(&x), 1), (uint16_t)(x.u16[i] >> 1));
    ROW(vrshrq_n_u16, uint16x8_t, u16, (q_u16(&x), 1),
        (uint16_t)((x.u16[i] >> 1) + (x.u16[i] & 1)));
    ROW(vshlq_n_u16, uint16x8_t, u16, (q_u16(&x), 15), (uint16_t)((uint64_t)x.u16[i] << 15));
    ROW(vshrq_n_u16, uint16x8_t, u16, (q_u16(&x), 15), (uint16_t)(x.u16[i] >> 15));
    ROW(vrshrq_n_u16, uint16x8_t, u16, (q_u16(&x), 15),
        (uint16_t)((x.u16[i] >> 15) + (x.u16[i] >> 14 & 1)));
    ROW(vshlq_u16, uint16x8_t, u16, (q_u16(&x), q_s16(&by16)),
        (uint16_t)shifted_u(x.u16[i], by16.s16[i], false));
    ROW(vrshlq_u16, uint16x8_t, u16, (q_u16(&x), q_s16(&by16)),
        (uint16_t)shifted_u(x.u16[i], by16.s16[i], true));
    ROW(vshlq_n_s32, int32x4_t, u32, (q_s32(&x), 1), (uint32_t)((uint64_t)x.u32[i] << 1));
    ROW(vshrq_n_s32, int32x4_t, s32, (q_s32(&x), 1), (int32_t)(x.s32[i] >> 1));
    ROW(vrshrq_n_s32, int32x4_t, s32, (q_s32(&x), 1), (int32_t)((x.s32[i] >> 1) + (x.s32[i] & 1)));
    ROW(vshlq_n_s32, int32x4_t, u32, (q_s32(&x), 31), (uint32_t)((uint64_t)x.u32[i] << 31));
    ROW(vshrq_n_s32, int32x4_t, s32, (q_s32(&x), 31), (int32_t)(x.s32[i] >> 31));
    ROW(vrshrq_n_s32, int32x4_t, s32, (q_s32(&x), 31),
        (int32_t)((x.s32[i] >> 31) + (x.s32[i] >> 30 & 1)));
    ROW(vshlq_s32, int32x4_t, s32, (q_s32(&x), q_s32(&by32)),
        (int32_t)shifted_s(x.s32[i], by32.s32[i], false));
    ROW(vrshlq_s32, int32x4_t, s32, (q_s32(&x), q_s32(&by32)),
        (int32_t)shifted_s(x.s32[i], by32.s32[i], true));
    ROW(vshlq_n_u32, uint32x4_t, u32, (q_u32(&x), 1), (uint32_t)((uint64_t)x.u32[i] << 1));
    ROW(vshrq_n_u32, uint32x4_t, u32, (q_u32(&x), 1), (uint32_t)(x.u32[i] >> 1));
    ROW(vrshrq_n_u32, uint32x4_t, u32, (q_u32(&x), 1),
        (uint32_t)((x.u32[i] >> 1) + (x.u32[i] & 1)));
    ROW(vshlq_n_u32, uint32x4_t, u32, (q_u32(&x), 31), (uint32_t)((uint64_t)x.u32[i] << 31));
    ROW(vshrq_n_u32, uint32x4_t, u32, (q_u32(&x), 31), (uint32_t)(x.u32[i] >> 31));
    ROW(vrshrq_n_u32, uint32x4_t, u32, (q_u32(&x), 31),
        (uint32_t)((x.u32[i] >> 31) + (x.u32[i] >> 30 & 1)));
    ROW(vshlq_u32, uint32x4_t, u32, (q_u32(&x), q_s32(&by32)),
        (uint32_t)shifted_u(x.u32[i], by32.s32[i], false));
    ROW(vrshlq_u32, uint32x4_t, u32, (q_u32(&x), q_s32(&by32)),
        (uint32_t)shifted_u(x.u32[i], by32.s32[i], true));
    ROW(vshlq_n_s64, int64x2_t, u64, (q_s64(&x), 1), (uint64_t)((uint64_t)x.u64[i] << 1));
    ROW(vshrq_n_s64, int64x2_t, s64, (q_s64(&x), 1), (int64_t)(x.s64[i] >> 1));
    ROW(vrshrq_n_s64, int64x2_t, s64, (q_s64(&x), 1), (int64_t)((x.s64[i] >> 1) + (x.s64[i] & 1)));
    ROW(vshlq_n_s64, int64x2_t, u64, (q_s64(&x), 63), (uint64_t)((uint64_t)x.u64[i] << 63));
    ROW(vshrq_n_s64, int64x2_t, s64, (q_s64(&x), 63), (int64_t)(x.s64[i] >> 63));
    ROW(vrshrq_n_s64, int64x2_t, s64, (q_s64(&x), 63),
        (int64_t)((x.s64[i] >> 63) + (x.s64[i] >> 62 & 1)));
    ROW(vshlq_s64, int64x2_t, s64, (q_s64(&x), q_s64(&by64)),
        (int64_t)shifted_s(x.s64[i], by64.s64[i], false));
    ROW(vrshlq_s64, int64x2_t, s64, (q_s64(&x), q_s64(&by64)),
        (int64_t)shifted_s(x.s64[i], by64.s64[i], true));
    ROW(vshlq_n_u64, uint64x2_t, u64, (q_u64(&x), 1), (uint64_t)((uint64_t)x.u64[i] << 1));
    ROW(vshrq_n_u64, uint64x2_t, u64, (q_u64(&x), 1), (uint64_t)(x.u64[i] >> 1));
    ROW(vrshrq_n_u64, uint64x2_t, u64, (q_u64(&x), 1),
        (uint64_t)((x.u64[i] >> 1) + (x.u64[i] & 1)));
    ROW(vshlq_n_u64, uint64x2_t, u64, (q_u64(&x), 63), (uint64_t)((uint64_t)x.u64[i] << 63));
    ROW(vshrq_n_u64, uint64x2_t, u64, (q_u64(&x), 63), (uint64_t)(x.u64[i] >> 63));
    ROW(vrshrq_n_u64, uint64x2_t, u64, (q_u64(&x), 63),
        (uint64_t)((x.u64[i] >> 63) + (x.u64[i] >> 62 & 1)));
    ROW(vshlq_u64, uint64x2_t, u64, (q_u64(&x), q_s64(&by64)),
        (uint64_t)shifted_u(x.u64[i], by64.s64[i], false));
    ROW(vrshlq_u64, uint64x2_t, u64, (q_u64(&x), q_s64(&by64)),
        (uint64_t)shifted_u(x.u64[i], by64.s64[i], true));
    ROW(vshll_n_s8, int16x8_t, s16, (d_s8(&x), 4), (int16_t)(x.s8[i] * 16));
    ROW(vshrn_n_s16, int8x8_t, s8, (q_s16(&x), 3), (int8_t)(x.s16[i] >> 3));
    ROW(vshrn_n_u16, uint8x8_t, u8, (q_u16(&x), 3), (uint8_t)(x.u16[i] >> 3));
    ROW(vshrn_n_s32, int16x4_t, s16, (q_s32(&x), 3), (int16_t)(x.s32[i] >> 3));
    ROW(vshrn_n_s64, int32x2_t, s32, (q_s64(&x), 3), (int32_t)(x.s64[i] >> 3));
}

static void reduce(void) {
    ROW(vaddvq_s8, int8_t, u8, (q_s8(&x)), (uint8_t)total_u8());
    ROW(vmaxvq_s8, int8_t, s8, (q_s8(&x)), most_s8());
    ROW(vminvq_s8, int8_t, s8, (q_s8(&x)), least_s8());
    ROW(vaddlvq_s8, int16_t, s16, (q_s8(&x)), (int16_t)long_s8());
    ROW(vpaddq_s8, int8x16_t, u8, (q_s8(&x), q_s8(&y)), pair_sum_u8(i));
    ROW(vaddvq_u8, uint8_t, u8, (q_u8(&x)), (uint8_t)total_u8());
    ROW(vmaxvq_u8, uint8_t, u8, (q_u8(&x)), most_u8());
    ROW(vminvq_u8, uint8_t, u8, (q_u8(&x)), least_u8());
    ROW(vaddlvq_u8, uint16_t, u16, (q_u8(&x)), (uint16_t)long_u8());
    ROW(vpaddq_u8, uint8x16_t, u8, (q_u8(&x), q_u8(&y)), pair_sum_u8(i));
    ROW(vaddvq_s16, int16_t, u16, (q_s16(&x)), (uint16_t)total_u16());
    ROW(vmaxvq_s16, int16_t, s16, (q_s16(&x)), most_s16());
    ROW(vminvq_s16, int16_t, s16, (q_s16(&x)), least_s16());
    ROW(vaddlvq_s16, int32_t, s32, (q_s16(&x)), (int32_t)long_s16());
    ROW(vpaddq_s16, int16x8_t, u16, (q_s16(&x), q_s16(&y)), pair_sum_u16(i));
    ROW(vaddvq_u16, uint16_t, u16, (q_u16(&x)), (uint16_t)total_u16());
    ROW(vmaxvq_u16, uint16_t, u16, (q_u16(&x)), most_u16());
    ROW(vminvq_u16, uint16_t, u16, (q_u16(&x)), least_u16());
    ROW(vaddlvq_u16, uint32_t, u32, (q_u16(&x)), (uint32_t)long_u16());
    ROW(vpaddq_u16, uint16x8_t, u16, (q_u16(&x), q_u16(&y)), pair_sum_u16(i));
    ROW(vaddvq_s32, int32_t, u32, (q_s32(&x)), (uint32_t)total_u32());
    ROW(vmaxvq_s32, int32_t, s32, (q_s32(&x)), most_s32());
    ROW(vminvq_s32, int32_t, s32, (q_s32(&x)), least_s32());
    ROW(vaddlvq_s32, int64_t, s64, (q_s32(&x)), (int64_t)long_s32());
    ROW(vpaddq_s32, int32x4_t, u32, (q_s32(&x), q_s32(&y)), pair_sum_u32(i));
    ROW(vaddvq_u32, uint32_t, u32, (q_u32(&x)), (uint32_t)total_u32());
    ROW(vmaxvq_u32, uint32_t, u32, (q_u32(&x)), most_u32());
    ROW(vminvq_u32, uint32_t, u32, (q_u32(&x)), least_u32());
    ROW(vaddlvq_u32, uint64_t, u64, (q_u32(&x)), (uint64_t)long_u32());
    ROW(vpaddq_u32, uint32x4_t, u32, (q_u32(&x), q_u32(&y)), pair_sum_u32(i));
    ROW(vaddvq_s64, int64_t, u64, (q_s64(&x)), total_u64());
    ROW(vpaddq_s64, int64x2_t, u64, (q_s64(&x), q_s64(&y)), pair_sum_u64(i));
    ROW(vaddvq_u64, uint64_t, u64, (q_u64(&x)), total_u64());
    ROW(vpaddq_u64, uint64x2_t, u64, (q_u64(&x), q_u64(&y)), pair_sum_u64(i));
}

static void rows(void) {
    logic_and_compare();
    shift();
    reduce();
}

int main(void) {
    return simd_run("test_simd_bits_neon", PQ_CPU_NEON, load, rows);
}
