#include "pyquant/gemm_s8s4.h"
#include "pyquant/quantize.h"
#include "pyquant/sim.h"
#include "sim/sim_internal.h"

static const char op[] = "sim_linear";

/* The scales that pq_derive_gemm takes. A given scale is raised to what the bias needs:
 * pq_derive_weight_scale over no weights is that need alone (and 1 without a bias). */
static pq_status channel_scales(const pq_exec *exec, size_t n, size_t k, const float *w,
                                const float *bias, const float *given, float x_scale, int bits,
                                float *scale) {
    if (given == NULL) {
        return pq_derive_weight_scale(exec, n, k, w, bias, x_scale, bits, scale);
    }
    const pq_status status = pq_derive_weight_scale(exec, n, 0, w, bias, x_scale, bits, scale);
    for (size_t j = 0; status == PQ_OK && j < n; j++) {
        const bool has_bias = bias != NULL && bias[j] != 0.0F;
        /* a given scale out of range stays as it is, for pq_derive_gemm to refuse */
        if (!has_bias || !(given[j] < scale[j]) || given[j] < 0x1p-100F) {
            scale[j] = given[j];
        }
    }
    return status;
}

/* What both types of weights need. Only groups take the kernels of two weights a byte: those exist
 * to read less, and the integers are the same. */
typedef struct linear {
    size_t n, k;
    const float *w, *bias, *w_scale;
    int w_bits;
    size_t group_size;
    pq_affine x_q, y_q;
    float *scale;
    void *w_int; /* s8, or u8 of two weights */
    uint8_t *group_multiplier;
    int32_t *bias_int, *multiplier;
    uint8_t *shift;
} linear;

static pq_status alloc_constants(const pq_exec *exec, linear *l) {
    const bool s4 = l->group_size > 0;
    const size_t groups = s4 ? pq_s4_groups(l->k, l->group_size) : 0;
    void *scale = NULL, *bias = NULL, *multiplier = NULL, *shift = NULL, *factor = NULL;
    size_t w_size = 0, factors = 0;
    pq_status status = pq_sim_count(exec, op, l->n, s4 ? pq_s4_row_size(l->k) : l->k, 1, &w_size);
    if (status == PQ_OK) {
        status = pq_sim_count(exec, op, l->n, groups, 1, &factors);
    }
    if (status == PQ_OK) {
        status = pq_sim_alloc(exec, op, w_size, 1, &l->w_int);
    }
    if (status == PQ_OK) {
        status = pq_sim_alloc(exec, op, factors, 1, &factor);
        l->group_multiplier = factor;
    }
    if (status == PQ_OK) {
        status = pq_sim_alloc(exec, op, l->n, sizeof(float), &scale);
        l->scale = scale;
    }
    if (status == PQ_OK) {
        status = pq_sim_alloc(exec, op, l->n, sizeof(int32_t), &bias);
        l->bias_int = bias;
    }
    if (status == PQ_OK) {
        status = pq_sim_alloc(exec, op, l->n, sizeof(int32_t), &multiplier);
        l->multiplier = multiplier;
    }
    if (status == PQ_OK) {
        status = pq_sim_alloc(exec, op, l->n, sizeof(uint8_t), &shift);
        l->shift = shift;
    }
    return status;
}

static void free_constants(linear *l) {
    pq_free(l->shift);
    pq_free(l->multiplier);
    pq_free(l->bias_int);
    pq_free(l->scale);
    pq_free(l->group_multiplier);
    pq_free(l->w_int);
}

static pq_status pack_s8(const pq_exec *exec, const linear *l, pq_gemm_weights **weights) {
    pq_status status = channel_scales(exec, l->n, l->k, l->w, l->bias, l->w_scale, l->x_q.scale,
                                      l->w_bits, l->scale);
    if (status == PQ_OK) {
        status = pq_derive_gemm(exec, l->n, l->k, l->w, l->bias, l->scale, l->w_bits, l->x_q.scale,
                                l->y_q.scale, l->w_int, l->bias_int, l->multiplier, l->shift);
    }
    if (status != PQ_OK) {
        return status;
    }
    const pq_gemm_pack_args pack = {.n = l->n,
                                    .k = l->k,
                                    .w = l->w_int,
                                    .bias = l->bias_int,
                                    .multiplier = l->multiplier,
                                    .shift = l->shift,
                                    .x_zero_point = l->x_q.zero_point,
                                    .y_type = pq_sim_type(l->y_q),
                                    .out = pq_sim_clamp(l->y_q),
                                    .once = true};
    return pq_gemm_s8s8_pack(exec, &pack, weights);
}

static pq_status pack_s4(const pq_exec *exec, const linear *l, pq_gemm_weights **weights) {
    pq_status status =
        pq_derive_group_scale(exec, l->n, l->k, l->group_size, l->w, l->bias, l->w_scale,
                              l->x_q.scale, l->w_bits, l->scale, l->group_multiplier);
    if (status == PQ_OK) {
        status = pq_derive_gemm_s8s4(exec, l->n, l->k, l->group_size, l->w, l->bias, l->scale,
                                     l->group_multiplier, l->w_bits, l->x_q.scale, l->y_q.scale,
                                     l->w_int, l->bias_int, l->multiplier, l->shift);
    }
    if (status != PQ_OK) {
        return status;
    }
    const pq_gemm_s8s4_pack_args pack = {.n = l->n,
                                         .k = l->k,
                                         .w = l->w_int,
                                         .group_size = l->group_size,
                                         .group_multiplier = l->group_multiplier,
                                         .bias = l->bias_int,
                                         .multiplier = l->multiplier,
                                         .shift = l->shift,
                                         .x_zero_point = l->x_q.zero_point,
                                         .y_type = pq_sim_type(l->y_q),
                                         .out = pq_sim_clamp(l->y_q)};
    return pq_gemm_s8s4_pack(exec, &pack, weights);
}

static pq_status check_linear(const pq_exec *exec, const linear *l) {
    pq_status status = pq_affine_check(exec, op, "x", l->x_q);
    if (status == PQ_OK && pq_sim_type(l->x_q) != PQ_S8) {
        status =
            pq_fail(exec, PQ_ERR_VALUE, "%s: expected the range of x inside int8, got [%d, %d]", op,
                    l->x_q.quant_min, l->x_q.quant_max);
    }
    if (status == PQ_OK) {
        status = pq_affine_check(exec, op, "y", l->y_q);
    }
    if (status == PQ_OK && l->group_size > 0 && l->w_bits > 4) {
        status = pq_fail(exec, PQ_ERR_VALUE,
                         "%s: expected group_size 0 with weights of more than 4 bits, got %zu with "
                         "%d bits",
                         op, l->group_size, l->w_bits);
    }
    return status;
}

pq_status pq_sim_linear(const pq_exec *exec, size_t m, size_t n, size_t k, const float *x,
                        pq_affine x_q, const float *w, const float *bias, const float *w_scale,
                        int w_bits, size_t group_size, pq_affine y_q, float *y) {
    linear l = {.n = n,
                .k = k,
                .w = w,
                .bias = bias,
                .w_scale = w_scale,
                .w_bits = w_bits,
                .group_size = group_size,
                .x_q = x_q,
                .y_q = y_q};
    void *x_int = NULL, *y_int = NULL;
    pq_gemm_weights *weights = NULL;
    size_t x_count = 0, y_count = 0;
    pq_status status = check_linear(exec, &l);
    if (status != PQ_OK || (status = pq_sim_count(exec, op, m, k, 1, &x_count)) != PQ_OK ||
        (status = pq_sim_count(exec, op, m, n, 1, &y_count)) != PQ_OK ||
        (status = alloc_constants(exec, &l)) != PQ_OK ||
        (status = (group_size > 0 ? pack_s4 : pack_s8)(exec, &l, &weights)) != PQ_OK ||
        (status = pq_sim_alloc(exec, op, y_count, pq_dtype_size(pq_sim_type(y_q)), &y_int)) !=
            PQ_OK ||
        (status = pq_sim_recover(exec, op, x_count, x, x_q, &x_int)) != PQ_OK ||
        (status = pq_gemm_s8s8(exec, m, x_int, k, weights, y_int, n)) != PQ_OK) {
        goto done;
    }
    status = pq_sim_dequantize(exec, y_count, y_int, y_q, y);
done:
    pq_gemm_weights_free(weights);
    pq_free(x_int);
    pq_free(y_int);
    free_constants(&l);
    return status;
}
