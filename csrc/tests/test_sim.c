/* sim: each function against the composition it stands for, written out with the integer entry
 * points; layouts of attention; rules; every allocation failing in turn. */
#include <math.h>

#include "check.h"
#include "pyquant/elementwise.h"
#include "pyquant/gemm.h"
#include "pyquant/gemm_s8s4.h"
#include "pyquant/layernorm.h"
#include "pyquant/quantize.h"
#include "pyquant/sim.h"
#include "pyquant/softmax_rows.h"

enum { MAX = 6000 };

static float x[MAX], w[MAX], b[MAX], v[MAX], want[MAX], got[MAX];
static int8_t x8[MAX], w8[MAX], v8[MAX], y8[MAX];
static int16_t x16[MAX], b16[MAX], y16[MAX];
static char message[256];
static uint64_t seed = 7;
static pq_exec serial;

static const pq_method table_method = {.code = PQ_UNARY_TABLE};
static const pq_affine byte = {0.05F, 3, -128, 127};
static const pq_affine other = {0.04F, -9, -128, 127};
static const pq_affine wide = {0.001F, -100, -32768, 32767};
static const pq_method exact = {.code = PQ_NORM_EXACT}, ptf = {.code = PQ_NORM_PTF};
static const float range[16] = {-1, -2, -3, -4, -5, -6, -7, -8, 8, 7, 6, 5, 4, 3, 2, 1};

/* Uniform in [-bound, bound], on no grid. */
static void fill(float *out, size_t n, float bound) {
    for (size_t i = 0; i < n; i++) {
        out[i] = bound * (float)check_random_in(&seed, -1000000, 1000000) * 1e-6F;
    }
}

static pq_quantize_args on_grid(size_t n, const pq_affine *grid) {
    return (pq_quantize_args){.n = n,
                              .q_type = grid->quant_max > INT8_MAX ? PQ_S16 : PQ_S8,
                              .scale = &grid->scale,
                              .channels = 1,
                              .inner = 1,
                              .zero_point = grid->zero_point,
                              .quant_min = grid->quant_min,
                              .quant_max = grid->quant_max};
}

static void quantize(size_t n, const float *in, const pq_affine *grid, void *q) {
    const pq_quantize_args args = on_grid(n, grid);
    CHECK_OK(pq_quantize_f32(&serial, &args, in, q));
}

static void dequantize(size_t n, const void *q, const pq_affine *grid, float *out) {
    const pq_quantize_args args = on_grid(n, grid);
    CHECK_OK(pq_dequantize_f32(&serial, &args, q, out));
}

static pq_clamp clamp_of(pq_affine grid) {
    return (pq_clamp){grid.zero_point, grid.quant_min, grid.quant_max};
}

static void test_linear(void) {
    enum { M = 7, N = 5, K = 33 };
    float scale[N];
    int32_t bias[N], multiplier[N];
    uint8_t shift[N];
    fill(x, M * K, 7.0F);
    fill(w, N * K, 0.3F);
    fill(b, N, 2.0F);
    CHECK_OK(pq_derive_weight_scale(&serial, N, K, w, b, byte.scale, 8, scale));
    CHECK_OK(pq_derive_gemm(&serial, N, K, w, b, scale, 8, byte.scale, wide.scale, w8, bias,
                            multiplier, shift));
    quantize(M * K, x, &byte, x8);
    for (size_t i = 0; i < M; i++) {
        for (size_t j = 0; j < N; j++) {
            int64_t acc = bias[j];
            for (size_t p = 0; p < K; p++) {
                acc += (x8[i * K + p] - byte.zero_point) * w8[j * K + p];
            }
            const int64_t half = INT64_C(1) << (shift[j] - 1);
            int64_t y = ((acc * multiplier[j] + half) >> shift[j]) + wide.zero_point;
            y = y < wide.quant_min ? wide.quant_min : y > wide.quant_max ? wide.quant_max : y;
            y16[i * N + j] = (int16_t)y;
        }
    }
    dequantize(M * N, y16, &wide, want);
    CHECK_OK(pq_sim_linear(&serial, M, N, K, x, byte, w, b, NULL, 8, 0, wide, got));
    CHECK_SAME(got, want, M * N * sizeof(float));
    /* the scales it derives, given: the same; and the same from on-grid input */
    CHECK_OK(pq_sim_linear(&serial, M, N, K, x, byte, w, b, scale, 8, 0, wide, got));
    CHECK_SAME(got, want, M * N * sizeof(float));
    dequantize(M * K, x8, &byte, x);
    CHECK_OK(pq_sim_linear(&serial, M, N, K, x, byte, w, b, NULL, 8, 0, wide, got));
    CHECK_SAME(got, want, M * N * sizeof(float));
}

/* Weights of four bits, in groups of 8 and without: what the derived constants give, written out. */
static void test_linear_s4(size_t group_size) {
    enum { M = 7, N = 5, K = 33, BYTES = 17, GROUPS = 5 };
    float scale[N];
    int32_t bias[N], multiplier[N];
    uint8_t shift[N], factor[N * GROUPS], w4[N * BYTES];
    fill(x, M * K, 7.0F);
    fill(w, N * K, 0.3F);
    fill(b, N, 2.0F);
    memset(factor, 1, sizeof factor);
    if (group_size == 0) {
        CHECK_OK(pq_derive_weight_scale(&serial, N, K, w, b, byte.scale, 4, scale));
    } else {
        CHECK_OK(pq_derive_group_scale(&serial, N, K, group_size, w, b, NULL, byte.scale, 4, scale,
                                       factor));
    }
    CHECK_OK(pq_derive_gemm_s8s4(&serial, N, K, group_size, w, b, scale, factor, 4, byte.scale,
                                 wide.scale, w4, bias, multiplier, shift));
    quantize(M * K, x, &byte, x8);
    for (size_t i = 0; i < M; i++) {
        for (size_t j = 0; j < N; j++) {
            int64_t acc = bias[j];
            for (size_t p = 0; p < K; p++) {
                const size_t group = group_size == 0 ? 0 : p / group_size;
                acc += (x8[i * K + p] - byte.zero_point) * factor[j * GROUPS + group] *
                       pq_s4_get(w4 + j * BYTES, p);
            }
            const int64_t half = INT64_C(1) << (shift[j] - 1);
            const int64_t y = ((acc * multiplier[j] + half) >> shift[j]) + wide.zero_point;
            y16[i * N + j] = (int16_t)(y < wide.quant_min   ? wide.quant_min
                                       : y > wide.quant_max ? wide.quant_max
                                                            : y);
        }
    }
    dequantize(M * N, y16, &wide, want);
    CHECK_OK(pq_sim_linear(&serial, M, N, K, x, byte, w, b, NULL, 4, group_size, wide, got));
    CHECK_SAME(got, want, M * N * sizeof(float));
    CHECK_STATUS(pq_sim_linear(&serial, M, N, K, x, byte, w, b, NULL, 5, 8, wide, got),
                 PQ_ERR_VALUE);
}

/* One output channel, one weight of 1 on a given scale of 1/4 (w_q = 4), x = 2 (x_q = 2 on scale
 * 1). A bias of 2^30 * 3/4 would need 3 * 2^30 units of 1/4: the scale is raised to 3/4, w_q =
 * rne(4/3) = 1, bias 2^30: y = 2^30 + 2 units of 3/4. */
static void test_given_scale_yields_to_bias(void) {
    const pq_affine unit = {1.0F, 0, -128, 127}, big = {0x1p20F, 0, -32768, 32767};
    const float one = 1.0F, two = 2.0F, quarter = 0.25F, bias = 0.75F * 0x1p30F;
    float y = 0.0F;
    CHECK_OK(pq_sim_linear(&serial, 1, 1, 1, &two, unit, &one, &bias, &quarter, 8, 0, big, &y));
    CHECK_EQ(y, 0.75F * 0x1p30F);
    const float zero = 0.0F; /* without a bias to hold, the given scale stays: 2 * 4 units of 1/4 */
    CHECK_OK(pq_sim_linear(&serial, 1, 1, 1, &two, unit, &one, &zero, &quarter, 8, 0, unit, &y));
    CHECK_EQ(y, 2);
    const float bad[] = {0.0F, -1.0F, 0x1p-120F, 0x1p120F, (float)NAN};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_STATUS(
            pq_sim_linear(&serial, 1, 1, 1, &two, unit, &one, &bias, &bad[i], 8, 0, big, &y),
            PQ_ERR_VALUE);
    }
}

static void test_layernorm(void) {
    enum { ROWS = 5, C = 48 };
    int32_t gain[C];
    int64_t offset[C];
    uint8_t alpha[C], exponent[C];
    float ranges[2 * C];
    for (int round = 0; round < 2 * PQ_NORM_METHOD_COUNT; round++) {
        const bool rms = round % 2 == 1;
        const pq_method method = pq_method_default(PQ_METHOD_NORM, round / 2);
        pq_norm_constants k = {
            .gain = gain, .offset = offset, .alpha = alpha, .exponent = exponent};
        fill(x, ROWS * C, 20.0F);
        fill(w, C, 2.0F);
        fill(b, C, 1.0F);
        for (size_t c = 0; c < C; c++) {
            ranges[c] = -(float)(c % 7 + 1);
            ranges[C + c] = (float)(c % 20 + 1);
        }
        CHECK_OK(pq_derive_norm(&serial, &method, C, w, b, 1e-5, wide.scale, other.scale, ranges,
                                &k));
        const bool factors = method.code == PQ_NORM_PTF;
        const pq_layernorm_args args = {.rows = ROWS,
                                        .channels = C,
                                        .x_type = PQ_S16,
                                        .y_type = PQ_S8,
                                        .x = x16,
                                        .y = y8,
                                        .rms = rms,
                                        .x_zero_point = wide.zero_point,
                                        .epsilon = k.epsilon,
                                        .gain = gain,
                                        .offset = offset,
                                        .shift = k.shift,
                                        .out = clamp_of(other),
                                        .method = k.method,
                                        .iterations = k.iterations,
                                        .alpha = factors ? alpha : NULL,
                                        .exponent = factors ? exponent : NULL,
                                        .requant = k.requant,
                                        .zero_point = k.zero_point};
        quantize(ROWS * C, x, &wide, x16);
        CHECK_OK(pq_layernorm(&serial, &args));
        dequantize(ROWS * C, y8, &other, want);
        CHECK_OK(pq_sim_layernorm(&serial, ROWS, C, x, wide, w, b, 1e-5, rms, &method, ranges, other,
                                  got));
        CHECK_SAME(got, want, ROWS * C * sizeof(float));
    }
}

static void test_softmax(void) {
    enum { ROWS = 5, N = 37 };
    int32_t table[PQ_SOFTMAX_ENTRIES_MAX];
    const pq_affine half = {1.0F / 65535, -32768, -32768, 32767};
    for (int code = 0; code < PQ_SOFTMAX_METHOD_COUNT; code++) {
        const pq_method method = pq_method_default(PQ_METHOD_SOFTMAX, code);
        const pq_affine y_q = code % 2 ? half : (pq_affine){1.0F / 255, -128, -128, 127};
        fill(x, ROWS * N, 8.0F);
        pq_softmax_rows_args args = {.rows = ROWS,
                                     .n = N,
                                     .x_type = PQ_S16,
                                     .y_type = code % 2 ? PQ_S16 : PQ_S8,
                                     .x = x16,
                                     .y = y16,
                                     .out = clamp_of(y_q)};
        CHECK_OK(pq_derive_softmax_rows(&serial, &method, wide, y_q, N, table, &args.softmax,
                                        &args.requant));
        quantize(ROWS * N, x, &wide, x16);
        CHECK_OK(pq_softmax_rows(&serial, &args));
        dequantize(ROWS * N, y16, &y_q, want);
        CHECK_OK(pq_sim_softmax(&serial, ROWS, N, x, wide, &method, y_q, got));
        CHECK_SAME(got, want, ROWS * N * sizeof(float));
    }
}

static void test_elementwise(void) {
    enum { N = 240, PERIOD = 24 };
    fill(x, N, 8.0F);
    fill(b, N, 30.0F);
    quantize(N, x, &byte, x8);
    quantize(PERIOD, b, &wide, b16);

    int8_t table[256];
    CHECK_OK(pq_derive_table(&serial, PQ_UNARY_GELU, byte, other, table));
    CHECK_OK(pq_table_s8(&serial, N, x8, table, y8));
    dequantize(N, y8, &other, want);
    CHECK_OK(pq_sim_unary(&serial, N, x, byte, PQ_UNARY_GELU, &table_method, other, got));
    CHECK_SAME(got, want, N * sizeof(float));

    pq_add_args add = {.n = N,
                       .period = PERIOD,
                       .a_type = PQ_S8,
                       .b_type = PQ_S16,
                       .y_type = PQ_S16,
                       .a = x8,
                       .b = b16,
                       .y = y16,
                       .a_zero_point = byte.zero_point,
                       .b_zero_point = wide.zero_point,
                       .out = clamp_of(wide)};
    CHECK_OK(pq_derive_add(&serial, byte.scale, wide.scale, wide.scale, &add.a_multiplier,
                           &add.b_multiplier, &add.shift));
    CHECK_OK(pq_add(&serial, &add));
    dequantize(N, y16, &wide, want);
    CHECK_OK(pq_sim_add(&serial, N, PERIOD, x, byte, b, wide, wide, got));
    CHECK_SAME(got, want, N * sizeof(float));

    pq_mean_args mean = {.outer = 4,
                         .reduce = 10,
                         .inner = 6,
                         .x_type = PQ_S8,
                         .y_type = PQ_S16,
                         .x = x8,
                         .y = y16,
                         .x_zero_point = byte.zero_point,
                         .out = clamp_of(wide)};
    CHECK_OK(
        pq_derive_dyadic(&serial, (double)byte.scale / (10.0 * (double)wide.scale), &mean.requant));
    CHECK_OK(pq_mean(&serial, &mean));
    dequantize(24, y16, &wide, want);
    CHECK_OK(pq_sim_mean(&serial, 4, 10, 6, x, byte, wide, got));
    CHECK_SAME(got, want, 24 * sizeof(float));
    CHECK_STATUS(pq_sim_mean(&serial, 4, 0, 6, x, byte, wide, got), PQ_ERR_VALUE);

    pq_requantize_args requantize = {.n = N,
                                     .x_type = PQ_S8,
                                     .y_type = PQ_S16,
                                     .x = x8,
                                     .y = y16,
                                     .x_zero_point = byte.zero_point,
                                     .out = clamp_of(wide)};
    CHECK_OK(
        pq_derive_dyadic(&serial, (double)byte.scale / (double)wide.scale, &requantize.requant));
    CHECK_OK(pq_requantize_n(&serial, &requantize));
    dequantize(N, y16, &wide, want);
    CHECK_OK(pq_sim_requantize(&serial, N, x, byte, wide, got));
    CHECK_SAME(got, want, N * sizeof(float));
}

enum { B = 2, H = 4, HK = 2, T = 5, S = 7, D = 8 };
static float mask[B * H * T * S];
static uint8_t keep[B * H * T * S];
static int32_t mask_add[B * H * T * S];

/* q, k and v contiguous in x, w and v. */
static pq_sim_attention_args attention(void) {
    return (pq_sim_attention_args){.batch = B,
                                   .heads = H,
                                   .kv_heads = HK,
                                   .q_len = T,
                                   .k_len = S,
                                   .head_dim = D,
                                   .q = x,
                                   .k = w,
                                   .v = v,
                                   .q_strides = {H * T * D, T * D, D},
                                   .k_strides = {HK * S * D, S * D, D},
                                   .v_strides = {HK * S * D, S * D, D},
                                   .q_q = byte,
                                   .k_q = other,
                                   .v_q = byte,
                                   .y_q = other,
                                   .softmax_scale = 0.3,
                                   .y = got};
}

static int32_t exponentials[PQ_SOFTMAX_ENTRIES_MAX];

static void compose_attention(const pq_sim_attention_args *sim, bool has_mask) {
    quantize(B * H * T * D, x, &byte, x8);
    quantize(B * HK * S * D, w, &other, w8);
    quantize(B * HK * S * D, v, &byte, v8);
    pq_attention_args args = {.batch = B,
                              .groups = 1,
                              .heads = H,
                              .kv_heads = HK,
                              .q_len = T,
                              .k_len = S,
                              .head_dim = D,
                              .q = x8,
                              .k = w8,
                              .v = v8,
                              .q_strides = {H * T * D, 0, T * D, D},
                              .k_strides = {HK * S * D, 0, S * D, D},
                              .v_strides = {HK * S * D, 0, S * D, D},
                              .q_zero_point = byte.zero_point,
                              .k_zero_point = other.zero_point,
                              .v_zero_point = byte.zero_point,
                              .causal = sim->causal,
                              .out = clamp_of(other),
                              .y = y8,
                              .y_strides = {H * T * D, 0, T * D, D}};
    if (has_mask) {
        args.keep = keep;
        args.mask_add = mask_add;
        args.keep_strides[0] = args.mask_strides[0] = H * T * S;
        args.keep_strides[2] = args.mask_strides[2] = T * S;
        args.keep_strides[3] = args.mask_strides[3] = S;
        args.keep_strides[4] = args.mask_strides[4] = 1;
    }
    CHECK_OK(pq_derive_attention(&serial, &sim->method, byte, other, byte, other, 0.3, D, S,
                                 has_mask, exponentials, &args.softmax, &args.requant));
    CHECK_OK(pq_attention_s8(&serial, &args));
    dequantize(B * H * T * D, y8, &other, want);
}

static void same_attention(const pq_sim_attention_args *sim) {
    memset(got, 0, sizeof got);
    CHECK_OK(pq_sim_attention(&serial, sim));
    CHECK_SAME(got, want, B * H * T * D * sizeof(float));
}

/* out[i0][i2][i1][..] with `gap` floats of NaN after every row of D: a transposed view, with a gap
 * no dense one. */
static void spread(const float *in, float *out, size_t d1, size_t d2, size_t gap) {
    for (size_t i = 0; i < B * d1 * d2 * (D + gap); i++) {
        out[i] = (float)NAN;
    }
    for (size_t i0 = 0; i0 < B; i0++) {
        for (size_t i1 = 0; i1 < d1; i1++) {
            for (size_t i2 = 0; i2 < d2; i2++) {
                memcpy(out + ((i0 * d2 + i2) * d1 + i1) * (D + gap),
                       in + ((i0 * d1 + i1) * d2 + i2) * D, D * sizeof(float));
            }
        }
    }
}

static void test_attention_layouts(void) {
    static float moved[3][MAX];
    pq_sim_attention_args sim = attention();
    fill(x, B * H * T * D, 6.0F);
    fill(w, B * HK * S * D, 6.0F);
    fill(v, B * HK * S * D, 6.0F);
    for (int method = 0; method < PQ_SOFTMAX_METHOD_COUNT; method++) {
        sim.method = pq_method_default(PQ_METHOD_SOFTMAX, method);
        sim.causal = method % 2 == 1;
        compose_attention(&sim, false);
        same_attention(&sim);
    }
    for (size_t gap = 0; gap < 2; gap++) {
        const ptrdiff_t row = (ptrdiff_t)(D + gap);
        spread(x, moved[0], H, T, gap);
        spread(w, moved[1], HK, S, gap);
        spread(v, moved[2], HK, S, gap);
        pq_sim_attention_args other_layout = sim;
        other_layout.q = moved[0];
        other_layout.k = moved[1];
        other_layout.v = moved[2];
        for (int i = 0; i < 3; i++) {
            const ptrdiff_t of_q[3] = {H * T * row, row, H * row};
            const ptrdiff_t of_k[3] = {HK * S * row, row, HK * row};
            other_layout.q_strides[i] = of_q[i];
            other_layout.k_strides[i] = other_layout.v_strides[i] = of_k[i];
        }
        same_attention(&other_layout);
    }
}

static void test_attention_masks(void) {
    pq_sim_attention_args sim = attention();
    bool any_add, any_excluded;
    fill(x, B * H * T * D, 6.0F);
    fill(w, B * HK * S * D, 6.0F);
    fill(v, B * HK * S * D, 6.0F);
    /* one row of values for all of batch, head and query: written out, and as a broadcast */
    float row[S] = {0.5F, -1.0F, -INFINITY, 2.0F, 0.0F, -3.4e38F, 0.25F};
    for (size_t i = 0; i < B * H * T * S; i++) {
        mask[i] = row[i % S];
    }
    CHECK_OK(pq_derive_mask(&serial, B * H * T * S, mask, byte.scale, other.scale, 0.3, mask_add,
                            keep, &any_add, &any_excluded));
    compose_attention(&sim, true);
    sim.mask = mask;
    const ptrdiff_t full[4] = {H * T * S, T * S, S, 1}, broadcast[4] = {0, 0, 0, 1};
    memcpy(sim.mask_strides, full, sizeof full);
    same_attention(&sim);
    sim.mask = row;
    memcpy(sim.mask_strides, broadcast, sizeof broadcast);
    same_attention(&sim);
    /* a Boolean mask goes straight through; both are refused */
    sim.keep = keep;
    memcpy(sim.keep_strides, full, sizeof full);
    CHECK_STATUS(pq_sim_attention(&serial, &sim), PQ_ERR_VALUE);
    CHECK_TEXT(message, "got both");
    row[0] = (float)NAN;
    sim.keep = NULL;
    CHECK_STATUS(pq_sim_attention(&serial, &sim), PQ_ERR_NAN);
    /* no key at all, and no query at all */
    sim.mask = NULL;
    sim.k_len = 0;
    CHECK_OK(pq_sim_attention(&serial, &sim));
    for (size_t i = 0; i < B * H * T * D; i++) {
        CHECK(got[i] == 0.0F);
    }
    sim.q_len = 0;
    CHECK_OK(pq_sim_attention(&serial, &sim));
}

static void test_rules(void) {
    float y = 0.0F;
    const float one = 1.0F, nan = (float)NAN;
    const pq_affine no_scale = {0.0F, 0, -128, 127};
    CHECK_STATUS(pq_sim_linear(&serial, 1, 1, 1, &one, wide, &one, NULL, NULL, 8, 0, byte, &y),
                 PQ_ERR_VALUE);
    CHECK_TEXT(message, "int8");
    CHECK_STATUS(pq_sim_linear(&serial, 1, 1, 1, &nan, byte, &one, NULL, NULL, 8, 0, byte, &y),
                 PQ_ERR_NAN);
    CHECK_STATUS(
        pq_sim_linear(&serial, SIZE_MAX, 2, 2, &one, byte, &one, NULL, NULL, 8, 0, byte, &y),
        PQ_ERR_OVERFLOW);
    CHECK_STATUS(pq_sim_unary(&serial, 1, &one, wide, PQ_UNARY_RELU, &table_method, byte, &y),
                 PQ_ERR_VALUE);
    CHECK_STATUS(pq_sim_requantize(&serial, 1, &one, no_scale, byte, &y), PQ_ERR_VALUE);
    CHECK_STATUS(pq_sim_requantize(&serial, 1, &nan, byte, byte, &y), PQ_ERR_NAN);
    CHECK_STATUS(pq_sim_add(&serial, 1, 1, &one, byte, &nan, byte, byte, &y), PQ_ERR_NAN);
    CHECK_STATUS(pq_sim_mean(&serial, 1, 1, 1, &nan, byte, byte, &y), PQ_ERR_NAN);
    CHECK_STATUS(pq_sim_layernorm(&serial, 1, 1, &nan, byte, NULL, NULL, 0.0, false, &exact, NULL,
                                  byte, &y),
                 PQ_ERR_NAN);
    const pq_method table8 = pq_method_default(PQ_METHOD_SOFTMAX, PQ_SOFTMAX_TABLE8);
    CHECK_STATUS(pq_sim_softmax(&serial, 1, 1, &nan, byte, &table8, byte, &y), PQ_ERR_NAN);
    CHECK_STATUS(pq_sim_softmax(&serial, SIZE_MAX, 2, &one, byte, &table8, byte, &y),
                 PQ_ERR_OVERFLOW);
    CHECK_EQ(pq_alloc_live(), 0);
}

static pq_status call(int which) {
    pq_sim_attention_args sim = attention();
    const pq_method method = pq_method_default(PQ_METHOD_SOFTMAX, PQ_SOFTMAX_INDEX);
    switch (which) {
    case 0: return pq_sim_linear(&serial, 3, 4, 5, x, byte, w, b, NULL, 8, 0, wide, got);
    case 1: return pq_sim_layernorm(&serial, 3, 8, x, wide, w, b, 1e-5, false, &ptf, range, byte, got);
    case 2: return pq_sim_unary(&serial, 50, x, byte, PQ_UNARY_TANH, &table_method, other, got);
    case 3: return pq_sim_add(&serial, 50, 10, x, byte, b, wide, wide, got);
    case 4: return pq_sim_mean(&serial, 2, 5, 3, x, byte, wide, got);
    case 5: return pq_sim_requantize(&serial, 50, x, byte, wide, got);
    case 6: return pq_sim_linear(&serial, 3, 4, 5, x, byte, w, b, NULL, 4, 4, wide, got);
    case 7: return pq_sim_softmax(&serial, 3, 8, x, wide, &method, byte, got);
    default: /* a gap of one float between the rows of q, and a mask: every allocation there is */
        sim.q_strides[0] = H * T * (D + 1);
        sim.q_strides[1] = T * (D + 1);
        sim.q_strides[2] = D + 1;
        sim.mask = mask;
        sim.mask_strides[3] = 1;
        return pq_sim_attention(&serial, &sim);
    }
}

/* Each allocation fails once: PQ_ERR_NOMEM with a message, nothing left behind. */
static void test_faults(void) {
    fill(x, MAX, 5.0F);
    fill(w, MAX, 0.5F);
    fill(b, MAX, 1.0F);
    fill(v, MAX, 5.0F);
    fill(mask, S, 1.0F);
    for (int which = 0; which < 9; which++) {
        long failures = 0;
        for (;; failures++) {
            message[0] = '\0';
            pq_alloc_fail_after(failures);
            const pq_status status = call(which);
            pq_alloc_fail_after(-1);
            CHECK_EQ(pq_alloc_live(), 0);
            if (status == PQ_OK) {
                break;
            }
            CHECK_EQ(status, PQ_ERR_NOMEM);
            CHECK(message[0] != '\0');
        }
        CHECK(failures >= (which == 2 ? 1 : 2));
    }
}

int main(void) {
    serial = pq_exec_serial(message, sizeof message);
    test_linear();
    test_linear_s4(0);
    test_linear_s4(8);
    test_given_scale_yields_to_bias();
    test_layernorm();
    test_softmax();
    test_elementwise();
    test_attention_layouts();
    test_attention_masks();
    test_rules();
    test_faults();
    CHECK_EQ(pq_alloc_live(), 0);
    return check_finish("test_sim");
}
