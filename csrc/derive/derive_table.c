#include "derive/derive_internal.h"
#include "pyquant/derive.h"
#include "pyquant/quantize.h"

static double sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}

static double relu6(double x) {
    return x < 0.0 ? 0.0 : x > 6.0 ? 6.0 : x;
}

/* log(1 + e^x) without overflow for large x. */
static double softplus(double x) {
    return (x > 0.0 ? x : 0.0) + log1p(exp(-fabs(x)));
}

static double identity(double x) {
    return x;
}

static double relu(double x) {
    return x > 0.0 ? x : 0.0;
}

static double gelu(double x) {
    return x / 2.0 * (1.0 + erf(x / sqrt(2.0)));
}

static double gelu_tanh(double x) {
    const double sqrt_2_over_pi = 0.79788456080286535588;
    return x / 2.0 * (1.0 + tanh(sqrt_2_over_pi * (x + 0.044715 * x * x * x)));
}

static double quick_gelu(double x) {
    return x * sigmoid(1.702 * x);
}

static double silu(double x) {
    return x * sigmoid(x);
}

static double hardswish(double x) {
    return x * relu6(x + 3.0) / 6.0;
}

static double hardsigmoid(double x) {
    return relu6(x + 3.0) / 6.0;
}

static double elu(double x) {
    return x > 0.0 ? x : expm1(x);
}

static double mish(double x) {
    return x * tanh(softplus(x));
}

static double square(double x) {
    return x * x;
}

/* The registry: a new function is one row here and one in pq_unary. */
static const struct {
    const char *name;
    double (*value)(double x);
} unary[PQ_UNARY_COUNT] = {
    [PQ_UNARY_IDENTITY] = {"identity", identity},
    [PQ_UNARY_RELU] = {"relu", relu},
    [PQ_UNARY_GELU] = {"gelu", gelu},
    [PQ_UNARY_GELU_TANH] = {"gelu_tanh", gelu_tanh},
    [PQ_UNARY_QUICK_GELU] = {"quick_gelu", quick_gelu},
    [PQ_UNARY_SILU] = {"silu", silu},
    [PQ_UNARY_SIGMOID] = {"sigmoid", sigmoid},
    [PQ_UNARY_TANH] = {"tanh", tanh},
    [PQ_UNARY_HARDSWISH] = {"hardswish", hardswish},
    [PQ_UNARY_HARDSIGMOID] = {"hardsigmoid", hardsigmoid},
    [PQ_UNARY_RELU6] = {"relu6", relu6},
    [PQ_UNARY_ELU] = {"elu", elu},
    [PQ_UNARY_MISH] = {"mish", mish},
    [PQ_UNARY_SOFTPLUS] = {"softplus", softplus},
    [PQ_UNARY_EXP] = {"exp", exp},
    [PQ_UNARY_ABS] = {"abs", fabs},
    [PQ_UNARY_SQUARE] = {"square", square},
};

static bool known(pq_unary function) {
    return (int)function >= 0 && (int)function < PQ_UNARY_COUNT;
}

const char *pq_unary_name(pq_unary function) {
    return known(function) ? unary[function].name : NULL;
}

double pq_unary_value(pq_unary function, double x) {
    return known(function) ? unary[function].value(x) : (double)NAN;
}

pq_status pq_derive_table_values(const pq_exec *exec, const double values[256], pq_affine y,
                                 int8_t table[256]) {
    static const char op[] = "derive_table";
    const pq_status status = pq_affine_s8_check(exec, op, "y", y);
    if (status != PQ_OK) {
        return status;
    }
    for (int i = 0; i < 256; i++) {
        if (isnan(values[i])) {
            return pq_fail(exec, PQ_ERR_NAN, "%s: the value at q = %d is NaN", op, i - 128);
        }
    }
    for (int i = 0; i < 256; i++) {
        /* The bounds are integers: clamping first changes nothing and keeps the conversion defined.
         */
        const int64_t v = pq_rne_clamp(values[i] / (double)y.scale, y.quant_min - y.zero_point,
                                       y.quant_max - y.zero_point);
        table[i] = (int8_t)(v + y.zero_point);
    }
    return PQ_OK;
}

pq_status pq_derive_table(const pq_exec *exec, pq_unary function, pq_affine x, pq_affine y,
                          int8_t table[256]) {
    static const char op[] = "derive_table";
    if (!known(function)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected a function in [0, %d), got %d", op,
                       (int)PQ_UNARY_COUNT, (int)function);
    }
    const pq_status status = pq_affine_s8_check(exec, op, "x", x);
    if (status != PQ_OK) {
        return status;
    }
    double values[256];
    for (int q = -128; q < 128; q++) {
        values[q + 128] = unary[function].value((q - x.zero_point) * (double)x.scale);
    }
    return pq_derive_table_values(exec, values, y, table);
}
