/* Floats of NEON: in the `quantize` and `observe` families only. */
#include "simd_rows_neon.h"

static void load(void) {}

/* NaN where one is; -0 below +0. */
static float lower(float a, float b) {
    if (isnan(a) || isnan(b)) {
        return NAN;
    }
    return a == b ? (signbit(a) ? a : b) : a < b ? a : b;
}

static int32_t to_s32(float value) {
    return isnan(value)        ? 0
           : value >= 0x1p31f  ? INT32_MAX
           : value <= -0x1p31f ? INT32_MIN
                               : (int32_t)value;
}

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void floats(void) {
    ROW(vaddq_f32, float32x4_t, f32, (q_f32(&fx), q_f32(&fy)), fx.f32[i] + fy.f32[i]);
    ROW(vsubq_f32, float32x4_t, f32, (q_f32(&fx), q_f32(&fy)), fx.f32[i] - fy.f32[i]);
    ROW(vmulq_f32, float32x4_t, f32, (q_f32(&fx), q_f32(&fy)), fx.f32[i] * fy.f32[i]);
    ROW(vdivq_f32, float32x4_t, f32, (q_f32(&fx), q_f32(&fy)), fx.f32[i] / fy.f32[i]);
    ROW(vabsq_f32, float32x4_t, f32, (q_f32(&fx)), fabsf(fx.f32[i]));
    ROW(vnegq_f32, float32x4_t, f32, (q_f32(&fx)), -fx.f32[i]);
    ROW(vfmaq_f32, float32x4_t, f32, (q_f32(&fx), q_f32(&fy), q_f32(&fz)),
        fmaf(fy.f32[i], fz.f32[i], fx.f32[i]));
    ROW(vminq_f32, float32x4_t, f32, (q_f32(&fx), q_f32(&fy)), lower(fx.f32[i], fy.f32[i]));
    ROW(vmaxq_f32, float32x4_t, f32, (q_f32(&fx), q_f32(&fy)), -lower(-fx.f32[i], -fy.f32[i]));
    ROW(vminnmq_f32, float32x4_t, f32, (q_f32(&fx), q_f32(&fy)),
        isnan(fx.f32[i])   ? fy.f32[i]
        : isnan(fy.f32[i]) ? fx.f32[i]
                           : lower(fx.f32[i], fy.f32[i]));
    ROW(vmaxnmq_f32, float32x4_t, f32, (q_f32(&fx), q_f32(&fy)),
        isnan(fx.f32[i])   ? fy.f32[i]
        : isnan(fy.f32[i]) ? fx.f32[i]
                           : -lower(-fx.f32[i], -fy.f32[i]));
    ROW(vminvq_f32, float, f32, (q_f32(&fx)),
        lower(lower(fx.f32[i], fx.f32[1]), lower(fx.f32[2], fx.f32[3])));
    ROW(vmaxvq_f32, float, f32, (q_f32(&fx)),
        -lower(lower(-fx.f32[i], -fx.f32[1]), lower(-fx.f32[2], -fx.f32[3])));
    ROW(vrndnq_f32, float32x4_t, f32, (q_f32(&fx)), rintf(fx.f32[i]));
    ROW(vrndmq_f32, float32x4_t, f32, (q_f32(&fx)), floorf(fx.f32[i]));
    ROW(vrndq_f32, float32x4_t, f32, (q_f32(&fx)), truncf(fx.f32[i]));
    ROW(vcvtnq_s32_f32, int32x4_t, s32, (q_f32(&fx)), to_s32(rintf(fx.f32[i])));
    ROW(vcvtq_s32_f32, int32x4_t, s32, (q_f32(&fx)), to_s32(truncf(fx.f32[i])));
    ROW(vcvtq_f32_s32, float32x4_t, f32, (q_s32(&x)), (float)x.s32[i]);
    ROW(vcvtq_f32_u32, float32x4_t, f32, (q_u32(&x)), (float)x.u32[i]);
    ROW(vbslq_f32, float32x4_t, f32, (q_u32(&before[0]), q_f32(&fx), q_f32(&fy)),
        from_bits((fx.u32[i] & before[0].u32[i]) | (fy.u32[i] & ~before[0].u32[i])));
    ROW(vceqq_f32, uint32x4_t, u32, (q_f32(&fx), q_f32(&fy)),
        fx.f32[i] == fy.f32[i] ? UINT32_MAX : 0);
    ROW(vcltq_f32, uint32x4_t, u32, (q_f32(&fx), q_f32(&fy)),
        fx.f32[i] < fy.f32[i] ? UINT32_MAX : 0);
    ROW(vcleq_f32, uint32x4_t, u32, (q_f32(&fx), q_f32(&fy)),
        fx.f32[i] <= fy.f32[i] ? UINT32_MAX : 0);
    ROW(vcgtq_f32, uint32x4_t, u32, (q_f32(&fx), q_f32(&fy)),
        fx.f32[i] > fy.f32[i] ? UINT32_MAX : 0);
    ROW(vcgeq_f32, uint32x4_t, u32, (q_f32(&fx), q_f32(&fy)),
        fx.f32[i] >= fy.f32[i] ? UINT32_MAX : 0);
}

static void rows(void) {
    floats();
}

int main(void) {
    return simd_run("test_simd_floats_neon", PQ_CPU_NEON, load, rows);
}
