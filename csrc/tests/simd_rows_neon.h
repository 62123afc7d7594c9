/* Operands of the NEON rows, made of the lanes of simd_rows.h. */
#ifndef PYQUANT_TESTS_SIMD_ROWS_NEON_H
#define PYQUANT_TESTS_SIMD_ROWS_NEON_H

#include "core/simd_neon.h"
#include "simd_rows.h"

/* Operands of one type from lanes: q_ all 128 bits, d_ the lower 64. */
#define OPERANDS(name, quad, half) \
    static inline quad q_##name(const lanes *of) { \
        quad v; \
        memcpy(&v, of, sizeof v); \
        return v; \
    } \
    static inline half d_##name(const lanes *of) { \
        half v; \
        memcpy(&v, of, sizeof v); \
        return v; \
    }

OPERANDS(s8, int8x16_t, int8x8_t)
OPERANDS(u8, uint8x16_t, uint8x8_t)
OPERANDS(s16, int16x8_t, int16x4_t)
OPERANDS(u16, uint16x8_t, uint16x4_t)
OPERANDS(s32, int32x4_t, int32x2_t)
OPERANDS(u32, uint32x4_t, uint32x2_t)
OPERANDS(s64, int64x2_t, int64x1_t)
OPERANDS(u64, uint64x2_t, uint64x1_t)
OPERANDS(f32, float32x4_t, float32x2_t)

#endif
