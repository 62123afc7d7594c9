#include "fake/fake_tables.h"

#include <inttypes.h>

#include "core/operands.h"

static float absolute(float v) {
    return v < 0 ? -v : v;
}

static int32_t zero_of(const pq_fake_args *args, size_t channel) {
    return args->zero_point[args->zero_points == 1 ? 0 : channel];
}

pq_status pq_fake_check(const pq_exec *exec, const char *op, const pq_fake_args *args) {
    size_t row;
    if (args->channels == 0 || args->inner == 0 ||
        !pq_mul_size(args->channels, args->inner, &row) || args->n % row != 0) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected n as a multiple of channels * inner, both >= 1, got n = %zu, "
                       "channels = %zu, inner = %zu",
                       op, args->n, args->channels, args->inner);
    }
    if (args->n > PTRDIFF_MAX / sizeof(float)) {
        return pq_fail(exec, PQ_ERR_OVERFLOW, "%s: n = %zu is too large", op, args->n);
    }
    if (args->zero_points != 1 && args->zero_points != args->channels) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected 1 zero point or one for each of %zu channels, got %zu", op,
                       args->channels, args->zero_points);
    }
    if (args->scale == NULL || args->zero_point == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: the %s is NULL", op,
                       args->scale == NULL ? "scale" : "zero point");
    }
    if (args->quant_min < INT16_MIN || args->quant_max > INT16_MAX ||
        args->quant_min > args->quant_max) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected -32768 <= quant_min <= quant_max <= 32767, got %" PRId32
                       " and %" PRId32,
                       op, args->quant_min, args->quant_max);
    }
    for (size_t c = 0; c < args->channels; c++) {
        const float scale = args->scale[c];
        if (!(scale >= 0x1p-100f && scale <= 0x1p100f)) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: channel %zu: expected a scale in [2^-100, 2^100], got %g", op, c,
                           (double)scale);
        }
        const int32_t zero = zero_of(args, c);
        if (zero < args->quant_min || zero > args->quant_max) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: channel %zu: expected quant_min <= zero_point <= quant_max, got "
                           "%" PRId32 " <= %" PRId32 " <= %" PRId32,
                           op, c, args->quant_min, zero, args->quant_max);
        }
    }
    return PQ_OK;
}

pq_status pq_fake_operand(const pq_exec *exec, const char *op, const char *name,
                          const void *operand, size_t size) {
    if (operand == NULL || (uintptr_t)operand % size != 0) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: %s is %s", op, name,
                       operand == NULL ? "NULL" : "not aligned to its elements");
    }
    return PQ_OK;
}

pq_status pq_fake_overlap(const pq_exec *exec, const char *op, size_t n, const float *out,
                          const float *in, const char *name, bool same_allowed) {
    if (pq_overlaps(out, n * sizeof *out, in, n * sizeof *in) && !(same_allowed && out == in)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected the output not to overlap %s%s", op, name,
                       same_allowed ? " unless they are the same" : "");
    }
    return PQ_OK;
}

pq_status pq_fake_tables_make(const pq_exec *exec, const char *op, const pq_fake_args *args,
                              pq_fake_tables *tables) {
    const bool by_row = args->channels > 1 && args->inner < PQ_FAKE_SHORT;
    const size_t repeat = by_row ? args->inner : 1;
    const size_t entries = args->channels * repeat; /* within n, as checked, or nothing to do */
    *tables = (pq_fake_tables){.row = by_row ? entries : 0};
    float *to = tables->one;
    if (entries > 1) {
        size_t size;
        to = pq_mul_size(entries, 4 * sizeof(float), &size) ? pq_alloc(size) : NULL;
        if (to == NULL) {
            return pq_fail(exec, PQ_ERR_NOMEM, "%s: out of memory for %zu grids", op, entries);
        }
        tables->block = to;
    }
    float *const scale = to, *const reciprocal = to + entries, *const low = to + 2 * entries,
                 *const high = to + 3 * entries;
    bool near = true;
    for (size_t c = 0, e = 0; c < args->channels; c++) {
        const int32_t zero = zero_of(args, c);
        const float step = args->scale[c], inverse = 1.0f / step;
        const float least = (float)(args->quant_min - zero), most = (float)(args->quant_max - zero);
        near = near && absolute(least) <= 256.0f && absolute(most) <= 256.0f;
        for (size_t last = e + repeat; e < last; e++) {
            scale[e] = step;
            reciprocal[e] = inverse;
            low[e] = least;
            high[e] = most;
        }
    }
    tables->grid = (pq_fake_grid){scale, reciprocal, low, high, by_row ? 1 : 0, near};
    return PQ_OK;
}

void pq_fake_tables_free(pq_fake_tables *tables) {
    pq_free(tables->block);
    tables->block = NULL;
}

pq_status pq_fake_nan(const pq_exec *exec, const char *op, size_t n, const float *x) {
    size_t i = 0;
    while (i < n - 1 && x[i] == x[i]) {
        i++;
    }
    return pq_fail(exec, PQ_ERR_NAN, "%s: x[%zu] is NaN", op, i);
}
