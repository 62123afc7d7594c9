/* derive: numbers by hand, and what must hold of every constant (long double, exact integers). */
#include <math.h>

#include "check.h"
#include "pyquant/derive.h"
#include "pyquant/rnu.h"
#include "split_exec.h"

static char message[256];
static uint64_t seed = 17, split_state = 19;

#define BAD(call, status, text) \
    do { \
        CHECK_STATUS((call), (status)); \
        CHECK_TEXT(message, (text)); \
    } while (0)

static double random_real(double low, double high) {
    return low + (high - low) * (double)(check_random(&seed) >> 11) * 0x1p-53;
}

static void test_dyadic(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    static const struct {
        double real;
        int32_t multiplier;
        int shift;
    } table[] = {
        {1.0, 1 << 30, 30},
        {0.5, 1 << 30, 31},
        {0.75, 3 << 29, 31},
        {3.0, 3 << 29, 29},
        {1.0 / 3, 1431655765, 32},    /* 2^33 / 6 = 1431655765.33 */
        {1.0 - 0x1p-33, 1 << 30, 30}, /* rounds to 2^31: renormalised */
        {1.0 - 0x1p-31, INT32_MAX, 31},
        {1.0 - 0x1p-32, 1 << 30, 30}, /* 2^31 - 1/2: a tie, to even */
        {0x1p-32, 1 << 30, 62},
        {0x1p-33, 1 << 30, 62}, /* too small: 0 for every int32 */
        {5e-324, 1 << 30, 62},
        {0x1p29, 1 << 30, 1},
        {0x1.fffffffcp29, INT32_MAX, 1},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        pq_dyadic d = {0};
        CHECK_OK(pq_derive_dyadic(&exec, table[i].real, &d));
        CHECK_EQ(d.multiplier, table[i].multiplier);
        CHECK_EQ(d.shift, table[i].shift);
    }
    pq_dyadic d;
    CHECK_OK(pq_derive_dyadic(&exec, 0x1p-33, &d));
    CHECK_EQ(pq_rnu(INT32_MIN, d.multiplier, d.shift), 0);
    CHECK_EQ(pq_rnu(INT32_MAX, d.multiplier, d.shift), 0);
    for (int i = 0; i < 2000; i++) {
        const double real = ldexp(random_real(0.5, 1.0), (int)check_random_in(&seed, -30, 30));
        CHECK_OK(pq_derive_dyadic(&exec, real, &d));
        CHECK(d.multiplier >= 1 << 30 && d.shift >= 1 && d.shift <= 62);
        const long double error = ldexpl(d.multiplier, -d.shift) - (long double)real;
        CHECK(fabsl(error) <= (long double)real * 0x1p-31L);
    }
    BAD(pq_derive_dyadic(&exec, 0.0, &d), PQ_ERR_VALUE,
        "derive_dyadic: expected a finite multiplier > 0, got 0");
    BAD(pq_derive_dyadic(&exec, -1.0, &d), PQ_ERR_VALUE, "got -1");
    BAD(pq_derive_dyadic(&exec, (double)NAN, &d), PQ_ERR_VALUE, "nan");
    BAD(pq_derive_dyadic(&exec, (double)INFINITY, &d), PQ_ERR_VALUE, "got inf");
    BAD(pq_derive_dyadic(&exec, 0x1p30, &d), PQ_ERR_OVERFLOW, "below 2^30, got 1.07374e+09");
}

static void test_weights(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    /* 8 bits: absmax 254 -> 2; all zero -> 1; a bias of 2^31 at s_x = 1 wants 2; 4 bits: 254 / 7.
     */
    const float w[3 * 2] = {254.0F, -127.0F, 0.0F, 0.0F, 0.5F, 0.0F},
                      bias[3] = {0.0F, 0.0F, 0x1p31F};
    float scale[3];
    CHECK_OK(pq_derive_weight_scale(&exec, 3, 2, w, bias, 1.0F, 8, scale));
    CHECK(scale[0] == 2.0F && scale[1] == 1.0F && scale[2] == 2.0F);
    CHECK_OK(pq_derive_weight_scale(&exec, 1, 2, w, NULL, 1.0F, 4, scale));
    CHECK(scale[0] == (float)(254.0 / 7.0));
    const float tiny[1] = {0x1p-140F}, huge[1] = {0x1p127F};
    CHECK_OK(pq_derive_weight_scale(&exec, 1, 1, tiny, NULL, 1.0F, 8, scale));
    CHECK(scale[0] == 0x1p-100F);
    CHECK_OK(pq_derive_weight_scale(&exec, 1, 1, huge, NULL, 1.0F, 8, scale));
    CHECK(scale[0] == 0x1p100F);

    /* s_x = 1/2, s_w = 2, s_y = 4: M = 1/4. Weights: 3/2 -> 2, 5/2 -> 2 (to even), clamped at +-7.
     */
    const float w4[4] = {3.0F, 5.0F, 100.0F, -100.0F}, b1[1] = {2.5F}, s1[1] = {2.0F};
    int8_t w_q[4];
    int32_t bias_q[1], multiplier[1];
    uint8_t shift[1];
    CHECK_OK(
        pq_derive_gemm(&exec, 1, 4, w4, b1, s1, 4, 0.5F, 4.0F, w_q, bias_q, multiplier, shift));
    CHECK_EQ(w_q[0], 2);
    CHECK_EQ(w_q[1], 2);
    CHECK_EQ(w_q[2], 7);
    CHECK_EQ(w_q[3], -7);
    CHECK_EQ(bias_q[0], 2); /* 2.5 to even */
    CHECK_EQ(multiplier[0], 1 << 30);
    CHECK_EQ(shift[0], 32);
    /* No bias, no weights. */
    CHECK_OK(
        pq_derive_gemm(&exec, 1, 0, NULL, NULL, s1, 8, 1.0F, 1.0F, w_q, bias_q, multiplier, shift));
    CHECK_EQ(bias_q[0], 0);

    /* The accumulator bound, to the unit: 255 * 127 + bias = 2^31 - 1 passes. */
    const float full[1] = {127.0F}, one[1] = {1.0F};
    /* 2^31 - 1 - 32385 = 2147451262 is not a float32; the next lower, 2147451136, passes, the next
     * higher, 2147451264, is one too many by 2. */
    const float fits[1] = {2147451136.0F}, over[1] = {2147451264.0F};
    CHECK_OK(pq_derive_gemm(&exec, 1, 1, full, fits, one, 8, 1.0F, 1.0F, w_q, bias_q, multiplier,
                            shift));
    CHECK_EQ(bias_q[0], 2147451136);
    BAD(pq_derive_gemm(&exec, 1, 1, full, over, one, 8, 1.0F, 1.0F, w_q, bias_q, multiplier, shift),
        PQ_ERR_OVERFLOW,
        "derive_gemm: expected |bias| + 255 * sum |w| <= 2147483647, got 2147451264 + 255 * 127 in "
        "channel 0");
    const float far_bias[1] = {0x1p120F};
    BAD(pq_derive_gemm(&exec, 1, 1, full, far_bias, one, 8, 1.0F, 1.0F, w_q, bias_q, multiplier,
                       shift),
        PQ_ERR_OVERFLOW, "in channel 0");

    float bad[6] = {1.0F, 2.0F, NAN, 1.0F, INFINITY, NAN};
    const float three[3] = {1.0F, 1.0F, 1.0F};
    int8_t q6[6];
    int32_t b3[3], m3[3];
    uint8_t s3[3];
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    BAD(pq_derive_weight_scale(&split, 3, 2, bad, NULL, 1.0F, 8, scale), PQ_ERR_NAN,
        "derive_weight_scale: a weight of channel 1 is NaN"); /* the first, whoever met one first */
    BAD(pq_derive_gemm(&split, 3, 2, bad, NULL, three, 8, 1.0F, 1.0F, q6, b3, m3, s3), PQ_ERR_NAN,
        "derive_gemm: a weight of channel 1 is NaN");
    bad[2] = 0.0F;
    bad[5] = 0.0F;
    BAD(pq_derive_weight_scale(&exec, 3, 2, bad, NULL, 1.0F, 8, scale), PQ_ERR_VALUE,
        "infinity in channel 2");
    BAD(pq_derive_gemm(&exec, 3, 2, bad, NULL, three, 8, 1.0F, 1.0F, q6, b3, m3, s3), PQ_ERR_VALUE,
        "infinity in channel 2");
    const float nan_bias[1] = {NAN}, nan_scale[1] = {NAN};
    BAD(pq_derive_weight_scale(&exec, 1, 1, one, nan_bias, 1.0F, 8, scale), PQ_ERR_NAN,
        "the bias of channel 0 is NaN");
    BAD(pq_derive_gemm(&exec, 1, 1, one, nan_bias, one, 8, 1.0F, 1.0F, q6, b3, m3, s3), PQ_ERR_NAN,
        "the bias of channel 0");
    BAD(pq_derive_gemm(&exec, 1, 1, one, NULL, nan_scale, 8, 1.0F, 1.0F, q6, b3, m3, s3),
        PQ_ERR_VALUE, "derive_gemm: expected w_scale[0] in [2^-100, 2^100], got");
    BAD(pq_derive_gemm(&exec, 1, 1, one, NULL, one, 9, 1.0F, 1.0F, q6, b3, m3, s3), PQ_ERR_VALUE,
        "bits in [2, 8], got 9");
    BAD(pq_derive_weight_scale(&exec, 1, 1, one, NULL, 1.0F, 1, scale), PQ_ERR_VALUE,
        "bits in [2, 8], got 1");
    BAD(pq_derive_weight_scale(&exec, 1, 1, one, NULL, 0.0F, 8, scale), PQ_ERR_VALUE,
        "x_scale in [2^-100, 2^100], got 0");
    BAD(pq_derive_gemm(&exec, 1, 1, one, NULL, one, 8, 1.0F, INFINITY, q6, b3, m3, s3),
        PQ_ERR_VALUE, "y_scale");
    BAD(pq_derive_gemm(&exec, 1, 1, one, NULL, one, 8, 0x1p60F, 1.0F, q6, b3, m3, s3),
        PQ_ERR_OVERFLOW, "below 2^30");
    BAD(pq_derive_gemm(&exec, SIZE_MAX / 2, 3, one, NULL, one, 8, 1.0F, 1.0F, q6, b3, m3, s3),
        PQ_ERR_OVERFLOW, "n * k to fit in memory");
}

/* Scales from the data, then constants: each within half a unit of the real value, the same for any
 * split. */
static void test_weights_random(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    enum { N = 37, K = 53 };
    static float w[N * K], bias[N], scale[N], scale_split[N];
    static int8_t w_q[N * K], w_q_split[N * K];
    static int32_t bias_q[N], multiplier[N], other[N];
    static uint8_t shift[N], shift_split[N];
    for (int round = 0; round < 40; round++) {
        const int bits = 2 + round % 7, quant_max = (1 << (bits - 1)) - 1;
        const float x_scale = (float)random_real(0.001, 0.1),
                    y_scale = (float)random_real(0.01, 1.0);
        for (int i = 0; i < N * K; i++) {
            w[i] = (float)random_real(-1.0, 1.0);
        }
        for (int j = 0; j < N; j++) {
            bias[j] = (float)random_real(-2.0, 2.0);
        }
        CHECK_OK(pq_derive_weight_scale(&exec, N, K, w, bias, x_scale, bits, scale));
        CHECK_OK(pq_derive_gemm(&exec, N, K, w, bias, scale, bits, x_scale, y_scale, w_q, bias_q,
                                multiplier, shift));
        CHECK_OK(pq_derive_weight_scale(&split, N, K, w, bias, x_scale, bits, scale_split));
        CHECK_OK(pq_derive_gemm(&split, N, K, w, bias, scale, bits, x_scale, y_scale, w_q_split,
                                other, multiplier, shift_split));
        CHECK_SAME(scale_split, scale, sizeof scale);
        CHECK_SAME(w_q_split, w_q, sizeof w_q);
        CHECK_SAME(other, bias_q, sizeof bias_q);
        CHECK_SAME(shift_split, shift, sizeof shift);
        for (int j = 0; j < N; j++) {
            int largest = 0;
            for (int p = 0; p < K; p++) {
                const int q = w_q[j * K + p];
                largest = abs(q) > largest ? abs(q) : largest;
                /* float32 division errs by 2^-24 of a quotient of at most 127 */
                CHECK(fabs((double)w[j * K + p] / (double)scale[j] - q) <= 0.5 + 1e-5);
            }
            CHECK_EQ(largest, quant_max); /* the scale is the least that does not clip */
            const double acc_scale = (double)x_scale * (double)scale[j];
            CHECK(fabs((double)bias[j] / acc_scale - bias_q[j]) <= 0.5 + 1e-6);
            const double m = acc_scale / (double)y_scale;
            CHECK(fabs(ldexp(multiplier[j], -shift[j]) - m) <= m * 0x1p-31);
        }
    }
}

static const pq_affine unit = {1.0F, 0, -128, 127};

static int32_t exponentials[PQ_SOFTMAX_ENTRIES_MAX];

static void test_attention(void) {
    const pq_method table16 = pq_method_default(PQ_METHOD_SOFTMAX, PQ_SOFTMAX_TABLE16);
    const pq_method table8 = pq_method_default(PQ_METHOD_SOFTMAX, PQ_SOFTMAX_TABLE8);
    const pq_method none = {.code = PQ_SOFTMAX_METHOD_COUNT};
    pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_softmax softmax;
    pq_dyadic requant;
    /* M = ln 2 * log2(e) * 32 = 32 up to rounding, head_dim 64: 480 / 32 = 15 units reach the end.
     * s = 23 is the largest with 480.. * 2^s + 2^(s-1) < 2^32 and m = 32 * 2^s <= what is left. */
    CHECK_OK(pq_derive_attention(&exec, &table16, unit, unit, unit, unit,
                                 0.69314718055994530942, 64, 197, false, exponentials, &softmax, &requant));
    CHECK_EQ(softmax.method, PQ_SOFTMAX_TABLE16);
    CHECK_EQ(softmax.shift, 23);
    CHECK_EQ(softmax.multiplier, 32u << 23);
    CHECK_EQ(softmax.delta_max, 15);
    CHECK_EQ(softmax.pmax, 16383); /* (2^31 - 1) / (128 * 197) = 85163 */
    CHECK_EQ(softmax.table[0], 32766);
    CHECK_EQ(softmax.table[16], 23169); /* 32766 / sqrt 2 = 23169.06 */
    CHECK_EQ(softmax.table[31], 16742); /* 32766 * 0.51094857 = 16741.74 */
    CHECK_EQ(requant.multiplier, 1 << 30);
    CHECK_EQ(requant.shift, 30);
    CHECK_OK(pq_derive_attention(&exec, &table8, unit, unit, unit, unit, 0.125, 64, 65793,
                                 false, exponentials, &softmax, &requant));
    CHECK_EQ(softmax.pmax, 255);
    CHECK_EQ(softmax.table[0], 510);
    BAD(pq_derive_attention(&exec, &table8, unit, unit, unit, unit, 0.125, 64, 65794,
                            false, exponentials, &softmax, &requant),
        PQ_ERR_OVERFLOW,
        "derive_attention: expected at most 65793 keys (values up to 128), got 65794");
    /* A zero point at the end doubles |v - z_v|. */
    const pq_affine low_zero = {1.0F, -128, -128, 127};
    CHECK_OK(pq_derive_attention(&exec, &table16, unit, unit, low_zero, unit, 0.125, 64,
                                 1000, false, exponentials, &softmax, &requant));
    CHECK_EQ(softmax.pmax, 8421); /* (2^31 - 1) / (255 * 1000) */
    /* M so small that no score difference counts. */
    const pq_affine small = {0x1p-40F, 0, -128, 127};
    CHECK_OK(pq_derive_attention(&exec, &table16, small, unit, unit, unit, 0.125, 64, 10,
                                 false, exponentials, &softmax, &requant));
    CHECK_EQ(softmax.multiplier, 0);
    CHECK_EQ(softmax.delta_max, 0);
    CHECK(softmax.shift >= 1 && softmax.shift <= 31);
    const pq_affine large = {0x1p40F, 0, -128, 127};
    BAD(pq_derive_attention(&exec, &table16, large, unit, unit, unit, 1.0, 64, 10, false,
                            exponentials, &softmax, &requant),
        PQ_ERR_OVERFLOW,
        "q_scale * k_scale * softmax_scale) below 2^31 steps");
    BAD(pq_derive_attention(&exec, &table16, unit, unit, unit, unit, 0.0, 64, 10, false,
                            exponentials, &softmax, &requant),
        PQ_ERR_VALUE, "softmax_scale > 0, got 0");
    BAD(pq_derive_attention(&exec, &table16, unit, unit, unit, unit, 1.0, 32768, 10,
                            false, exponentials, &softmax, &requant),
        PQ_ERR_VALUE, "head_dim <= 32767, got 32768");
    BAD(pq_derive_attention(&exec, &none, unit, unit, unit, unit, 1.0, 64, 10, false,
                            exponentials, &softmax, &requant),
        PQ_ERR_VALUE, "softmax: expected the code of a method in [0, 9), got 9");
    const pq_affine wide = {1.0F, 0, -32768, 32767};
    BAD(pq_derive_attention(&exec, &table16, unit, wide, unit, unit, 1.0, 64, 10, false,
                            exponentials, &softmax, &requant),
        PQ_ERR_VALUE, "range of k inside [-128, 127], got [-32768, 32767]");
    const pq_affine coarse = {0x1p30F, 0, -128, 127};
    BAD(pq_derive_attention(&exec, &table16, unit, unit, unit, coarse, 1.0, 64, 1000,
                            false, exponentials, &softmax, &requant),
        PQ_ERR_OVERFLOW, "v_scale / y_scale of at least 2^");
    for (int round = 0; round < 3000; round++) {
        const double scale = ldexp(random_real(0.5, 1.0), (int)check_random_in(&seed, -45, 25));
        const size_t d = (size_t)check_random_in(&seed, 0, round % 2 == 0 ? 128 : 32767);
        const bool masked = round % 3 == 0;
        CHECK_OK(pq_derive_attention(&exec, &table16, unit, unit, unit, unit, scale, d,
                                     100, masked, exponentials, &softmax, &requant));
        const uint64_t bound = UINT64_C(65280) * d + (masked ? UINT64_C(1) << 25 : 0);
        const uint64_t half = UINT64_C(1) << (softmax.shift - 1);
        CHECK((uint64_t)softmax.delta_max * softmax.multiplier + half < UINT64_C(1) << 32);
        CHECK(softmax.delta_max <= bound);
        /* Beyond delta_max either no score lies or the weight is 0 already. */
        const uint64_t index =
            ((uint64_t)softmax.delta_max * softmax.multiplier + half) >> softmax.shift;
        CHECK(softmax.multiplier == 0 || softmax.delta_max == bound ||
              index >= PQ_SOFTMAX_INDEX_END);
        /* m / 2^s is M to half a unit of 2^-s. */
        const long double step = (long double)scale * 32 / logl(2);
        CHECK(fabsl(ldexpl(softmax.multiplier, -softmax.shift) - step) <=
              ldexpl(0.5L, -softmax.shift) + step * 0x1p-50L);
    }
}

static void test_softmax_rows(void) {
    const pq_method table16 = pq_method_default(PQ_METHOD_SOFTMAX, PQ_SOFTMAX_TABLE16);
    const pq_method table8 = pq_method_default(PQ_METHOD_SOFTMAX, PQ_SOFTMAX_TABLE8);
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const pq_affine octave = {0.69314718F, 5, -32768, 32767};
    const pq_affine full = {0x1p-8F, -128, -128, 127};
    pq_softmax softmax;
    pq_dyadic requant;
    /* as for attention, but rows of up to (2^31 - 1) / 16383 = 131080.0004 have 14 bits */
    CHECK_OK(pq_derive_softmax_rows(&exec, &table16, octave, full, 131080, exponentials, &softmax,
                                    &requant));
    CHECK_EQ(softmax.shift, 23);
    CHECK_EQ(softmax.delta_max, 15);
    CHECK_EQ(softmax.pmax, 16383);
    CHECK_EQ(requant.multiplier, 1 << 30); /* 2^8 = 2^30 / 2^22 */
    CHECK_EQ(requant.shift, 22);
    CHECK_OK(pq_derive_softmax_rows(&exec, &table16, octave, full, 131081, exponentials, &softmax,
                                    &requant));
    CHECK_EQ(softmax.pmax, 16382);
    /* so fine that 65535 units are less than the end: all of them count */
    const pq_affine fine = {1e-6F, 0, -32768, 32767};
    CHECK_OK(pq_derive_softmax_rows(&exec, &table16, fine, full, 0, exponentials, &softmax,
                                    &requant));
    CHECK_EQ(softmax.delta_max, 65535);
    BAD(pq_derive_softmax_rows(&exec, &table8, octave, full, 8421505, exponentials, &softmax,
                               &requant),
        PQ_ERR_OVERFLOW, "derive_softmax: expected at most 8421504 keys (values up to 1), got 842");
    const pq_affine coarse = {0x1p10F, 0, -128, 127};
    BAD(pq_derive_softmax_rows(&exec, &table16, octave, coarse, 65536, exponentials, &softmax,
                               &requant),
        PQ_ERR_OVERFLOW, "derive_softmax: expected y_scale of at most 2^2 for rows of 65536, got");
    const pq_affine none = {0.0F, 0, -128, 127};
    BAD(pq_derive_softmax_rows(&exec, &table16, none, full, 3, exponentials, &softmax, &requant),
        PQ_ERR_VALUE, "derive_softmax: ");
    const pq_affine huge = {0x1p60F, 0, -128, 127};
    BAD(pq_derive_softmax_rows(&exec, &table16, huge, full, 3, exponentials, &softmax, &requant),
        PQ_ERR_OVERFLOW, "the scale of the scores (x_scale, or ");
}

static void test_mask(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    /* alpha = 1/2 * 1/4 * 2 = 1/4. */
    const float mask[7] = {0.0F, -1.0F, 0.125F, 0.375F, -INFINITY, -3.4e38F, -1e12F};
    int32_t add[7];
    uint8_t keep[7];
    bool any_add = false, any_excluded = false;
    CHECK_OK(pq_derive_mask(&exec, 7, mask, 0.5F, 0.25F, 2.0, add, keep, &any_add, &any_excluded));
    const int32_t want_add[7] = {0, -4, 0, 2, 0, 0, -(1 << 24)}; /* 1/2 and 3/2 to even */
    const uint8_t want_keep[7] = {1, 1, 1, 1, 0, 0, 1};
    CHECK_SAME(add, want_add, sizeof add);
    CHECK_SAME(keep, want_keep, sizeof keep);
    CHECK(any_add && any_excluded);
    CHECK_OK(pq_derive_mask(&exec, 1, mask, 0.5F, 0.25F, 2.0, add, keep, &any_add, &any_excluded));
    CHECK(!any_add && !any_excluded);
    CHECK_OK(
        pq_derive_mask(&exec, 1, mask + 4, 0.5F, 0.25F, 2.0, add, keep, &any_add, &any_excluded));
    CHECK(!any_add && any_excluded);
    /* Any split says the same, also about which NaN comes first. */
    enum { MANY = 1000 };
    static float many[MANY];
    static int32_t add_many[MANY], add_split[MANY];
    static uint8_t keep_many[MANY], keep_split[MANY];
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    for (int i = 0; i < MANY; i++) {
        many[i] = i % 7 == 0 ? -INFINITY : (float)random_real(-100.0, 100.0);
    }
    CHECK_OK(pq_derive_mask(&exec, MANY, many, 0.5F, 0.25F, 2.0, add_many, keep_many, &any_add,
                            &any_excluded));
    CHECK_OK(pq_derive_mask(&split, MANY, many, 0.5F, 0.25F, 2.0, add_split, keep_split, &any_add,
                            &any_excluded));
    CHECK(any_add && any_excluded);
    CHECK_SAME(add_split, add_many, sizeof add_many);
    CHECK_SAME(keep_split, keep_many, sizeof keep_many);
    many[600] = many[300] = NAN;
    BAD(pq_derive_mask(&split, MANY, many, 0.5F, 0.25F, 2.0, add_split, keep_split, &any_add,
                       &any_excluded),
        PQ_ERR_NAN, "derive_mask: mask[300] is NaN");
    long first = 1;
    const pq_exec stopping = stopping_exec(&first, message, sizeof message);
    CHECK_STATUS(pq_derive_mask(&stopping, MANY, many, 0.5F, 0.25F, 2.0, add_split, keep_split,
                                &any_add, &any_excluded),
                 PQ_ERR_INTERRUPTED);
    const float nan[2] = {0.0F, NAN};
    BAD(pq_derive_mask(&exec, 2, nan, 0.5F, 0.25F, 2.0, add, keep, &any_add, &any_excluded),
        PQ_ERR_NAN, "derive_mask: mask[1] is NaN");
    BAD(pq_derive_mask(&exec, 1, mask, 0.5F, 0.25F, -2.0, add, keep, &any_add, &any_excluded),
        PQ_ERR_VALUE, "softmax_scale > 0, got -2");
    BAD(pq_derive_mask(&exec, 1, mask, 0.0F, 0.25F, 2.0, add, keep, &any_add, &any_excluded),
        PQ_ERR_VALUE, "q_scale");
}

static void test_layernorm(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    uint64_t epsilon_q = 0;
    int32_t gain[4], shift = 0;
    int64_t offset[4];
    /* C = 4, eps = 1/2, s_x = 1/2: E = 16 / 2 * 4 = 32. gamma / s_y = 4 * {1, -2, 0, 1/2}: 8 *
     * 2^(s-16) < 2^31 gives s <= 43; beta / s_y = 12 fits to s = 57. */
    const float gamma[4] = {1.0F, -2.0F, 0.0F, 0.5F}, beta[4] = {0.0F, 3.0F, -1.0F, 0.25F};
    CHECK_OK(pq_derive_layernorm(&exec, 4, gamma, beta, 0.5, 0.5F, 0.25F, &epsilon_q, gain, offset,
                                 &shift));
    CHECK_EQ(epsilon_q, 32);
    CHECK_EQ(shift, 43);
    CHECK_EQ(gain[0], 4 << 27);
    CHECK_EQ(gain[1], -(1 << 30));
    CHECK_EQ(gain[2], 0);
    CHECK_EQ(gain[3], 2 << 27);
    CHECK_EQ(offset[1], INT64_C(12) << 43);
    CHECK_EQ(offset[2], -(INT64_C(4) << 43));
    CHECK_OK(pq_derive_layernorm(&exec, 4, NULL, NULL, 0.0, 1.0F, 1.0F, &epsilon_q, gain, offset,
                                 &shift));
    CHECK_EQ(epsilon_q, 0);
    CHECK_EQ(shift, 46); /* 2^(46-16) < 2^31 <= 2^(47-16) */
    CHECK_EQ(gain[3], 1 << 30);
    CHECK_EQ(offset[3], 0);
    /* Nothing to hold: the largest shift there is. */
    const float zeros[4] = {0};
    CHECK_OK(pq_derive_layernorm(&exec, 4, zeros, zeros, 0.0, 1.0F, 1.0F, &epsilon_q, gain, offset,
                                 &shift));
    CHECK_EQ(shift, 62);
    /* A large beta decides: 2^40 * 2^s < 2^61. */
    const float far_beta[4] = {0x1p40F, 0, 0, 0};
    CHECK_OK(pq_derive_layernorm(&exec, 4, zeros, far_beta, 0.0, 1.0F, 1.0F, &epsilon_q, gain,
                                 offset, &shift));
    CHECK_EQ(shift, 20);
    CHECK_EQ(offset[0], INT64_C(1) << 60);
    const float nan[4] = {0, 0, NAN, 0}, infinite[4] = {0, INFINITY, 0, 0};
    BAD(pq_derive_layernorm(&exec, 4, nan, NULL, 0.0, 1.0F, 1.0F, &epsilon_q, gain, offset, &shift),
        PQ_ERR_NAN, "derive_layernorm: gamma[2] is NaN");
    BAD(pq_derive_layernorm(&exec, 4, NULL, infinite, 0.0, 1.0F, 1.0F, &epsilon_q, gain, offset,
                            &shift),
        PQ_ERR_VALUE, "expected finite beta, got infinity at [1]");
    BAD(pq_derive_layernorm(&exec, 4, NULL, NULL, -1.0, 1.0F, 1.0F, &epsilon_q, gain, offset,
                            &shift),
        PQ_ERR_VALUE, "epsilon >= 0, got -1");
    BAD(pq_derive_layernorm(&exec, 32767, NULL, NULL, 1.0, 0x1p-20F, 1.0F, &epsilon_q, gain, offset,
                            &shift),
        PQ_ERR_OVERFLOW, "channels^2 * epsilon / x_scale^2 <= 2^61");
    BAD(pq_derive_layernorm(&exec, 4, NULL, NULL, 0.0, 1.0F, 0x1p-60F, &epsilon_q, gain, offset,
                            &shift),
        PQ_ERR_OVERFLOW, "|gamma| / y_scale < 2^46");
    BAD(pq_derive_layernorm(&exec, 0, NULL, NULL, 0.0, 1.0F, 1.0F, &epsilon_q, gain, offset,
                            &shift),
        PQ_ERR_VALUE, "channels in [1, 32767], got 0");
    BAD(pq_derive_layernorm(&exec, 32768, NULL, NULL, 0.0, 1.0F, 1.0F, &epsilon_q, gain, offset,
                            &shift),
        PQ_ERR_VALUE, "got 32768");
}

static void test_norm(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    int32_t gain[4];
    int64_t offset[4];
    uint8_t alpha[4], exponent[4];
    pq_norm_constants k = {.gain = gain, .offset = offset, .alpha = alpha, .exponent = exponent};
    pq_method method = pq_method_default(PQ_METHOD_NORM, PQ_NORM_IVIT);
    /* C = 4: gamma * 2 / s_y = 8 * {1, -2, 0, 1/2}: 16 * 2^(s-30) < 2^31 gives s <= 56 */
    const float gamma[4] = {1.0F, -2.0F, 0.0F, 0.5F}, beta[4] = {0.0F, 3.0F, -1.0F, 0.25F};
    CHECK_OK(pq_derive_norm(&exec, &method, 4, gamma, beta, 0.5, 0.5F, 0.25F, NULL, &k));
    CHECK_EQ(k.method, PQ_NORM_IVIT);
    CHECK_EQ(k.iterations, 10);
    CHECK_EQ(k.epsilon, 0);
    CHECK_EQ(k.shift, 56);
    CHECK_EQ(gain[0], 1 << 29);
    CHECK_EQ(gain[1], -(1 << 30));
    CHECK_EQ(gain[2], 0);
    CHECK_EQ(gain[3], 1 << 28);
    CHECK_EQ(offset[1], INT64_C(12) << 56);
    /* Ranges over [-51, 204]: scale8 = 1, s1 = 1/8, z8 = -128 + 51 = -77. From there 204 steps up
     * and 51 down; the channels need 8, 4, 2 and 1 times s1. */
    const float range[8] = {-51.0F, -25.0F, -10.0F, -6.0F, 204.0F, 0.0F, 51.0F, 25.0F};
    method = pq_method_default(PQ_METHOD_NORM, PQ_NORM_PTF);
    CHECK_OK(pq_derive_norm(&exec, &method, 4, gamma, beta, 0.5, 0.03125F, 0.25F, range, &k));
    CHECK_EQ(k.zero_point, -77);
    CHECK_EQ(k.requant.multiplier, 1 << 30); /* s_x / s1 = 1/4 */
    CHECK_EQ(k.requant.shift, 32);
    CHECK_EQ(k.shift, 32);
    CHECK_EQ(alpha[0], 3);
    CHECK_EQ(alpha[1], 2);
    CHECK_EQ(alpha[2], 1);
    CHECK_EQ(alpha[3], 0);
    /* |gamma| C / s_y = 16, 32, 0, 8 */
    CHECK_EQ(gain[0], 1 << 30);
    CHECK_EQ(exponent[0], 26);
    CHECK_EQ(gain[1], -(1 << 30));
    CHECK_EQ(exponent[1], 25);
    CHECK_EQ(gain[2], 0);
    CHECK_EQ(exponent[2], 36);
    CHECK_EQ(exponent[3], 27);
    CHECK_EQ(offset[1], INT64_C(12) << 32);
    /* A range of nothing but zeros still gives a grid. */
    const float none[8] = {0}, unseen[8] = {INFINITY, 0, 0, 0, -INFINITY, 0, 0, 0};
    CHECK_OK(pq_derive_norm(&exec, &method, 4, gamma, beta, 0.5, 0.03125F, 0.25F, none, &k));
    CHECK_EQ(k.requant.shift, 30 - 23);
    BAD(pq_derive_norm(&exec, &method, 4, NULL, NULL, 0.0, 1.0F, 1.0F, NULL, &k), PQ_ERR_VALUE,
        "the ranges of all channels with method ptf, got none");
    BAD(pq_derive_norm(&exec, &method, 4, NULL, NULL, 0.0, 1.0F, 1.0F, unseen, &k), PQ_ERR_VALUE,
        "the range of each channel that calibration observes, got [inf, -inf] of channel 0");
    BAD(pq_derive_norm(&exec, &method, 4, NULL, NULL, 0.0, 1.0F, 0x1p-30F, range, &k),
        PQ_ERR_OVERFLOW, "|gamma| * channels / y_scale < 2^30");
    method = pq_method_default(PQ_METHOD_NORM, PQ_NORM_IBERT);
    BAD(pq_derive_norm(&exec, &method, 4, NULL, NULL, 0.0, 1.0F, 0x1p-60F, NULL, &k),
        PQ_ERR_OVERFLOW, "|gamma| * sqrt(channels) / y_scale < 2^60");
    method.code = 5;
    BAD(pq_derive_norm(&exec, &method, 4, NULL, NULL, 0.0, 1.0F, 1.0F, NULL, &k), PQ_ERR_VALUE,
        "code of a method in [0, 5), got 5");
}

static void test_add(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    int32_t a = 0, b = 0, shift = 0;
    CHECK_OK(pq_derive_add(&exec, 1.0F, 0.25F, 1.0F, &a, &b, &shift));
    CHECK_EQ(a, 1 << 30);
    CHECK_EQ(b, 1 << 28);
    CHECK_EQ(shift, 30);
    CHECK_OK(pq_derive_add(&exec, 1.0F, 3.0F, 2.0F, &a, &b, &shift));
    CHECK_EQ(a, 1 << 29);
    CHECK_EQ(b, 3 << 29);
    CHECK_EQ(shift, 30);
    CHECK_OK(pq_derive_add(&exec, 0x1p-60F, 1.0F, 1.0F, &a, &b, &shift));
    CHECK_EQ(a, 0); /* too small to count beside the other */
    for (int i = 0; i < 1000; i++) {
        const float s_a = (float)random_real(0.001, 1.0), s_b = (float)random_real(0.001, 1.0),
                    s_y = (float)random_real(0.01, 1.0);
        CHECK_OK(pq_derive_add(&exec, s_a, s_b, s_y, &a, &b, &shift));
        CHECK((a > b ? a : b) >= 1 << 30 && a >= 0 && b >= 0);
        CHECK(fabs(ldexp(a, -shift) - (double)s_a / (double)s_y) <= ldexp(0.5 + 1e-6, -shift));
        CHECK(fabs(ldexp(b, -shift) - (double)s_b / (double)s_y) <= ldexp(0.5 + 1e-6, -shift));
    }
    BAD(pq_derive_add(&exec, 1.0F, NAN, 1.0F, &a, &b, &shift), PQ_ERR_VALUE,
        "derive_add: expected b_scale in");
    BAD(pq_derive_add(&exec, 0x1p50F, 1.0F, 1.0F, &a, &b, &shift), PQ_ERR_OVERFLOW, "below 2^30");
}

static void test_tables(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    int8_t table[256];
    const pq_affine y = {0.5F, 3, -100, 100};
    CHECK_OK(pq_derive_table(&exec, PQ_UNARY_RELU, unit, y, table));
    CHECK_EQ(table[0], 3);
    CHECK_EQ(table[128 + 2], 7);
    CHECK_EQ(table[255], 100);
    CHECK_OK(pq_derive_table(&exec, PQ_UNARY_ABS, unit, y, table));
    CHECK_EQ(table[128 - 3], 9);
    /* At x = 1 and -1, from printed tables: Phi(1) = 0.8413447461, tanh 1 = 0.7615941560. */
    static const struct {
        pq_unary function;
        double plus, minus;
    } known[] = {{PQ_UNARY_IDENTITY, 1.0, -1.0},
                 {PQ_UNARY_GELU, 0.8413447461, -0.1586552539},
                 {PQ_UNARY_GELU_TANH, 0.8411919906, -0.1588080094},
                 {PQ_UNARY_QUICK_GELU, 0.8457957659, -0.1542042341},
                 {PQ_UNARY_SILU, 0.7310585786, -0.2689414214},
                 {PQ_UNARY_SIGMOID, 0.7310585786, 0.2689414214},
                 {PQ_UNARY_TANH, 0.7615941560, -0.7615941560},
                 {PQ_UNARY_HARDSWISH, 2.0 / 3, -1.0 / 3},
                 {PQ_UNARY_HARDSIGMOID, 2.0 / 3, 1.0 / 3},
                 {PQ_UNARY_RELU, 1.0, 0.0},
                 {PQ_UNARY_RELU6, 1.0, 0.0},
                 {PQ_UNARY_ELU, 1.0, -0.6321205588},
                 {PQ_UNARY_MISH, 0.8650983883, -0.3034014613},
                 {PQ_UNARY_SOFTPLUS, 1.3132616875, 0.3132616875},
                 {PQ_UNARY_EXP, 2.7182818285, 0.3678794412},
                 {PQ_UNARY_ABS, 1.0, 1.0},
                 {PQ_UNARY_SQUARE, 1.0, 1.0}};
    CHECK_EQ(sizeof known / sizeof known[0], PQ_UNARY_COUNT);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        CHECK(fabs(pq_unary_value(known[i].function, 1.0) - known[i].plus) < 1e-9);
        CHECK(fabs(pq_unary_value(known[i].function, -1.0) - known[i].minus) < 1e-9);
        CHECK(pq_unary_name(known[i].function) != NULL);
    }
    CHECK_TEXT(pq_unary_name(PQ_UNARY_GELU_TANH), "gelu_tanh");
    CHECK(pq_unary_name(PQ_UNARY_COUNT) == NULL);
    CHECK(isnan(pq_unary_value(PQ_UNARY_COUNT, 0.0)));
    CHECK(pq_unary_value(PQ_UNARY_RELU6, 9.0) == 6.0);
    CHECK(pq_unary_value(PQ_UNARY_HARDSWISH, -4.0) == 0.0);
    /* Every function, over every grid, saturates instead of overflowing. */
    const pq_affine scales[] = {
        {0x1p-100F, 0, -128, 127}, {1.0F, -128, -128, 127}, {0x1p100F, 127, -128, 127}};
    for (int f = 0; f < PQ_UNARY_COUNT; f++) {
        for (int i = 0; i < 9; i++) {
            const pq_affine x = scales[i % 3], to = scales[i / 3];
            CHECK_OK(pq_derive_table(&exec, (pq_unary)f, x, to, table));
            for (int q = -128; q < 128; q += 5) {
                const double v = pq_unary_value((pq_unary)f, (q - x.zero_point) * (double)x.scale) /
                                     (double)to.scale +
                                 to.zero_point;
                const double limited = v < -128 ? -128 : v > 127 ? 127 : v;
                CHECK(fabs(table[q + 128] - limited) <= 0.5);
            }
        }
    }
    double values[256] = {0};
    values[0] = 0.25; /* 0.5 to even: 0 */
    values[1] = 0.75; /* 1.5 to even: 2 */
    values[2] = (double)INFINITY;
    values[3] = -(double)INFINITY;
    CHECK_OK(pq_derive_table_values(&exec, values, y, table));
    CHECK_EQ(table[0], 3);
    CHECK_EQ(table[1], 5);
    CHECK_EQ(table[2], 100);
    CHECK_EQ(table[3], -100);
    values[255] = (double)NAN;
    BAD(pq_derive_table_values(&exec, values, y, table), PQ_ERR_NAN,
        "derive_table: the value at q = 127 is NaN");
    BAD(pq_derive_table(&exec, PQ_UNARY_COUNT, unit, y, table), PQ_ERR_VALUE,
        "function in [0, 17), got 17");
    BAD(pq_derive_table(&exec, PQ_UNARY_RELU, unit, (pq_affine){1.0F, 0, -129, 127}, table),
        PQ_ERR_VALUE, "range of y inside [-128, 127]");
}

int main(void) {
    test_dyadic();
    test_weights();
    test_weights_random();
    test_attention();
    test_softmax_rows();
    test_mask();
    test_layernorm();
    test_norm();
    test_add();
    test_tables();
    return check_finish("test_derive");
}
