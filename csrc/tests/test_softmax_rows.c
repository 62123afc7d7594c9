/* softmax_rows: numbers by hand, requantization without 64 bits against its definition, variants
 * and splits against the reference (every method, at guarded ends of memory), bad arguments. */
#define _DEFAULT_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "attention_case.h"
#include "core/dispatch.h"
#include "pyquant/rnu.h"
#include "softmax/softmax_rows_kernel.h"
#include "split_exec.h"

enum { MAX_ELEMENTS = 20000 };

static char message[512];
static uint64_t seed = 1;

/* `size` bytes that end where memory ends: one read or write behind them is a fault. */
typedef struct guarded {
    char *pages, *data;
    size_t whole, page;
} guarded;

static guarded guard(size_t most) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    guarded g = {.whole = pq_round_up(most, page) + page, .page = page};
    void *const pages =
        mmap(NULL, g.whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect((char *)pages + g.whole - page, page, PROT_NONE) != 0) {
        abort();
    }
    g.pages = pages;
    return g;
}

static void *last_bytes(const guarded *g, size_t size) {
    return g->pages + g->whole - g->page - size;
}

/* One unit of x is one octave: m / 2^s = 32, and the table holds what derive makes for 14 bits. */
static pq_softmax octave_softmax(void) {
    pq_softmax softmax = {.method = PQ_SOFTMAX_TABLE16,
                          .delta_max = 15,
                          .multiplier = 64,
                          .shift = 1,
                          .pmax = 16383};
    for (int j = 0; j < PQ_SOFTMAX_TABLE_SIZE; j++) {
        softmax.table[j] = (uint16_t)rint(2 * 16383 * exp2(-j / 32.0));
    }
    return softmax;
}

/* P = 16383, (32766 + 2) >> 2 = 8192 twice: L = 32767. 255 P / L = 127.496, 63.75. */
static void test_by_hand(void) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const int8_t x[6] = {3, 2, 2, -128, 127, -128};
    int8_t y[6];
    pq_softmax_rows_args args = {.rows = 2,
                                 .n = 3,
                                 .x_type = PQ_S8,
                                 .y_type = PQ_S8,
                                 .x = x,
                                 .y = y,
                                 .softmax = octave_softmax(),
                                 .requant = {255 << 23, 23},
                                 .out = {-128, -128, 127}};
    CHECK_OK(pq_softmax_rows(&exec, &args));
    const int8_t want[6] = {127 - 128, 64 - 128, 64 - 128, -128, 127, -128};
    CHECK_SAME(y, want, sizeof want);
    args.out = (pq_clamp){-100, -110, 0}; /* the zero point, then the upper end of the clamp */
    CHECK_OK(pq_softmax_rows(&exec, &args));
    const int8_t moved[6] = {0, -36, -36, -100, 0, -100};
    CHECK_SAME(y, moved, sizeof moved);
    /* s16: 65535 P / L = 32766.49998, 16384.25; a long row of equal scores gives 65535 / 5 each */
    int16_t wide[5], flat[5] = {-7, -7, -7, -7, -7};
    args.rows = 1;
    args.y_type = PQ_S16;
    args.y = wide;
    args.requant = (pq_dyadic){65535 << 15, 15};
    args.out = (pq_clamp){-32768, -32768, 32767};
    CHECK_OK(pq_softmax_rows(&exec, &args));
    CHECK_EQ(wide[0], 32766 - 32768);
    CHECK_EQ(wide[1], 16384 - 32768);
    args.n = 5;
    args.x_type = PQ_S16;
    args.x = flat;
    CHECK_OK(pq_softmax_rows(&exec, &args));
    for (int j = 0; j < 5; j++) {
        CHECK_EQ(wide[j], 13107 - 32768);
    }
    /* nothing to do: nothing is touched */
    args.n = 0;
    CHECK_OK(pq_softmax_rows(&exec, &args));
    args.n = 5, args.rows = 0, args.y = NULL;
    CHECK_OK(pq_softmax_rows(&exec, &args));
    CHECK_EQ(pq_softmax_rows_workspace(&exec, &args), 0);
}

/* Exponentials that are all 0: P = 0, L = 1. */
static void test_no_weight(void) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const int32_t nothing[2] = {0, 0};
    const int16_t x[3] = {5, 6, -9};
    int16_t y[3];
    for (int method = PQ_SOFTMAX_IBERT; method < PQ_SOFTMAX_METHOD_COUNT; method++) {
        const int32_t bits = method <= PQ_SOFTMAX_IVIT ? 8 : method == PQ_SOFTMAX_FQVIT ? 4 : 0;
        const pq_softmax_rows_args args = {.rows = 1,
                                           .n = 3,
                                           .x_type = PQ_S16,
                                           .y_type = PQ_S16,
                                           .x = x,
                                           .y = y,
                                           .softmax = {.method = (pq_softmax_method)method,
                                                       .delta_max = 100,
                                                       .multiplier = 3,
                                                       .shift = 2,
                                                       .pmax = 100,
                                                       .bits = bits,
                                                       .entries = 2,
                                                       .exponentials = nothing},
                                           .requant = {1 << 30, 20},
                                           .out = {-77, -32768, 32767}};
        memset(y, 0x55, sizeof y);
        CHECK_OK(pq_softmax_rows(&exec, &args));
        CHECK(y[0] == -77 && y[1] == -77 && y[2] == -77);
    }
}

static void test_weight_scale(void) {
    for (int round = 0; round < 200000; round++) {
        const int32_t p = (int32_t)check_random_in(&seed, 0, round % 3 ? 32767 : 16);
        const pq_dyadic factor = {
            .multiplier = round % 7 == 0   ? INT32_MAX
                          : round % 7 == 1 ? 1 << 30
                                           : (int32_t)check_random_in(&seed, 1 << 30, INT32_MAX),
            .shift = (uint8_t)(round % 5 == 0 ? check_random_in(&seed, 44, 49)
                                              : check_random_in(&seed, 1, 62))};
        pq_weight_scale s;
        if (!pq_weight_scale_of(factor, &s)) {
            CHECK(factor.shift < 17);
            continue;
        }
        const int64_t low = (int64_t)p * s.low >> 16;
        const int64_t sum = (int64_t)p * s.high + low + s.half;
        CHECK(s.high <= INT16_MAX && low <= INT16_MAX && sum <= INT32_MAX);
        CHECK_EQ(sum >> s.shift, pq_rnu(p, factor.multiplier, factor.shift));
    }
}

/* kind 0..5: uniform, all alike, one-hot, both ends, narrow noise, a far second. */
static void fill(pq_dtype type, size_t n, int kind, void *out) {
    const int32_t low = type == PQ_S8 ? -128 : -32768, high = -low - 1;
    const int32_t level = (int32_t)check_random_in(&seed, low + 6, high - 6);
    for (size_t i = 0; i < n; i++) {
        int32_t x = level;
        switch (kind) {
        case 0: x = (int32_t)check_random_in(&seed, low, high); break;
        case 1: break;
        case 2: x = i % 97 == 5 ? high : low; break;
        case 3: x = check_random(&seed) % 2 ? low : high; break;
        case 4: x += (int32_t)check_random_in(&seed, -6, 6); break;
        default: x = i % 13 == 0 ? high : i % 13 == 1 ? high - 1 : low; break;
        }
        pq_store(type, out, i, x);
    }
}

static pq_softmax some_softmax(pq_softmax_method method, size_t n, attention_case *keep) {
    static const double steps[] = {0, 1e-3, 0.02, 0.3, 5, 600};
    const double step = steps[check_random_in(&seed, 0, 5)];
    *keep = (attention_case){.exponentials = NULL};
    if (pq_softmax_by_octaves(method)) {
        const double pmax = fmin(method == PQ_SOFTMAX_TABLE8 ? 255 : 16383, INT32_MAX / (double)n);
        return case_softmax(method, step, 65535, (int32_t)pmax);
    }
    const case_shape shape = {.k_len = n, .method = method, .step = step};
    case_lookup(keep, &shape, 65535, 1, &seed);
    return keep->args.softmax;
}

static size_t some_length(int round) {
    static const size_t edges[] = {1,  2,  7,  8,  9,  15, 16,  17,  31,  32,
                                   33, 47, 63, 64, 65, 95, 127, 128, 197, 1000};
    return round % 40 == 39 ? 4500 : edges[check_random_in(&seed, 0, 19)];
}

static void test_variants(void) {
    const guarded x_memory = guard(2 * MAX_ELEMENTS), y_memory = guard(2 * MAX_ELEMENTS);
    static int16_t want[MAX_ELEMENTS];
    uint64_t split_state = 7;
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    for (int round = 0; round < 1200; round++) {
        const pq_softmax_method method = (pq_softmax_method)(round % PQ_SOFTMAX_METHOD_COUNT);
        const size_t n = some_length(round);
        const size_t rows = n > 900 ? 2 : (size_t)check_random_in(&seed, 0, n < 40 ? 40 : 19);
        attention_case keep;
        pq_softmax_rows_args args = {.rows = rows,
                                     .n = n,
                                     .x_type = round / 2 % 2 == 0 ? PQ_S8 : PQ_S16,
                                     .y_type = round / 4 % 2 == 0 ? PQ_S8 : PQ_S16,
                                     .softmax = some_softmax(method, n, &keep),
                                     .out = {3, -100, 120}};
        if (args.y_type == PQ_S16) {
            args.out = round % 3 == 0 ? (pq_clamp){-32768, -32768, 32767}
                                      : (pq_clamp){-300, -32768, 32767};
        }
        do { /* 1 / s_y about 255 and 65535, or anything that the rule allows */
            args.requant.multiplier = (int32_t)check_random_in(&seed, 1 << 30, INT32_MAX);
            args.requant.shift = (uint8_t)(round % 4 == 0 ? check_random_in(&seed, 1, 62)
                                           : args.y_type == PQ_S8
                                               ? check_random_in(&seed, 22, 24)
                                               : check_random_in(&seed, 14, 17));
        } while (pq_softmax_rows_check(&split, &args) == PQ_ERR_OVERFLOW);
        const size_t x_size = rows * n * pq_dtype_size(args.x_type);
        const size_t y_size = rows * n * pq_dtype_size(args.y_type);
        void *const x = last_bytes(&x_memory, x_size), *const y = last_bytes(&y_memory, y_size);
        fill(args.x_type, rows * n, round / 8 % 6, x);
        args.x = x;
        args.y = want;
        CHECK_OK(pq_isa_limit("ref"));
        CHECK_OK(pq_softmax_rows(&split, &args));
        CHECK_OK(pq_isa_limit(NULL));
        args.y = y;
        for (pq_isa isa = PQ_ISA_AVX2; isa < PQ_ISA_COUNT; isa++) {
            const struct pq_softmax_rows_kernel *kernel =
                pq_kernel_present(PQ_KERNEL_OP_softmax_rows, isa);
            if (kernel == NULL) {
                continue;
            }
            const size_t scratch_size = kernel->scratch_size(&args);
            CHECK(scratch_size % 64 == 0);
            char *const scratch = pq_alloc(scratch_size + 64);
            memset(scratch + scratch_size, 0x55, 64);
            memset(y, 0x55, y_size);
            kernel->run(&args, 0, rows, scratch);
            if (!CHECK_SAME(y, want, y_size)) {
                fprintf(stderr, "  isa %d method %d rows %zu n %zu types %d %d shift %d\n",
                        (int)isa, (int)method, rows, n, (int)args.x_type, (int)args.y_type,
                        args.requant.shift);
            }
            CHECK_EQ(scratch[scratch_size], 0x55);
            pq_free(scratch);
        }
        memset(y, 0x55, y_size);
        CHECK_OK(pq_softmax_rows(&split, &args));
        CHECK_SAME(y, want, y_size);
        if (args.x_type == args.y_type) {
            args.y = x;
            CHECK_OK(pq_softmax_rows(&split, &args));
            CHECK_SAME(x, want, y_size);
        }
        case_free(&keep);
    }
    CHECK_EQ(munmap(x_memory.pages, x_memory.whole), 0);
    CHECK_EQ(munmap(y_memory.pages, y_memory.whole), 0);
}

static void test_messages(void) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    int8_t x[8] = {0}, y[8];
    const pq_softmax_rows_args good = {.rows = 2,
                                       .n = 4,
                                       .x_type = PQ_S8,
                                       .y_type = PQ_S8,
                                       .x = x,
                                       .y = y,
                                       .softmax = octave_softmax(),
                                       .requant = {255 << 23, 23},
                                       .out = {-128, -128, 127}};
    pq_softmax_rows_args bad = good;
    CHECK_OK(pq_softmax_rows(&exec, &good));
#define BAD(field, value, status, text) \
    do { \
        bad = good; \
        bad.field = (value); \
        CHECK_STATUS(pq_softmax_rows(&exec, &bad), (status)); \
        CHECK_TEXT(message, "softmax: expected "); \
        CHECK_TEXT(message, (text)); \
    } while (0)
    BAD(rows, SIZE_MAX / 2, PQ_ERR_OVERFLOW, "rows * n to fit in memory");
    BAD(n, SIZE_MAX / 4, PQ_ERR_OVERFLOW, "rows * n to fit in memory");
    BAD(x_type, PQ_S32, PQ_ERR_VALUE, "x of type s8 or s16, got type 4");
    BAD(y_type, PQ_U8, PQ_ERR_VALUE, "y of type");
    BAD(out, ((pq_clamp){0, -129, 127}), PQ_ERR_VALUE, "got -129, 0, 127");
    BAD(requant.multiplier, (1 << 30) - 1, PQ_ERR_VALUE, "a multiplier in [2^30, 2^31)");
    BAD(requant.shift, 63, PQ_ERR_VALUE, "a shift in [1, 62]");
    BAD(requant.shift, 60, PQ_ERR_OVERFLOW, "at most 62 bits, got shift 60, which is 76 for a row");
    BAD(n, 200000, PQ_ERR_OVERFLOW, "sum to less than 2^31, got up to 3276600000 for n = 200000");
    BAD(softmax.method, PQ_SOFTMAX_METHOD_COUNT, PQ_ERR_VALUE, "a softmax method, got 9");
    BAD(softmax.pmax, 0, PQ_ERR_VALUE, "1 <= pmax <= 16383, got 0");
    BAD(softmax.delta_max, UINT32_MAX, PQ_ERR_OVERFLOW, "delta_max * multiplier");
    BAD(y, x + 1, PQ_ERR_VALUE, "y not to overlap x unless they are the same");
    int64_t workspace[64];
    CHECK_STATUS(pq_softmax_rows_in(&exec, &good, workspace, 8), PQ_ERR_VALUE);
    CHECK_TEXT(message, "softmax: expected a workspace of ");
    pq_alloc_fail_after(0);
    CHECK_STATUS(pq_softmax_rows(&exec, &good), PQ_ERR_NOMEM);
    pq_alloc_fail_after(-1);
    CHECK_TEXT(message, "softmax: cannot allocate a workspace of ");
}

int main(void) {
    test_by_hand();
    test_no_weight();
    test_weight_scale();
    test_variants();
    test_messages();
    return check_finish("test_softmax_rows");
}
