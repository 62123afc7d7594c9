#include <string.h>

#include "derive/derive_internal.h"
#include "pyquant/derive.h"
#include "softmax/softmax_bank.h"

#define LOG2_E 1.4426950408889634074
/* A distance at which every exponential is what it stays at. */
#define FAR (UINT32_C(1) << 20)

/* ---- exponentials ---- */

/* The constants of whichever method it is. */
typedef struct exponential {
    pq_softmax_method method;
    pq_exp_ibert ibert; /* FQVIT too */
    pq_exp_ivit ivit;
    uint32_t fraction, top, bits;
    double clip;
} exponential;

static pq_exp_ibert make_ibert(double fraction, double n, uint32_t top) {
    const double a = 0.35815147, b = 0.96963238, ln2 = 0.6931; /* of the released code */
    const double steps = exp2(fraction);
    return (pq_exp_ibert){.ln2 = (uint32_t)ceil(ln2 * steps),
                          .b = (uint32_t)floor(b / a * steps),
                          .c = (uint32_t)floor(steps * steps / a),
                          .n = (uint32_t)n,
                          .top = top};
}

static uint32_t exponential_of(const exponential *e, uint32_t u) {
    switch (e->method) {
    case PQ_SOFTMAX_IBERT:
    case PQ_SOFTMAX_FQVIT: return pq_softmax_exp_ibert(&e->ibert, u);
    case PQ_SOFTMAX_IVIT: return pq_softmax_exp_ivit(&e->ivit, u);
    case PQ_SOFTMAX_IPTQ: return pq_softmax_exp_iptq(e->fraction, e->bits, u);
    case PQ_SOFTMAX_QFLASH: return pq_softmax_exp_qflash(e->fraction, e->top, u);
    case PQ_SOFTMAX_SOLE: return pq_softmax_exp_sole(e->fraction, u);
    case PQ_SOFTMAX_INDEX: {
        /* rne(255 e^(-clip u / last)), and nothing from the last on */
        const uint32_t last = (1u << e->bits) - 1;
        return u < last ? (uint32_t)rint(255.0 * exp(-e->clip * u / last)) : 0;
    }
    case PQ_SOFTMAX_TABLE16:
    case PQ_SOFTMAX_TABLE8:
    case PQ_SOFTMAX_METHOD_COUNT: break;
    }
    return 0;
}

/* Fills what a method's parameters say; returns 1 / step, the index units of one nat. */
static double read_method(const pq_method *method, exponential *e, pq_softmax *out) {
    const double *const p = method->parameters;
    switch (e->method) {
    case PQ_SOFTMAX_IBERT:
        e->ibert = make_ibert(p[2], p[1], (1u << 15) - 1);
        out->bits = (int32_t)p[0];
        out->pmax = (1 << out->bits) - 1;
        return exp2(p[2]);
    case PQ_SOFTMAX_FQVIT:
        e->ibert = make_ibert(p[2], p[1], (1u << 20) - 1);
        out->bits = (int32_t)p[0];
        out->pmax = 1 << 14;
        return exp2(p[2]);
    case PQ_SOFTMAX_IVIT:
        e->ivit = (pq_exp_ivit){.one = (uint32_t)ceil(1.0 / p[2]), .n = (uint32_t)p[1]};
        out->bits = (int32_t)p[0];
        out->pmax = (1 << (out->bits - 1)) - 1;
        return 1.0 / p[2];
    case PQ_SOFTMAX_IPTQ:
        e->bits = (uint32_t)p[0];
        e->fraction = (uint32_t)p[1];
        out->pmax = 1 << e->bits;
        return exp2(p[1]);
    case PQ_SOFTMAX_QFLASH:
        e->top = (1u << (uint32_t)p[0]) - 1;
        e->fraction = (uint32_t)p[1];
        out->pmax = (int32_t)e->top;
        return LOG2_E * exp2(p[1]);
    case PQ_SOFTMAX_INDEX:
        e->bits = (uint32_t)p[0];
        e->clip = p[1];
        out->pmax = 255;
        return ((1u << e->bits) - 1) / p[1];
    case PQ_SOFTMAX_SOLE:
        e->fraction = (uint32_t)p[0];
        out->pmax = 1 << 14;
        return exp2(p[0]);
    case PQ_SOFTMAX_TABLE16:
    case PQ_SOFTMAX_TABLE8:
    case PQ_SOFTMAX_METHOD_COUNT: break;
    }
    return 1.0;
}

static pq_status derive_exponentials(const pq_exec *exec, const char *op, const pq_method *method,
                                     int32_t *exponentials, pq_softmax *out, double *per_nat) {
    exponential e = {.method = out->method};
    *per_nat = read_method(method, &e, out);
    const uint32_t last = exponential_of(&e, FAR);
    uint32_t u = 0;
    for (;; u++) {
        if (u == PQ_SOFTMAX_ENTRIES_MAX) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: expected a softmax method of at most %d exponentials; fewer bits "
                           "behind the point of the score need fewer",
                           op, PQ_SOFTMAX_ENTRIES_MAX);
        }
        exponentials[u] = (int32_t)exponential_of(&e, u);
        if ((uint32_t)exponentials[u] == last) {
            break;
        }
    }
    out->entries = u + 1;
    out->exponentials = exponentials;
    return PQ_OK;
}

/* ---- the index ---- */

static pq_status derive_index(const pq_exec *exec, const char *op, double step, uint64_t end,
                              uint64_t delta_bound, pq_softmax *softmax) {
    softmax->multiplier = 0;
    softmax->delta_max = 0;
    softmax->shift = 31;
    if (rint(ldexp(step, 31)) < 1.0) {
        return PQ_OK; /* no score difference is worth half a step: uniform weights */
    }
    for (int shift = 31; shift >= 1; shift--) {
        const double rounded = rint(ldexp(step, shift));
        if (rounded < 1.0 || rounded >= 0x1p32) {
            continue;
        }
        const uint64_t multiplier = (uint64_t)rounded;
        const uint64_t far = ((end << shift) + multiplier - 1) / multiplier;
        const uint64_t delta_max = far < delta_bound ? far : delta_bound;
        /* delta_max < 2^32 and multiplier < 2^32: the product fits. */
        if (delta_max * multiplier < (UINT64_C(1) << 32) - (UINT64_C(1) << (shift - 1))) {
            softmax->multiplier = (uint32_t)multiplier;
            softmax->delta_max = (uint32_t)delta_max;
            softmax->shift = shift;
            return PQ_OK;
        }
    }
    return pq_fail(exec, PQ_ERR_OVERFLOW,
                   "%s: expected the scale of the scores (x_scale, or q_scale * k_scale * "
                   "softmax_scale) below 2^31 steps of the softmax method, got %g",
                   op, step);
}

/* ---- weights ---- */

static void derive_table(uint64_t keys, uint64_t vmax, pq_softmax *out) {
    const uint64_t most = out->method == PQ_SOFTMAX_TABLE8 ? 255 : 16383;
    const uint64_t bound = INT32_MAX / vmax / keys;
    out->pmax = (int32_t)(bound < most && out->method == PQ_SOFTMAX_TABLE16 ? bound : most);
    for (int j = 0; j < PQ_SOFTMAX_TABLE_SIZE; j++) {
        out->table[j] = (uint16_t)rint(2.0 * out->pmax * exp2(-j / 32.0));
    }
}

/* The keys for which sums of P * vmax stay inside int32. */
static pq_status check_keys(const pq_exec *exec, const char *op, const pq_softmax *softmax,
                            size_t keys, uint64_t vmax) {
    if (softmax->pmax >= 1 && pq_softmax_weights_most(softmax, keys) <= INT32_MAX / vmax) {
        return PQ_OK;
    }
    const uint64_t each = softmax->pmax > 1 ? (uint64_t)softmax->pmax : 1;
    return pq_fail(exec, PQ_ERR_OVERFLOW, "%s: expected at most %llu keys (values up to %llu), got %zu",
                   op, (unsigned long long)(INT32_MAX / vmax / each), (unsigned long long)vmax,
                   keys);
}

pq_status pq_derive_softmax(const pq_exec *exec, const char *op, const pq_method *method,
                            double unit, uint64_t delta_bound, size_t keys, int vmax,
                            int32_t *exponentials, pq_softmax *softmax) {
    pq_status status = pq_method_check(exec, PQ_METHOD_SOFTMAX, method);
    if (status != PQ_OK) {
        return status;
    }
    pq_softmax out;
    memset(&out, 0, sizeof out);
    out.method = (pq_softmax_method)method->code;
    double per_nat = 1.0;
    if (pq_softmax_by_octaves(out.method)) {
        derive_table(keys, (uint64_t)vmax, &out);
    } else {
        status = derive_exponentials(exec, op, method, exponentials, &out, &per_nat);
    }
    const bool octaves = pq_softmax_by_octaves(out.method);
    const double step = octaves ? unit * LOG2_E * 32.0 : unit * per_nat;
    const uint64_t end = octaves ? PQ_SOFTMAX_INDEX_END : out.entries - 1;
    if (status == PQ_OK) {
        status = check_keys(exec, op, &out, keys, (uint64_t)vmax);
    }
    if (status == PQ_OK) {
        status = derive_index(exec, op, step, end, delta_bound, &out);
    }
    if (status == PQ_OK) {
        status = pq_softmax_check(exec, op, &out, keys);
    }
    if (status == PQ_OK) {
        *softmax = out;
    }
    return status;
}
