/* Intrinsics against plain models, one row each, on random vectors with many extreme lanes.
 *
 *     ROW(_mm512_add_epi32, __m512i, u32, (a, b), x.u32[i] + y.u32[i]);
 *
 * calls the intrinsic on the operands that the including file made of x, y, ... and compares the
 * result, seen as lanes u32, with the model: an expression of x, y, z (integers), fx, fy, fz
 * (floats), dx, dy, dz (doubles), the mask k and the lane number i. A structure test finds rows by
 * their first argument: every intrinsic that a kernel uses has one.
 *
 * A program defines `static void load(void)`, which makes its operands after each draw, and calls
 * simd_run.
 */
#ifndef PYQUANT_TESTS_SIMD_ROWS_H
#define PYQUANT_TESTS_SIMD_ROWS_H

#include <math.h>

#include "check.h"
#include "pyquant/cpu.h"

typedef union lanes {
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
} lanes;

static lanes x, y, z;       /* any bits */
static lanes n16, n32, n64; /* shift counts, few of them beyond the width */
static lanes fx, fy, fz, dx, dy, dz;
static uint64_t k;
static _Alignas(64) lanes memory[2], before[2]; /* what a store may write, and how it was */
static uint64_t seed = 20;

static inline int64_t saturate(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

static inline int32_t saturate_s8(int64_t value) {
    return (int32_t)saturate(value, INT8_MIN, INT8_MAX);
}

static inline int32_t saturate_s16(int64_t value) {
    return (int32_t)saturate(value, INT16_MIN, INT16_MAX);
}

/* value * 2^-n, floor; n beyond 63 too. */
static inline int64_t shift_right(int64_t value, uint64_t n) {
    return n > 63 ? (value < 0 ? -1 : 0) : value >> n;
}

static inline uint64_t shift_right_u(uint64_t value, uint64_t n) {
    return n > 63 ? 0 : value >> n;
}

static inline uint64_t shift_left(uint64_t value, uint64_t n) {
    return n > 63 ? 0 : value << n;
}

/* Bit j of the index is from c, b, a (lowest first). */
static inline uint64_t ternary(int table, uint64_t a_bits, uint64_t b_bits, uint64_t c_bits) {
    uint64_t result = 0;
    for (int bit = 0; bit < 64; bit++) {
        const int index =
            (int)((a_bits >> bit & 1) << 2 | (b_bits >> bit & 1) << 1 | (c_bits >> bit & 1));
        result |= (uint64_t)(table >> index & 1) << bit;
    }
    return result;
}

static inline bool bit_of(uint64_t mask, int bit) {
    return (mask >> bit & 1) != 0;
}

/* All lanes of one width, so that extremes of each width come up; a third of the lanes extreme. */
static void draw_integers(lanes *out) {
    static const int widths[] = {8, 16, 32, 64};
    const int width = widths[check_random(&seed) % 4];
    for (int i = 0; i < 512 / width; i++) {
        uint64_t value = check_random(&seed);
        switch (check_random(&seed) % 24) {
        case 0: value = 0; break;
        case 1: value = 1; break;
        case 2: value = ~UINT64_C(0); break;
        case 3: value = UINT64_C(1) << (width - 1); break;
        case 4: value = (UINT64_C(1) << (width - 1)) - 1; break;
        case 5: value = (UINT64_C(1) << (width - 1)) + 1; break;
        case 6: value %= 8; break;
        case 7: value = 0 - value % 8; break;
        default: break;
        }
        switch (width) {
        case 8: out->u8[i] = (uint8_t)value; break;
        case 16: out->u16[i] = (uint16_t)value; break;
        case 32: out->u32[i] = (uint32_t)value; break;
        default: out->u64[i] = value; break;
        }
    }
}

/* Near integers and ties of rounding as often as anything else, and every special value. */
static double draw_float(double limit) {
    static const double special[] = {0.0,  -0.0, 1.0,   -1.0,     0.5,
                                     -0.5, 1e30, -1e30, 0x1p-126, -0x1p-149};
    const uint64_t kind = check_random(&seed) % 16;
    const double integer = (double)check_random_in(&seed, -1000, 1000);
    switch (kind) {
    case 0: return INFINITY;
    case 1: return -INFINITY;
    case 2: return NAN;
    case 3: return limit;
    case 4: return -limit;
    case 5: return 1.5 * limit;
    case 6:
    case 7: return special[check_random(&seed) % (sizeof special / sizeof special[0])];
    case 8:
    case 9: return integer;
    case 10:
    case 11: return integer + 0.5;
    default:
        return ldexp((double)(int64_t)check_random(&seed), (int)check_random_in(&seed, -90, -20));
    }
}

static void draw_floats(lanes *floats, lanes *doubles) {
    for (int i = 0; i < 16; i++) {
        floats->f32[i] = (float)draw_float(0x1p31);
    }
    for (int i = 0; i < 8; i++) {
        doubles->f64[i] = draw_float(i % 2 == 0 ? 0x1p31 : 0x1p63);
    }
}

static void draw(void) {
    draw_integers(&x);
    draw_integers(&y);
    draw_integers(&z);
    draw_floats(&fx, &dx);
    draw_floats(&fy, &dy);
    draw_floats(&fz, &dz);
    for (int i = 0; i < 32; i++) {
        n16.u16[i] = (uint16_t)check_random_in(&seed, 0, 17);
    }
    for (int i = 0; i < 16; i++) {
        n32.u32[i] = (uint32_t)check_random_in(&seed, 0, 35);
    }
    for (int i = 0; i < 8; i++) {
        n64.u64[i] = (uint64_t)check_random_in(&seed, 0, 70);
    }
    k = check_random(&seed) & (check_random(&seed) % 4 == 0 ? 0 : ~UINT64_C(0));
    for (int i = 0; i < 2; i++) {
        draw_integers(&before[i]);
    }
    memcpy(memory, before, sizeof memory);
}

/* NaNs are one value: their payloads are no part of the model. */
static inline void one_nan_f32(lanes *v) {
    for (int i = 0; i < 16; i++) {
        v->u32[i] = isnan(v->f32[i]) ? 0x7fc00000u : v->u32[i];
    }
}

static inline void one_nan_f64(lanes *v) {
    for (int i = 0; i < 8; i++) {
        v->u64[i] = isnan(v->f64[i]) ? UINT64_C(0x7ff8) << 48 : v->u64[i];
    }
}

/* First argument: the lanes' name, as text. */
static void compare(const char *type, lanes *got, lanes *want, size_t size, const char *file,
                    int line, const char *name) {
    if (strcmp(type, "f32") == 0) {
        one_nan_f32(got);
        one_nan_f32(want);
    } else if (strcmp(type, "f64") == 0) {
        one_nan_f64(got);
        one_nan_f64(want);
    }
    check_bytes(got, want, size, file, line, name);
}

#define LANES_OF(R, lane) (int)(sizeof(R) / sizeof(x.lane[0]))

/* A vector, or a scalar as its lane 0. */
#define ROW(name, R, lane, arguments, model) \
    do { \
        const R result_ = name arguments; \
        lanes got_ = {{0}}, want_ = {{0}}; \
        memcpy(&got_, &result_, sizeof result_); \
        for (int i = 0; i < LANES_OF(R, lane); i++) { \
            want_.lane[i] = (model); \
        } \
        compare(#lane, &got_, &want_, sizeof result_, __FILE__, __LINE__, #name); \
    } while (0)

/* A mask of `bits` bits. */
#define MASK_ROW(name, bits, arguments, model) \
    do { \
        uint64_t want_ = 0; \
        for (int i = 0; i < (bits); i++) { \
            want_ |= (uint64_t)((model) ? 1 : 0) << i; \
        } \
        check_equal((int64_t)(uint64_t)(name arguments), (int64_t)want_, __FILE__, __LINE__, \
                    #name); \
    } while (0)

/* Writes to `memory`, `count` lanes of it as the model says, all else as `before`. */
#define STORE_ROW(name, lane, count, arguments, model) \
    do { \
        lanes want_[2]; \
        memcpy(want_, before, sizeof want_); \
        for (int i = 0; i < (count); i++) { \
            want_[0].lane[i] = (model); \
        } \
        name arguments; \
        check_bytes(memory, want_, sizeof want_, __FILE__, __LINE__, #name); \
        memcpy(memory, before, sizeof memory); \
    } while (0)

/* Apart from what asks for the instructions: the compiler may use them anywhere in here, a
 * sanitizer's prologue included. */
static __attribute__((noinline)) int simd_run_rows(const char *name, void (*load)(void),
                                                   void (*rows)(void)) {
    for (int round = 0; round < 400; round++) {
        draw();
        load();
        rows();
    }
    char title[100];
#if defined(PQ_SIMDE)
    snprintf(title, sizeof title, "%s, emulated", name);
#else
    snprintf(title, sizeof title, "%s, native", name);
#endif
    return check_finish(title);
}

/* Says how the rows were run; all of them many times. Returns main's exit status. */
static inline int simd_run(const char *name, uint32_t needs, void (*load)(void),
                           void (*rows)(void)) {
    if ((pq_cpu_features() & needs) == needs) {
        return simd_run_rows(name, load, rows);
    }
    printf("%-24s not checked: this machine lacks the instructions (SIMDE=1 emulates them)\n",
           name);
    return 0;
}

#endif
