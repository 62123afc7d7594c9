#include "pyquant/gemm.h"
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

pq_status pq_sim_linear(const pq_exec *exec, size_t m, size_t n, size_t k, const float *x,
                        pq_affine x_q, const float *w, const float *bias, const float *w_scale,
                        int w_bits, pq_affine y_q, float *y) {
    void *scale = NULL, *w_int = NULL, *bias_int = NULL, *multiplier = NULL, *shift = NULL;
    void *x_int = NULL, *y_int = NULL;
    pq_gemm_weights *weights = NULL;
    size_t w_count = 0, x_count = 0, y_count = 0;
    pq_status status = pq_affine_check(exec, op, "x", x_q);
    if (status == PQ_OK && pq_sim_type(x_q) != PQ_S8) {
        status =
            pq_fail(exec, PQ_ERR_VALUE, "%s: expected the range of x inside int8, got [%d, %d]", op,
                    x_q.quant_min, x_q.quant_max);
    }
    if (status != PQ_OK || (status = pq_affine_check(exec, op, "y", y_q)) != PQ_OK ||
        (status = pq_sim_count(exec, op, n, k, 1, &w_count)) != PQ_OK ||
        (status = pq_sim_count(exec, op, m, k, 1, &x_count)) != PQ_OK ||
        (status = pq_sim_count(exec, op, m, n, 1, &y_count)) != PQ_OK) {
        goto done;
    }
    const pq_dtype y_type = pq_sim_type(y_q);
    if ((status = pq_sim_alloc(exec, op, n, sizeof(float), &scale)) != PQ_OK ||
        (status = pq_sim_alloc(exec, op, w_count, sizeof(int8_t), &w_int)) != PQ_OK ||
        (status = pq_sim_alloc(exec, op, n, sizeof(int32_t), &bias_int)) != PQ_OK ||
        (status = pq_sim_alloc(exec, op, n, sizeof(int32_t), &multiplier)) != PQ_OK ||
        (status = pq_sim_alloc(exec, op, n, sizeof(uint8_t), &shift)) != PQ_OK ||
        (status = pq_sim_alloc(exec, op, y_count, pq_dtype_size(y_type), &y_int)) != PQ_OK) {
        goto done;
    }
    if ((status = channel_scales(exec, n, k, w, bias, w_scale, x_q.scale, w_bits, scale)) !=
            PQ_OK ||
        (status = pq_derive_gemm(exec, n, k, w, bias, scale, w_bits, x_q.scale, y_q.scale, w_int,
                                 bias_int, multiplier, shift)) != PQ_OK) {
        goto done;
    }
    const pq_gemm_pack_args pack = {.n = n,
                                    .k = k,
                                    .w = w_int,
                                    .bias = bias_int,
                                    .multiplier = multiplier,
                                    .shift = shift,
                                    .x_zero_point = x_q.zero_point,
                                    .y_type = y_type,
                                    .out = pq_sim_clamp(y_q)};
    if ((status = pq_gemm_s8s8_pack(exec, &pack, &weights)) != PQ_OK ||
        (status = pq_sim_recover(exec, op, x_count, x, x_q, &x_int)) != PQ_OK ||
        (status = pq_gemm_s8s8(exec, m, x_int, k, weights, y_int, n)) != PQ_OK) {
        goto done;
    }
    status = pq_sim_dequantize(exec, y_count, y_int, y_q, y);
done:
    pq_gemm_weights_free(weights);
    pq_free(x_int);
    pq_free(y_int);
    pq_free(shift);
    pq_free(multiplier);
    pq_free(bias_int);
    pq_free(w_int);
    pq_free(scale);
    return status;
}
