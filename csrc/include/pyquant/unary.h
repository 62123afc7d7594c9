/* unary: published integer approximations of GELU, SiLU, sigmoid, tanh and exp.
 *
 *     y = clamp(rnu(f(q - z_x), m, s) + z_y)          one element, integers only
 *
 * f is one of the curves below, or a function made of one. v = q - z_x lies in [-255, 255]; its
 * unit, and so every constant, comes from pq_derive_unary (derive.h). A model does not run these
 * functions: an int8 has 256 values, so pq_derive_unary_table calls pq_unary_apply 256 times when
 * the model is converted, and table_s8 (elementwise.h) looks the results up. Whoever builds the
 * method in hardware finds its arithmetic here.
 *
 * Curves. t = v << up is x in the unit S (derive.h), a power of two finer than its grid where the
 * grid is too coarse for the constants. ">>" floors.
 *
 *   PQ_CURVE_IBERT_ERF   I-BERT, Algorithm 2. L ~ erf(x), odd, in a unit S_L < 0:
 *       w = min(|t|, -b) + b,   L = (sgn(v) * (w^2 + c)) >> n,   `one` stands for 1; b, c, one < 0
 *   PQ_CURVE_POLY        IPTQ-ViT, Data-aware Poly-GELU. L ~ erf or tanh of x, odd, S_L < 0:
 *       w = min(|t|, -b) + b,   h = (w^2) >> square,   L = sgn(v) * ((h^2 + c) >> n)
 *   PQ_CURVE_IBERT_EXP   I-BERT, Algorithm 3. e ~ exp(x), z halvings and a rest p in (-unit, 0]:
 *       z = floor(-t / unit),   p = t + z * unit,   e = (p * (p + b) + c) << (shift - z)
 *   PQ_CURVE_IVIT_EXP    I-ViT, ShiftExp. exp(x) = 2^(x log2 e), log2 e ~ 1.0111b, 2^f ~ 1 + f/2:
 *       t' = t + (t >> 1) - (t >> 4),   z and p from t' as above,
 *       e = floor((p / 2 + unit) * 2^(shift - z))
 *   PQ_CURVE_NNLUT       NN-LUT. One straight line a segment, chosen by comparisons:
 *       j = the last segment with start[j] <= v (start[0] stands for all below),
 *       y = slope[j] * v + intercept[j]
 *
 * Where a quotient of exponentials is a sigmoid, the exponents are at most 0 and z at most `clip`
 * (t or t' is at least -clip * unit), so that shifts are bounded:
 *   I-BERT  e = exp(-|x|), one = exp(0):  g = (num * 2^bits + den / 2) / den,   den = one + e,
 *           num = one for v >= 0, e for v < 0. Ours: the paper has i-exp but no sigmoid.
 *   I-ViT   m = max(t, 0), e = exp(t - m), e' = exp(-m), F = (2^division - 1) / (e + e'):
 *           g = (e * F) >> (division - bits + 1)                unit 2^-(bits - 1)
 *           The released code takes one m for a row of elements, the largest t; the value then
 *           depends on the neighbours. The quotient exp(t - m) / (exp(t - m) + exp(-m)) does not
 *           depend on m, and max(t, 0) is the least that keeps both exponents at or below 0.
 *
 * Shapes. The gate g(x) stands for (1 + L(x)) / 2, or for the sigmoid:
 *   PQ_SHAPE_CURVE    the curve itself (exp, lines)
 *   PQ_SHAPE_GATE     g                              sigmoid
 *   PQ_SHAPE_PRODUCT  v * g                          GELU, SiLU
 *   PQ_SHAPE_ODD      2 g - 1, which is L            tanh
 *
 * Bounds, given what pq_derive_unary promises: 0 <= up <= 24, so |t| < 2^32 and |t'| < 2^33.
 *   IBERT_ERF  -b <= 2^26, w^2 <= 2^52; c = -1.107 b^2 within rounding, so |w^2 + c| < 2^53;
 *              (-c) >> n <= 2^22, so |L|, |one| <= 2^22 + 1, g in [0, 2^23 + 2], |v g| < 2^31.
 *   POLY       h < 2^15, -c < 2^31, and n as above.
 *   exp        unit <= 2^25, |p| < unit: p (p + b) + c < 2^52 and > 0. e saturates at 2^31 - 1, and
 *              a shift to the right is by at most 62: 0 <= e < 2^31.
 *   sigmoid    one < 2^30, e <= one, bits <= 16: num * 2^bits < 2^46; e * F < 2^division <= 2^62;
 *              g <= 2^16, |v g| <= 255 * 2^16 < 2^24.
 *   NNLUT      |slope| < 2^15, |intercept| < 2^23: |y| < 2^24.
 * Every value that meets m is below 2^31, as rnu.h asks.
 *
 * Rounding: floors inside, as the papers have it; half up at the end. Exact: no float.
 * Sources: Kim et al., I-BERT, arXiv:2101.01321; Li and Gu, I-ViT, arXiv:2207.01405; Kim et al.,
 * IPTQ-ViT, arXiv:2511.15369; Yu et al., NN-LUT, arXiv:2112.02191. docs/numerics/unary_methods.md
 * derives each; the executable specification is tests/spec/unary.py.
 */
#ifndef PYQUANT_UNARY_H
#define PYQUANT_UNARY_H

#include <stdint.h>

#include "pyquant/types.h"

typedef struct pq_ibert_erf {
    int32_t up, n;
    int64_t b, c, one;
} pq_ibert_erf;

typedef struct pq_poly {
    int32_t up, square, n;
    int64_t b, c, one;
} pq_poly;

typedef struct pq_ibert_exp {
    int32_t up, shift, clip, bits;
    int64_t unit, b, c;
} pq_ibert_exp;

typedef struct pq_ivit_exp {
    int32_t up, shift, clip, bits, division;
    int64_t unit;
} pq_ivit_exp;

#define PQ_NNLUT_ENTRIES_MAX 32

typedef struct pq_nnlut {
    int32_t entries; /* in [1, PQ_NNLUT_ENTRIES_MAX] */
    int32_t start[PQ_NNLUT_ENTRIES_MAX], slope[PQ_NNLUT_ENTRIES_MAX],
        intercept[PQ_NNLUT_ENTRIES_MAX];
} pq_nnlut;

typedef enum pq_unary_curve {
    PQ_CURVE_IBERT_ERF = 0,
    PQ_CURVE_IBERT_EXP,
    PQ_CURVE_IVIT_EXP,
    PQ_CURVE_POLY,
    PQ_CURVE_NNLUT
} pq_unary_curve;

typedef enum pq_unary_shape {
    PQ_SHAPE_CURVE = 0,
    PQ_SHAPE_GATE,
    PQ_SHAPE_PRODUCT,
    PQ_SHAPE_ODD
} pq_unary_shape;

/* Everything that one element needs besides q. */
typedef struct pq_unary_constants {
    pq_unary_curve curve;
    pq_unary_shape shape;
    union {
        pq_ibert_erf ibert_erf;
        pq_ibert_exp ibert_exp;
        pq_ivit_exp ivit_exp;
        pq_poly poly;
        pq_nnlut nnlut;
    } of;
    int32_t x_zero_point;
    pq_dyadic requant;
    pq_clamp out;
} pq_unary_constants;

/* The stored result for the stored integer q. */
int8_t pq_unary_apply(const pq_unary_constants *constants, int8_t q);

/* The curves and gates by themselves, in the units above. */
int64_t pq_unary_ibert_erf(const pq_ibert_erf *k, int32_t v);
int64_t pq_unary_ibert_exp(const pq_ibert_exp *k, int64_t t);
int64_t pq_unary_ibert_sigmoid(const pq_ibert_exp *k, int32_t v);
int64_t pq_unary_ivit_exp(const pq_ivit_exp *k, int64_t t);
int64_t pq_unary_ivit_sigmoid(const pq_ivit_exp *k, int32_t v);
int64_t pq_unary_poly(const pq_poly *k, int32_t v);
int64_t pq_unary_nnlut(const pq_nnlut *k, int32_t v);

#endif
