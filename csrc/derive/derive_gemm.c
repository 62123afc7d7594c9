/* One output channel is one item of the parallel loop: no result depends on how they are spread.
 * When channels fail, the first one in order makes the message, whichever thread met one first. */
#include <stdatomic.h>

#include "derive/derive_internal.h"
#include "pyquant/derive.h"
#include "quantize/quantize_scalar.h"

/* About 1 ns an element: a range of this many takes well under a millisecond. */
#define RANGE_ELEMENTS 131072

typedef struct weight_task {
    const char *op;
    size_t n, k;
    const float *w, *bias;
    int32_t quant_max;
    float x_scale, y_scale;
    float *w_scale; /* out of weight_scale */
    const float *w_scale_in;
    int8_t *w_q;
    int32_t *bias_q, *multiplier;
    uint8_t *shift;
    pq_status (*channel)(const pq_exec *exec, const struct weight_task *task, size_t j);
    atomic_size_t first_failure; /* n while there is none */
} weight_task;

/* Channel j of an n x k array. With k = 0 the array may be NULL, to which not even 0 may be added.
 */
static const float *weights_of(const weight_task *task, size_t j) {
    return task->k == 0 ? NULL : task->w + j * task->k;
}

static pq_status scale_channel(const pq_exec *exec, const weight_task *task, size_t j) {
    const float *w = weights_of(task, j);
    float absmax = 0.0F;
    bool nan = false;
    for (size_t p = 0; p < task->k; p++) {
        const float magnitude = fabsf(w[p]);
        nan |= magnitude != magnitude;
        absmax = magnitude > absmax ? magnitude : absmax;
    }
    const float bias = task->bias == NULL ? 0.0F : fabsf(task->bias[j]);
    if (nan || isnan(bias)) {
        return pq_fail(exec, PQ_ERR_NAN, "%s: %s of channel %zu is NaN", task->op,
                       nan ? "a weight" : "the bias", j);
    }
    if (isinf(absmax) || isinf(bias)) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected finite weights and bias, got infinity in channel %zu",
                       task->op, j);
    }
    const double of_weights = (double)absmax / task->quant_max;
    const double of_bias = (double)bias / ((double)task->x_scale * 0x1p30);
    double scale = of_weights > of_bias ? of_weights : of_bias;
    if (scale == 0.0) {
        scale = 1.0;
    }
    scale = scale < 0x1p-100 ? 0x1p-100 : scale > 0x1p100 ? 0x1p100 : scale;
    task->w_scale[j] = (float)scale;
    return PQ_OK;
}

static pq_status gemm_channel(const pq_exec *exec, const weight_task *task, size_t j) {
    const float *w = weights_of(task, j);
    int8_t *w_q = task->k == 0 ? NULL : task->w_q + j * task->k;
    const float w_scale = task->w_scale_in[j];
    const int32_t quant_max = task->quant_max;
    if (!pq_scale_valid(w_scale)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected w_scale[%zu] in [2^-100, 2^100], got %g",
                       task->op, j, (double)w_scale);
    }
    int64_t sum = 0;
    bool nan = false, infinite = false;
    for (size_t p = 0; p < task->k; p++) {
        nan |= w[p] != w[p];
        infinite |= fabsf(w[p]) > 0x1.fffffep127F;
        const int32_t q = pq_quantize_scalar(w[p], w_scale, 0, -quant_max, quant_max);
        sum += q < 0 ? -q : q;
        w_q[p] = (int8_t)q;
    }
    const double bias = task->bias == NULL ? 0.0 : (double)task->bias[j];
    if (nan || isnan(bias)) {
        return pq_fail(exec, PQ_ERR_NAN, "%s: %s of channel %zu is NaN", task->op,
                       nan ? "a weight" : "the bias", j);
    }
    if (infinite) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected finite weights, got infinity in channel %zu", task->op, j);
    }
    const double acc_scale = (double)task->x_scale * (double)w_scale;
    /* Far outside int32 already at 2^40: the clamp only keeps the conversion defined. */
    const int64_t bias_q = pq_rne_clamp(bias / acc_scale, -0x1p40, 0x1p40);
    if ((bias_q < 0 ? -bias_q : bias_q) > INT32_MAX - 255 * sum) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected |bias| + 255 * sum |w| <= 2147483647, got %lld + 255 * %lld "
                       "in channel %zu",
                       task->op, (long long)(bias_q < 0 ? -bias_q : bias_q), (long long)sum, j);
    }
    pq_dyadic requant;
    const pq_status status = pq_derive_dyadic(exec, acc_scale / (double)task->y_scale, &requant);
    if (status != PQ_OK) {
        return status;
    }
    task->bias_q[j] = (int32_t)bias_q;
    task->multiplier[j] = requant.multiplier;
    task->shift[j] = requant.shift;
    return PQ_OK;
}

static void channels(void *argument, size_t begin, size_t end, int slot) {
    weight_task *task = argument;
    const pq_exec silent = {0}; /* the message is made once, below */
    (void)slot;
    for (size_t j = begin; j < end; j++) {
        if (task->channel(&silent, task, j) != PQ_OK) {
            size_t first = atomic_load(&task->first_failure);
            while (j < first && !atomic_compare_exchange_weak(&task->first_failure, &first, j)) {
            }
        }
    }
}

static pq_status run(const pq_exec *exec, weight_task *task) {
    size_t elements = 0;
    if (!pq_mul_size(task->n, task->k, &elements) || elements > PTRDIFF_MAX / sizeof(float)) {
        return pq_fail(exec, PQ_ERR_OVERFLOW, "%s: expected n * k to fit in memory, got %zu * %zu",
                       task->op, task->n, task->k);
    }
    atomic_init(&task->first_failure, task->n);
    const size_t grain = RANGE_ELEMENTS / (task->k + 1) + 1;
    const pq_status status = exec->parallel_for(exec, task->n, grain, channels, task);
    if (status != PQ_OK) {
        return status;
    }
    const size_t first = atomic_load(&task->first_failure);
    return first < task->n ? task->channel(exec, task, first) : PQ_OK;
}

static pq_status bits_check(const pq_exec *exec, const char *op, int bits) {
    if (bits < 2 || bits > 8) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected bits in [2, 8], got %d", op, bits);
    }
    return PQ_OK;
}

pq_status pq_derive_weight_scale(const pq_exec *exec, size_t n, size_t k, const float *w,
                                 const float *bias, float x_scale, int bits, float *w_scale) {
    weight_task task = {.op = "derive_weight_scale",
                        .n = n,
                        .k = k,
                        .w = w,
                        .bias = bias,
                        .x_scale = x_scale,
                        .w_scale = w_scale,
                        .channel = scale_channel};
    pq_status status = bits_check(exec, task.op, bits);
    if (status == PQ_OK) {
        status = pq_scale_check(exec, task.op, "x_scale", x_scale);
    }
    if (status != PQ_OK) {
        return status;
    }
    task.quant_max = (1 << (bits - 1)) - 1;
    return run(exec, &task);
}

pq_status pq_derive_gemm(const pq_exec *exec, size_t n, size_t k, const float *w, const float *bias,
                         const float *w_scale, int bits, float x_scale, float y_scale, int8_t *w_q,
                         int32_t *bias_q, int32_t *multiplier, uint8_t *shift) {
    weight_task task = {.op = "derive_gemm",
                        .n = n,
                        .k = k,
                        .w = w,
                        .bias = bias,
                        .x_scale = x_scale,
                        .y_scale = y_scale,
                        .w_scale_in = w_scale,
                        .w_q = w_q,
                        .bias_q = bias_q,
                        .multiplier = multiplier,
                        .shift = shift,
                        .channel = gemm_channel};
    pq_status status = bits_check(exec, task.op, bits);
    if (status == PQ_OK) {
        status = pq_scale_check(exec, task.op, "x_scale", x_scale);
    }
    if (status == PQ_OK) {
        status = pq_scale_check(exec, task.op, "y_scale", y_scale);
    }
    if (status != PQ_OK) {
        return status;
    }
    task.quant_max = (1 << (bits - 1)) - 1;
    return run(exec, &task);
}
