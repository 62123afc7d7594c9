#include <math.h>
#include <stdio.h>
#include <string.h>

#include "derive/derive_unary_internal.h"

#define LN2 0.69314718055994530942
#define SQRT_HALF 0.70710678118654752440
#define SIGMOID_GELU 1.702 /* x sigmoid(1.702 x): Hendrycks and Gimpel's GELU by a sigmoid */

static const double FINEST = 0x1p-24, COARSEST = 0x1p7;
enum { EXP_BITS = 30, GATE_BITS = 22, IBERT_CLIP = 30, POLY_BITS = 15 };

/* How a method makes a function: which curve, in which shape, of gain * x. */
typedef struct form {
    double gain; /* 0: not at all */
    pq_unary_curve curve;
    pq_unary_shape shape;
    double (*target)(double); /* what poly fits */
} form;

static const form forms[PQ_UNARY_METHOD_COUNT][PQ_UNARY_COUNT] = {
    [PQ_UNARY_IBERT] = {[PQ_UNARY_GELU] = {SQRT_HALF, PQ_CURVE_IBERT_ERF, PQ_SHAPE_PRODUCT, NULL},
                        [PQ_UNARY_GELU_TANH] = {SQRT_HALF, PQ_CURVE_IBERT_ERF, PQ_SHAPE_PRODUCT,
                                                NULL},
                        [PQ_UNARY_SILU] = {1.0, PQ_CURVE_IBERT_EXP, PQ_SHAPE_PRODUCT, NULL},
                        [PQ_UNARY_SIGMOID] = {1.0, PQ_CURVE_IBERT_EXP, PQ_SHAPE_GATE, NULL},
                        [PQ_UNARY_TANH] = {2.0, PQ_CURVE_IBERT_EXP, PQ_SHAPE_ODD, NULL},
                        [PQ_UNARY_EXP] = {1.0, PQ_CURVE_IBERT_EXP, PQ_SHAPE_CURVE, NULL}},
    [PQ_UNARY_IVIT] = {[PQ_UNARY_GELU] = {SIGMOID_GELU, PQ_CURVE_IVIT_EXP, PQ_SHAPE_PRODUCT, NULL},
                       [PQ_UNARY_GELU_TANH] = {SIGMOID_GELU, PQ_CURVE_IVIT_EXP, PQ_SHAPE_PRODUCT,
                                               NULL},
                       [PQ_UNARY_QUICK_GELU] = {SIGMOID_GELU, PQ_CURVE_IVIT_EXP, PQ_SHAPE_PRODUCT,
                                                NULL},
                       [PQ_UNARY_SILU] = {1.0, PQ_CURVE_IVIT_EXP, PQ_SHAPE_PRODUCT, NULL},
                       [PQ_UNARY_SIGMOID] = {1.0, PQ_CURVE_IVIT_EXP, PQ_SHAPE_GATE, NULL},
                       [PQ_UNARY_EXP] = {1.0, PQ_CURVE_IVIT_EXP, PQ_SHAPE_CURVE, NULL}},
    [PQ_UNARY_POLY] = {[PQ_UNARY_GELU] = {SQRT_HALF, PQ_CURVE_POLY, PQ_SHAPE_PRODUCT, erf},
                       [PQ_UNARY_GELU_TANH] = {SQRT_HALF, PQ_CURVE_POLY, PQ_SHAPE_PRODUCT, erf},
                       [PQ_UNARY_QUICK_GELU] = {SIGMOID_GELU / 2.0, PQ_CURVE_POLY,
                                                PQ_SHAPE_PRODUCT, tanh},
                       [PQ_UNARY_SILU] = {0.5, PQ_CURVE_POLY, PQ_SHAPE_PRODUCT, tanh},
                       [PQ_UNARY_SIGMOID] = {0.5, PQ_CURVE_POLY, PQ_SHAPE_GATE, tanh},
                       [PQ_UNARY_TANH] = {1.0, PQ_CURVE_POLY, PQ_SHAPE_ODD, tanh}},
};

bool pq_unary_gives(int32_t method, pq_unary function) {
    if (pq_unary_name(function) == NULL || method < 0 || method >= PQ_UNARY_METHOD_COUNT) {
        return false;
    }
    return method == PQ_UNARY_TABLE || method == PQ_UNARY_NNLUT ||
           forms[method][function].gain > 0.0;
}

static int bits_of(int64_t positive) {
    int bits = 0;
    for (; positive > 0; positive >>= 1) {
        bits++;
    }
    return bits;
}

/* S and up: `length` is to have at least 2^x_bits units. */
static double unit_of(double scale, double length, double x_bits, int32_t *up) {
    const double s = scale < FINEST ? FINEST : scale > COARSEST ? COARSEST : scale;
    *up = 0;
    while (ceil(ldexp(length / s, *up)) < ldexp(1.0, (int)x_bits)) {
        ++*up;
    }
    return ldexp(s, -*up);
}

/* c and `one` for L in the unit a * power (a < 0), after a shift by at least n. Returns |S_L| / 2,
 * the unit of the gate. */
static double odd_constants(double a, double power, int32_t *n, int64_t *c, int64_t *one) {
    *c = (int64_t)floor(1.0 / (a * power));
    while (-*c >> *n > INT64_C(1) << GATE_BITS) {
        ++*n;
    }
    const double unit = ldexp(a * power, *n);
    *one = (int64_t)floor(1.0 / unit);
    return unit / -2.0;
}

static double derive_ibert_erf(const pq_method *method, double scale, pq_ibert_erf *k) {
    const double a = -0.2888, length = 1.769;
    k->n = (int32_t)method->parameters[0];
    const double s = unit_of(scale, length, method->parameters[1], &k->up);
    k->b = (int64_t)floor(-length / s);
    return odd_constants(a, s * s, &k->n, &k->c, &k->one);
}

static double derive_poly(const pq_method *method, double scale, double (*target)(double),
                          pq_affine x, pq_poly *k) {
    const double visible = scale < FINEST ? FINEST : scale > COARSEST ? COARSEST : scale;
    const pq_poly_fit fit = pq_fit_poly(target, visible, x);
    const double s = unit_of(scale, fit.beta, method->parameters[0], &k->up);
    k->b = (int64_t)floor(-fit.beta / s);
    k->square = 0;
    while (k->b * k->b >> k->square >= INT64_C(1) << POLY_BITS) {
        k->square++;
    }
    k->n = 0;
    return odd_constants(fit.a, ldexp((s * s) * (s * s), 2 * k->square), &k->n, &k->c, &k->one);
}

/* The shift for which values of `unit` up to the top of y's grid, and a little beyond, fit. */
static int32_t shift_of_exp(double unit, pq_affine y) {
    const int32_t top = y.quant_max - y.zero_point;
    int unit_bits, top_bits;
    (void)frexp(unit, &unit_bits);
    (void)frexp((top > 1 ? top : 1) * (double)y.scale, &top_bits);
    return 31 + (unit_bits - 1) - top_bits - 1;
}

static double derive_ibert_exp(const pq_method *method, double scale, pq_unary_shape shape,
                               pq_affine y, pq_ibert_exp *k) {
    const double a = 0.35815147, b = 0.96963238;
    const double s = unit_of(scale, LN2, method->parameters[1], &k->up);
    k->unit = (int64_t)ceil(LN2 / s);
    k->b = (int64_t)floor(b / a / s);
    const double c = floor(1.0 / a / (s * s));
    k->c = c < 1.0 ? 1 : (int64_t)c;
    k->bits = (int32_t)method->parameters[2];
    k->clip = IBERT_CLIP;
    if (shape == PQ_SHAPE_CURVE) {
        k->shift = shift_of_exp(a * (s * s), y);
        return ldexp(a * (s * s), -k->shift);
    }
    k->shift = EXP_BITS - bits_of(k->c);
    return ldexp(1.0, -k->bits);
}

static double derive_ivit_exp(const pq_method *method, double scale, pq_unary_shape shape,
                              pq_affine y, pq_ivit_exp *k) {
    const double s = unit_of(scale, 1.0, method->parameters[3], &k->up);
    k->unit = (int64_t)ceil(1.0 / s);
    const int32_t n = (int32_t)method->parameters[0], most = EXP_BITS - bits_of(k->unit);
    k->clip = k->shift = n < most ? n : most;
    k->bits = (int32_t)method->parameters[1];
    k->division = (int32_t)method->parameters[2];
    if (shape == PQ_SHAPE_CURVE) {
        k->shift = shift_of_exp(s, y);
        return ldexp(s, -k->shift);
    }
    return ldexp(1.0, 1 - k->bits);
}

/* The real value of 1 in the shape's integers, v still in units of its own. */
static double derive_curve(const pq_method *method, const form *how, pq_affine x, pq_affine y,
                           pq_unary_constants *k) {
    const double scale = how->gain * (double)x.scale;
    switch (how->curve) {
    case PQ_CURVE_IBERT_ERF: return derive_ibert_erf(method, scale, &k->of.ibert_erf);
    case PQ_CURVE_IBERT_EXP:
        return derive_ibert_exp(method, scale, how->shape, y, &k->of.ibert_exp);
    case PQ_CURVE_IVIT_EXP: return derive_ivit_exp(method, scale, how->shape, y, &k->of.ivit_exp);
    case PQ_CURVE_POLY: return derive_poly(method, scale, how->target, x, &k->of.poly);
    case PQ_CURVE_NNLUT: break; /* has no form */
    }
    return 1.0;
}

static pq_status fail_function(const pq_exec *exec, pq_unary function, int32_t method) {
    char names[256];
    size_t used = 0;
    names[0] = '\0';
    for (int i = 0; i < PQ_UNARY_COUNT && used < sizeof names; i++) {
        if (pq_unary_gives(method, (pq_unary)i)) {
            const int more = snprintf(names + used, sizeof names - used, "%s%s",
                                      used == 0 ? "" : ", ", pq_unary_name((pq_unary)i));
            used += more < 0 ? sizeof names : (size_t)more;
        }
    }
    return pq_fail(exec, PQ_ERR_VALUE,
                   "derive_unary: expected a function that method %s has (%s), got %s",
                   pq_method_list_of(PQ_METHOD_UNARY)->rows[method].name, names,
                   pq_unary_name(function));
}

static pq_status check(const pq_exec *exec, pq_unary function, const pq_method *method,
                       pq_affine x, pq_affine y) {
    static const char op[] = "derive_unary";
    if (pq_unary_name(function) == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected a function in [0, %d), got %d", op,
                       (int)PQ_UNARY_COUNT, (int)function);
    }
    pq_status status = pq_method_check(exec, PQ_METHOD_UNARY, method);
    if (status == PQ_OK && !pq_unary_gives(method->code, function)) {
        status = fail_function(exec, function, method->code);
    }
    if (status != PQ_OK || (status = pq_affine_s8_check(exec, op, "x", x)) != PQ_OK) {
        return status;
    }
    return pq_affine_s8_check(exec, op, "y", y);
}

pq_status pq_derive_unary(const pq_exec *exec, pq_unary function, const pq_method *method,
                          pq_affine x, pq_affine y, pq_unary_constants *constants) {
    pq_status status = check(exec, function, method, x, y);
    if (status == PQ_OK && method->code == PQ_UNARY_TABLE) {
        status = pq_fail(exec, PQ_ERR_VALUE,
                         "derive_unary: expected a method other than table, which is no formula");
    }
    if (status != PQ_OK) {
        return status;
    }
    memset(constants, 0, sizeof *constants);
    constants->x_zero_point = x.zero_point;
    constants->out = (pq_clamp){y.zero_point, y.quant_min, y.quant_max};
    if (method->code == PQ_UNARY_NNLUT) {
        int32_t shift;
        constants->curve = PQ_CURVE_NNLUT;
        constants->shape = PQ_SHAPE_CURVE;
        pq_fit_nnlut(function, x, y, (int32_t)method->parameters[0],
                     (int32_t)method->parameters[1], &constants->of.nnlut, &shift);
        return pq_derive_dyadic(exec, ldexp(1.0, -shift), &constants->requant);
    }
    const form *how = &forms[method->code][function];
    constants->curve = how->curve;
    constants->shape = how->shape;
    double unit = derive_curve(method, how, x, y, constants);
    if (how->shape == PQ_SHAPE_PRODUCT) {
        unit *= (double)x.scale;
    }
    const double real = unit / (double)y.scale;
    if (real >= 0x1p30) { /* any integer but 0 is beyond the grid: by 2^30 at least */
        constants->requant = (pq_dyadic){INT32_MAX, 1};
        return PQ_OK;
    }
    return pq_derive_dyadic(exec, real, &constants->requant);
}

pq_status pq_derive_unary_table(const pq_exec *exec, pq_unary function, const pq_method *method,
                                pq_affine x, pq_affine y, int8_t table[256]) {
    pq_status status = check(exec, function, method, x, y);
    if (status != PQ_OK) {
        return status;
    }
    if (method->code == PQ_UNARY_TABLE) {
        return pq_derive_table(exec, function, x, y, table);
    }
    pq_unary_constants constants;
    status = pq_derive_unary(exec, function, method, x, y, &constants);
    for (int q = -128; status == PQ_OK && q < 128; q++) {
        table[q + 128] = pq_unary_apply(&constants, (int8_t)q);
    }
    return status;
}
