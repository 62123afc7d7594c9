#include <math.h>
#include <string.h>

#include "core/grain.h"
#include "pyquant/metrics.h"

/* log 2 in two parts: k times the first is exact for |k| < 2^20. */
#define LOG2_HIGH 0x1.62e42feep-1
#define LOG2_LOW 0x1.a39ef35793c76p-33
#define LOG2_E 0x1.71547652b82fep+0

enum { ELEMENT_PS = 15000 }; /* two exponentials */

/* e^a for a <= 0. The polynomial is added in pairs, then pairs of those: a third of the latency of
 * Horner's scheme, so that several of them overlap. */
static double exp_negative(double a) {
    if (a < -708.0) {
        return 0.0; /* 2^k stays a normal number */
    }
    const int k = (int)(a * LOG2_E - 0.5);
    const double r = (a - k * LOG2_HIGH) - k * LOG2_LOW;
    const double r2 = r * r, r4 = r2 * r2, r8 = r4 * r4;
    const double t0 = 1.0 + r, t2 = 1.0 / 2 + r * (1.0 / 6);
    const double t4 = 1.0 / 24 + r * (1.0 / 120), t6 = 1.0 / 720 + r * (1.0 / 5040);
    const double t8 = 1.0 / 40320 + r * (1.0 / 362880);
    const double t10 = 1.0 / 3628800 + r * (1.0 / 39916800);
    const double t12 = 1.0 / 479001600 + r * (1.0 / 6227020800);
    const double low = (t0 + r2 * t2) + r4 * (t4 + r2 * t6);
    const double high = (t8 + r2 * t10) + r4 * t12;
    const uint64_t bits = (uint64_t)(k + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return (low + r8 * high) * power;
}

/* log v for a normal v >= 1. */
static double log_above_one(double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    int k = (int)(bits >> 52) - 1023;
    bits = (bits & UINT64_C(0x000fffffffffffff)) | UINT64_C(0x3ff0000000000000);
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 0x1.6a09e667f3bcdp+0) { /* sqrt 2 */
        m *= 0.5;
        k++;
    }
    const double s = (m - 1.0) / (m + 1.0), square = s * s;
    double series = 0.0;
    for (int i = 23; i >= 1; i -= 2) {
        series = series * square + 1.0 / i;
    }
    return k * LOG2_HIGH + (k * LOG2_LOW + 2.0 * s * series);
}

typedef struct kl_task {
    size_t n;
    const float *x, *y;
    double *kl;
} kl_task;

static double largest_of(size_t n, const float *x) {
    float largest = x[0];
    for (size_t i = 1; i < n; i++) {
        largest = x[i] > largest ? x[i] : largest;
    }
    return (double)largest;
}

static void run_range(void *argument, size_t begin, size_t end, int slot) {
    const kl_task *task = argument;
    const size_t n = task->n;
    (void)slot;
    for (size_t row = begin; row < end; row++) {
        const float *x = task->x + row * n, *y = task->y + row * n;
        const double x_top = largest_of(n, x), y_top = largest_of(n, y);
        double weighted = 0.0, x_sum = 0.0, y_sum = 0.0;
        for (size_t i = 0; i < n; i++) {
            const double a = (double)x[i] - x_top, b = (double)y[i] - y_top;
            const double weight = exp_negative(a);
            x_sum += weight;
            weighted += weight * (a - b);
            y_sum += exp_negative(b);
        }
        const double kl = weighted / x_sum - log_above_one(x_sum) + log_above_one(y_sum);
        task->kl[row] = kl > 0.0 ? kl : 0.0;
    }
}

static pq_status check_finite(const pq_exec *exec, const char *name, size_t n, const float *x) {
    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i])) {
            return pq_fail(exec, PQ_ERR_NAN, "metrics_kl: %s[%zu] is NaN", name, i);
        }
        if (isinf(x[i])) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "metrics_kl: expected finite %s, got infinity at [%zu]", name, i);
        }
    }
    return PQ_OK;
}

pq_status pq_metrics_kl(const pq_exec *exec, size_t rows, size_t n, const float *x, const float *y,
                        double *kl) {
    size_t size;
    if (n == 0) {
        return pq_fail(exec, PQ_ERR_VALUE, "metrics_kl: expected n >= 1, got 0");
    }
    if (!pq_mul_size(rows, n, &size) || size > PTRDIFF_MAX / sizeof(float)) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "metrics_kl: expected rows, n that fit in memory, got %zu, %zu", rows, n);
    }
    pq_status status = check_finite(exec, "x", size, x);
    if (status == PQ_OK) {
        status = check_finite(exec, "y", size, y);
    }
    if (status != PQ_OK) {
        return status;
    }
    kl_task task = {.n = n, .x = x, .y = y, .kl = kl};
    const size_t grain = pq_grain(exec, rows, 1, (uint64_t)n * ELEMENT_PS);
    return exec->parallel_for(exec, rows, grain, run_range, &task);
}
