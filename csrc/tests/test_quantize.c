/* quantize_f32, dequantize_f32, fake_quantize_f32: worked numbers, an oracle in double, and every
 * kernel on every bit pattern of interest. */
#include <math.h>

#include "check.h"
#include "core/dispatch.h"
#include "quantize/quantize_f32_kernel.h"

static char message[256];

static void *exact(size_t size) {
    void *block = malloc(size == 0 ? 1 : size);
    if (block == NULL) {
        abort();
    }
    return block;
}

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Another way to the same number: the exact comparison in double, rounding by libm. */
static int32_t oracle(float x, float scale, pq_grid grid) {
    const float quotient = x / scale;
    const double low = (double)grid.quant_min - grid.zero_point;
    const double high = (double)grid.quant_max - grid.zero_point;
    const double v = (double)quotient < low    ? low
                     : (double)quotient > high ? high
                                               : nearbyint((double)quotient);
    return (int32_t)v + grid.zero_point;
}

static int32_t element(const void *q, size_t i, pq_dtype type) {
    return type == PQ_S8 ? ((const int8_t *)q)[i] : ((const int16_t *)q)[i];
}

static pq_grid random_grid(uint64_t *seed) {
    const int32_t limit = check_random(seed) % 2 == 0 ? 128 : 32768;
    pq_grid grid = {
        .q_type = limit == 128 ? PQ_S8 : PQ_S16, .quant_min = -limit, .quant_max = limit - 1};
    if (check_random(seed) % 2 == 0) {
        grid.quant_min = (int32_t)check_random_in(seed, -limit, limit - 1);
        grid.quant_max = (int32_t)check_random_in(seed, grid.quant_min, limit - 1);
    }
    grid.zero_point = (int32_t)check_random_in(seed, grid.quant_min, grid.quant_max);
    return grid;
}

/* Ties, neighbours of ties, the clamps, infinities, zeros, denormals, huge values, any bits but
 * NaN. */
static float random_value(uint64_t *seed, float scale, pq_grid grid) {
    const double step =
        (double)check_random_in(seed, grid.quant_min - 3, grid.quant_max + 3) - grid.zero_point;
    const float tie = (float)((step + 0.5) * (double)scale);
    switch (check_random(seed) % 9) {
    case 0: return tie;
    case 1: return nextafterf(tie, INFINITY);
    case 2: return nextafterf(tie, -INFINITY);
    case 3: return check_random(seed) % 2 == 0 ? INFINITY : -INFINITY;
    case 4: return check_random(seed) % 2 == 0 ? 0.0f : -0.0f;
    case 5: return from_bits((uint32_t)check_random_in(seed, 1, 0x7fffff));
    case 6: return (float)(step * (double)scale);
    case 7: return -tie;
    default: {
        const float value = from_bits((uint32_t)check_random(seed));
        return value == value ? value : 1.0f;
    }
    }
}

/* Powers of two (exact ties), the ends of the allowed range, and ordinary numbers. */
static float random_scale(uint64_t *seed) {
    switch (check_random(seed) % 6) {
    case 0: return ldexpf(1.0f, (int)check_random_in(seed, -100, 100));
    case 1: return 0x1p-100f;
    case 2: return 0x1p100f;
    default:
        return ldexpf((float)check_random_in(seed, 1 << 23, (1 << 24) - 1),
                      (int)check_random_in(seed, -40, -20));
    }
}

static void check_kernel(const struct pq_quantize_f32_kernel *kernel, uint64_t *seed, size_t n,
                         size_t step) {
    const pq_grid grid = random_grid(seed);
    const size_t size = pq_dtype_size(grid.q_type), scales = step == 0 ? 1 : n;
    float *scale = exact(scales * sizeof(float)), *x = exact(n * sizeof(float));
    float *back = exact(n * sizeof(float)), *hat = exact(n * sizeof(float));
    float *want_back = exact(n * sizeof(float));
    void *q = exact(n * size);
    for (size_t i = 0; i < scales; i++) {
        scale[i] = random_scale(seed);
    }
    if (step == 0 && scales > 0) {
        scale[0] = random_scale(seed);
    }
    for (size_t i = 0; i < n; i++) {
        x[i] = random_value(seed, scale[i * step], grid);
    }
    CHECK(!kernel->quantize(n, x, scale, step, grid, q));
    CHECK(!kernel->fake_quantize(n, x, scale, step, grid, hat));
    kernel->dequantize(n, q, scale, step, grid, back);
    for (size_t i = 0; i < n; i++) {
        const int32_t want = oracle(x[i], scale[i * step], grid);
        if (!CHECK_EQ(element(q, i, grid.q_type), want)) {
            fprintf(stderr, "  x %a, scale %a\n", (double)x[i], (double)scale[i * step]);
        }
        /* One rounding: the exact product in double, then to float. */
        want_back[i] = (float)((double)(want - grid.zero_point) * (double)scale[i * step]);
        want_back[i] = want == grid.zero_point ? 0.0f : want_back[i]; /* +0, never -0 */
    }
    CHECK_SAME(back, want_back, n * sizeof(float));
    CHECK_SAME(hat, want_back, n * sizeof(float));

    CHECK(!kernel->fake_quantize(n, x, scale, step, grid, x)); /* in place */
    CHECK_SAME(x, want_back, n * sizeof(float));
    for (size_t i = 0; i < n; i++) { /* a NaN is seen wherever it stands */
        const float kept = x[i];
        x[i] = from_bits(i % 2 == 0 ? 0x7fc00000u : 0xff800001u);
        CHECK(kernel->quantize(n, x, scale, step, grid, q));
        CHECK(kernel->fake_quantize(n, x, scale, step, grid, hat));
        x[i] = kept;
    }
    free(scale);
    free(x);
    free(back);
    free(hat);
    free(want_back);
    free(q);
}

static void test_kernels(void) {
    static const size_t sizes[] = {0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 101, 257};
    int tested = 0;
    for (pq_isa isa = PQ_ISA_REF; isa < PQ_ISA_COUNT; isa++) {
        const struct pq_quantize_f32_kernel *kernel =
            pq_kernel_present(PQ_KERNEL_OP_quantize_f32, isa);
        if (kernel == NULL) {
            continue;
        }
        uint64_t seed = 11;
        tested++;
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            for (int round = 0; round < 40; round++) {
                check_kernel(kernel, &seed, sizes[i], (size_t)round % 2);
            }
        }
    }
    CHECK(tested >= 1);
}

/* Scale 1/2, z = 3, s8: x / s = 0.5, 1.5, 2.5 -> 0, 2, 2; -0.5, -1.5 -> 0, -2; saturation at 127 -
 * 3 = 124. */
static void test_by_hand(void) {
    const float x[] = {0.25f,  0.75f,    1.25f,     -0.25f, -0.75f, 61.75f,   62.0f,
                       62.25f, INFINITY, -INFINITY, -65.5f, -66.0f, 0x1p-149f};
    const int8_t want[] = {3, 5, 5, 3, 1, 127, 127, 127, 127, -128, -128, -128, 3};
    enum { N = sizeof want };
    const float scale = 0.5f;
    const pq_quantize_args args = {N, PQ_S8, &scale, 1, 1, 3, -128, 127};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    int8_t q[N];
    float back[N];
    CHECK_OK(pq_quantize_f32(&exec, &args, x, q));
    CHECK_SAME(q, want, N);
    CHECK_OK(pq_dequantize_f32(&exec, &args, q, back));
    CHECK(back[0] == 0.0f && back[1] == 1.0f && back[4] == -1.0f && back[9] == -65.5f);
}

/* quantize(dequantize(q)) = q for every s16 and awkward scales (the recovery rule of quantize.h).
 */
static void test_recovery(void) {
    enum { N = 65536 };
    int16_t *q = exact(N * sizeof *q), *again = exact(N * sizeof *q);
    float *x = exact(N * sizeof *x);
    uint64_t seed = 12;
    const pq_exec exec = pq_exec_openmp(2, message, sizeof message);
    for (int i = 0; i < N; i++) {
        q[i] = (int16_t)(i - 32768);
    }
    for (int round = 0; round < 30; round++) {
        const float scale = random_scale(&seed);
        const int32_t zero_point = (int32_t)check_random_in(&seed, -32768, 32767);
        const pq_quantize_args args = {N, PQ_S16, &scale, 1, 1, zero_point, -32768, 32767};
        CHECK_OK(pq_dequantize_f32(&exec, &args, q, x));
        CHECK_OK(pq_quantize_f32(&exec, &args, x, again));
        CHECK_SAME(again, q, N * sizeof *q);
    }
    free(q);
    free(again);
    free(x);
}

/* element i uses scale[(i / inner) % channels], over several ranges and their borders. */
static void test_per_axis(void) {
    static const size_t shapes[][3] = {/* n, channels, inner */
                                       {1, 1, 1},          {30, 3, 1},        {31, 3, 5},
                                       {200003, 7, 1},     {200003, 96, 1},   {200003, 5, 77},
                                       {150000, 2, 75000}, {65537, 65536, 1}, {10, 64, 64}};
    uint64_t seed = 13;
    const pq_grid grid = {PQ_S8, -3, -128, 127};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        const size_t n = shapes[s][0], channels = shapes[s][1], inner = shapes[s][2];
        float *scale = exact(channels * sizeof *scale), *x = exact(n * sizeof *x);
        float *back = exact(n * sizeof *back), *hat = exact(n * sizeof *hat);
        int8_t *q = exact(n);
        for (size_t c = 0; c < channels; c++) {
            scale[c] = random_scale(&seed);
        }
        for (size_t i = 0; i < n; i++) {
            x[i] = random_value(&seed, scale[i / inner % channels], grid);
        }
        const pq_quantize_args args = {n, PQ_S8, scale, channels, inner, -3, -128, 127};
        for (int threads = 1; threads <= 3; threads += 2) {
            const pq_exec exec = pq_exec_openmp(threads, message, sizeof message);
            memset(q, 0, n);
            CHECK_OK(pq_quantize_f32(&exec, &args, x, q));
            bool same = true;
            for (size_t i = 0; i < n; i++) {
                same = same && q[i] == oracle(x[i], scale[i / inner % channels], grid);
            }
            CHECK(same);
            CHECK_OK(pq_dequantize_f32(&exec, &args, q, back));
            for (size_t i = 0; i < n; i++) {
                same = same && back[i] == (float)(q[i] + 3) * scale[i / inner % channels];
            }
            CHECK(same);
            CHECK_OK(pq_fake_quantize_f32(&exec, &args, x, hat));
            CHECK_SAME(hat, back, n * sizeof *back);
        }
        free(scale);
        free(x);
        free(back);
        free(hat);
        free(q);
    }
}

static void test_refusals(void) {
    const float scale[] = {1.0f, 0x1p-101f}, nan = NAN;
    float x[4] = {0}, y[4];
    int8_t q[4];
    const pq_quantize_args good = {4, PQ_S8, scale, 1, 1, 0, -128, 127};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    CHECK_OK(pq_quantize_f32(&exec, &good, x, q));
    x[2] = nan;
    CHECK_STATUS(pq_quantize_f32(&exec, &good, x, q), PQ_ERR_NAN);
    CHECK_TEXT(message, "quantize_f32: x holds NaN");
    CHECK_STATUS(pq_fake_quantize_f32(&exec, &good, x, x), PQ_ERR_NAN);
    CHECK_TEXT(message, "fake_quantize_f32: x holds NaN");
    pq_quantize_args bad = good;
    bad.channels = 2;
    CHECK_STATUS(pq_quantize_f32(&exec, &bad, y, q), PQ_ERR_VALUE);
    CHECK_TEXT(message, "channel 1: expected a scale in [2^-100, 2^100]");
    bad.scale = &nan;
    bad.channels = 1;
    CHECK_STATUS(pq_dequantize_f32(&exec, &bad, q, y), PQ_ERR_VALUE);
    CHECK_TEXT(message, "dequantize_f32: channel 0");
    bad = good;
    bad.inner = 0;
    CHECK_STATUS(pq_quantize_f32(&exec, &bad, x, q), PQ_ERR_VALUE);
    CHECK_TEXT(message, "channels >= 1, inner >= 1");
    bad = good;
    bad.q_type = PQ_S32;
    CHECK_STATUS(pq_quantize_f32(&exec, &bad, x, q), PQ_ERR_VALUE);
    CHECK_TEXT(message, "s8 or s16, got type 4");
    bad = good;
    bad.quant_max = 128;
    CHECK_STATUS(pq_quantize_f32(&exec, &bad, x, q), PQ_ERR_VALUE);
    CHECK_TEXT(message, "[-128, 127], got -128 and 128");
    bad = good;
    bad.zero_point = -129;
    CHECK_STATUS(pq_quantize_f32(&exec, &bad, x, q), PQ_ERR_VALUE);
    CHECK_TEXT(message, "got -128 <= -129 <= 127");
    bad = good;
    bad.n = SIZE_MAX / 2;
    CHECK_STATUS(pq_quantize_f32(&exec, &bad, x, q), PQ_ERR_OVERFLOW);
    CHECK_STATUS(pq_quantize_f32(&exec, &good, NULL, q), PQ_ERR_VALUE);
    CHECK_TEXT(message, "the input is NULL");
    CHECK_STATUS(pq_quantize_f32(&exec, &good, x, NULL), PQ_ERR_VALUE);
    CHECK_STATUS(pq_quantize_f32(&exec, &good, x, x), PQ_ERR_VALUE);
    CHECK_TEXT(message, "overlap");
    CHECK_STATUS(pq_fake_quantize_f32(
                     &exec, &(pq_quantize_args){3, PQ_S8, scale, 1, 1, 0, -128, 127}, x, x + 1),
                 PQ_ERR_VALUE);
    bad = good;
    bad.q_type = PQ_S16;
    bad.n = 1;
    CHECK_STATUS(pq_quantize_f32(&exec, &bad, x, q + 1 - (uintptr_t)q % 2), PQ_ERR_VALUE);
    CHECK_TEXT(message, "the output is not aligned");
    bad = good;
    bad.n = 0;
    CHECK_OK(pq_quantize_f32(&exec, &bad, NULL, NULL));

    CHECK_OK(pq_affine_check(&exec, "op", "x", (pq_affine){0x1p-100f, 0, -32768, 32767}));
    CHECK_OK(pq_affine_check(&exec, "op", "x", (pq_affine){0x1p100f, 7, 7, 7}));
    CHECK_STATUS(pq_affine_check(&exec, "add", "b", (pq_affine){-1.0f, 0, -128, 127}),
                 PQ_ERR_VALUE);
    CHECK_TEXT(message, "add: expected the scale of b in [2^-100, 2^100], got -1");
    CHECK_STATUS(pq_affine_check(&exec, "add", "b", (pq_affine){INFINITY, 0, -128, 127}),
                 PQ_ERR_VALUE);
    CHECK_STATUS(pq_affine_check(&exec, "add", "b", (pq_affine){1.0f, 0, -32769, 127}),
                 PQ_ERR_VALUE);
    CHECK_TEXT(message, "of b in [-32768, 32767], got -32769 and 127");
    CHECK_STATUS(pq_affine_check(&exec, "add", "b", (pq_affine){1.0f, 128, -128, 127}),
                 PQ_ERR_VALUE);
    CHECK_TEXT(message, "got -128 <= 128 <= 127");
}

int main(void) {
    test_by_hand();
    test_kernels();
    test_recovery();
    test_per_axis();
    test_refusals();
    return check_finish("test_quantize");
}
