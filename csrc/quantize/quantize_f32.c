/* Entries of quantize_f32, dequantize_f32 and fake_quantize_f32. */
#include <inttypes.h>
#include <stdatomic.h>

#include "core/dispatch.h"
#include "core/grain.h"
#include "core/operands.h"
#include "quantize/quantize_f32_kernel.h"

#define ELEMENT_PS 400

typedef struct task {
    const struct pq_quantize_f32_kernel *kernel;
    const pq_quantize_args *args;
    pq_grid grid;
    /* Two of the three, as the verb needs: */
    const float *x;
    float *x_out;
    const void *q;
    void *q_out;
    atomic_bool nan;
} task;

typedef bool (*run_fn)(const task *t, size_t begin, size_t n, const float *scale, size_t step);

/* Cuts [begin, end) where the scale, or the row of scales, starts anew. */
static bool for_each_run(const task *t, size_t begin, size_t end, run_fn run) {
    const pq_quantize_args *a = t->args;
    if (a->channels == 1) {
        return run(t, begin, end - begin, a->scale, 0);
    }
    bool nan = false;
    while (begin < end) {
        const size_t channel = begin / a->inner % a->channels;
        const size_t left = a->inner == 1 ? a->channels - channel : a->inner - begin % a->inner;
        const size_t n = left < end - begin ? left : end - begin;
        nan |= run(t, begin, n, a->scale + channel, a->inner == 1);
        begin += n;
    }
    return nan;
}

static bool quantize_run(const task *t, size_t begin, size_t n, const float *scale, size_t step) {
    char *q = (char *)t->q_out + begin * pq_dtype_size(t->grid.q_type);
    return t->kernel->quantize(n, t->x + begin, scale, step, t->grid, q);
}

static bool fake_run(const task *t, size_t begin, size_t n, const float *scale, size_t step) {
    return t->kernel->fake_quantize(n, t->x + begin, scale, step, t->grid, t->x_out + begin);
}

static bool dequantize_run(const task *t, size_t begin, size_t n, const float *scale, size_t step) {
    const char *q = (const char *)t->q + begin * pq_dtype_size(t->grid.q_type);
    t->kernel->dequantize(n, q, scale, step, t->grid, t->x_out + begin);
    return false;
}

static void note_nan(task *t, bool nan) {
    if (nan) {
        atomic_store_explicit(&t->nan, true, memory_order_relaxed);
    }
}

static void quantize_range(void *pointer, size_t begin, size_t end, int slot) {
    (void)slot;
    note_nan(pointer, for_each_run(pointer, begin, end, quantize_run));
}

static void fake_range(void *pointer, size_t begin, size_t end, int slot) {
    (void)slot;
    note_nan(pointer, for_each_run(pointer, begin, end, fake_run));
}

static void dequantize_range(void *pointer, size_t begin, size_t end, int slot) {
    (void)slot;
    (void)for_each_run(pointer, begin, end, dequantize_run);
}

/* False for NaN too. */
static bool valid_scale(float scale) {
    return scale >= 0x1p-100f && scale <= 0x1p100f;
}

/* [quant_min, quant_max] inside [low, high], the zero point inside both. */
static pq_status check_range(const pq_exec *exec, const char *op, const char *operand,
                             pq_affine affine, int32_t low, int32_t high) {
    if (affine.quant_min < low || affine.quant_max > high) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected quant_min and quant_max of %s in [%" PRId32 ", %" PRId32
                       "], got %" PRId32 " and %" PRId32,
                       op, operand, low, high, affine.quant_min, affine.quant_max);
    }
    if (affine.zero_point < affine.quant_min || affine.zero_point > affine.quant_max) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected quant_min <= zero_point <= quant_max of %s, got %" PRId32
                       " <= %" PRId32 " <= %" PRId32,
                       op, operand, affine.quant_min, affine.zero_point, affine.quant_max);
    }
    return PQ_OK;
}

pq_status pq_affine_check(const pq_exec *exec, const char *op, const char *operand,
                          pq_affine affine) {
    if (!valid_scale(affine.scale)) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected the scale of %s in [2^-100, 2^100], got %g", op, operand,
                       (double)affine.scale);
    }
    return check_range(exec, op, operand, affine, INT16_MIN, INT16_MAX);
}

static pq_status check(const pq_exec *exec, const char *op, const pq_quantize_args *args,
                       const void *in, size_t in_size, const void *out, size_t out_size,
                       bool in_place) {
    if (args->q_type != PQ_S8 && args->q_type != PQ_S16) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected q of s8 or s16, got type %d", op,
                       (int)args->q_type);
    }
    if (args->channels == 0 || args->inner == 0 || args->scale == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected channels >= 1, inner >= 1 and a scale, got %zu, %zu%s", op,
                       args->channels, args->inner, args->scale == NULL ? " and NULL" : "");
    }
    for (size_t c = 0; c < args->channels; c++) {
        if (!valid_scale(args->scale[c])) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: channel %zu: expected a scale in [2^-100, 2^100], got %g", op, c,
                           (double)args->scale[c]);
        }
    }
    const bool narrow = args->q_type == PQ_S8;
    const pq_affine affine = {args->scale[0], args->zero_point, args->quant_min, args->quant_max};
    const pq_status status = check_range(exec, op, "q", affine, narrow ? INT8_MIN : INT16_MIN,
                                         narrow ? INT8_MAX : INT16_MAX);
    if (status != PQ_OK || args->n == 0) {
        return status;
    }
    if (args->n > PTRDIFF_MAX / sizeof(float)) {
        return pq_fail(exec, PQ_ERR_OVERFLOW, "%s: n = %zu is too large", op, args->n);
    }
    if (in == NULL || out == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: the %s is NULL", op,
                       in == NULL ? "input" : "output");
    }
    if ((uintptr_t)in % in_size != 0 || (uintptr_t)out % out_size != 0) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: the %s is not aligned to its elements", op,
                       (uintptr_t)in % in_size != 0 ? "input" : "output");
    }
    if (!(in_place && in == out) && pq_overlaps(in, args->n * in_size, out, args->n * out_size)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: input and output overlap", op);
    }
    return PQ_OK;
}

static pq_status run(const pq_exec *exec, const char *op, task *t, pq_range_fn body) {
    const pq_quantize_args *args = t->args;
    t->kernel = pq_kernel_choose(PQ_KERNEL_OP_quantize_f32);
    t->grid = (pq_grid){args->q_type, args->zero_point, args->quant_min, args->quant_max};
    atomic_init(&t->nan, false);
    const size_t grain = pq_grain(exec, args->n, 64, ELEMENT_PS);
    const pq_status status =
        args->n == 0 ? PQ_OK : exec->parallel_for(exec, args->n, grain, body, t);
    if (status == PQ_OK && atomic_load_explicit(&t->nan, memory_order_relaxed)) {
        return pq_fail(exec, PQ_ERR_NAN, "%s: x holds NaN", op);
    }
    return status;
}

pq_status pq_quantize_f32(const pq_exec *exec, const pq_quantize_args *args, const float *x,
                          void *q) {
    const pq_status status =
        check(exec, "quantize_f32", args, x, sizeof *x, q, pq_dtype_size(args->q_type), false);
    task t = {.args = args, .x = x, .q_out = q};
    return status != PQ_OK ? status : run(exec, "quantize_f32", &t, quantize_range);
}

pq_status pq_dequantize_f32(const pq_exec *exec, const pq_quantize_args *args, const void *q,
                            float *x) {
    const pq_status status =
        check(exec, "dequantize_f32", args, q, pq_dtype_size(args->q_type), x, sizeof *x, false);
    task t = {.args = args, .q = q, .x_out = x};
    return status != PQ_OK ? status : run(exec, "dequantize_f32", &t, dequantize_range);
}

pq_status pq_fake_quantize_f32(const pq_exec *exec, const pq_quantize_args *args, const float *x,
                               float *x_hat) {
    const pq_status status =
        check(exec, "fake_quantize_f32", args, x, sizeof *x, x_hat, sizeof *x_hat, true);
    task t = {.args = args, .x = x, .x_out = x_hat};
    return status != PQ_OK ? status : run(exec, "fake_quantize_f32", &t, fake_range);
}
