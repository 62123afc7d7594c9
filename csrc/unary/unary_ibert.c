#include "unary/unary_internal.h"

/* erf rises to 1 and stays: a parabola with its top at -b, and nothing beyond the top. c is 1 in
 * units of the leading coefficient, which makes it -1/0.2888 of them: negative, as L is. */
int64_t pq_unary_ibert_erf(const pq_ibert_erf *k, int32_t v) {
    const int64_t sign = v > 0 ? 1 : v < 0 ? -1 : 0;
    const int64_t w = pq_least(pq_raised(v < 0 ? -v : v, k->up), -k->b) + k->b;
    return sign * (w * w + k->c) >> k->n;
}

/* exp(t) = exp(p) / 2^z: the parabola serves one octave, halvings do the rest. */
int64_t pq_unary_ibert_exp(const pq_ibert_exp *k, int64_t t) {
    const pq_split at = pq_split_exponent(t, k->unit);
    return pq_scaled(at.p * (at.p + k->b) + k->c, pq_count(k->shift, at.z));
}

int64_t pq_unary_ibert_sigmoid(const pq_ibert_exp *k, int32_t v) {
    const int64_t t = pq_raised(v < 0 ? -v : v, k->up);
    const int64_t e = pq_unary_ibert_exp(k, -pq_least(t, k->clip * k->unit));
    const int64_t one = pq_unary_ibert_exp(k, 0), sum = one + e;
    return ((v < 0 ? e : one) * (INT64_C(1) << k->bits) + sum / 2) / sum;
}
