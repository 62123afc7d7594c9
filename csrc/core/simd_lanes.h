/* Intrinsics in plain C for the emulated test build: macros that define a function from one
 * expression a lane. x, y and z are the arguments seen as lanes, i numbers the lanes of the result;
 * a scalar argument is lane 0.
 *
 *     PQ_MAP2(__m256i, s64, pq_min, __m256i, __m256i, x.s64[i] < y.s64[i] ? x.s64[i] : y.s64[i])
 */
#ifndef PYQUANT_CORE_SIMD_LANES_H
#define PYQUANT_CORE_SIMD_LANES_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef union pq_lanes {
    int8_t s8[64];
    uint8_t u8[64];
    int16_t s16[32];
    uint16_t u16[32];
    int32_t s32[16];
    uint32_t u32[16];
    int64_t s64[8];
    uint64_t u64[8];
    float f32[16];
    double f64[8];
} pq_lanes;

static inline int pq_least(uint64_t a, int b) {
    return a < (uint64_t)b ? (int)a : b;
}

static inline int32_t pq_saturate(int64_t value, int32_t low, int32_t high) {
    return value < low ? low : value > high ? high : (int32_t)value;
}

static inline int32_t pq_f64_s32(double value) {
    return value >= -0x1p31 && value < 0x1p31 ? (int32_t)value : INT32_MIN;
}

static inline int64_t pq_f64_s64(double value) {
    return value >= -0x1p63 && value < 0x1p63 ? (int64_t)value : INT64_MIN;
}

#define PQ_COUNT(R, lane) (int)(sizeof(R) / sizeof((pq_lanes){{0}}.lane[0]))

#define PQ_MAP_BODY(R, lane, expression) \
    for (int i = 0; i < PQ_COUNT(R, lane); i++) { \
        out.lane[i] = (expression); \
    } \
    R result; \
    memcpy(&result, &out, sizeof result); \
    return result;

#define PQ_MAP1(R, lane, name, A, expression) \
    static inline R name(A a) { \
        pq_lanes x = {{0}}, out = {{0}}; \
        memcpy(&x, &a, sizeof a); \
        PQ_MAP_BODY(R, lane, expression) \
    }

#define PQ_MAP2(R, lane, name, A, B, expression) \
    static inline R name(A a, B b) { \
        pq_lanes x = {{0}}, y = {{0}}, out = {{0}}; \
        memcpy(&x, &a, sizeof a); \
        memcpy(&y, &b, sizeof b); \
        PQ_MAP_BODY(R, lane, expression) \
    }

#define PQ_MAP3(R, lane, name, A, B, C, expression) \
    static inline R name(A a, B b, C c) { \
        pq_lanes x = {{0}}, y = {{0}}, z = {{0}}, out = {{0}}; \
        memcpy(&x, &a, sizeof a); \
        memcpy(&y, &b, sizeof b); \
        memcpy(&z, &c, sizeof c); \
        PQ_MAP_BODY(R, lane, expression) \
    }

/* Lanes of `shift` where the mask is set, of src elsewhere. */
#define PQ_MASKED_SHIFT(name, shift, width, lanes, B) \
    static inline __m512i name(__m512i src, __mmask##lanes k, __m512i a, B b) { \
        return _mm512_mask_mov_epi##width(src, k, shift(a, b)); \
    }

#define PQ_LOAD_M(R, lane, name, M) \
    static inline R name(R src, M k, const void *p) { \
        pq_lanes x = {{0}}; \
        memcpy(&x, &src, sizeof src); \
        for (int i = 0; i < PQ_COUNT(R, lane); i++) { \
            if (((uint64_t)k >> i & 1) != 0) { \
                memcpy(&x.lane[i], (const char *)p + (size_t)i * sizeof x.lane[0], \
                       sizeof x.lane[0]); \
            } \
        } \
        memcpy(&src, &x, sizeof src); \
        return src; \
    }

#define PQ_LOAD_Z(R, lane, name, M) \
    static inline R name(M k, const void *p) { \
        pq_lanes x = {{0}}; \
        for (int i = 0; i < PQ_COUNT(R, lane); i++) { \
            if (((uint64_t)k >> i & 1) != 0) { \
                memcpy(&x.lane[i], (const char *)p + (size_t)i * sizeof x.lane[0], \
                       sizeof x.lane[0]); \
            } \
        } \
        R result; \
        memcpy(&result, &x, sizeof result); \
        return result; \
    }

#define PQ_STORE_M(A, lane, name, M) \
    static inline void name(void *p, M k, A a) { \
        pq_lanes x = {{0}}; \
        memcpy(&x, &a, sizeof a); \
        for (int i = 0; i < PQ_COUNT(A, lane); i++) { \
            if (((uint64_t)k >> i & 1) != 0) { \
                memcpy((char *)p + (size_t)i * sizeof x.lane[0], &x.lane[i], sizeof x.lane[0]); \
            } \
        } \
    }

/* As many lanes as the mask has bits, each narrowed to `lane`. */
#define PQ_STORE_NARROW(A, lane, name, M, expression) \
    static inline void name(void *p, M k, A a) { \
        pq_lanes x = {{0}}, out = {{0}}; \
        memcpy(&x, &a, sizeof a); \
        for (int i = 0; i < (int)sizeof k * 8; i++) { \
            if (((uint64_t)k >> i & 1) != 0) { \
                out.lane[i] = (expression); \
                memcpy((char *)p + (size_t)i * sizeof out.lane[0], &out.lane[i], \
                       sizeof out.lane[0]); \
            } \
        } \
    }

#define PQ_MASK_BODY(M, A, lane, expression) \
    uint64_t out = 0; \
    for (int i = 0; i < PQ_COUNT(A, lane); i++) { \
        out |= (uint64_t)(expression) << i; \
    } \
    return (M)out;

#define PQ_MASK(M, lane, name, A, expression) \
    static inline M name(A a, A b) { \
        pq_lanes x = {{0}}, y = {{0}}; \
        memcpy(&x, &a, sizeof a); \
        memcpy(&y, &b, sizeof b); \
        PQ_MASK_BODY(M, A, lane, expression) \
    }

/* Bit 2 of op negates; bits 0 and 1: equal, less, less or equal, never. */
#define PQ_COMPARE(M, sign, width, name, A) \
    static inline M name(A a, A b, int op) { \
        pq_lanes x = {{0}}, y = {{0}}; \
        memcpy(&x, &a, sizeof a); \
        memcpy(&y, &b, sizeof b); \
        const bool equal = op % 4 == 0 || op % 4 == 2, less = op % 4 == 1 || op % 4 == 2; \
        PQ_MASK_BODY(M, A, sign##width, \
                     ((equal && x.sign##width[i] == y.sign##width[i]) || \
                      (less && x.sign##width[i] < y.sign##width[i])) != (op > 3)) \
    }

#define PQ_REDUCE(R, lane, name, A, expression) \
    static inline R name(A v) { \
        pq_lanes x = {{0}}; \
        memcpy(&x, &v, sizeof v); \
        for (int n = PQ_COUNT(A, lane) / 2; n > 0; n /= 2) { \
            for (int i = 0; i < n; i++) { \
                const __typeof__(x.lane[0]) a = x.lane[i], b = x.lane[i + n]; \
                x.lane[i] = (expression); \
            } \
        } \
        return (R)x.lane[0]; \
    }

#define PQ_GATHER(R, lane, index_lane, name, A) \
    static inline R name(A index, const void *base, int scale) { \
        pq_lanes x = {{0}}, out = {{0}}; \
        memcpy(&x, &index, sizeof index); \
        for (int i = 0; i < PQ_COUNT(R, lane); i++) { \
            memcpy(&out.lane[i], (const char *)base + (int64_t)x.index_lane[i] * scale, \
                   sizeof out.lane[0]); \
        } \
        R result; \
        memcpy(&result, &out, sizeof result); \
        return result; \
    }

#endif
