#include "unary/unary_internal.h"

/* 1.0111b = 1.4375 for log2 e = 1.4427: a multiplication by two shifts. */
static int64_t times_log2_e(int64_t t) {
    return t + (t >> 1) - (t >> 4);
}

/* 2^(p / unit) ~ 1 + p / (2 unit) on (-unit, 0]: twice that, and one shift less, is exact. */
static int64_t exp2_of(const pq_ivit_exp *k, int64_t t) {
    const pq_split at = pq_split_exponent(t, k->unit);
    return pq_scaled(at.p + 2 * k->unit, pq_count(k->shift - 1, at.z));
}

int64_t pq_unary_ivit_exp(const pq_ivit_exp *k, int64_t t) {
    return exp2_of(k, times_log2_e(t));
}

/* exp(t) for t <= 0, not below 2^-clip. */
static int64_t clipped(const pq_ivit_exp *k, int64_t t) {
    return exp2_of(k, -pq_least(-times_log2_e(t), k->clip * k->unit));
}

int64_t pq_unary_ivit_sigmoid(const pq_ivit_exp *k, int32_t v) {
    const int64_t t = pq_raised(v, k->up), most = t > 0 ? t : 0;
    const int64_t e = clipped(k, t - most), sum = e + clipped(k, -most);
    const int64_t factor = ((INT64_C(1) << k->division) - 1) / sum;
    return e * factor >> (k->division - k->bits + 1);
}
