#include "pyquant/quantize.h"
#include "pyquant/sim.h"
#include "pyquant/softmax_rows.h"
#include "sim/sim_internal.h"

static const char op[] = "sim_softmax";

pq_status pq_sim_softmax(const pq_exec *exec, size_t rows, size_t n, const float *x, pq_affine x_q,
                         const pq_method *method, pq_affine y_q, float *y) {
    void *x_int = NULL, *y_int = NULL;
    int32_t exponentials[PQ_SOFTMAX_ENTRIES_MAX];
    size_t count = 0;
    pq_softmax_rows_args args = {.rows = rows,
                                 .n = n,
                                 .x_type = pq_sim_type(x_q),
                                 .y_type = pq_sim_type(y_q),
                                 .out = pq_sim_clamp(y_q)};
    /* pq_derive_softmax_rows checks the grids. */
    pq_status status = pq_derive_softmax_rows(exec, method, x_q, y_q, n, exponentials,
                                              &args.softmax, &args.requant);
    if (status != PQ_OK || (status = pq_sim_count(exec, op, rows, n, 1, &count)) != PQ_OK ||
        (status = pq_sim_alloc(exec, op, count, pq_dtype_size(args.y_type), &y_int)) != PQ_OK ||
        (status = pq_sim_recover(exec, op, count, x, x_q, &x_int)) != PQ_OK) {
        goto done;
    }
    args.x = x_int;
    args.y = y_int;
    if ((status = pq_softmax_rows(exec, &args)) == PQ_OK) {
        status = pq_sim_dequantize(exec, count, y_int, y_q, y);
    }
done:
    pq_free(x_int);
    pq_free(y_int);
    return status;
}
