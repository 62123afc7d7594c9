#include "pyquant/elementwise.h"
#include "pyquant/quantize.h"
#include "pyquant/sim.h"
#include "sim/sim_internal.h"

/* Both grids of a function of one operand. */
static pq_status check_grids(const pq_exec *exec, const char *op, pq_affine x_q, pq_affine y_q) {
    const pq_status status = pq_affine_check(exec, op, "x", x_q);
    return status == PQ_OK ? pq_affine_check(exec, op, "y", y_q) : status;
}

pq_status pq_sim_unary(const pq_exec *exec, size_t n, const float *x, pq_affine x_q,
                       pq_unary function, const pq_method *method, pq_affine y_q, float *y) {
    static const char op[] = "sim_unary";
    void *x_int = NULL;
    int8_t table[256];
    /* pq_derive_unary_table refuses grids that are wider than int8 */
    pq_status status = pq_derive_unary_table(exec, function, method, x_q, y_q, table);
    if (status != PQ_OK || (status = pq_sim_recover(exec, op, n, x, x_q, &x_int)) != PQ_OK ||
        (status = pq_table_s8(exec, n, x_int, table, x_int)) != PQ_OK) {
        goto done;
    }
    status = pq_sim_dequantize(exec, n, x_int, y_q, y);
done:
    pq_free(x_int);
    return status;
}

pq_status pq_sim_add(const pq_exec *exec, size_t n, size_t period, const float *a, pq_affine a_q,
                     const float *b, pq_affine b_q, pq_affine y_q, float *y) {
    static const char op[] = "sim_add";
    void *a_int = NULL, *b_int = NULL, *y_int = NULL;
    pq_add_args args = {.n = n,
                        .period = period,
                        .a_type = pq_sim_type(a_q),
                        .b_type = pq_sim_type(b_q),
                        .y_type = pq_sim_type(y_q),
                        .a_zero_point = a_q.zero_point,
                        .b_zero_point = b_q.zero_point,
                        .out = pq_sim_clamp(y_q)};
    pq_status status = check_grids(exec, op, a_q, y_q);
    if (status != PQ_OK || (status = pq_affine_check(exec, op, "b", b_q)) != PQ_OK ||
        (status = pq_derive_add(exec, a_q.scale, b_q.scale, y_q.scale, &args.a_multiplier,
                                &args.b_multiplier, &args.shift)) != PQ_OK ||
        (status = pq_sim_recover(exec, op, n, a, a_q, &a_int)) != PQ_OK ||
        (status = pq_sim_recover(exec, op, period, b, b_q, &b_int)) != PQ_OK ||
        (status = pq_sim_alloc(exec, op, n, pq_dtype_size(args.y_type), &y_int)) != PQ_OK) {
        goto done;
    }
    args.a = a_int;
    args.b = b_int;
    args.y = y_int;
    if ((status = pq_add(exec, &args)) == PQ_OK) {
        status = pq_sim_dequantize(exec, n, y_int, y_q, y);
    }
done:
    pq_free(y_int);
    pq_free(b_int);
    pq_free(a_int);
    return status;
}

pq_status pq_sim_mean(const pq_exec *exec, size_t outer, size_t reduce, size_t inner,
                      const float *x, pq_affine x_q, pq_affine y_q, float *y) {
    static const char op[] = "sim_mean";
    void *x_int = NULL, *y_int = NULL;
    size_t x_count = 0, y_count = 0;
    pq_mean_args args = {.outer = outer,
                         .reduce = reduce,
                         .inner = inner,
                         .x_type = pq_sim_type(x_q),
                         .y_type = pq_sim_type(y_q),
                         .x_zero_point = x_q.zero_point,
                         .out = pq_sim_clamp(y_q)};
    pq_status status = check_grids(exec, op, x_q, y_q);
    if (status == PQ_OK && reduce == 0) {
        status =
            pq_fail(exec, PQ_ERR_VALUE, "%s: expected the mean of 1 to 32767 elements, got 0", op);
    }
    if (status != PQ_OK ||
        (status = pq_sim_count(exec, op, outer, reduce, inner, &x_count)) != PQ_OK ||
        (status = pq_sim_count(exec, op, outer, inner, 1, &y_count)) != PQ_OK) {
        goto done;
    }
    const double ratio = (double)x_q.scale / ((double)reduce * (double)y_q.scale);
    if ((status = pq_derive_dyadic(exec, ratio, &args.requant)) != PQ_OK ||
        (status = pq_sim_recover(exec, op, x_count, x, x_q, &x_int)) != PQ_OK ||
        (status = pq_sim_alloc(exec, op, y_count, pq_dtype_size(args.y_type), &y_int)) != PQ_OK) {
        goto done;
    }
    args.x = x_int;
    args.y = y_int;
    if ((status = pq_mean(exec, &args)) == PQ_OK) {
        status = pq_sim_dequantize(exec, y_count, y_int, y_q, y);
    }
done:
    pq_free(y_int);
    pq_free(x_int);
    return status;
}

pq_status pq_sim_requantize(const pq_exec *exec, size_t n, const float *x, pq_affine x_q,
                            pq_affine y_q, float *y) {
    static const char op[] = "sim_requantize";
    void *x_int = NULL, *y_int = NULL;
    pq_requantize_args args = {.n = n,
                               .x_type = pq_sim_type(x_q),
                               .y_type = pq_sim_type(y_q),
                               .x_zero_point = x_q.zero_point,
                               .out = pq_sim_clamp(y_q)};
    pq_status status = check_grids(exec, op, x_q, y_q);
    if (status != PQ_OK ||
        (status = pq_derive_dyadic(exec, (double)x_q.scale / (double)y_q.scale, &args.requant)) !=
            PQ_OK ||
        (status = pq_sim_recover(exec, op, n, x, x_q, &x_int)) != PQ_OK ||
        (status = pq_sim_alloc(exec, op, n, pq_dtype_size(args.y_type), &y_int)) != PQ_OK) {
        goto done;
    }
    args.x = x_int;
    args.y = y_int;
    if ((status = pq_requantize_n(exec, &args)) == PQ_OK) {
        status = pq_sim_dequantize(exec, n, y_int, y_q, y);
    }
done:
    pq_free(y_int);
    pq_free(x_int);
    return status;
}
