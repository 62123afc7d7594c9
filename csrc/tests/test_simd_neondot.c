/* Dot products of AArch64. They wrap around. */
#include "simd_rows_neon.h"

static void load(void) {}

static uint32_t dot_s(const int8_t *p, const int8_t *q) {
    return (uint32_t)(p[0] * q[0] + p[1] * q[1] + p[2] * q[2] + p[3] * q[3]);
}

static uint32_t dot_u(const uint8_t *p, const uint8_t *q) {
    return (uint32_t)(p[0] * q[0] + p[1] * q[1] + p[2] * q[2] + p[3] * q[3]);
}

static void rows(void) {
    ROW(vdotq_laneq_s32, int32x4_t, u32, (q_s32(&z), q_s8(&x), q_s8(&y), 0),
        z.u32[i] + dot_s(x.s8 + 4 * i, y.s8 + 0));
    ROW(vdotq_laneq_s32, int32x4_t, u32, (q_s32(&z), q_s8(&x), q_s8(&y), 1),
        z.u32[i] + dot_s(x.s8 + 4 * i, y.s8 + 4));
    ROW(vdotq_laneq_s32, int32x4_t, u32, (q_s32(&z), q_s8(&x), q_s8(&y), 2),
        z.u32[i] + dot_s(x.s8 + 4 * i, y.s8 + 8));
    ROW(vdotq_laneq_s32, int32x4_t, u32, (q_s32(&z), q_s8(&x), q_s8(&y), 3),
        z.u32[i] + dot_s(x.s8 + 4 * i, y.s8 + 12));
    ROW(vdotq_laneq_u32, uint32x4_t, u32, (q_u32(&z), q_u8(&x), q_u8(&y), 0),
        z.u32[i] + dot_u(x.u8 + 4 * i, y.u8 + 0));
    ROW(vdotq_laneq_u32, uint32x4_t, u32, (q_u32(&z), q_u8(&x), q_u8(&y), 1),
        z.u32[i] + dot_u(x.u8 + 4 * i, y.u8 + 4));
    ROW(vdotq_laneq_u32, uint32x4_t, u32, (q_u32(&z), q_u8(&x), q_u8(&y), 2),
        z.u32[i] + dot_u(x.u8 + 4 * i, y.u8 + 8));
    ROW(vdotq_laneq_u32, uint32x4_t, u32, (q_u32(&z), q_u8(&x), q_u8(&y), 3),
        z.u32[i] + dot_u(x.u8 + 4 * i, y.u8 + 12));
    ROW(vdotq_s32, int32x4_t, u32, (q_s32(&z), q_s8(&x), q_s8(&y)),
        z.u32[i] + dot_s(x.s8 + 4 * i, y.s8 + 4 * i));
    ROW(vdotq_u32, uint32x4_t, u32, (q_u32(&z), q_u8(&x), q_u8(&y)),
        z.u32[i] + dot_u(x.u8 + 4 * i, y.u8 + 4 * i));
    ROW(vdotq_lane_s32, int32x4_t, u32, (q_s32(&z), q_s8(&x), d_s8(&y), 1),
        z.u32[i] + dot_s(x.s8 + 4 * i, y.s8 + 4));
    ROW(vdotq_lane_u32, uint32x4_t, u32, (q_u32(&z), q_u8(&x), d_u8(&y), 1),
        z.u32[i] + dot_u(x.u8 + 4 * i, y.u8 + 4));
}

int main(void) {
    return simd_run("test_simd_neondot", PQ_CPU_NEON | PQ_CPU_DOTPROD, load, rows);
}
