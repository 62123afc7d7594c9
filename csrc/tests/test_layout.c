/* copy, concat, gather: by hand, then against index arithmetic spelt out, then bad arguments. */
#include "check.h"
#include "core/dispatch.h"
#include "layout/transpose_kernel.h"
#include "pyquant/layout.h"
#include "split_exec.h"

#define MAX_BYTES 400000

static uint8_t x_data[MAX_BYTES], want[MAX_BYTES], got[MAX_BYTES];
static char message[256];
static uint64_t seed = 11, split_state = 13;
static const pq_dtype types[] = {PQ_S8, PQ_U8, PQ_S16, PQ_S32, PQ_S64};

static void fill_bytes(size_t n) {
    for (size_t i = 0; i < n; i++) {
        x_data[i] = (uint8_t)check_random(&seed);
    }
}

static size_t elements_of(const pq_copy_args *args) {
    size_t n = 1;
    for (int i = 0; i < args->ndim; i++) {
        n *= args->dims[i];
    }
    return n;
}

static void copy_want(const pq_copy_args *args) {
    const size_t size = pq_dtype_size(args->type), n = elements_of(args);
    for (size_t flat = 0; flat < n; flat++) {
        size_t rest = flat;
        ptrdiff_t at = args->offset;
        for (int i = args->ndim - 1; i >= 0; i--) {
            at += (ptrdiff_t)(rest % args->dims[i]) * args->strides[i];
            rest /= args->dims[i];
        }
        memcpy(want + flat * size, (const char *)args->x + at * (ptrdiff_t)size, size);
    }
}

static void check_copy(const pq_copy_args *args) {
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    const size_t bytes = elements_of(args) * pq_dtype_size(args->type);
    copy_want(args);
    memset(got, 0x55, bytes + 1);
    CHECK_OK(pq_copy(&split, args));
    CHECK_SAME(got, want, bytes);
    CHECK_EQ(got[bytes], 0x55);
}

static void test_copy_by_hand(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const int16_t x[6] = {1, 2, 3, 4, 5, 6};
    int16_t y[6];
    /* [2, 3] transposed. */
    pq_copy_args args = {
        .type = PQ_S16, .ndim = 2, .dims = {3, 2}, .strides = {1, 3}, .x = x, .x_size = 6, .y = y};
    CHECK_OK(pq_copy(&exec, &args));
    const int16_t transposed[6] = {1, 4, 2, 5, 3, 6};
    CHECK_SAME(y, transposed, sizeof y);
    /* Flipped, and the last row repeated. */
    args = (pq_copy_args){.type = PQ_S16,
                          .ndim = 1,
                          .dims = {6},
                          .strides = {-1},
                          .offset = 5,
                          .x = x,
                          .x_size = 6,
                          .y = y};
    CHECK_OK(pq_copy(&exec, &args));
    const int16_t flipped[6] = {6, 5, 4, 3, 2, 1};
    CHECK_SAME(y, flipped, sizeof y);
    args = (pq_copy_args){.type = PQ_S16,
                          .ndim = 2,
                          .dims = {2, 3},
                          .strides = {0, 1},
                          .offset = 3,
                          .x = x,
                          .x_size = 6,
                          .y = y};
    CHECK_OK(pq_copy(&exec, &args));
    const int16_t repeated[6] = {4, 5, 6, 4, 5, 6};
    CHECK_SAME(y, repeated, sizeof y);
    /* No dimension: one element. */
    args = (pq_copy_args){.type = PQ_S16, .ndim = 0, .offset = 2, .x = x, .x_size = 6, .y = y};
    CHECK_OK(pq_copy(&exec, &args));
    CHECK_EQ(y[0], 3);
    CHECK_EQ(y[1], 5);
}

/* Any permutation of any shape, with flips, steps and broadcasts. */
static void test_copy_random(void) {
    fill_bytes(MAX_BYTES);
    static const size_t sides[] = {1, 2, 3, 7, 8, 9, 16, 17};
    for (int round = 0; round < 600; round++) {
        pq_copy_args args = {.type = types[round % 5], .ndim = round % 6, .x = x_data, .y = got};
        size_t dims[PQ_MAX_DIMS];
        ptrdiff_t strides[PQ_MAX_DIMS];
        ptrdiff_t extent = 1;
        for (int i = args.ndim - 1; i >= 0; i--) {
            dims[i] = sides[check_random_in(&seed, 0, args.ndim > 3 ? 3 : 7)];
            const ptrdiff_t step = check_random_in(&seed, 0, 5) == 0 ? 2 : 1;
            strides[i] = extent * step;
            extent *= (ptrdiff_t)dims[i] * step;
            const int64_t kind = check_random_in(&seed, 0, 7);
            if (kind == 0) {
                args.offset += strides[i] * (ptrdiff_t)(dims[i] - 1);
                strides[i] = -strides[i];
            } else if (kind == 1) {
                strides[i] = 0;
            }
        }
        args.x_size = (size_t)extent;
        if (args.x_size * pq_dtype_size(args.type) > MAX_BYTES) {
            continue; /* rare: five long dimensions, most of them stepped */
        }
        for (int i = 0; i < args.ndim; i++) { /* a random permutation */
            const int j = (int)check_random_in(&seed, 0, args.ndim - 1 - i);
            args.dims[i] = dims[j];
            args.strides[i] = strides[j];
            dims[j] = dims[args.ndim - 1 - i];
            strides[j] = strides[args.ndim - 1 - i];
        }
        check_copy(&args);
    }
    /* Transposes across tile edges, batched, and an axis in the middle. */
    static const size_t edges[] = {1, 7, 8, 63, 64, 65, 129};
    for (int i = 0; i < 7 * 7 * 5; i++) {
        const size_t r = edges[i % 7], c = edges[i / 7 % 7];
        pq_copy_args args = {.type = types[i / 49],
                             .ndim = 3,
                             .dims = {2, c, r},
                             .strides = {(ptrdiff_t)(r * c), 1, (ptrdiff_t)c},
                             .x = x_data,
                             .x_size = 2 * r * c,
                             .y = got};
        check_copy(&args);
        args = (pq_copy_args){.type = types[i / 49],
                              .ndim = 3,
                              .dims = {c, 2, r},
                              .strides = {1, (ptrdiff_t)(r * c), (ptrdiff_t)c},
                              .x = x_data,
                              .x_size = 2 * r * c,
                              .y = got};
        check_copy(&args);
    }
    /* im2col of 4 x 4 patches of a 3-channel 16 x 16 image; [T, H, d] -> [H, T, d]. */
    check_copy(&(pq_copy_args){.type = PQ_S8,
                               .ndim = 5,
                               .dims = {4, 4, 3, 4, 4},
                               .strides = {64, 4, 256, 16, 1},
                               .x = x_data,
                               .x_size = 768,
                               .y = got});
    check_copy(&(pq_copy_args){.type = PQ_S16,
                               .ndim = 3,
                               .dims = {6, 197, 64},
                               .strides = {64, 384, 1},
                               .x = x_data,
                               .x_size = 197 * 384,
                               .y = got});
}

/* Every kernel on pieces of any shape up to the greatest tile; bytes between rows of y stay. */
static void test_transpose_variants(void) {
    enum { SIDE = 64, GAP = 5 };
    static uint8_t y[SIDE * (SIDE + GAP) * 8], y_want[sizeof y];
    fill_bytes(MAX_BYTES);
    for (int round = 0; round < 4000; round++) {
        const size_t size = (size_t)1 << round % 4;
        const bool full = round % 16 < 2;
        const size_t rows = full ? SIDE : (size_t)check_random_in(&seed, 0, SIDE);
        const size_t columns = full ? SIDE : (size_t)check_random_in(&seed, 0, SIDE);
        const size_t gap = (size_t)check_random_in(&seed, 0, GAP) * size;
        const ptrdiff_t x_gap = (ptrdiff_t)((rows + (size_t)check_random_in(&seed, 0, 9)) * size);
        const bool flipped = check_random_in(&seed, 0, 3) == 0 && columns > 0;
        const uint8_t *x = x_data + check_random_in(&seed, 0, 63);
        x += flipped ? (ptrdiff_t)(columns - 1) * x_gap : 0;
        const ptrdiff_t x_step = flipped ? -x_gap : x_gap;
        const size_t y_step = columns * size + gap;
        memset(y_want, 0x55, sizeof y_want);
        for (size_t r = 0; r < rows; r++) {
            for (size_t c = 0; c < columns; c++) {
                memcpy(y_want + r * y_step + c * size, x + (ptrdiff_t)c * x_step + r * size, size);
            }
        }
        for (pq_isa isa = PQ_ISA_REF; isa < PQ_ISA_COUNT; isa++) {
            const struct pq_transpose_kernel *kernel =
                pq_kernel_present(PQ_KERNEL_OP_transpose, isa);
            if (kernel != NULL) {
                memset(y, 0x55, sizeof y);
                kernel->run(size, rows, columns, (const char *)x, x_step, (char *)y,
                            (ptrdiff_t)y_step);
                CHECK_SAME(y, y_want, sizeof y);
            }
        }
    }
}

static void test_concat(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    /* A class token for each of two samples of two elements. */
    const int16_t token[1] = {9}, rest[4] = {1, 2, 3, 4};
    int16_t y[6];
    pq_concat_args args = {.type = PQ_S16,
                           .count = 2,
                           .outer = 2,
                           .inner = {1, 2},
                           .outer_stride = {0, 2},
                           .x = {token, rest},
                           .y = y};
    CHECK_OK(pq_concat(&exec, &args));
    const int16_t joined[6] = {9, 1, 2, 9, 3, 4};
    CHECK_SAME(y, joined, sizeof y);
    fill_bytes(MAX_BYTES);
    static const size_t inners[] = {0, 1, 2, 7, 16, 33, 257};
    for (int round = 0; round < 300; round++) {
        args = (pq_concat_args){.type = types[round % 5],
                                .count = 1 + round % PQ_MAX_CONCAT,
                                .outer = (size_t)check_random_in(&seed, 0, 9),
                                .y = got};
        const size_t size = pq_dtype_size(args.type);
        size_t at = 0, row = 0, out = 0;
        for (int t = 0; t < args.count; t++) {
            args.inner[t] = inners[check_random_in(&seed, 0, 6)];
            const bool repeat = check_random_in(&seed, 0, 2) == 0;
            args.outer_stride[t] = repeat ? 0 : (ptrdiff_t)args.inner[t];
            args.x[t] = x_data + at;
            at += args.inner[t] * size * (repeat ? 1 : args.outer);
            row += args.inner[t] * size;
        }
        for (size_t o = 0; o < args.outer; o++) {
            for (int t = 0; t < args.count; t++) {
                memcpy(want + out,
                       (const uint8_t *)args.x[t] + o * (size_t)args.outer_stride[t] * size,
                       args.inner[t] * size);
                out += args.inner[t] * size;
            }
        }
        CHECK_EQ(out, row * args.outer);
        memset(got, 0x55, out + 1);
        CHECK_OK(pq_concat(&split, &args));
        CHECK_SAME(got, want, out);
        CHECK_EQ(got[out], 0x55);
    }
}

static void test_gather(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    const int8_t table[6] = {1, 2, 3, 4, 5, 6};
    const int32_t index[4] = {2, 0, 2, 1};
    int8_t y[8];
    pq_gather_args args = {
        .type = PQ_S8, .rows = 3, .inner = 2, .count = 4, .table = table, .index = index, .y = y};
    CHECK_OK(pq_gather(&exec, &args));
    const int8_t rows[8] = {5, 6, 1, 2, 5, 6, 3, 4};
    CHECK_SAME(y, rows, sizeof y);
    int32_t bad[4] = {2, 0, 3, 1};
    args.index = bad;
    memset(y, 0, sizeof y);
    CHECK_STATUS(pq_gather(&exec, &args), PQ_ERR_INDEX);
    CHECK_TEXT(message, "gather: expected an index in [0, 3), got 3 at [2]");
    CHECK_EQ(y[0], 0); /* nothing was written */
    bad[2] = -1;
    CHECK_STATUS(pq_gather(&exec, &args), PQ_ERR_INDEX);
    CHECK_TEXT(message, "got -1 at [2]");
    args.count = 0;
    CHECK_OK(pq_gather(&exec, &args));
    args.count = 4;
    args.inner = 0; /* indices are checked all the same */
    CHECK_STATUS(pq_gather(&exec, &args), PQ_ERR_INDEX);
    fill_bytes(MAX_BYTES);
    static int32_t many[1000];
    check_random_s32(&seed, many, 1000, 0, 96);
    for (int i = 0; i < 5; i++) {
        const size_t inner = 1 + 5 * (size_t)i, row = inner * pq_dtype_size(types[i]);
        args = (pq_gather_args){.type = types[i],
                                .rows = 97,
                                .inner = inner,
                                .count = 1000,
                                .table = x_data,
                                .index = many,
                                .y = got};
        for (size_t j = 0; j < 1000; j++) {
            memcpy(want + j * row, x_data + (size_t)many[j] * row, row);
        }
        CHECK_OK(pq_gather(&split, &args));
        CHECK_SAME(got, want, 1000 * row);
    }
}

#define BAD(call, status, text) \
    do { \
        CHECK_STATUS((call), (status)); \
        CHECK_TEXT(message, (text)); \
    } while (0)

static void test_messages(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    int8_t x[16] = {0}, y[16] = {0};
    const pq_copy_args good = {.type = PQ_S8,
                               .ndim = 2,
                               .dims = {3, 4},
                               .strides = {4, 1},
                               .offset = 4,
                               .x = x,
                               .x_size = 16,
                               .y = y};
    pq_copy_args copy = good;
    CHECK_OK(pq_copy(&exec, &copy));
    copy.offset = 5;
    BAD(pq_copy(&exec, &copy), PQ_ERR_VALUE,
        "copy: expected offset and strides to stay in [0, 16), got indices from 5 to 16");
    copy.offset = -1;
    BAD(pq_copy(&exec, &copy), PQ_ERR_VALUE, "from -1 to 10");
    copy = good;
    copy.strides[0] = -4;
    BAD(pq_copy(&exec, &copy), PQ_ERR_VALUE, "from -4 to 7");
    copy.strides[0] = PTRDIFF_MAX;
    BAD(pq_copy(&exec, &copy), PQ_ERR_VALUE, "and beyond");
    copy = good;
    copy.offset = PTRDIFF_MAX;
    BAD(pq_copy(&exec, &copy), PQ_ERR_VALUE, "and beyond");
    copy = good;
    copy.ndim = 9;
    BAD(pq_copy(&exec, &copy), PQ_ERR_VALUE, "copy: expected 0 to 8 dimensions, got 9");
    copy.ndim = -1;
    BAD(pq_copy(&exec, &copy), PQ_ERR_VALUE, "got -1");
    copy = good;
    copy.type = (pq_dtype)0;
    BAD(pq_copy(&exec, &copy), PQ_ERR_VALUE, "copy: expected an element type, got 0");
    copy = good;
    copy.dims[0] = SIZE_MAX / 2;
    BAD(pq_copy(&exec, &copy), PQ_ERR_OVERFLOW,
        "copy: expected the product of 2 dimensions to fit in memory");
    copy.dims[1] = 0; /* nothing to read, whatever the rest says */
    CHECK_OK(pq_copy(&exec, &copy));
    copy = good;
    copy.y = x + 15;
    BAD(pq_copy(&exec, &copy), PQ_ERR_VALUE, "copy: expected y not to overlap x");

    const pq_concat_args two = {.type = PQ_S8,
                                .count = 2,
                                .outer = 2,
                                .inner = {2, 3},
                                .outer_stride = {2, 3},
                                .x = {x, x + 8},
                                .y = y};
    pq_concat_args concat = two;
    concat.count = 0;
    BAD(pq_concat(&exec, &concat), PQ_ERR_VALUE, "concat: expected 1 to 8 inputs, got 0");
    concat.count = 9;
    BAD(pq_concat(&exec, &concat), PQ_ERR_VALUE, "got 9");
    concat = two;
    concat.outer_stride[1] = 2;
    BAD(pq_concat(&exec, &concat), PQ_ERR_VALUE,
        "concat: expected outer stride 0 or 3 of input 1, got 2");
    concat = two;
    concat.inner[0] = SIZE_MAX;
    BAD(pq_concat(&exec, &concat), PQ_ERR_OVERFLOW,
        "concat: expected the sum of inner sizes to fit in memory");
    concat = two;
    concat.outer = SIZE_MAX;
    BAD(pq_concat(&exec, &concat), PQ_ERR_OVERFLOW, "concat: expected outer = ");
    concat = two;
    concat.y = x + 5;
    BAD(pq_concat(&exec, &concat), PQ_ERR_VALUE, "concat: expected y not to overlap an input");
    concat = two;
    concat.type = (pq_dtype)6;
    BAD(pq_concat(&exec, &concat), PQ_ERR_VALUE, "concat: expected an element type, got 6");

    const int32_t index[2] = {0, 1};
    pq_gather_args gather = {
        .type = PQ_S8, .rows = 2, .inner = 4, .count = 2, .table = x, .index = index, .y = x + 4};
    BAD(pq_gather(&exec, &gather), PQ_ERR_VALUE, "gather: expected y not to overlap table");
    gather.inner = SIZE_MAX / 2;
    BAD(pq_gather(&exec, &gather), PQ_ERR_OVERFLOW,
        "gather: expected a table of 2 and an output of 2 rows");
}

int main(void) {
    test_copy_by_hand();
    test_copy_random();
    test_transpose_variants();
    test_concat();
    test_gather();
    test_messages();
    return check_finish("test_layout");
}
