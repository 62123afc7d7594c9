/* One output channel is one item of the parallel loop: no result depends on how they are spread.
 * When channels fail, the first one in order makes the message, whichever thread met one first. */
#include <stdatomic.h>
#include <string.h>

#include "core/byte_sums.h"
#include "core/dispatch.h"
#include "derive/derive_internal.h"
#include "observe/observe_minmax_kernel.h"
#include "pyquant/derive.h"
#include "pyquant/gemm_s8s4.h"
#include "quantize/quantize_f32_kernel.h"

/* About 1 ns an element: a range of this many takes well under a millisecond. */
#define RANGE_ELEMENTS 131072

/* Weights that are quantized and then looked at again; even, as s4 needs. */
enum { AT_ONCE = 2048 };

typedef struct weight_task {
    const char *op;
    size_t n, k;
    const float *w, *bias;
    int32_t quant_max;
    float x_scale, y_scale;
    float *w_scale; /* out of weight_scale and group_scale */
    const float *w_scale_in;
    size_t group_size, groups;    /* 0 and 0 without groups */
    const float *wanted;          /* scales of groups, or NULL */
    uint8_t *group_multiplier;    /* out of group_scale */
    const uint8_t *multiplier_in; /* of groups, or NULL */
    int8_t *w_q;
    uint8_t *w_s4; /* instead of w_q: two to a byte */
    int32_t *bias_q, *multiplier;
    uint8_t *shift;
    const struct pq_observe_minmax_kernel *range;
    const struct pq_quantize_f32_kernel *quantizer;
    pq_status (*channel)(const pq_exec *exec, const struct weight_task *task, size_t j);
    atomic_size_t first_failure; /* n while there is none */
} weight_task;

/* Channel j of an n x k array. With k = 0 the array may be NULL, to which not even 0 may be added.
 */
static const float *weights_of(const weight_task *task, size_t j) {
    return task->k == 0 ? NULL : task->w + j * task->k;
}

/* The largest magnitude: infinity and NaN included, if there are any. */
static float absmax_of(const weight_task *task, const float *w, size_t k) {
    float low = 0.0F, high = 0.0F, absmax;
    const uint32_t bits = task->range->run(k, w, &low, &high);
    memcpy(&absmax, &bits, sizeof absmax);
    return absmax;
}

/* What the bias of channel j asks for: `of_weights`, or more. */
static float column_scale(const weight_task *task, size_t j, double of_weights) {
    const float bias = task->bias == NULL ? 0.0F : fabsf(task->bias[j]);
    const double of_bias = (double)bias / ((double)task->x_scale * 0x1p30);
    double scale = of_weights > of_bias ? of_weights : of_bias;
    if (scale == 0.0) {
        scale = 1.0;
    }
    return (float)(scale < 0x1p-100 ? 0x1p-100 : scale > 0x1p100 ? 0x1p100 : scale);
}

/* Finite weights and bias; *absmax is of the weights. */
static pq_status check_channel(const pq_exec *exec, const weight_task *task, size_t j,
                               float *absmax) {
    *absmax = absmax_of(task, weights_of(task, j), task->k);
    const float bias = task->bias == NULL ? 0.0F : fabsf(task->bias[j]);
    if (isnan(*absmax) || isnan(bias)) {
        return pq_fail(exec, PQ_ERR_NAN, "%s: %s of channel %zu is NaN", task->op,
                       isnan(*absmax) ? "a weight" : "the bias", j);
    }
    if (isinf(*absmax) || isinf(bias)) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected finite weights and bias, got infinity in channel %zu",
                       task->op, j);
    }
    return PQ_OK;
}

static pq_status scale_channel(const pq_exec *exec, const weight_task *task, size_t j) {
    float absmax;
    const pq_status status = check_channel(exec, task, j, &absmax);
    if (status == PQ_OK) {
        task->w_scale[j] = column_scale(task, j, (double)absmax / task->quant_max);
    }
    return status;
}

static double group_scale(const weight_task *task, size_t j, size_t g) {
    if (task->wanted != NULL) {
        return (double)task->wanted[j * task->groups + g];
    }
    const size_t begin = g * task->group_size, rest = task->k - begin;
    const float absmax =
        absmax_of(task, weights_of(task, j) + begin, pq_min_size(rest, task->group_size));
    return (double)absmax / task->quant_max;
}

/* k products of the largest multiplier stay below 2^30, where the bias does too (derive.h). */
static size_t largest_multiplier(const weight_task *task) {
    const size_t most = 255 * (size_t)task->quant_max;
    const size_t fits = task->k == 0 ? 255 : (((size_t)1 << 30) - 1) / most / task->k;
    return fits > 255 ? 255 : fits < 1 ? 1 : fits;
}

static pq_status group_channel(const pq_exec *exec, const weight_task *task, size_t j) {
    float absmax;
    const pq_status status = check_channel(exec, task, j, &absmax);
    if (status != PQ_OK) {
        return status;
    }
    const size_t largest = largest_multiplier(task);
    double widest = 0.0;
    for (size_t g = 0; g < task->groups; g++) {
        const double own = group_scale(task, j, g);
        if (task->wanted != NULL && !pq_scale_valid(task->wanted[j * task->groups + g])) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: expected scales of groups in [2^-100, 2^100], got %g in channel "
                           "%zu",
                           task->op, own, j);
        }
        widest = own > widest ? own : widest;
    }
    const float scale = column_scale(task, j, widest / (double)largest);
    for (size_t g = 0; g < task->groups; g++) {
        const double steps = group_scale(task, j, g) / (double)scale;
        task->group_multiplier[j * task->groups + g] =
            (uint8_t)pq_rne_clamp(steps, 1.0, (double)largest);
    }
    task->w_scale[j] = scale;
    return PQ_OK;
}

/* Two to a byte; `begin` is even. */
static void store_s4(uint8_t *row, size_t begin, size_t count, const int8_t *q) {
    uint8_t *bytes = row + begin / 2;
    for (size_t p = 0; p + 2 <= count; p += 2) {
        bytes[p / 2] = (uint8_t)((q[p] & 15) | (q[p + 1] & 15) << 4);
    }
    if (count % 2 != 0) {
        bytes[count / 2] = (uint8_t)(q[count - 1] & 15);
    }
}

/* Quantizes `count` weights of channel j from k = begin on, which is even; returns the sum of their
 * sizes. */
static int64_t quantize_run(const weight_task *task, size_t j, size_t begin, size_t count,
                            float scale) {
    const pq_grid grid = {PQ_S8, 0, -task->quant_max, task->quant_max};
    uint64_t sum = 0;
    for (size_t p = begin; p < begin + count; p += AT_ONCE) {
        const size_t some = pq_min_size(AT_ONCE, begin + count - p);
        int8_t block[AT_ONCE], *q = task->w_s4 == NULL ? task->w_q + j * task->k + p : block;
        uint64_t size;
        /* NaN has been excluded. */
        (void)task->quantizer->quantize(some, weights_of(task, j) + p, &scale, 0, grid, q);
        (void)pq_byte_sums(some, q, &size);
        sum += size;
        if (task->w_s4 != NULL) {
            store_s4(task->w_s4 + j * pq_s4_row_size(task->k), p, some, block);
        }
    }
    return (int64_t)sum;
}

/* All of channel j; returns the sum of |w| with the multipliers of the groups. */
static int64_t quantize_channel(const weight_task *task, size_t j) {
    const float scale = task->w_scale_in[j];
    if (task->groups == 0) {
        return quantize_run(task, j, 0, task->k, scale);
    }
    int64_t sum = 0;
    for (size_t g = 0; g < task->groups; g++) {
        const size_t begin = g * task->group_size, rest = task->k - begin;
        const uint8_t multiplier = task->multiplier_in[j * task->groups + g];
        sum += multiplier * quantize_run(task, j, begin,
                                         pq_min_size(rest, task->group_size),
                                         scale * (float)multiplier);
    }
    return sum;
}

static pq_status gemm_channel(const pq_exec *exec, const weight_task *task, size_t j) {
    const float w_scale = task->w_scale_in[j];
    if (!pq_scale_valid(w_scale)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected w_scale[%zu] in [2^-100, 2^100], got %g",
                       task->op, j, (double)w_scale);
    }
    float absmax;
    const pq_status checked = check_channel(exec, task, j, &absmax);
    if (checked != PQ_OK) {
        return checked;
    }
    const double bias = task->bias == NULL ? 0.0 : (double)task->bias[j];
    const int64_t sum = quantize_channel(task, j);
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
    task->range = pq_kernel_choose(PQ_KERNEL_OP_observe_minmax);
    task->quantizer = pq_kernel_choose(PQ_KERNEL_OP_quantize_f32);
    atomic_init(&task->first_failure, task->n);
    const size_t grain = RANGE_ELEMENTS / (task->k + 1) + 1;
    const pq_status status = exec->parallel_for(exec, task->n, grain, channels, task);
    if (status != PQ_OK) {
        return status;
    }
    const size_t first = atomic_load(&task->first_failure);
    return first < task->n ? task->channel(exec, task, first) : PQ_OK;
}

/* Checks what all have in common, and sets quant_max. */
static pq_status begin_task(const pq_exec *exec, weight_task *task, int bits, int most_bits) {
    if (bits < 2 || bits > most_bits) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected bits in [2, %d], got %d", task->op,
                       most_bits, bits);
    }
    task->quant_max = (1 << (bits - 1)) - 1;
    return pq_scale_check(exec, task->op, "x_scale", task->x_scale);
}

static pq_status set_groups(const pq_exec *exec, weight_task *task, size_t group_size) {
    if (group_size == 0 || group_size % 4 != 0) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected group_size to be a multiple of 4, got %zu",
                       task->op, group_size);
    }
    task->group_size = group_size;
    task->groups = pq_s4_groups(task->k, group_size);
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
    const pq_status status = begin_task(exec, &task, bits, 8);
    return status != PQ_OK ? status : run(exec, &task);
}

pq_status pq_derive_group_scale(const pq_exec *exec, size_t n, size_t k, size_t group_size,
                                const float *w, const float *bias, const float *wanted,
                                float x_scale, int bits, float *w_scale,
                                uint8_t *group_multiplier) {
    weight_task task = {.op = "derive_group_scale",
                        .n = n,
                        .k = k,
                        .w = w,
                        .bias = bias,
                        .wanted = wanted,
                        .x_scale = x_scale,
                        .w_scale = w_scale,
                        .group_multiplier = group_multiplier,
                        .channel = group_channel};
    pq_status status = begin_task(exec, &task, bits, 4);
    if (status == PQ_OK) {
        status = set_groups(exec, &task, group_size);
    }
    return status != PQ_OK ? status : run(exec, &task);
}

/* Of either type of weights. */
static pq_status derive_constants(const pq_exec *exec, weight_task *task, int bits, int most_bits) {
    task->channel = gemm_channel;
    pq_status status = begin_task(exec, task, bits, most_bits);
    if (status == PQ_OK) {
        status = pq_scale_check(exec, task->op, "y_scale", task->y_scale);
    }
    return status != PQ_OK ? status : run(exec, task);
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
                        .shift = shift};
    return derive_constants(exec, &task, bits, 8);
}

pq_status pq_derive_gemm_s8s4(const pq_exec *exec, size_t n, size_t k, size_t group_size,
                              const float *w, const float *bias, const float *w_scale,
                              const uint8_t *group_multiplier, int bits, float x_scale,
                              float y_scale, uint8_t *w_q, int32_t *bias_q, int32_t *multiplier,
                              uint8_t *shift) {
    weight_task task = {.op = "derive_gemm_s8s4",
                        .n = n,
                        .k = k,
                        .w = w,
                        .bias = bias,
                        .x_scale = x_scale,
                        .y_scale = y_scale,
                        .w_scale_in = w_scale,
                        .multiplier_in = group_multiplier,
                        .w_s4 = w_q,
                        .bias_q = bias_q,
                        .multiplier = multiplier,
                        .shift = shift};
    if (group_size > 0) {
        const pq_status status = set_groups(exec, &task, group_size);
        if (status != PQ_OK) {
            return status;
        }
    }
    return derive_constants(exec, &task, bits, 4);
}
