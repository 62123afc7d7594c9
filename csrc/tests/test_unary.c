/* unary: curves on numbers worked by hand, and every method over every kind of grid. */
#include <math.h>

#include "check.h"
#include "pyquant/derive_unary.h"

static char message[512];

#define BAD(call, status, text) \
    do { \
        CHECK_STATUS(call, status); \
        CHECK_TEXT(message, text); \
    } while (0)

static void test_ibert(void) {
    /* S = 1/4: b = floor(-1.769 * 4) = -8; c, one as if a = -1/4: 1 is -64. */
    const pq_ibert_erf erf = {.up = 0, .n = 0, .b = -8, .c = -64, .one = -64};
    CHECK_EQ(pq_unary_ibert_erf(&erf, 0), 0);
    CHECK_EQ(pq_unary_ibert_erf(&erf, 3), 25 - 64);
    CHECK_EQ(pq_unary_ibert_erf(&erf, -3), 64 - 25);
    CHECK_EQ(pq_unary_ibert_erf(&erf, 200), -64);
    const pq_ibert_erf shifted = {.up = 1, .n = 3, .b = -8, .c = -64, .one = -8};
    CHECK_EQ(pq_unary_ibert_erf(&shifted, 2), (16 - 64) / 8);
    CHECK_EQ(pq_unary_ibert_erf(&shifted, 3), (4 - 64) / 8 - 1); /* -7.5 floors to -8 */
    CHECK_EQ(pq_unary_ibert_erf(&shifted, -3), 7);               /* and 7.5 to 7 */

    /* An octave of 4 units, exp(p) ~ (p (p + 12) + 64) / 64: 64, 53, 44, 37 at p = 0 .. -3. */
    const pq_ibert_exp exps = {.shift = 0, .clip = 30, .bits = 8, .unit = 4, .b = 12, .c = 64};
    CHECK_EQ(pq_unary_ibert_exp(&exps, 0), 64);
    CHECK_EQ(pq_unary_ibert_exp(&exps, -3), 37);
    CHECK_EQ(pq_unary_ibert_exp(&exps, -4), 32);
    CHECK_EQ(pq_unary_ibert_exp(&exps, -9), 53 >> 2);
    CHECK_EQ(pq_unary_ibert_exp(&exps, 4), 128);
    CHECK_EQ(pq_unary_ibert_exp(&exps, 1), 37 * 2);
    CHECK_EQ(pq_unary_ibert_exp(&exps, 1000), INT32_MAX);
    CHECK_EQ(pq_unary_ibert_exp(&exps, -1000), 0);
    CHECK_EQ(pq_unary_ibert_sigmoid(&exps, 0), 128);
    CHECK_EQ(pq_unary_ibert_sigmoid(&exps, 4), (64 * 256 + 48) / 96);
    CHECK_EQ(pq_unary_ibert_sigmoid(&exps, -4), (32 * 256 + 48) / 96);
}

static void test_ivit(void) {
    /* 16 units an octave. t' = t + (t >> 1) - (t >> 4): -16 -> -23 = -1 octave and -7. */
    const pq_ivit_exp k = {.up = 0, .shift = 4, .clip = 4, .bits = 8, .division = 31, .unit = 16};
    CHECK_EQ(pq_unary_ivit_exp(&k, 0), 16 * 16);
    CHECK_EQ(pq_unary_ivit_exp(&k, -16), (32 - 7) * 8 / 2);
    CHECK_EQ(pq_unary_ivit_exp(&k, -1), (32 - 1) * 8); /* -1 - 1 + 1 = -1 */
    CHECK_EQ(pq_unary_ivit_exp(&k, -3), (32 - 4) * 8); /* -3 - 2 + 1 */
    CHECK_EQ(pq_unary_ivit_exp(&k, 16), (32 - 9) * 32); /* 23: 2 octaves - 9 */
    /* sigmoid(0): 256 / 512; F = (2^31 - 1) / 512 = 4194303, one below 2^22: floors to 63. */
    CHECK_EQ(pq_unary_ivit_sigmoid(&k, 0), 63);
    CHECK_EQ(pq_unary_ivit_sigmoid(&k, 255), 256 * (INT64_C(2147483647) / (256 + 16)) >> 24);
    CHECK_EQ(pq_unary_ivit_sigmoid(&k, -255), 16 * (INT64_C(2147483647) / (256 + 16)) >> 24);
}

static void test_poly_and_lines(void) {
    const pq_poly poly = {.up = 1, .square = 2, .n = 1, .b = -8, .c = -256, .one = -128};
    CHECK_EQ(pq_unary_poly(&poly, 0), 0);
    CHECK_EQ(pq_unary_poly(&poly, 1), (9 * 9 - 256 - 1) / 2); /* w = -6, h = 9, -175 / 2 floors */
    CHECK_EQ(pq_unary_poly(&poly, -1), 88);
    CHECK_EQ(pq_unary_poly(&poly, 100), -128);
    const pq_nnlut lines = {
        .entries = 3, .start = {-100, 0, 10}, .slope = {0, 2, -1}, .intercept = {7, 1, 50}};
    CHECK_EQ(pq_unary_nnlut(&lines, -255), 7);
    CHECK_EQ(pq_unary_nnlut(&lines, -1), 7);
    CHECK_EQ(pq_unary_nnlut(&lines, 0), 1);
    CHECK_EQ(pq_unary_nnlut(&lines, 9), 19);
    CHECK_EQ(pq_unary_nnlut(&lines, 10), 40);
}

static void test_shapes(void) {
    pq_unary_constants k = {.curve = PQ_CURVE_IBERT_EXP,
                            .shape = PQ_SHAPE_GATE,
                            .of.ibert_exp = {.clip = 30, .bits = 8, .unit = 4, .b = 12, .c = 64},
                            .x_zero_point = 3,
                            .requant = {1 << 30, 31},
                            .out = {5, -100, 100}};
    CHECK_EQ(pq_unary_apply(&k, 3), 128 / 2 + 5);
    CHECK_EQ(pq_unary_apply(&k, 7), (171 + 1) / 2 + 5);
    k.shape = PQ_SHAPE_PRODUCT;
    CHECK_EQ(pq_unary_apply(&k, 2), -1 * 116 / 2 + 5); /* 53 / (64 + 53) * 256 = 115.97 */
    CHECK_EQ(pq_unary_apply(&k, 100), 100);
    k.shape = PQ_SHAPE_ODD;
    CHECK_EQ(pq_unary_apply(&k, 7), (2 * 171 - 256) / 2 + 5);
    CHECK_EQ(pq_unary_apply(&k, -1), (2 * 85 - 256) / 2 + 5);
    k.shape = PQ_SHAPE_CURVE;
    CHECK_EQ(pq_unary_apply(&k, 3), 64 / 2 + 5);
}

/* How far a method's value may be from the function's, on either side. The figures are those of the
 * oracle tests, rounded up. ShiftGELU floors its sigmoid to 7 bits and so loses a share of |x|. An
 * exponent is off by a share of x, and so is the logarithm of exp. */
static double allowed(int32_t method, pq_unary function, double x, double want, bool above) {
    if (function == PQ_UNARY_EXP && method != PQ_UNARY_NNLUT) {
        const double factor = 1.08 * exp(0.009 * fmin(fabs(x), 1e3));
        return above ? want * factor - want : want - want / factor;
    }
    return 0.05 + (method == PQ_UNARY_IVIT ? fabs(x) / 64.0 : 0.0);
}

static void check_table(int32_t method, pq_unary function, pq_affine x, pq_affine y,
                        const int8_t table[256]) {
    /* One step for two roundings; lines share 256 points among 16 of them. */
    const double steps = method == PQ_UNARY_NNLUT ? 4.0 : 1.0, unit = (double)y.scale;
    for (int32_t q = x.quant_min; q <= x.quant_max; q++) {
        const double at = (q - x.zero_point) * (double)x.scale;
        const double want = fmin(pq_unary_value(function, at), 1e40); /* beyond every grid */
        const double off = method == PQ_UNARY_NNLUT ? 0.0 : 1.0;
        const double low = (want - off * allowed(method, function, at, want, false)) / unit - steps;
        const double high = (want + off * allowed(method, function, at, want, true)) / unit + steps;
        const int32_t got = table[q + 128];
        const bool fine = (got - y.zero_point >= low || got == y.quant_max) &&
                          (got - y.zero_point <= high || got == y.quant_min);
        CHECK(fine);
        if (!fine) {
            fprintf(stderr, "method %d, %s, scales %g %g, zero point %d, q %d: %d, want %g\n",
                    (int)method, pq_unary_name(function), (double)x.scale, unit,
                    (int)x.zero_point, (int)q, (int)got, want / unit + y.zero_point);
        }
    }
}

/* Any scale, zero point and range: no undefined behaviour (the sanitizers watch), and a table that
 * is near the function. */
static void test_grids(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    static const float scales[] = {0x1p-100F, 0x1p-40F, 0x1p-25F, 0x1p-23F, 0x1p-14F,
                                   1e-3F,     0.03F,    0.2F,     0.9F,     4.0F,
                                   0x1p6F,    0x1p7F,   0x1p9F,   0x1p100F};
    static const int32_t ranges[][3] = {{-128, 127, 0}, {-128, 127, -128}, {-128, 127, 127},
                                        {-2, 1, -1},    {-1, 1, 0},        {5, 5, 5}};
    enum { SCALES = sizeof scales / sizeof scales[0], RANGES = sizeof ranges / sizeof ranges[0] };
    for (int32_t code = PQ_UNARY_TABLE; code < PQ_UNARY_METHOD_COUNT; code++) {
        const pq_method method = pq_method_default(PQ_METHOD_UNARY, code);
        for (int i = 0; i < SCALES * SCALES * RANGES; i++) {
            const int32_t *const r = ranges[i % RANGES];
            const pq_affine x = {scales[i / RANGES % SCALES], r[2], r[0], r[1]};
            const pq_affine y = {scales[i / RANGES / SCALES], -3, -128, 127};
            for (int f = 0; f < PQ_UNARY_COUNT; f++) {
                int8_t table[256];
                /* the fit of lines is slow: its functions take turns */
                if (!pq_unary_gives(code, (pq_unary)f) ||
                    (code == PQ_UNARY_NNLUT && (f + i) % 17 != 0)) {
                    continue;
                }
                CHECK_OK(pq_derive_unary_table(&exec, (pq_unary)f, &method, x, y, table));
                check_table(code, (pq_unary)f, x, y, table);
            }
        }
    }
}

/* The ends of every parameter, where bounds are nearest. */
static void test_parameters(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const pq_method_list *list = pq_method_list_of(PQ_METHOD_UNARY);
    for (int32_t code = PQ_UNARY_IBERT; code < PQ_UNARY_METHOD_COUNT; code++) {
        for (int ends = 0; ends < 1 << PQ_METHOD_PARAMETERS; ends++) {
            pq_method method = {.code = code};
            for (int p = 0; p < PQ_METHOD_PARAMETERS; p++) {
                const pq_method_parameter *at = &list->rows[code].parameters[p];
                method.parameters[p] = at->name == NULL ? 0.0 : ends >> p & 1 ? at->high : at->low;
            }
            for (int i = 0; i < 5 * 3; i++) {
                static const float scales[] = {0x1p-100F, 0x1p-12F, 0.05F, 2.0F, 0x1p100F};
                const pq_affine x = {scales[i % 5], i / 5 * 127 - 128 + i / 10, -128, 127};
                const pq_affine y = {0.02F, 0, -128, 127};
                for (int f = 0; f < PQ_UNARY_COUNT; f++) {
                    int8_t table[256];
                    if (pq_unary_gives(code, (pq_unary)f) && (code != PQ_UNARY_NNLUT || f < 4)) {
                        CHECK_OK(pq_derive_unary_table(&exec, (pq_unary)f, &method, x, y, table));
                    }
                }
            }
        }
    }
}

static void test_refused(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const pq_affine unit = {1.0F, 0, -128, 127}, wide = {1.0F, 0, -129, 127},
                    zero = {0.0F, 0, -128, 127};
    pq_method method = pq_method_default(PQ_METHOD_UNARY, PQ_UNARY_IVIT);
    pq_unary_constants constants;
    int8_t table[256];
    BAD(pq_derive_unary(&exec, PQ_UNARY_TANH, &method, unit, unit, &constants), PQ_ERR_VALUE,
        "that method ivit has (gelu, gelu_tanh, quick_gelu, silu, sigmoid, exp), got tanh");
    BAD(pq_derive_unary_table(&exec, PQ_UNARY_RELU, &method, unit, unit, table), PQ_ERR_VALUE,
        "got relu");
    BAD(pq_derive_unary(&exec, PQ_UNARY_COUNT, &method, unit, unit, &constants), PQ_ERR_VALUE,
        "a function in [0, 17), got 17");
    BAD(pq_derive_unary(&exec, PQ_UNARY_GELU, &method, wide, unit, &constants), PQ_ERR_VALUE,
        "range of x inside [-128, 127]");
    BAD(pq_derive_unary_table(&exec, PQ_UNARY_GELU, &method, unit, zero, table), PQ_ERR_VALUE, "y");
    method.parameters[1] = 1.0;
    BAD(pq_derive_unary(&exec, PQ_UNARY_GELU, &method, unit, unit, &constants), PQ_ERR_VALUE,
        "bits of ivit an integer in [2, 16], got 1");
    method.code = PQ_UNARY_METHOD_COUNT;
    BAD(pq_derive_unary(&exec, PQ_UNARY_GELU, &method, unit, unit, &constants), PQ_ERR_VALUE,
        "code of a method");
    CHECK(!pq_unary_gives(-1, PQ_UNARY_GELU));
    CHECK(!pq_unary_gives(PQ_UNARY_METHOD_COUNT, PQ_UNARY_GELU));
    const pq_method exact = pq_method_default(PQ_METHOD_UNARY, PQ_UNARY_TABLE);
    BAD(pq_derive_unary(&exec, PQ_UNARY_GELU, &exact, unit, unit, &constants), PQ_ERR_VALUE,
        "a method other than table");
}

int main(void) {
    test_ibert();
    test_ivit();
    test_poly_and_lines();
    test_shapes();
    test_grids();
    test_parameters();
    test_refused();
    return check_finish("test_unary");
}
