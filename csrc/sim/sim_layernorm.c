#include "pyquant/layernorm.h"
#include "pyquant/quantize.h"
#include "pyquant/sim.h"
#include "sim/sim_internal.h"

static const char op[] = "sim_layernorm";

/* Memory for the constants; freed by the caller on every path. */
static pq_status alloc_constants(const pq_exec *exec, size_t channels, bool factors,
                                 pq_norm_constants *constants) {
    void *gain = NULL, *offset = NULL, *alpha = NULL, *exponent = NULL;
    pq_status status = pq_sim_alloc(exec, op, channels, sizeof(int32_t), &gain);
    if (status == PQ_OK) {
        status = pq_sim_alloc(exec, op, channels, sizeof(int64_t), &offset);
    }
    if (status == PQ_OK && factors) {
        status = pq_sim_alloc(exec, op, channels, 1, &alpha);
    }
    if (status == PQ_OK && factors) {
        status = pq_sim_alloc(exec, op, channels, 1, &exponent);
    }
    *constants = (pq_norm_constants){
        .gain = gain, .offset = offset, .alpha = alpha, .exponent = exponent};
    return status;
}

pq_status pq_sim_layernorm(const pq_exec *exec, size_t rows, size_t channels, const float *x,
                           pq_affine x_q, const float *gamma, const float *beta, double epsilon,
                           bool rms, const pq_method *method, const float *x_range, pq_affine y_q,
                           float *y) {
    pq_norm_constants constants = {.gain = NULL};
    void *x_int = NULL, *y_int = NULL;
    size_t count = 0;
    const bool factors = method->code == PQ_NORM_PTF;
    pq_status status = pq_affine_check(exec, op, "x", x_q);
    if (status != PQ_OK || (status = pq_affine_check(exec, op, "y", y_q)) != PQ_OK ||
        (status = pq_sim_count(exec, op, rows, channels, 1, &count)) != PQ_OK ||
        (status = alloc_constants(exec, channels, factors, &constants)) != PQ_OK ||
        (status = pq_sim_alloc(exec, op, count, pq_dtype_size(pq_sim_type(y_q)), &y_int)) !=
            PQ_OK ||
        (status = pq_derive_norm(exec, method, channels, gamma, beta, epsilon, x_q.scale, y_q.scale,
                                 x_range, &constants)) != PQ_OK ||
        (status = pq_sim_recover(exec, op, count, x, x_q, &x_int)) != PQ_OK) {
        goto done;
    }
    const pq_layernorm_args args = {.rows = rows,
                                    .channels = channels,
                                    .x_type = pq_sim_type(x_q),
                                    .y_type = pq_sim_type(y_q),
                                    .x = x_int,
                                    .y = y_int,
                                    .rms = rms,
                                    .x_zero_point = x_q.zero_point,
                                    .epsilon = constants.epsilon,
                                    .gain = constants.gain,
                                    .offset = constants.offset,
                                    .shift = constants.shift,
                                    .out = pq_sim_clamp(y_q),
                                    .method = constants.method,
                                    .iterations = constants.iterations,
                                    .alpha = constants.alpha,
                                    .exponent = constants.exponent,
                                    .requant = constants.requant,
                                    .zero_point = constants.zero_point};
    if ((status = pq_layernorm(exec, &args)) == PQ_OK) {
        status = pq_sim_dequantize(exec, count, y_int, y_q, y);
    }
done:
    pq_free(x_int);
    pq_free(y_int);
    pq_free(constants.offset);
    pq_free(constants.gain);
    pq_free(constants.alpha);
    pq_free(constants.exponent);
    return status;
}
