/* levels: by hand, against plain counting and the sums as the header defines them, and that
 * instruction set, split and cells leave no trace. */
#include "core/dispatch.h"
#include "levels_case.h"
#include "split_exec.h"

static char message[256];
static uint64_t split_state = 37;

#define BAD(call, status, text) \
    do { \
        CHECK_STATUS((call), (status)); \
        CHECK_TEXT(message, (text)); \
    } while (0)

static void test_by_hand(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const float levels[3] = {-1.0F, 0.0F, 4.0F}, thresholds[2] = {-0.5F, 2.0F}, scale = 2.0F;
    const pq_levels_args args = {NULL, 9, &scale, 1, 1, levels, thresholds, 3};
    const float x[9] = {-4.0F, -2.0F, -1.0F,     -1.0000001F, 3.9999998F,
                        4.0F,  8.0F,  8.000001F, INFINITY};
    const float y[9] = {-2, -2, 0, -2, 0, 8, 8, 8, 8};
    const uint8_t codes[9] = {0, 0, 1, 0, 1, 2, 2, 2, 2};
    const float g[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    float out[9], dx[9], ds;
    uint8_t mask[2], got[9];
    CHECK_OK(pq_levels_values(&exec, &args, x, out, mask));
    CHECK_SAME(out, y, sizeof y);
    CHECK(mask[0] == 0x7e && mask[1] == 0);
    CHECK_OK(pq_levels_codes(&exec, &args, x, got));
    CHECK_SAME(got, codes, sizeof codes);
    /* -1, then (level - v) g: 0, 0.5 * 3, about -0.5 * 4, about -2 * 5, 2 * 6, 0, then 4 * 8, 4 * 9
     */
    CHECK_OK(pq_levels_learned(&exec, &args, 0.5, x, g, dx, &ds));
    CHECK(fabsf(ds - 0.5F * (-1.0F + 1.5F - 2.0F - 10.0F + 12.0F + 32.0F + 36.0F)) < 1e-4F);
    CHECK(dx[0] == 0 && dx[1] == 2 && dx[6] == 7 && dx[7] == 0 && dx[8] == 0);
    const float one = 0.25F; /* a codebook of one level */
    const pq_levels_args single = {NULL, 9, &scale, 1, 1, &one, NULL, 1};
    CHECK_OK(pq_levels_values(&exec, &single, x, out, mask));
    const pq_levels_args nothing = {NULL, 0, &scale, 1, 0, levels, thresholds, 3};
    ds = 7.0F;
    CHECK_OK(pq_levels_values(&exec, &nothing, NULL, NULL, NULL));
    CHECK_OK(pq_levels_learned(&exec, &nothing, 1.0, NULL, NULL, NULL, &ds));
    CHECK(ds == 0.0F);
    const pq_levels_args no_channel = {NULL, 0, NULL, 0, 3, levels, thresholds, 3};
    CHECK_OK(pq_levels_learned(&exec, &no_channel, 1.0, NULL, NULL, NULL, NULL));
    CHECK(out[0] == 0.5F && out[8] == 0.5F && mask[0] == 0);
}

static void check_case(const pq_exec *exec, const codebook *b, const pq_levels_args *args) {
    const size_t n = args->n, bytes = (n + 7) / 8;
    forward_want(b, args, n);
    memset(mask_data, 0xff, bytes);
    CHECK_OK(pq_levels_values(exec, args, x_data, y_data, mask_data));
    CHECK_SAME(y_data, want, n * sizeof(float));
    CHECK_SAME(mask_data, mask_want, bytes);
    CHECK_OK(pq_levels_codes(exec, args, x_data, code_data));
    CHECK_SAME(code_data, code_want, n);
    memset(y_data, 0, n * sizeof(float));
    CHECK_OK(pq_levels_values(exec, args, x_data, y_data, NULL));
    CHECK_SAME(y_data, want, n * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        want[i] = (mask_want[i / 8] >> i % 8 & 1) != 0 ? g_data[i] : 0.0F;
    }
    if (n % (args->channels * args->inner) == 0) {
        static float ds[1200];
        memset(y_data, 0xff, n * sizeof(float));
        CHECK_OK(pq_levels_learned(exec, args, 0.75, x_data, g_data, y_data, ds));
        CHECK_SAME(y_data, want, n * sizeof(float));
        for (size_t c = 0; c < args->channels; c++) {
            const float sum = (float)(0.75 * sum_want(b, args, c));
            CHECK_SAME(&ds[c], &sum, sizeof sum);
        }
    }
}

static const size_t counts[] = {2, 3, 5, 8, 9, 15, 16, 17, 31, 32, 33, 100, 129, 255, 256};

static void test_shapes(void) {
    static const size_t shapes[][3] = {/* outer, channels, inner */
                                       {1, 1, 1},     {3, 1, 33},    {2, 3, 7},      {5, 7, 1},
                                       {300, 5, 1},   {129, 300, 1}, {2, 2, 5000},   {40, 3, 50},
                                       {7, 2, 16},    {1, 600, 3},   {1, 1, 131073}, {1, 2, 65537},
                                       {3000, 2, 23}, {0, 3, 4}};
    static float scales[1200];
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    for (size_t round = 0; round < 14 * 3; round++) {
        const size_t *shape = shapes[round % 14];
        const codebook b = make_codebook((int)(round % KINDS), counts[round * 4 % 15]);
        for (size_t c = 0; c < shape[1]; c++) {
            scales[c] = round % 4 == 0 ? ldexpf(1.0F, (int)(c % 9) - 4) : 0.37F + (float)c / 64.0F;
        }
        const size_t n = shape[0] * shape[1] * shape[2];
        const pq_levels_args args = {NULL,     n,        scales,       shape[1],
                                     shape[2], b.levels, b.thresholds, b.count};
        draw(&b, n, &args);
        check_case(&split, &b, &args);
    }
}

/* Every variant on every length around its vectors, every start of a byte, every kind and size. */
static void test_variants(void) {
    static pq_levels_book book;
    static float scales[100];
    for (pq_isa isa = PQ_ISA_REF; isa < PQ_ISA_COUNT; isa++) {
        const struct pq_levels_kernel *kernel = pq_kernel_present(PQ_KERNEL_OP_levels, isa);
        if (kernel == NULL) {
            continue;
        }
        for (size_t round = 0; round < 15 * KINDS * 8; round++) {
            const codebook b = make_codebook((int)(round % KINDS), counts[round / KINDS % 15]);
            const size_t n = (size_t)check_random_in(&seed, 0, 90), begin = round % 9,
                         step = round % 2;
            for (size_t c = 0; c < 100; c++) {
                scales[c] = step == 0 ? 0.7F : 0.3F + (float)c / 50.0F;
            }
            const pq_levels_args a = {NULL, n,        scales,       step == 0 ? 1 : 100,
                                      1,    b.levels, b.thresholds, b.count};
            pq_exec exec = pq_exec_serial(message, sizeof message);
            CHECK_OK(pq_levels_book_make(&exec, "test", &a, round / 2 % 4 != 0, &book));
            draw(&b, n, &a);
            const size_t from = begin < n ? begin : n;
            memmove(x_data + from, x_data,
                    (n - from) * sizeof(float)); /* element i - from has its scale */
            memset(mask_data, 0, sizeof mask_data);
            memset(y_data, 0, (n + 1) * sizeof(float));
            bool nan = kernel->values(&book, from, n, x_data, scales, step, y_data, mask_data);
            nan |= kernel->codes(&book, from, n, x_data, scales, step, code_data);
            CHECK(!nan);
            for (size_t i = from; i < n; i++) {
                const float scale = scales[(i - from) * step], v = x_data[i] / scale;
                const size_t code = count_below(&b, v);
                const float y = b.levels[code] * scale;
                CHECK_EQ(code_data[i], code);
                CHECK_SAME(&y_data[i], &y, sizeof y);
                CHECK_EQ(mask_data[i / 8] >> i % 8 & 1, is_inside(&b, v));
            }
            CHECK(y_data[n] == 0.0F && (n == 0 || mask_data[n / 8] >> n % 8 == 0));
            float lanes[16], lanes_want[16], sums[100] = {0}, sums_want[100] = {0};
            static float dx[100], dx_want[100];
            nan = kernel->learned_run(&book, n, x_data, g_data, 0.7F, dx, lanes);
            nan |= pq_levels_ref.learned_run(&book, n, x_data, g_data, 0.7F, dx_want, lanes_want);
            CHECK_SAME(lanes, lanes_want, sizeof lanes);
            CHECK_SAME(dx, dx_want, n * sizeof(float));
            nan |= kernel->learned_row(&book, n, x_data, g_data, scales, dx, sums);
            nan |= pq_levels_ref.learned_row(&book, n, x_data, g_data, scales, dx_want, sums_want);
            CHECK_SAME(sums, sums_want, sizeof sums);
            CHECK_SAME(dx, dx_want, n * sizeof(float));
            CHECK(!nan);
            if (from < n) { /* a NaN is seen at every place */
                const size_t at = (size_t)check_random_in(&seed, (int64_t)from, (int64_t)n - 1);
                x_data[at] = from_bits(round % 2 == 0 ? 0x7fc00000 : 0xff800001);
                CHECK(kernel->values(&book, from, n, x_data, scales, step, y_data, mask_data));
                CHECK(kernel->codes(&book, from, n, x_data, scales, step, code_data));
                CHECK(kernel->learned_run(&book, n, x_data, g_data, 0.7F, dx, lanes));
                CHECK(kernel->learned_row(&book, n, x_data, g_data, scales, dx, sums));
            }
        }
    }
}

static void test_cells(void) {
    static pq_levels_book book;
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const float scale = 1.0F;
    for (int kind = 0; kind < KINDS; kind++) {
        const codebook b = make_codebook(kind, 256);
        const pq_levels_args a = {NULL, 0, &scale, 1, 1, b.levels, b.thresholds, b.count};
        CHECK_OK(pq_levels_book_make(&exec, "test", &a, true, &book));
        CHECK(book.half >= 0 && 2 * book.half <= PQ_LEVELS_CELLS);
        if (kind == 3) { /* too close: falls back */
            CHECK_EQ(book.half, 0);
        }
        if (kind == 1) { /* 0.5 (0x3f00 0000) to 254.5 (0x437e 8000), and the cell below */
            CHECK_EQ(book.shift, 16);
            CHECK_EQ(book.half, 0x437e - 0x3f00 + 2);
        }
        if (kind == 0) { /* every 0.45 octaves: two or three to an octave, cells of 1/4 */
            CHECK(book.half > 0 && book.half < 256 * 4);
        }
    }
}

static void test_errors(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    float levels[4] = {0, 1, 2, 3}, thresholds[3] = {0.5F, 1.5F, 2.5F}, scale[2] = {1, 1}, ds[2];
    pq_levels_args a = {NULL, 100, scale, 1, 1, levels, thresholds, 4};
    for (size_t i = 0; i < 200; i++) {
        x_data[i] = g_data[i] = 1.0F;
    }
    x_data[77] = NAN;
    BAD(pq_levels_values(&exec, &a, x_data, y_data, mask_data), PQ_ERR_NAN,
        "levels_values: x[77] is NaN");
    BAD(pq_levels_codes(&exec, &a, x_data, code_data), PQ_ERR_NAN, "levels_codes: x[77] is NaN");
    ds[0] = 5.0F;
    BAD(pq_levels_learned(&exec, &a, 1.0, x_data, g_data, y_data, ds), PQ_ERR_NAN,
        "levels_learned: x[77] is NaN");
    CHECK(ds[0] == 5.0F);
    BAD(pq_levels_values(&exec, &a, x_data, x_data, NULL), PQ_ERR_NAN, "x holds NaN");
    x_data[77] = 1.0F;
    a.op = "mine";
    a.count = 0;
    BAD(pq_levels_codes(&exec, &a, x_data, code_data), PQ_ERR_VALUE,
        "mine: expected 1 to 256 levels");
    a.count = 257;
    BAD(pq_levels_codes(&exec, &a, x_data, code_data), PQ_ERR_VALUE, "got 257 levels");
    a.count = 4;
    levels[2] = 1.0F;
    BAD(pq_levels_codes(&exec, &a, x_data, code_data), PQ_ERR_VALUE,
        "expected levels in ascending order, got 1 and 1 at [2]");
    levels[2] = INFINITY;
    BAD(pq_levels_codes(&exec, &a, x_data, code_data), PQ_ERR_VALUE, "|levels[2]| <= 2^24");
    levels[2] = 2.0F;
    thresholds[0] = NAN;
    BAD(pq_levels_codes(&exec, &a, x_data, code_data), PQ_ERR_VALUE,
        "|thresholds[0]| <= 2^24, got nan");
    thresholds[0] = 0.5F;
    scale[1] = 0.0F;
    a.channels = 2;
    BAD(pq_levels_codes(&exec, &a, x_data, code_data), PQ_ERR_VALUE, "channel 1: expected a scale");
    scale[1] = 1.0F;
    a.n = 99;
    BAD(pq_levels_learned(&exec, &a, 1.0, x_data, g_data, y_data, ds), PQ_ERR_VALUE,
        "whole rows of channels");
    a.n = 100;
    BAD(pq_levels_learned(&exec, &a, NAN, x_data, g_data, y_data, ds), PQ_ERR_VALUE,
        "finite grad_factor");
    BAD(pq_levels_values(&exec, &a, x_data, x_data + 1, NULL), PQ_ERR_VALUE, "overlap");
    BAD(pq_levels_values(&exec, &a, x_data, y_data, (uint8_t *)y_data), PQ_ERR_VALUE,
        "mask and x overlap");
    BAD(pq_levels_values(&exec, &a, (const float *)((const char *)x_data + 1), y_data, NULL),
        PQ_ERR_VALUE, "x is not aligned");
    BAD(pq_levels_values(&exec, &a, NULL, y_data, NULL), PQ_ERR_VALUE, "x is NULL");
    for (long calls = 0; calls < 2; calls++) {
        pq_alloc_fail_after(calls);
        BAD(pq_levels_learned(&exec, &a, 1.0, x_data, g_data, y_data, ds), PQ_ERR_NOMEM,
            "out of memory");
    }
    pq_alloc_fail_after(0);
    BAD(pq_levels_codes(&exec, &a, x_data, code_data), PQ_ERR_NOMEM, "out of memory");
    pq_alloc_fail_after(-1);
    long first = 1;
    const pq_exec stopping = stopping_exec(&first, message, sizeof message);
    CHECK_STATUS(pq_levels_learned(&stopping, &a, 1.0, x_data, g_data, y_data, ds),
                 PQ_ERR_INTERRUPTED);
    CHECK(ds[0] == 5.0F);
    CHECK_EQ(pq_alloc_live(), 0);
}

int main(void) {
    test_by_hand();
    test_shapes();
    test_variants();
    test_cells();
    test_errors();
    return check_finish("test_levels");
}
