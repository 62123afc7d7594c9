#include <assert.h>

#include "layernorm/layernorm_kernel.h"

static int32_t load(pq_dtype type, const void *x, size_t i) {
    return type == PQ_S8 ? ((const int8_t *)x)[i] : ((const int16_t *)x)[i];
}

static void store(pq_dtype type, void *y, size_t i, int32_t value) {
    if (type == PQ_S8) {
        ((int8_t *)y)[i] = (int8_t)value;
    } else {
        ((int16_t *)y)[i] = (int16_t)value;
    }
}

static void rows(const pq_layernorm_args *args, size_t begin, size_t end) {
    const size_t c = args->channels;
    assert(c >= 1 && c <= INT16_MAX);
    for (size_t i = begin; i < end; i++) {
        int64_t sum = 0, square_sum = 0;
        for (size_t j = 0; j < c; j++) {
            const int64_t x = load(args->x_type, args->x, i * c + j);
            sum += x;
            square_sum += x * x;
        }
        const pq_layernorm_row row = pq_layernorm_row_of(args, sum, square_sum);
        for (size_t j = 0; j < c; j++) {
            const int32_t x = load(args->x_type, args->x, i * c + j);
            store(args->y_type, args->y, i * c + j, pq_layernorm_channel(args, row, j, x));
        }
    }
}

const struct pq_layernorm_kernel pq_layernorm_ref = {.rows = rows};
