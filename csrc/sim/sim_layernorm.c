#include "pyquant/layernorm.h"
#include "pyquant/quantize.h"
#include "pyquant/sim.h"
#include "sim/sim_internal.h"

static const char op[] = "sim_layernorm";

pq_status pq_sim_layernorm(const pq_exec *exec, size_t rows, size_t channels, const float *x,
                           pq_affine x_q, const float *gamma, const float *beta, double epsilon,
                           bool rms, pq_affine y_q, float *y) {
    void *gain = NULL, *offset = NULL, *x_int = NULL, *y_int = NULL;
    size_t count = 0;
    pq_layernorm_args args = {.rows = rows,
                              .channels = channels,
                              .x_type = pq_sim_type(x_q),
                              .y_type = pq_sim_type(y_q),
                              .rms = rms,
                              .x_zero_point = x_q.zero_point,
                              .out = pq_sim_clamp(y_q)};
    pq_status status = pq_affine_check(exec, op, "x", x_q);
    if (status != PQ_OK || (status = pq_affine_check(exec, op, "y", y_q)) != PQ_OK ||
        (status = pq_sim_count(exec, op, rows, channels, 1, &count)) != PQ_OK ||
        (status = pq_sim_alloc(exec, op, channels, sizeof(int32_t), &gain)) != PQ_OK ||
        (status = pq_sim_alloc(exec, op, channels, sizeof(int64_t), &offset)) != PQ_OK ||
        (status = pq_sim_alloc(exec, op, count, pq_dtype_size(args.y_type), &y_int)) != PQ_OK ||
        (status = pq_derive_layernorm(exec, channels, gamma, beta, epsilon, x_q.scale, y_q.scale,
                                      &args.epsilon, gain, offset, &args.shift)) != PQ_OK ||
        (status = pq_sim_recover(exec, op, count, x, x_q, &x_int)) != PQ_OK) {
        goto done;
    }
    args.x = x_int;
    args.y = y_int;
    args.gain = gain;
    args.offset = offset;
    if ((status = pq_layernorm(exec, &args)) == PQ_OK) {
        status = pq_sim_dequantize(exec, count, y_int, y_q, y);
    }
done:
    pq_free(x_int);
    pq_free(y_int);
    pq_free(offset);
    pq_free(gain);
    return status;
}
