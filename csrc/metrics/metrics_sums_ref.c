#include <math.h>
#include <string.h>

#include "metrics/metrics_sums_kernel.h"
#include "metrics/metrics_sums_load.h"

static void block(size_t n, const float *x, const float *y, pq_metrics_lanes *lanes) {
    memset(lanes, 0, sizeof *lanes);
    for (size_t i = 0; i < n; i++) {
        const size_t lane = i % PQ_METRICS_LANES;
        const float d = x[i] - y[i], magnitude = fabsf(d);
        lanes->xx[lane] += x[i] * x[i];
        lanes->yy[lane] += y[i] * y[i];
        lanes->xy[lane] += x[i] * y[i];
        lanes->dd[lane] += d * d;
        lanes->largest[lane] = magnitude > lanes->largest[lane] ? magnitude : lanes->largest[lane];
    }
}

const struct pq_metrics_sums_kernel pq_metrics_sums_ref = {
    .block = block, .from_s8 = from_s8, .from_s16 = from_s16};
