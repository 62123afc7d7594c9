/* fake: hand numbers, sums against float64, and every variant, shape and split against the
 * definition. */
#include <math.h>

#include "check.h"
#include "core/dispatch.h"
#include "fake/fake_backward_kernel.h"
#include "fake/fake_forward_kernel.h"
#include "pyquant/fake.h"
#include "split_exec.h"

enum { MAX = 40000, MAX_CHANNELS = 4096 };

static uint64_t seed = 1, split_state = 2;
static char message[256];
static float x_data[MAX], g_data[MAX], y_data[MAX], out_a[MAX], out_b[MAX];
static float table_data[512];
static uint8_t mask_a[MAX / 8 + 8], mask_b[MAX / 8 + 8];
static float scales[MAX_CHANNELS];
static int32_t zeros[MAX_CHANNELS];
static double ds_a[MAX_CHANNELS], ds_b[MAX_CHANNELS], dz_a[MAX_CHANNELS];

static float uniform(float low, float high) {
    return low + (high - low) * (float)check_random_in(&seed, 0, 1 << 24) * 0x1p-24f;
}

/* Values around a grid of that scale: inside, outside, ties, denormals, ends. */
static float value_near(float scale, float width) {
    static const float odd[] = {0.0f, -0.0f, 1e-45f, -1e-40f, 3e38f, -3e38f, INFINITY, -INFINITY};
    switch (check_random_in(&seed, 0, 9)) {
    case 0: return odd[check_random_in(&seed, 0, 7)];
    case 1: return ((float)check_random_in(&seed, -300, 300) + 0.5f) * scale; /* ties */
    case 2: return (float)check_random_in(&seed, -300, 300) * scale;          /* on the grid */
    default: return uniform(-1.3f, 1.3f) * width * scale;
    }
}

static void fill(size_t n, const pq_fake_args *args) {
    for (size_t i = 0; i < n; i++) {
        const size_t c = i / args->inner % args->channels;
        const float width = (float)(args->quant_max - args->quant_min + 1) * 0.6f;
        x_data[i] = value_near(scales[c], width);
        g_data[i] = uniform(-2.0f, 2.0f);
    }
}

/* channels of all kinds of scales and zero points. */
static pq_fake_args make_args(size_t n, size_t channels, size_t inner, int kind) {
    static const int32_t ranges[][2] = {{-128, 127}, {0, 255}, {-8, 7}, {-32768, 32767}, {0, 0}};
    const int32_t *range = ranges[kind % 5];
    pq_fake_args args = {.n = n,
                         .channels = channels,
                         .inner = inner,
                         .scale = scales,
                         .zero_point = zeros,
                         .zero_points = kind % 2 == 0 ? 1 : channels,
                         .quant_min = range[0],
                         .quant_max = range[1]};
    for (size_t c = 0; c < channels; c++) {
        scales[c] = kind % 7 == 6 ? ldexpf(1.0f, (int)check_random_in(&seed, -100, 100))
                                  : uniform(0.001f, 2.0f);
        zeros[c] = (int32_t)check_random_in(&seed, range[0], range[1]);
    }
    return args;
}

/* quantize.h's definition in double: the float quotient, then nearbyint. */
static void oracle_forward(const pq_fake_args *args, size_t i, float *x_hat, bool *inside) {
    const size_t c = i / args->inner % args->channels;
    const int32_t z = zeros[args->zero_points == 1 ? 0 : c];
    const double k = rint((double)(x_data[i] / scales[c]));
    const double low = args->quant_min - z, high = args->quant_max - z;
    *inside = k >= low && k <= high;
    *x_hat = (float)fmin(fmax(k, low), high) * scales[c] + 0.0f;
}

static const size_t shapes[][3] = {/* outer, channels, inner */
                                   {1, 1, 1},    {1, 1, 63},   {1, 1, 64},   {1, 1, 65},
                                   {1, 1, 511},  {1, 1, 512},  {1, 1, 513},  {1, 1, 20011},
                                   {3, 5, 16},   {2, 3, 17},   {2, 7, 49},   {4, 3, 1100},
                                   {1, 300, 32}, {33, 7, 1},   {100, 96, 1}, {64, 31, 3},
                                   {65, 2, 15},  {5, 1500, 1}, {1, 1000, 1}, {31, 1, 5},
                                   {700, 3, 1},  {2, 2000, 2}, {70, 16, 1},  {1, 2, 5000}};

static void test_forward(void) {
    pq_exec split = split_exec(&split_state, message, sizeof message);
    for (size_t round = 0; round < 3 * sizeof shapes / sizeof shapes[0]; round++) {
        const size_t *s = shapes[round / 3], n = s[0] * s[1] * s[2];
        const pq_fake_args args = make_args(n, s[1], s[2], (int)(round + round / 7));
        fill(n, &args);
        memset(mask_a, 0xff, sizeof mask_a);
        CHECK_OK(pq_fake_forward(&split, &args, x_data, out_a, mask_a));
        bool good = true;
        for (size_t i = 0; i < n; i++) {
            float x_hat;
            bool inside;
            oracle_forward(&args, i, &x_hat, &inside);
            good &= memcmp(&x_hat, &out_a[i], sizeof x_hat) == 0;
            good &= (mask_a[i / 8] >> i % 8 & 1) == inside;
        }
        CHECK(good);
        for (size_t i = n; i < (n + 7) / 8 * 8; i++) {
            CHECK_EQ(mask_a[i / 8] >> i % 8 & 1, 0);
        }
        CHECK_EQ(mask_a[(n + 7) / 8], 0xff);
        CHECK_OK(pq_fake_forward(&split, &args, x_data, out_b, NULL));
        CHECK_SAME(out_b, out_a, n * sizeof *out_a);
        CHECK_OK(pq_fake_backward(&split, n, g_data, mask_a, out_b));
        for (size_t i = 0; i < n; i++) {
            const float want = (mask_a[i / 8] >> i % 8 & 1) != 0 ? g_data[i] : 0.0f;
            good &= memcmp(&want, &out_b[i], sizeof want) == 0;
        }
        CHECK(good);
    }
}

/* The paper's equations in double; the bound is the header's. */
static void test_learned(void) {
    pq_exec split = split_exec(&split_state, message, sizeof message);
    for (size_t round = 0; round < 3 * sizeof shapes / sizeof shapes[0]; round++) {
        const size_t *s = shapes[round / 3], n = s[0] * s[1] * s[2];
        const pq_fake_args args = make_args(n, s[1], s[2], (int)(round + round / 7));
        fill(n, &args);
        static double ds[MAX_CHANNELS], dz[MAX_CHANNELS], size[MAX_CHANNELS], size_z[MAX_CHANNELS];
        memset(ds, 0, sizeof ds), memset(dz, 0, sizeof dz);
        memset(size, 0, sizeof size), memset(size_z, 0, sizeof size_z);
        CHECK_OK(pq_fake_learned_backward(&split, &args, x_data, g_data, out_a, ds_a, dz_a));
        bool good = true;
        for (size_t i = 0; i < n; i++) {
            const size_t c = i / args.inner % args.channels;
            const int32_t z = zeros[args.zero_points == 1 ? 0 : c];
            const double low = args.quant_min - z, high = args.quant_max - z;
            const double v = (double)(x_data[i] / scales[c]), g = (double)g_data[i];
            const bool inside = v > low && v < high;
            const double t = inside ? rint(v) - v : v <= low ? low : high;
            ds[c] += g * t;
            size[c] += fabs(g * t);
            dz[c] -= inside ? 0.0 : (double)scales[c] * g;
            size_z[c] += inside ? 0.0 : fabs((double)scales[c] * g);
            const float want = inside ? g_data[i] : 0.0f;
            good &= memcmp(&want, &out_a[i], sizeof want) == 0;
        }
        CHECK(good);
        for (size_t c = 0; c < args.channels; c++) {
            CHECK(fabs(ds[c] - ds_a[c]) <= 34 * 0x1p-24 * size[c] + (double)n * 0x1p-149);
            CHECK(fabs(dz[c] - dz_a[c]) <= 34 * 0x1p-24 * size_z[c]);
        }
        /* In place, without dz, another split: the same bits. */
        memcpy(out_b, g_data, n * sizeof *out_b);
        CHECK_OK(pq_fake_learned_backward(&split, &args, x_data, out_b, out_b, ds_b, NULL));
        CHECK_SAME(out_b, out_a, n * sizeof *out_a);
        CHECK_SAME(ds_b, ds_a, args.channels * sizeof *ds_a);
    }
}

static void test_hand_numbers(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const float scale = 0.5f;
    const int32_t zero = 1;
    const pq_fake_args args = {6, 1, 1, &scale, &zero, 1, -2, 3}; /* low -3, high 2 */
    const float x[6] = {0.25f, 0.75f, -1.5f, 1.1f, -9.0f, 1.0f}, g[6] = {1, 2, 4, 8, 16, 32};
    float dx[6];
    double ds, dz;
    uint8_t mask;
    const float want[6] = {0.0f, 1.0f, -1.5f, 1.0f, -1.5f, 1.0f}; /* ties to even: 0.5, 1.5 */
    CHECK_OK(pq_fake_forward(&exec, &args, x, dx, &mask));
    CHECK_SAME(dx, want, sizeof want);
    CHECK_EQ(mask, 0x2f);
    CHECK_OK(pq_fake_learned_backward(&exec, &args, x, g, dx, &ds, &dz));
    const float want_dx[6] = {1, 2, 0, 0, 0, 0}; /* the ends are outside */
    CHECK_SAME(dx, want_dx, sizeof want_dx);
    CHECK(ds == -0.5 * 1 + 0.5 * 2 - 3 * 4 + 2 * 8 - 3 * 16 + 2 * 32);
    CHECK(dz == -0.5 * (4 + 8 + 16 + 32));
    const pq_affine grid = {0.5f, 1, -2, 3};
    const float y[6] = {0.0f, 1.0f, -1.5f, 1.0f, -1.5f, 0.5f};
    CHECK_OK(pq_edge_backward(&exec, 6, grid, g, y, dx));
    const float want_edge[6] = {1, 0, 0, 0, 0, 32};
    CHECK_SAME(dx, want_edge, sizeof want_edge);
    CHECK_OK(pq_edge_backward_learned(&exec, 6, grid, g, x, y, dx, &ds));
    CHECK_SAME(dx, want_dx, sizeof want_dx);
    CHECK(ds == -0.5 * 1 + 0.5 * 2 - 3 * 4 + 2 * 8 - 3 * 16 + 2 * 32);
}

static void test_edges(void) {
    pq_exec split = split_exec(&split_state, message, sizeof message);
    static const size_t sizes[] = {0, 1, 15, 16, 17, 511, 512, 513, 1025, 30011};
    for (int round = 0; round < 60; round++) {
        const size_t n = sizes[round % 10];
        const pq_fake_args args = make_args(n, 1, 1, round);
        const pq_affine grid = {scales[0], zeros[0], args.quant_min, args.quant_max};
        const float low = (float)(grid.quant_min - grid.zero_point),
                    high = (float)(grid.quant_max - grid.zero_point);
        fill(n, &args);
        CHECK_OK(pq_fake_forward(&split, &args, x_data, y_data, NULL));
        CHECK_OK(pq_edge_backward(&split, n, grid, g_data, y_data, out_a));
        CHECK_OK(pq_edge_backward_learned(&split, n, grid, g_data, x_data, y_data, out_b, ds_a));
        double want = 0, size = 0;
        bool good = true;
        for (size_t i = 0; i < n; i++) {
            const bool in = y_data[i] > low * grid.scale && y_data[i] < high * grid.scale;
            const float v = x_data[i] / grid.scale, a = in ? g_data[i] : 0.0f;
            const bool inside = v > low && v < high;
            const float b = inside ? g_data[i] : 0.0f;
            good &= memcmp(&a, &out_a[i], sizeof a) == 0 && memcmp(&b, &out_b[i], sizeof b) == 0;
            const double t = inside     ? rint((double)v) - (double)v
                             : v <= low ? (double)low
                                        : (double)high;
            want += (double)g_data[i] * t;
            size += fabs((double)g_data[i] * t);
        }
        CHECK(good);
        CHECK(fabs(want - ds_a[0]) <= 34 * 0x1p-24 * size + (double)n * 0x1p-149);
    }
}

static void fill_tables(void) {
    for (int i = 0; i < 512; i++) {
        table_data[i] = uniform(-2.0f, 2.0f);
    }
}

/* Against the words of fake.h, in any split. */
static void test_lookup(void) {
    pq_exec split = split_exec(&split_state, message, sizeof message);
    static const size_t sizes[] = {0, 1, 15, 16, 17, 511, 512, 513, 1025, 30011};
    for (int round = 0; round < 60; round++) {
        const size_t n = sizes[round % 10];
        const pq_fake_args args = make_args(n, 1, 1, 2 * (round % 3) % 5);
        const bool bytes = args.quant_min >= -128 && args.quant_max <= 127;
        const pq_affine grid = {scales[0], zeros[0], bytes ? args.quant_min : -128,
                                bytes ? args.quant_max : 127};
        const pq_affine to = {grid.scale, bytes ? grid.zero_point : 5, grid.quant_min,
                              grid.quant_max};
        fill(n, &args);
        fill_tables();
        const float *const slope = table_data, *const step = table_data + 256;
        CHECK_OK(pq_lookup_backward(&split, n, to, slope, step, g_data, x_data, out_a, ds_a));
        double want = 0, size = 0;
        bool good = true;
        for (size_t i = 0; i < n; i++) {
            const double v = rint((double)(x_data[i] * (1.0f / to.scale)));
            const double q = fmin(fmax(v + to.zero_point, to.quant_min), to.quant_max);
            const float dx = g_data[i] * slope[(int)q + 128];
            good &= memcmp(&dx, &out_a[i], sizeof dx) == 0;
            want += (double)g_data[i] * (double)step[(int)q + 128];
            size += fabs((double)g_data[i] * (double)step[(int)q + 128]);
        }
        CHECK(good);
        CHECK(fabs(want - ds_a[0]) <= 34 * 0x1p-24 * size + (double)n * 0x1p-149);
        CHECK_OK(pq_lookup_backward(&split, n, to, slope, NULL, g_data, x_data, out_b, ds_b));
        CHECK_SAME(out_a, out_b, n * sizeof *out_a);
        CHECK(ds_b[0] == 0.0);
    }
}

static void test_variants(pq_isa isa) {
    const struct pq_fake_forward_kernel *f = pq_kernel_find(PQ_KERNEL_OP_fake_forward, isa);
    const struct pq_fake_forward_kernel *f_ref =
        pq_kernel_find(PQ_KERNEL_OP_fake_forward, PQ_ISA_REF);
    const struct pq_fake_backward_kernel *b = pq_kernel_find(PQ_KERNEL_OP_fake_backward, isa);
    const struct pq_fake_backward_kernel *b_ref =
        pq_kernel_find(PQ_KERNEL_OP_fake_backward, PQ_ISA_REF);
#if !defined(PQ_TEST_SIMDE)
    if (pq_kernel_present(PQ_KERNEL_OP_fake_forward, isa) == NULL) {
        f = NULL;
    }
#endif
    if (f == NULL) {
        return;
    }
    static float reciprocal[MAX_CHANNELS], low[MAX_CHANNELS], high[MAX_CHANNELS];
    static float lanes_a[2][MAX_CHANNELS], lanes_b[2][MAX_CHANNELS];
    fill_tables();
    for (int round = 0; round < 800; round++) {
        const size_t n = round < 300 ? (size_t)round % 150 : (size_t)(round % 513);
        const size_t step = (size_t)(round / 2 % 2), offset = (size_t)round % 5;
        const pq_fake_args args = make_args(n, n + 1, 1, round % 2 == 0 ? round : 2 * round + 1);
        bool near = true;
        for (size_t c = 0; c <= n; c++) {
            const int32_t z = zeros[args.zero_points == 1 ? 0 : c];
            reciprocal[c] = 1.0f / scales[c];
            low[c] = (float)(args.quant_min - z);
            high[c] = (float)(args.quant_max - z);
            near = near && low[c] >= -256 && high[c] <= 256;
        }
        const pq_fake_grid grid = {scales, reciprocal, low, high, step, near};
        fill(n + offset + 1, &args);
        const bool with_nan = n > 0 && round % 4 == 3;
        if (with_nan) {
            x_data[offset + (size_t)check_random_in(&seed, 0, (int64_t)n - 1)] = NAN;
        }
        const float *x = x_data + offset, *g = g_data + offset;
        memset(mask_a, 0xaa, sizeof mask_a), memset(mask_b, 0xaa, sizeof mask_b);
        memset(out_a, 0x55, sizeof out_a), memset(out_b, 0x55, sizeof out_b);
        CHECK_EQ(f->forward(n, x, grid, out_a + offset, mask_a), with_nan);
        CHECK_EQ(f_ref->forward(n, x, grid, out_b + offset, mask_b), with_nan);
        CHECK_SAME(out_a, out_b, (n + 80) * sizeof *out_a);
        CHECK_SAME(mask_a, mask_b, n / 8 + 40);
        memset(out_a, 0x55, sizeof out_a);
        CHECK_EQ(f->forward(n, x, grid, out_a + offset, NULL), with_nan);
        CHECK_SAME(out_a, out_b, (n + 80) * sizeof *out_a);
        f->apply(n, g, mask_a, out_a + offset);
        f_ref->apply(n, g, mask_a, out_b + offset);
        CHECK_SAME(out_a, out_b, (n + 80) * sizeof *out_a);
        f->edge(n, g, x, low[0], high[0], out_a + offset);
        f_ref->edge(n, g, x, low[0], high[0], out_b + offset);
        CHECK_SAME(out_a, out_b, (n + 80) * sizeof *out_a);
        double sums_a[2], sums_b[2];
        CHECK_EQ(b->learned(n, x, g, grid, out_a + offset, sums_a), with_nan);
        CHECK_EQ(b_ref->learned(n, x, g, grid, out_b + offset, sums_b), with_nan);
        CHECK_SAME(out_a, out_b, (n + 80) * sizeof *out_a);
        CHECK_SAME(sums_a, sums_b, sizeof sums_a);
        memcpy(y_data, x, n * sizeof *x);
        const double edge_a = b->edge(n, g, x, y_data, grid, out_a + offset);
        const double edge_b = b_ref->edge(n, g, x, y_data, grid, out_b + offset);
        CHECK_SAME(out_a, out_b, (n + 80) * sizeof *out_a);
        CHECK(with_nan ? isnan(edge_a) && isnan(edge_b) : edge_a == edge_b);
        if (args.quant_max - args.quant_min < 256) {
            const float *const slope = table_data - (int)low[0];
            memcpy(out_b, out_a, sizeof out_b);
            for (int with = 0; with < 2; with++) {
                const float *const second = with == 1 ? slope + 256 : NULL;
                const double a = b->lookup(n, g, x, grid, slope, second, out_a + offset);
                const double c = b_ref->lookup(n, g, x, grid, slope, second, out_b + offset);
                CHECK_SAME(out_a, out_b, (n + 80) * sizeof *out_a);
                CHECK(a == c && (with == 1 || a == 0.0));
            }
        }
        const size_t columns = n % 70, rows = (size_t)round % 33, stride = columns + n % 3;
        const pq_fake_args many = {.channels = n + 1,
                                   .inner = 1,
                                   .quant_min = args.quant_min,
                                   .quant_max = args.quant_max};
        fill(rows * stride + 4, &many);
        memset(out_a, 0x55, sizeof out_a), memset(out_b, 0x55, sizeof out_b);
        CHECK(!b->columns(rows, columns, stride, x_data, g_data, grid, out_a, lanes_a[0],
                          lanes_a[1]));
        CHECK(!b_ref->columns(rows, columns, stride, x_data, g_data, grid, out_b, lanes_b[0],
                              lanes_b[1]));
        CHECK_SAME(out_a, out_b, (rows * stride + 80) * sizeof *out_a);
        CHECK_SAME(lanes_a[0], lanes_b[0], columns * sizeof(float));
        CHECK_SAME(lanes_a[1], lanes_b[1], columns * sizeof(float));
    }
}

/* The vectors of Random123's kat_vectors. */
static void test_philox(void) {
    static const uint32_t in[3][6] = {
        {0, 0, 0, 0, 0, 0},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0}};
    static const uint32_t want[3][4] = {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
                                        {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
                                        {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}};
    for (int i = 0; i < 3; i++) {
        uint32_t words[4];
        pq_philox4x32(in[i], in[i] + 4, words);
        CHECK_SAME(words, want[i], sizeof words);
    }
}

static void test_stochastic(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_exec split = split_exec(&split_state, message, sizeof message);
    for (size_t round = 0; round < 2 * sizeof shapes / sizeof shapes[0]; round++) {
        const size_t *s = shapes[round / 2], n = s[0] * s[1] * s[2];
        const pq_fake_args args = make_args(n, s[1], s[2], (int)round);
        fill(n, &args);
        const uint64_t key = check_random(&seed);
        CHECK_OK(pq_fake_stochastic(&split, &args, key, x_data, out_a));
        CHECK_OK(pq_fake_stochastic(&exec, &args, key, x_data, out_b));
        CHECK_SAME(out_a, out_b, n * sizeof *out_a);
        bool good = true;
        for (size_t i = 0; i < n; i++) {
            const size_t c = i / args.inner % args.channels;
            const int32_t z = zeros[args.zero_points == 1 ? 0 : c];
            const double low = args.quant_min - z, high = args.quant_max - z;
            const uint32_t counter[4] = {(uint32_t)(i / 4), 0, 0, 0};
            const uint32_t keys[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
            uint32_t words[4];
            pq_philox4x32(counter, keys, words);
            const double v = fmin(fmax((double)(x_data[i] / scales[c]), low - 1.0), high + 1.0);
            const float moved = (float)v + (float)(words[i % 4] >> 8) * 0x1p-24f;
            const float want =
                (float)fmin(fmax(floor((double)moved), low), high) * scales[c] + 0.0f;
            good &= memcmp(&want, &out_a[i], sizeof want) == 0;
        }
        CHECK(good);
    }
    const float scale = 1.0f;
    const int32_t zero = 0;
    const pq_fake_args args = {MAX, 1, 1, &scale, &zero, 1, -8, 7};
    for (int i = 0; i < MAX; i++) {
        x_data[i] = 2.25f;
    }
    CHECK_OK(pq_fake_stochastic(&exec, &args, 7, x_data, out_a));
    double mean = 0;
    for (int i = 0; i < MAX; i++) {
        CHECK(out_a[i] == 2.0f || out_a[i] == 3.0f);
        mean += (double)out_a[i] / MAX;
    }
    CHECK(fabs(mean - 2.25) < 5 * sqrt(0.25 * 0.75 / MAX)); /* five standard deviations */
    x_data[5] = NAN;
    CHECK_STATUS(pq_fake_stochastic(&exec, &args, 7, x_data, out_a), PQ_ERR_NAN);
}

static void test_power_of_two(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const float middle = 1.41421354f; /* the float below sqrt 2; the next is above */
    const float in[6] = {1.0f, middle, nextafterf(middle, 2), 3.0f * 0x1p-90f, 0x1p100f, 0x1p-100f};
    const float want[6] = {1.0f, 1.0f, 2.0f, 0x1p-88f, 0x1p100f, 0x1p-100f};
    float got[6];
    CHECK_OK(pq_fake_power_of_two(&exec, 6, in, got));
    CHECK_SAME(got, want, sizeof got);
    for (int i = 0; i < 2000; i++) {
        const float s = ldexpf(uniform(1.0f, 2.0f), (int)check_random_in(&seed, -99, 98));
        CHECK_OK(pq_fake_power_of_two(&exec, 1, &s, got));
        CHECK(got[0] == exp2f((float)rint(log2((double)s))));
    }
    const float bad = 0.0f;
    CHECK_STATUS(pq_fake_power_of_two(&exec, 1, &bad, got), PQ_ERR_VALUE);
}

static void test_errors(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const float x[4] = {0, 1, NAN, 2}, g[4] = {0};
    float out[4];
    double ds[2], sum;
    uint8_t mask;
    float scale[2] = {0.5f, 0.25f};
    int32_t zero[2] = {0, 9};
    pq_fake_args args = {4, 2, 2, scale, zero, 2, -8, 7};
    CHECK_STATUS(pq_fake_forward(&exec, &args, x, out, NULL), PQ_ERR_VALUE);
    CHECK_TEXT(message, "fake_quantize: channel 1: expected quant_min <= zero_point");
    zero[1] = 7;
    CHECK_STATUS(pq_fake_forward(&exec, &args, x, out, &mask), PQ_ERR_NAN);
    CHECK_TEXT(message, "fake_quantize: x[2] is NaN");
    CHECK_STATUS(pq_fake_learned_backward(&exec, &args, x, g, out, ds, NULL), PQ_ERR_NAN);
    CHECK_TEXT(message, "x[2] is NaN");
    scale[1] = 0.0f;
    CHECK_STATUS(pq_fake_forward(&exec, &args, x, out, NULL), PQ_ERR_VALUE);
    CHECK_TEXT(message, "channel 1: expected a scale");
    scale[1] = 1.0f;
    args.n = 3;
    CHECK_STATUS(pq_fake_forward(&exec, &args, x, out, NULL), PQ_ERR_VALUE);
    CHECK_TEXT(message, "multiple of channels * inner");
    args.n = 4;
    args.zero_points = 3;
    CHECK_STATUS(pq_fake_learned_backward(&exec, &args, x, g, out, ds, NULL), PQ_ERR_VALUE);
    args.zero_points = 1;
    args.quant_max = 40000;
    CHECK_STATUS(pq_fake_learned_backward(&exec, &args, x, g, out, ds, NULL), PQ_ERR_VALUE);
    args.quant_max = 7;
    CHECK_STATUS(pq_fake_forward(&exec, &args, x, NULL, NULL), PQ_ERR_VALUE);
    CHECK_STATUS(pq_fake_forward(&exec, &args, out, out, NULL), PQ_ERR_VALUE);
    CHECK_TEXT(message, "overlap");
    CHECK_STATUS(pq_fake_learned_backward(&exec, &args, x, g, out, NULL, NULL), PQ_ERR_VALUE);
    const pq_affine grid = {0.5f, 0, -8, 7};
    CHECK_STATUS(pq_edge_backward(&exec, 3, grid, out, out + 1, out), PQ_ERR_VALUE);
    CHECK_STATUS(pq_edge_backward(&exec, 4, grid, g,
                                  (const float *)(const void *)((const char *)x + 1), out),
                 PQ_ERR_VALUE);
    CHECK_TEXT(message, "not aligned");
    CHECK_STATUS(pq_edge_backward(&exec, SIZE_MAX / 2, grid, g, x, out), PQ_ERR_OVERFLOW);
    /* NaN of `real` and g flows. */
    CHECK_OK(pq_edge_backward_learned(&exec, 4, grid, g, x, g, out, &sum));
    CHECK(isnan(sum) && out[2] == 0.0f);
    args = (pq_fake_args){2, 1, 1, scale, zero, 1, -8, 7};
    const float nan_g[2] = {1.0f, NAN};
    CHECK_OK(pq_fake_learned_backward(&exec, &args, x, nan_g, out, ds, NULL));
    CHECK(out[0] == 1.0f && isnan(out[1]) && isnan(ds[0]));
    const pq_affine byte = {0.5f, 0, -128, 127}, wide = {0.5f, 0, -129, 127};
    const float *const table = table_data;
    CHECK_STATUS(pq_lookup_backward(&exec, 3, wide, table, NULL, g, g, out, &sum), PQ_ERR_VALUE);
    CHECK_STATUS(pq_lookup_backward(&exec, 3, byte, NULL, NULL, g, g, out, &sum), PQ_ERR_VALUE);
    CHECK_STATUS(pq_lookup_backward(&exec, 3, byte, table, NULL, g, g, out, NULL), PQ_ERR_VALUE);
    CHECK_STATUS(pq_lookup_backward(&exec, 3, byte, table, NULL, g, out, out, &sum), PQ_ERR_VALUE);
    CHECK_STATUS(pq_lookup_backward(&exec, 3, byte, table, table, g, g, table_data + 255, &sum),
                 PQ_ERR_VALUE);
    CHECK_OK(pq_lookup_backward(&exec, 0, byte, NULL, NULL, NULL, NULL, NULL, &sum));
    CHECK(sum == 0.0);
    /* An allocation that fails leaves a message and nothing else. */
    for (long calls = 0; calls < 2; calls++) {
        args = (pq_fake_args){4, 2, 2, scale, zero, 2, -8, 7};
        const long live = pq_alloc_live();
        pq_alloc_fail_after(calls);
        CHECK_STATUS(pq_fake_learned_backward(&exec, &args, g, g, out, ds, NULL), PQ_ERR_NOMEM);
        pq_alloc_fail_after(-1);
        CHECK_EQ(pq_alloc_live(), live);
    }
    args = (pq_fake_args){0, 2, 2, scale, zero, 2, -8, 7};
    ds[0] = ds[1] = 3;
    CHECK_OK(pq_fake_learned_backward(&exec, &args, NULL, NULL, NULL, ds, NULL));
    CHECK(ds[0] == 0 && ds[1] == 0);
}

int main(void) {
    test_hand_numbers();
    test_forward();
    test_learned();
    test_edges();
    test_lookup();
    test_variants(PQ_ISA_AVX2);
    test_variants(PQ_ISA_AVX512);
    test_philox();
    test_stochastic();
    test_power_of_two();
    test_errors();
    return check_finish("test_fake");
}
