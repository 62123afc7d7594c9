/* Weights of four bits from floats: numbers worked by hand, what holds for all of them, refusals.
 * The specification is compared in tests/spec/test_reference_derive.py. */
#include <math.h>

#include "check.h"
#include "pyquant/derive.h"
#include "pyquant/gemm_s8s4.h"
#include "split_exec.h"

static char message[256];
static uint64_t split_state = 7, seed = 8;

#define BAD(call, status, text) \
    do { \
        message[0] = '\0'; \
        CHECK_STATUS(call, status); \
        CHECK_TEXT(message, text); \
    } while (0)

static float random_real(double low, double high) {
    return (float)(low + (high - low) * (double)(check_random(&seed) >> 11) * 0x1p-53);
}

/* absmax / 7 of the groups is 255, 1 and 0: the scale is 1, the multipliers 255, 1 and the
 * least, 1. 127.5 / 255 is a tie and goes to 0, 2.5 to 2. */
static void test_by_hand(void) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const float w[9] = {1785.0F, 127.5F, 0.0F, 0.0F, -7.0F, 2.5F, 0.0F, 0.0F, 0.0F};
    float scale[1];
    uint8_t factor[3], w_q[5], shift[1];
    int32_t bias_q[1], multiplier[1];
    CHECK_OK(pq_derive_group_scale(&exec, 1, 9, 4, w, NULL, NULL, 0.5F, 4, scale, factor));
    CHECK(scale[0] == 1.0F);
    CHECK_SAME(factor, ((const uint8_t[]){255, 1, 1}), 3);
    CHECK_OK(pq_derive_gemm_s8s4(&exec, 1, 9, 4, w, NULL, scale, factor, 4, 0.5F, 1.0F, w_q, bias_q,
                                 multiplier, shift));
    CHECK_SAME(w_q, ((const uint8_t[]){0x07, 0x00, 0x29, 0x00, 0x00}), 5);
    CHECK_EQ(bias_q[0], 0);
    CHECK_EQ(multiplier[0], 1 << 30);
    CHECK_EQ(shift[0], 31);
    /* A bias of 2^40 asks for the scale 2048, far above what any group needs. */
    const float bias[1] = {0x1p40F};
    CHECK_OK(pq_derive_group_scale(&exec, 1, 9, 4, w, bias, NULL, 0.5F, 4, scale, factor));
    CHECK(scale[0] == 2048.0F);
    CHECK_SAME(factor, ((const uint8_t[]){1, 1, 1}), 3);
    const float wanted[3] = {510.0F, 3.0F, 100.0F}; /* 3 / 2 is a tie and goes to 2 */
    CHECK_OK(pq_derive_group_scale(&exec, 1, 9, 4, w, NULL, wanted, 0.5F, 4, scale, factor));
    CHECK(scale[0] == 2.0F);
    CHECK_SAME(factor, ((const uint8_t[]){255, 2, 50}), 3);
    /* Nothing at all. */
    CHECK_OK(pq_derive_group_scale(&exec, 1, 0, 4, NULL, NULL, NULL, 0.5F, 4, scale, NULL));
    CHECK(scale[0] == 1.0F);
}

/* Whatever the weights: each within half a step of its group, nothing clipped by more than the
 * rounding of the multiplier, a column that packing accepts, and the same for any split. */
static void test_random(void) {
    enum { N = 13, K = 75, SIZE = 12, GROUPS = 7, BYTES = 38 };
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    static float w[N * K], bias[N], scale[N], scale_split[N];
    static uint8_t factor[N * GROUPS], factor_split[N * GROUPS], w_q[N * BYTES], other[N * BYTES];
    static int32_t bias_q[N], multiplier[N];
    static uint8_t shift[N];
    for (int round = 0; round < 60; round++) {
        const int bits = 2 + round % 3, quant_max = (1 << (bits - 1)) - 1;
        const float x_scale = random_real(0.001, 0.1), y_scale = random_real(0.01, 1.0);
        for (int i = 0; i < N * K; i++) {
            w[i] = random_real(-1.0, 1.0) * (i / SIZE % 3 == 0 ? 0.02F : 1.0F);
        }
        for (int j = 0; j < N; j++) {
            bias[j] = random_real(-2.0, 2.0);
        }
        CHECK_OK(
            pq_derive_group_scale(&exec, N, K, SIZE, w, bias, NULL, x_scale, bits, scale, factor));
        CHECK_OK(pq_derive_group_scale(&split, N, K, SIZE, w, bias, NULL, x_scale, bits,
                                       scale_split, factor_split));
        CHECK_SAME(scale_split, scale, sizeof scale);
        CHECK_SAME(factor_split, factor, sizeof factor);
        CHECK_OK(pq_derive_gemm_s8s4(&exec, N, K, SIZE, w, bias, scale, factor, bits, x_scale,
                                     y_scale, w_q, bias_q, multiplier, shift));
        CHECK_OK(pq_derive_gemm_s8s4(&split, N, K, SIZE, w, bias, scale, factor, bits, x_scale,
                                     y_scale, other, bias_q, multiplier, shift));
        CHECK_SAME(other, w_q, sizeof w_q);
        for (int j = 0; j < N; j++) {
            int widest = 0;
            for (int p = 0; p < K; p++) {
                const int f = factor[j * GROUPS + p / SIZE];
                const int q = pq_s4_get(w_q + j * BYTES, (size_t)p);
                const double steps = (double)w[j * K + p] / ((double)scale[j] * f);
                widest = f > widest ? f : widest;
                CHECK(abs(q) <= quant_max);
                /* the multiplier is off by at most 1/2, hence a weight by quant_max / (2 f) steps
                 */
                CHECK(fabs(steps - q) <= 0.5 + 0.5 * quant_max / f + 1e-5);
            }
            CHECK_EQ(widest, 255); /* K is small: the widest group has the largest multiplier */
        }
        const pq_gemm_s8s4_pack_args args = {.n = N,
                                             .k = K,
                                             .w = w_q,
                                             .group_size = SIZE,
                                             .group_multiplier = factor,
                                             .bias = bias_q,
                                             .multiplier = multiplier,
                                             .shift = shift,
                                             .y_type = PQ_S8,
                                             .out = {0, -128, 127}};
        CHECK_OK(pq_gemm_s8s4_check(&exec, &args));
    }
}

/* Without groups: the numbers of pq_derive_gemm, two to a byte. */
static void test_without_groups(void) {
    enum { N = 5, K = 11, BYTES = 6 };
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    float w[N * K], scale[N];
    int8_t plain[N * K];
    uint8_t packed[N * BYTES], shift[N], plain_shift[N];
    int32_t bias_q[N], multiplier[N], plain_bias[N], plain_multiplier[N];
    for (int i = 0; i < N * K; i++) {
        w[i] = random_real(-1.0, 1.0);
    }
    CHECK_OK(pq_derive_weight_scale(&exec, N, K, w, NULL, 0.1F, 4, scale));
    CHECK_OK(pq_derive_gemm(&exec, N, K, w, NULL, scale, 4, 0.1F, 0.2F, plain, plain_bias,
                            plain_multiplier, plain_shift));
    CHECK_OK(pq_derive_gemm_s8s4(&exec, N, K, 0, w, NULL, scale, NULL, 4, 0.1F, 0.2F, packed,
                                 bias_q, multiplier, shift));
    for (size_t i = 0; i < N * K; i++) {
        CHECK_EQ(pq_s4_get(packed + i / K * BYTES, i % K), plain[i]);
    }
    CHECK_SAME(bias_q, plain_bias, sizeof bias_q);
    CHECK_SAME(multiplier, plain_multiplier, sizeof multiplier);
    CHECK_SAME(shift, plain_shift, sizeof shift);
    for (size_t j = 0; j < N; j++) {
        CHECK_EQ(packed[j * BYTES + BYTES - 1] >> 4, 0);
    }
}

static void test_refusals(void) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    float w[4] = {1.0F, 2.0F, 3.0F, 7.0F}, scale[1] = {1.0F};
    uint8_t factor[1] = {255}, w_q[2], shift[1];
    int32_t bias_q[1], multiplier[1];
    const float zero[1] = {0.0F}, bias[1] = {2147449984.0F};
    BAD(pq_derive_group_scale(&exec, 1, 4, 0, w, NULL, NULL, 1.0F, 4, scale, factor), PQ_ERR_VALUE,
        "derive_group_scale: expected group_size to be a multiple of 4, got 0");
    BAD(pq_derive_group_scale(&exec, 1, 4, 6, w, NULL, NULL, 1.0F, 4, scale, factor), PQ_ERR_VALUE,
        "multiple of 4, got 6");
    BAD(pq_derive_group_scale(&exec, 1, 4, 4, w, NULL, NULL, 1.0F, 5, scale, factor), PQ_ERR_VALUE,
        "bits in [2, 4], got 5");
    BAD(pq_derive_group_scale(&exec, 1, 4, 4, w, NULL, zero, 1.0F, 4, scale, factor), PQ_ERR_VALUE,
        "scales of groups in [2^-100, 2^100], got 0 in channel 0");
    BAD(pq_derive_gemm_s8s4(&exec, 1, 4, 2, w, NULL, scale, factor, 4, 1.0F, 1.0F, w_q, bias_q,
                            multiplier, shift),
        PQ_ERR_VALUE, "derive_gemm_s8s4: expected group_size to be a multiple of 4, got 2");
    BAD(pq_derive_gemm_s8s4(&exec, 1, 4, 4, w, NULL, scale, factor, 8, 1.0F, 1.0F, w_q, bias_q,
                            multiplier, shift),
        PQ_ERR_VALUE, "bits in [2, 4], got 8");
    w[3] = 1785.0F;
    BAD(pq_derive_gemm_s8s4(&exec, 1, 4, 4, w, bias, scale, factor, 4, 1.0F, 1.0F, w_q, bias_q,
                            multiplier, shift),
        PQ_ERR_OVERFLOW, "got 2147449984 + 255 * 1785 in channel 0");
    w[2] = NAN;
    BAD(pq_derive_group_scale(&exec, 1, 4, 4, w, NULL, NULL, 1.0F, 4, scale, factor), PQ_ERR_NAN,
        "a weight of channel 0 is NaN");
    w[2] = INFINITY;
    BAD(pq_derive_group_scale(&exec, 1, 4, 4, w, NULL, NULL, 1.0F, 4, scale, factor), PQ_ERR_VALUE,
        "got infinity in channel 0");
}

int main(void) {
    test_by_hand();
    test_random();
    test_without_groups();
    test_refusals();
    return check_finish("test_derive_s8s4");
}
