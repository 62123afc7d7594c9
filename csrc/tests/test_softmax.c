/* Softmax methods: their exponentials by hand and against the real function, how weights round, and
 * what derive refuses. The kernels are held to the reference in test_attention_variants. */
#include "check.h"
#include "pyquant/derive.h"
#include "softmax/softmax_bank.h"

#include <math.h>

static int32_t table[PQ_SOFTMAX_ENTRIES_MAX];
static char message[512];

static pq_softmax derive(const char *text, double unit, size_t keys) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_method method;
    pq_softmax softmax = {.entries = 0};
    CHECK_OK(pq_method_parse(&exec, PQ_METHOD_SOFTMAX, text, &method));
    CHECK_OK(pq_derive_softmax(&exec, "test", &method, unit, 1 << 24, keys, 128, table, &softmax));
    return softmax;
}

/* Largest error of table[u] / table[0] against e^(-u step), relative where `relative`, to x = far. */
static double error_of(const pq_softmax *softmax, double step, double far, bool relative) {
    double most = 0;
    for (uint32_t u = 0; u < softmax->entries && u * step < far; u++) {
        const double real = exp(-(u * step));
        const double error = fabs((double)softmax->exponentials[u] / softmax->exponentials[0] - real);
        most = fmax(most, relative ? error / real : error);
    }
    return most;
}

static void test_by_hand(void) {
    /* x0 = ceil(0.6931 * 16) = 12, b = floor(2.70733 * 16) = 43, c = floor(2.79212 * 256) = 714.
     * u = 3: 9 - 129 + 714 = 594; u = 15: q = 1, r = 3. */
    const pq_exp_ibert ibert = {.ln2 = 12, .b = 43, .c = 714, .n = 30, .top = 714};
    CHECK_EQ(pq_softmax_exp_ibert(&ibert, 0), 714);
    CHECK_EQ(pq_softmax_exp_ibert(&ibert, 3), 594);
    CHECK_EQ(pq_softmax_exp_ibert(&ibert, 15), 297);
    CHECK_EQ(pq_softmax_exp_ibert(&ibert, 1u << 20), 0);
    /* u = 16: 16 + 8 - 1 = 23; one = 16: q = 1, r = 7: (32 - 7) * 8 / 4 = 50 */
    const pq_exp_ivit ivit = {.one = 16, .n = 3};
    CHECK_EQ(pq_softmax_exp_ivit(&ivit, 0), 128);
    CHECK_EQ(pq_softmax_exp_ivit(&ivit, 16), 50);
    CHECK_EQ(pq_softmax_exp_ivit(&ivit, 1000), 16); /* n octaves */
    CHECK_EQ(pq_softmax_log2e(1), 1);               /* 1 + ceil(1/2) - ceil(1/16) */
    CHECK_EQ(pq_softmax_log2e(17), 24);             /* 17 + 9 - 2 */
    CHECK_EQ(pq_softmax_exp_iptq(4, 14, 0), 1 << 14);
    CHECK_EQ(pq_softmax_exp_iptq(4, 14, 16), 6144); /* 23 + 1 = 24: q = 1, r = 8: 3/4 of 1/2 */
    CHECK_EQ(pq_softmax_exp_qflash(7, 127, 0), 127);
    CHECK_EQ(pq_softmax_exp_qflash(7, 127, 128), 64); /* 63.5 up */
    CHECK_EQ(pq_softmax_exp_qflash(7, 127, 192), 48); /* 3/8 of 127 = 47.6 */
    CHECK_EQ(pq_softmax_exp_sole(4, 0), 1 << 14);
    CHECK_EQ(pq_softmax_exp_sole(4, 5), 1 << 14); /* 5 + 3 - 1 = 7: under half an octave */
    CHECK_EQ(pq_softmax_exp_sole(4, 6), 1 << 13); /* 6 + 3 - 1 = 8 */
    CHECK_EQ(pq_softmax_exp_sole(4, 4000), 0);
    CHECK_EQ(pq_softmax_sole_divisor(1 << 14), 313 << 6);
    CHECK_EQ(pq_softmax_sole_divisor((1 << 14) + (1 << 13)), 451 << 6);
    CHECK_EQ(pq_softmax_sole_divisor(1), 1);
}

static void test_fqvit_codes(void) {
    /* t = 1, 2, 3, 5, 6, 11, 12 */
    static const uint32_t t[] = {1, 2, 3, 5, 6, 11, 12}, code[] = {0, 1, 2, 2, 3, 3, 4};
    for (int i = 0; i < 7; i++) {
        CHECK_EQ(pq_softmax_fqvit_code(t[i] * 1000, 1000), code[i]);
    }
    CHECK_EQ(pq_softmax_fqvit_code(5, 0), 32);
    uint64_t random = 3;
    for (int round = 0; round < 20000; round++) { /* the least E is the least */
        const uint32_t sum = (uint32_t)check_random_in(&random, 1, round % 3 ? 5000 : UINT32_MAX);
        const uint32_t c = (uint32_t)check_random_in(&random, 0, 14);
        const uint32_t least = pq_softmax_fqvit_least(sum, c);
        if (least <= sum) {
            CHECK(pq_softmax_fqvit_code(sum, least) <= c);
        }
        CHECK(least == 0 || least - 1 == 0 || pq_softmax_fqvit_code(sum, least - 1) > c);
    }
}

/* The derived errors of docs/numerics/softmax_methods.md. */
static void test_errors(void) {
    const pq_softmax ibert = derive("ibert", 1e-3, 197);
    CHECK(error_of(&ibert, 0x1p-9, 11, false) < 3.0e-3);
    CHECK(error_of(&ibert, 0x1p-9, 11, false) > 1.9e-3);
    const pq_softmax fine = derive("ivit(step=0.00390625,n=15)", 1e-3, 197);
    /* 4.389e-2 and 7.906e-2 in real numbers; shifts round x up, by less than two units in all */
    CHECK(fabs(error_of(&fine, 0x1p-8, 5, false) - 4.389e-2) < 0x1p-8);
    CHECK(fabs(error_of(&fine, 0x1p-8, 5, true) - 7.906e-2) < 0x1p-8);
    const pq_softmax iptq = derive("iptq", 1e-3, 197);
    CHECK(error_of(&iptq, 0x1p-8, 5, true) < 6.2e-2 + 1e-2);
    const pq_softmax index = derive("index", 1e-3, 197);
    static const int32_t published[32] = {255, 206, 167, 135, 109, 88, 71, 57, 46, 38, 30,
                                          25,  20,  16,  13,  10,  8,  7,  6,  4,  4,  3,
                                          2,   2,   2,   1,   1,   1,  1,  1,  0,  0};
    CHECK_EQ(index.entries, 31); /* the last two are both 0 */
    for (uint32_t u = 0; u < index.entries; u++) {
        CHECK_EQ(index.exponentials[u], published[u]);
    }
}

/* Weights of random rows: never above pmax, in all not above what is promised. */
static void test_weights(void) {
    static const char *const texts[] = {"ibert", "ibert(bits=15)", "ivit",  "fqvit",
                                        "iptq",  "qflash",         "index", "sole"};
    uint64_t random = 4;
    for (int round = 0; round < 4000; round++) {
        const size_t keys = (size_t)check_random_in(&random, 1, 400);
        const pq_softmax softmax = derive(texts[round % 8], 0.01, keys);
        uint32_t e[400], sum = 0;
        for (size_t j = 0; j < keys; j++) {
            const int64_t u = check_random_in(&random, 0, softmax.entries - 1);
            e[j] = (uint32_t)softmax.exponentials[j == 0 ? 0 : u];
            sum += e[j];
        }
        const pq_softmax_row row = pq_softmax_row_of(&softmax, sum);
        uint64_t total = 0;
        for (size_t j = 0; j < keys; j++) {
            const uint16_t p = pq_softmax_weight(&softmax, sum, e[j]);
            CHECK(p <= softmax.pmax);
            total += p;
        }
        CHECK(total <= pq_softmax_weights_most(&softmax, keys));
        CHECK(row.divisor >= 1 && row.divisor <= pq_softmax_divisor_most(&softmax, keys));
    }
}

static void refused(const char *text, double unit, size_t keys, pq_status want, const char *part) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_method method;
    pq_softmax softmax = {.entries = 77};
    CHECK_OK(pq_method_parse(&exec, PQ_METHOD_SOFTMAX, text, &method));
    CHECK_STATUS(
        pq_derive_softmax(&exec, "test", &method, unit, 1 << 24, keys, 128, table, &softmax), want);
    CHECK_TEXT(message, part);
    CHECK_EQ(softmax.entries, 77);
}

static void test_refusals(void) {
    refused("ivit", 1e-3, 1024, PQ_ERR_OVERFLOW, "at most 1023 keys with exponentials up to");
    refused("iptq", 1e-3, 1024, PQ_ERR_OVERFLOW, "at most 1023 keys (values up to 128), got 1024");
    refused("index", 1e-3, 33000, PQ_ERR_OVERFLOW, "at most 32896 keys");
    refused("fqvit", 1e-3, 5000, PQ_ERR_OVERFLOW, "at most 4096 keys");
    refused("sole", 1e9, 10, PQ_ERR_OVERFLOW, "below 2^31 steps of the softmax method");
    const pq_softmax flat = derive("sole", 1e-30, 10);
    CHECK_EQ(flat.multiplier, 0);
    CHECK_EQ(flat.delta_max, 0);
}

int main(void) {
    test_by_hand();
    test_fqvit_codes();
    test_errors();
    test_weights();
    test_refusals();
    return check_finish("test_softmax");
}
