#include "pyquant/rnu.h"
#include "unary/unary_internal.h"

/* What a gate g leaves of 1, in the unit of g: g(x) + g(-x). */
typedef struct gate {
    int64_t g, whole;
} gate;

/* L is in a negative unit: 1 + L is -(one + L), and twice the gate. */
static gate gate_of_odd(int64_t odd, int64_t one) {
    return (gate){-(one + odd), -2 * one};
}

static gate gate_of(const pq_unary_constants *k, int32_t v) {
    switch (k->curve) {
    case PQ_CURVE_IBERT_ERF:
        return gate_of_odd(pq_unary_ibert_erf(&k->of.ibert_erf, v), k->of.ibert_erf.one);
    case PQ_CURVE_POLY: return gate_of_odd(pq_unary_poly(&k->of.poly, v), k->of.poly.one);
    case PQ_CURVE_IBERT_EXP:
        return (gate){pq_unary_ibert_sigmoid(&k->of.ibert_exp, v),
                      INT64_C(1) << k->of.ibert_exp.bits};
    case PQ_CURVE_IVIT_EXP:
        return (gate){pq_unary_ivit_sigmoid(&k->of.ivit_exp, v),
                      INT64_C(1) << (k->of.ivit_exp.bits - 1)};
    case PQ_CURVE_NNLUT: break;
    }
    return (gate){0, 0}; /* lines are no gate */
}

static int64_t curve_of(const pq_unary_constants *k, int32_t v) {
    switch (k->curve) {
    case PQ_CURVE_IBERT_EXP:
        return pq_unary_ibert_exp(&k->of.ibert_exp, pq_raised(v, k->of.ibert_exp.up));
    case PQ_CURVE_IVIT_EXP:
        return pq_unary_ivit_exp(&k->of.ivit_exp, pq_raised(v, k->of.ivit_exp.up));
    case PQ_CURVE_NNLUT: return pq_unary_nnlut(&k->of.nnlut, v);
    case PQ_CURVE_IBERT_ERF: return pq_unary_ibert_erf(&k->of.ibert_erf, v);
    case PQ_CURVE_POLY: return pq_unary_poly(&k->of.poly, v);
    }
    return 0;
}

static int64_t shaped(const pq_unary_constants *k, int32_t v) {
    switch (k->shape) {
    case PQ_SHAPE_CURVE: return curve_of(k, v);
    case PQ_SHAPE_GATE: return gate_of(k, v).g;
    case PQ_SHAPE_PRODUCT: return v * gate_of(k, v).g;
    case PQ_SHAPE_ODD: {
        const gate at = gate_of(k, v);
        return 2 * at.g - at.whole;
    }
    }
    return 0;
}

int8_t pq_unary_apply(const pq_unary_constants *constants, int8_t q) {
    const int64_t f = shaped(constants, q - constants->x_zero_point);
    return (int8_t)pq_requantize(f, constants->requant.multiplier, constants->requant.shift,
                                 constants->out);
}
