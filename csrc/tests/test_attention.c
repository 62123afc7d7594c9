/* What attention_s8 computes: a case worked by hand, an oracle written another way, closed forms at
 * the extremes, and the distance from float attention. */
#include "attention_case.h"

/* One head, one query q = (8, -4), three keys (4, 0), (3, 0), (0, 5), values (10, -20), (-30, 40),
 * (100, 100); u = (8 Delta + 1) >> 1 = 4 Delta, pmax = 100.
 *
 *   scores 32, 24, -20; Delta 0, 8, 52; u 0, 32, 208, that is octaves 0, 1, 6 and entries 0, 0, 16
 *   T[0] = 200, T[16] = rne(200 * 2^-0.5) = 141
 *   P = (200 + 1) >> 1 = 100, (200 + 2) >> 2 = 50, (141 + 64) >> 7 = 1;  L = 151
 *   O = 1000 - 1500 + 100 = -400,  -2000 + 2000 + 100 = 100
 *   z_v = 2: O - 302 = -702, -202;  / 151 = -4.65, -1.34 -> -5, -1;  z_y = 5: 0, 4
 *   true scores with z_k = 1: minus sum q = 4: 28, 20, -24
 * Without key 0: Delta 0, 44; u 0, 176 = octave 5, entry 16: P = 100, (141 + 32) >> 6 = 2; L = 102
 *   O - 204 = -3000 + 200 - 204 = -3004,  4000 + 200 - 204 = 3996;  / 102 = -29.45, 39.18
 *   -> -29 + 5 = -24,  39 + 5 = 44
 * Without any: y = z_y = 5, L = 1. */
static void test_by_hand(void) {
    static const int8_t q[] = {8, -4}, k[] = {4, 0, 3, 0, 0, 5}, v[] = {10, -20, -30, 40, 100, 100};
    char message[200] = "";
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    int8_t y[2];
    uint8_t keep[3] = {1, 1, 1};
    pq_attention_args args = {.batch = 1,
                              .groups = 1,
                              .heads = 1,
                              .kv_heads = 1,
                              .q_len = 1,
                              .k_len = 3,
                              .head_dim = 2,
                              .q = q,
                              .k = k,
                              .v = v,
                              .y = y,
                              .q_strides.token = 2,
                              .k_strides.token = 2,
                              .v_strides.token = 2,
                              .y_strides.token = 2,
                              .k_zero_point = 1,
                              .v_zero_point = 2,
                              .keep = keep,
                              .keep_strides = {0, 0, 0, 0, 1},
                              .softmax = case_softmax(PQ_SOFTMAX_TABLE8, 4, 120, 100),
                              .requant = {INT32_C(1) << 30, 30},
                              .out = {.zero_point = 5, .quant_min = -128, .quant_max = 127}};
    args.softmax.multiplier = 8, args.softmax.shift = 1;
    CHECK_EQ(args.softmax.table[16], 141);
    int32_t score[3];
    uint16_t p[3];
    uint32_t l;
    const pq_attention_trace trace = {.score = score, .p = p, .l = &l};
    static const struct {
        uint8_t keep[3];
        int p[3];
        uint32_t l;
        int8_t y[2];
    } want[] = {{{1, 1, 1}, {100, 50, 1}, 151, {0, 4}},
                {{0, 7, 255}, {0, 100, 2}, 102, {-24, 44}},
                {{0, 0, 0}, {0, 0, 0}, 1, {5, 5}}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        memcpy(keep, want[i].keep, sizeof keep);
        CHECK_OK(pq_attention_s8_trace(&exec, &args, &trace));
        CHECK_SAME(y, want[i].y, sizeof y);
        CHECK_EQ(l, want[i].l);
        for (int j = 0; j < 3; j++) {
            CHECK_EQ(p[j], want[i].p[j]);
        }
        CHECK_EQ(score[0], 28), CHECK_EQ(score[1], 20), CHECK_EQ(score[2], -24);
        memset(y, 99, sizeof y);
        CHECK_OK(pq_attention_s8(&exec, &args));
        CHECK_SAME(y, want[i].y, sizeof y);
    }
}

/* floor(x / 2^s) without a shift. */
static int64_t floor_half_up(int64_t x, int s) {
    const int64_t unit = INT64_C(1) << s, raised = x + unit / 2;
    return raised / unit - (raised % unit < 0);
}

/* P as the header's equations read, in 64 bits, with the real function beside it. */
static int64_t oracle_weight(const pq_softmax *softmax, int64_t delta) {
    if (delta > softmax->delta_max) {
        delta = softmax->delta_max;
    }
    const int64_t u = floor_half_up(delta * softmax->multiplier, softmax->shift);
    if (u >= PQ_SOFTMAX_INDEX_END) {
        return 0;
    }
    const int64_t p = floor_half_up(softmax->table[u % 32], (int)(u / 32) + 1);
    /* u is within half a step (1.09 %) of Delta's place, T and P within half a unit each */
    const double octaves = (double)delta * softmax->multiplier / ldexp(32, softmax->shift);
    const double real = softmax->pmax * exp2(-octaves);
    CHECK(fabs((double)p - real) <= real * (exp2(1.0 / 64) - 1) + 0.75 + 1e-9);
    return p;
}

typedef struct row_oracle {
    int64_t *score, *p;
    uint8_t *keep;
} row_oracle;

static size_t at(const ptrdiff_t *strides, const size_t *index, int count) {
    ptrdiff_t sum = 0;
    for (int i = 0; i < count; i++) {
        sum += strides[i] * (ptrdiff_t)index[i];
    }
    return (size_t)sum; /* as an offset: wraps back when it is added */
}

static size_t place(pq_strides s, size_t b, size_t g, size_t h, size_t t) {
    const ptrdiff_t strides[] = {s.batch, s.group, s.head, s.token};
    const size_t index[] = {b, g, h, t};
    return at(strides, index, 4);
}

/* Checks one row of y and of the trace. */
static void check_row(const attention_case *c, const pq_attention_trace *trace, row_oracle o,
                      const size_t index[4]) {
    const pq_attention_args *a = &c->args;
    const size_t b = index[0], g = index[1], h = index[2], i = index[3];
    const size_t row = ((b * a->groups + g) * a->heads + h) * a->q_len + i;
    const size_t kv_head = h * a->kv_heads / a->heads;
    const int8_t *q = a->q + (ptrdiff_t)place(a->q_strides, b, g, h, i);
    int64_t highest = INT64_MIN, sum = 0,
            last_visible = (int64_t)(i + a->k_len) - (int64_t)a->q_len;
    for (size_t j = 0; j < a->k_len; j++) {
        const int8_t *k = a->k + (ptrdiff_t)place(a->k_strides, b, g, kv_head, j);
        const size_t where[5] = {b, g, h, i, j};
        int64_t s = a->mask_add != NULL ? a->mask_add[at(a->mask_strides, where, 5)] : 0;
        for (size_t d = 0; d < a->head_dim; d++) {
            s += (q[d] - a->q_zero_point) * (k[d] - a->k_zero_point); /* z_k must not matter */
        }
        o.score[j] = s;
        o.keep[j] = (a->keep == NULL || a->keep[at(a->keep_strides, where, 5)] != 0) &&
                    (!a->causal || (int64_t)j <= last_visible);
        highest = o.keep[j] && s > highest ? s : highest;
    }
    for (size_t j = 0; j < a->k_len; j++) {
        o.p[j] = o.keep[j] ? oracle_weight(&a->softmax, highest - o.score[j]) : 0;
        sum += o.p[j];
        CHECK_EQ(trace->score[row * a->k_len + j], o.score[j]);
        CHECK_EQ(trace->p[row * a->k_len + j], o.p[j]);
    }
    CHECK_EQ(trace->l[row], sum == 0 ? 1 : sum);
    const double scale = a->requant.multiplier / ldexp(1, a->requant.shift);
    for (size_t d = 0; d < a->head_dim; d++) {
        int64_t value = 0;
        for (size_t j = 0; j < a->k_len; j++) {
            const int8_t *v = a->v + (ptrdiff_t)place(a->v_strides, b, g, kv_head, j);
            value += o.p[j] * (v[d] - a->v_zero_point);
        }
        const double real = sum == 0 ? 0 : (double)value * scale / (double)sum;
        const double shifted = real + a->out.zero_point;
        const double want = fmin(fmax(shifted, a->out.quant_min), a->out.quant_max);
        const int8_t y = a->y[(ptrdiff_t)place(a->y_strides, b, g, h, i) + (ptrdiff_t)d];
        /* half a unit, and the truncations of t and m_r (2^-30 each) */
        CHECK(fabs(y - want) <= 0.5 + fabs(real) * ldexp(1, -29) + 1e-9);
    }
}

static void check_shape(case_shape shape, uint64_t *random) {
    attention_case c = case_make(&shape, random);
    char message[200] = "";
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const size_t rows = shape.batch * shape.groups * shape.heads * shape.q_len;
    const pq_attention_trace trace = {.score = case_alloc(rows * shape.k_len * sizeof *trace.score),
                                      .p = case_alloc(rows * shape.k_len * sizeof *trace.p),
                                      .l = case_alloc(rows * sizeof *trace.l)};
    const row_oracle o = {.score = case_alloc(shape.k_len * sizeof *o.score),
                          .p = case_alloc(shape.k_len * sizeof *o.p),
                          .keep = case_alloc(shape.k_len)};
    int8_t *first = case_alloc(c.y_size);
    memset(c.y, 0x5a, c.y_size);
    CHECK_OK(pq_attention_s8(&exec, &c.args));
    memcpy(first, c.y, c.y_size);
    memset(c.y, 0x5a, c.y_size);
    CHECK_OK(pq_attention_s8_trace(&exec, &c.args, &trace));
    CHECK_SAME(c.y, first, c.y_size);
    for (size_t row = 0; row < rows; row++) {
        const size_t head = row / shape.q_len, group = head / shape.heads;
        const size_t index[4] = {group / shape.groups, group % shape.groups, head % shape.heads,
                                 row % shape.q_len};
        check_row(&c, &trace, o, index);
    }
    free(trace.score), free(trace.p), free(trace.l);
    free(o.score), free(o.p), free(o.keep), free(first);
    case_free(&c);
}

static void test_oracle(void) {
    static const double steps[] = {0, 1e-5, 0.002, 0.03, 0.5, 60};
    static const size_t dims[] = {1, 8, 32, 63, 64, 80, 128};
    uint64_t random = 11;
    for (int n = 0; n < 96; n++) {
        const size_t kv_heads = 1 + (size_t)n % 2;
        check_shape((case_shape){.batch = 2,
                                 .groups = 1 + (size_t)n / 2 % 2,
                                 .heads = kv_heads * (1 + (size_t)n % 3),
                                 .kv_heads = kv_heads,
                                 .q_len = (size_t)check_random_in(&random, 1, 9),
                                 .k_len = (size_t)check_random_in(&random, 0, 45),
                                 .d = dims[n % 7],
                                 .layout = (layout)(n / 3 % LAYOUT_COUNT),
                                 .method = (pq_softmax_method)(n / 5 % 2),
                                 .flags = n % CASE_FLAGS,
                                 .step = steps[n % 6]},
                    &random);
    }
    static const size_t long_rows[] = {1, 65, 197, 1024, 65793, 100000};
    for (size_t n = 0; n < sizeof long_rows / sizeof *long_rows; n++) {
        const pq_softmax_method method =
            n % 2 && long_rows[n] < 65793 ? PQ_SOFTMAX_TABLE8 : PQ_SOFTMAX_TABLE16;
        check_shape((case_shape){.batch = 1,
                                 .groups = 1,
                                 .heads = 1,
                                 .kv_heads = 1,
                                 .q_len = 1,
                                 .k_len = long_rows[n],
                                 .d = 16,
                                 .method = method,
                                 .step = 0.004},
                    &random);
    }
}

/* Equal weights give the mean of v, a single dominating key gives its own v. */
static void test_flat_and_one_hot(void) {
    static const size_t lengths[] = {1, 65, 197, 1024, 65793};
    const pq_exec exec = pq_exec_serial(NULL, 0);
    uint64_t random = 12;
    for (int n = 0; n < 20; n++) {
        const size_t keys = lengths[n / 4];
        const bool one_hot = n % 2;
        case_shape shape = {.batch = 1,
                            .groups = 1,
                            .heads = 1,
                            .kv_heads = 1,
                            .q_len = 2,
                            .k_len = keys,
                            .d = 33,
                            .step = one_hot ? 16 : 0,
                            .method = (pq_softmax_method)(n / 2 % 2)};
        attention_case c = case_make(&shape, &random);
        c.args.q_zero_point = 0, c.args.v_zero_point = 0;
        c.args.requant = (pq_dyadic){INT32_C(1) << 30, 30};
        c.args.out = (pq_clamp){.zero_point = 0, .quant_min = -128, .quant_max = 127};
        const int32_t pmax_method = shape.method == PQ_SOFTMAX_TABLE8 ? 255 : 16383;
        const int32_t pmax_keys = (int32_t)(INT32_MAX / (128 * keys));
        c.args.softmax = case_softmax(shape.method, shape.step, 1e7,
                                      pmax_method < pmax_keys ? pmax_method : pmax_keys);
        memset(c.q, 1, c.q_size);
        memset(c.k, -1, c.kv_size);
        const size_t winner = (size_t)check_random(&random) % keys;
        memset(c.k + winner * shape.d, 0, shape.d); /* 33 above the others: 528 steps of Delta */
        CHECK_OK(pq_attention_s8(&exec, &c.args));
        for (size_t i = 0; i < c.y_size; i++) {
            int64_t sum = 0;
            for (size_t j = 0; j < keys; j++) {
                sum += c.v[j * shape.d + i % shape.d];
            }
            const double mean = (double)sum / (double)keys;
            if (one_hot) {
                CHECK_EQ(c.y[i], c.v[winner * shape.d + i % shape.d]);
            } else {
                CHECK(fabs(c.y[i] - mean) <= 0.5 + 1e-6);
            }
        }
        case_free(&c);
    }
}

enum { HEADS = 6, TOKENS = 197, DIM = 64, ELEMENTS = HEADS * TOKENS * DIM };

/* Uniform in [-4, 4), and its symmetric int8 form. Returns the scale. */
static double uniform_tensor(uint64_t *random, double *x, int8_t *quantized) {
    double absmax = 0;
    for (size_t i = 0; i < ELEMENTS; i++) {
        x[i] = (double)(check_random(random) >> 11) * ldexp(8, -53) - 4;
        absmax = fmax(absmax, fabs(x[i]));
    }
    const double scale = absmax / 127;
    for (size_t i = 0; i < ELEMENTS; i++) {
        quantized[i] = (int8_t)rint(x[i] / scale);
    }
    return scale;
}

/* y = softmax(alpha q k^T) v in float64. */
static void float_attention(const double *q, const double *k, const double *v, double alpha,
                            double *y) {
    static double score[TOKENS];
    for (size_t row = 0; row < HEADS * TOKENS; row++) {
        const size_t head = row / TOKENS * TOKENS;
        double highest = -INFINITY, sum = 0;
        for (size_t j = 0; j < TOKENS; j++) {
            score[j] = 0;
            for (size_t d = 0; d < DIM; d++) {
                score[j] += alpha * q[row * DIM + d] * k[(head + j) * DIM + d];
            }
            highest = fmax(highest, score[j]);
        }
        memset(y + row * DIM, 0, DIM * sizeof *y);
        for (size_t j = 0; j < TOKENS; j++) {
            const double p = exp(score[j] - highest);
            sum += p;
            for (size_t d = 0; d < DIM; d++) {
                y[row * DIM + d] += p * v[(head + j) * DIM + d];
            }
        }
        for (size_t d = 0; d < DIM; d++) {
            y[row * DIM + d] /= sum;
        }
    }
}

static double sqnr(const double *x, const double *y) {
    double signal = 0, noise = 0;
    for (size_t i = 0; i < ELEMENTS; i++) {
        signal += x[i] * x[i];
        noise += (x[i] - y[i]) * (x[i] - y[i]);
    }
    return 10 * log10(signal / noise);
}

/* The output before its requantization, from the trace: sum P v / L. */
static double method_sqnr(pq_softmax_method method, const int8_t *q, const int8_t *k,
                          const int8_t *v, double step, double v_scale, const double *want) {
    static uint16_t p[HEADS * TOKENS * TOKENS];
    static uint32_t l[HEADS * TOKENS];
    static int8_t y[ELEMENTS];
    static double got[ELEMENTS];
    const pq_strides strides = {.head = TOKENS * DIM, .token = DIM};
    const pq_attention_args args = {.batch = 1,
                                    .groups = 1,
                                    .heads = HEADS,
                                    .kv_heads = HEADS,
                                    .q_len = TOKENS,
                                    .k_len = TOKENS,
                                    .head_dim = DIM,
                                    .q = q,
                                    .k = k,
                                    .v = v,
                                    .y = y,
                                    .q_strides = strides,
                                    .k_strides = strides,
                                    .v_strides = strides,
                                    .y_strides = strides,
                                    .softmax =
                                        case_softmax(method, step, 2.0 * 255 * 128 * DIM,
                                                     method == PQ_SOFTMAX_TABLE8 ? 255 : 16383),
                                    .requant = {INT32_C(1) << 30, 30},
                                    .out = {.quant_min = -128, .quant_max = 127}};
    const pq_exec exec = pq_exec_serial(NULL, 0);
    const pq_attention_trace trace = {.p = p, .l = l};
    CHECK_OK(pq_attention_s8_trace(&exec, &args, &trace));
    for (size_t row = 0; row < HEADS * TOKENS; row++) {
        for (size_t d = 0; d < DIM; d++) {
            double sum = 0;
            for (size_t j = 0; j < TOKENS; j++) {
                sum += p[row * TOKENS + j] * (double)v[(row / TOKENS * TOKENS + j) * DIM + d];
            }
            got[row * DIM + d] = sum / l[row] * v_scale;
        }
    }
    return sqnr(want, got);
}

/* Published setting (QFlash): 6 heads x 197 x 64, uniform in [-4, 4). The ceiling is a float
 * softmax between the integer products, which ten seeds put at 37.0 to 37.7 dB. */
static void test_accuracy(void) {
    static double q[ELEMENTS], k[ELEMENTS], v[ELEMENTS], want[ELEMENTS], most[ELEMENTS];
    static int8_t q8[ELEMENTS], k8[ELEMENTS], v8[ELEMENTS];
    for (uint64_t seed = 0; seed < 3; seed++) {
        uint64_t random = seed;
        const double q_scale = uniform_tensor(&random, q, q8);
        const double k_scale = uniform_tensor(&random, k, k8);
        const double v_scale = uniform_tensor(&random, v, v8);
        float_attention(q, k, v, 0.125, want);
        for (size_t i = 0; i < ELEMENTS; i++) {
            q[i] = q8[i] * q_scale, k[i] = k8[i] * k_scale, v[i] = v8[i] * v_scale;
        }
        float_attention(q, k, v, 0.125, most);
        const double step = q_scale * k_scale * 0.125 * 1.4426950408889634 * 32;
        const double ceiling = sqnr(want, most);
        const double table16 = method_sqnr(PQ_SOFTMAX_TABLE16, q8, k8, v8, step, v_scale, want);
        const double table8 = method_sqnr(PQ_SOFTMAX_TABLE8, q8, k8, v8, step, v_scale, want);
        printf("attention SQNR, seed %d: float softmax %.2f dB, table16 %.2f, table8 %.2f\n",
               (int)seed, ceiling, table16, table8);
        CHECK(ceiling > 36.8 && ceiling < 38);
        CHECK(table16 > ceiling - 0.3);
        CHECK(table8 > ceiling - 1.6);
    }
}

int main(void) {
    test_by_hand();
    test_oracle();
    test_flat_and_one_hot();
    test_accuracy();
    return check_finish("test_attention");
}
