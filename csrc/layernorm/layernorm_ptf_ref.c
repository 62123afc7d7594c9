#include <assert.h>

#include "layernorm/layernorm_ptf_kernel.h"

static void rows(const pq_layernorm_args *args, size_t begin, size_t end) {
    const size_t c = args->channels;
    assert(c >= 1 && c <= INT16_MAX);
    for (size_t i = begin; i < end; i++) {
        int64_t sum = 0, square_sum = 0;
        for (size_t j = 0; j < c; j++) {
            const int64_t x = pq_layernorm_ptf_expand(
                args, j, pq_layernorm_load(args->x_type, args->x, i * c + j));
            sum += x;
            square_sum += x * x;
        }
        const pq_layernorm_ptf_row row = pq_layernorm_ptf_row_of(args, sum, square_sum);
        for (size_t j = 0; j < c; j++) {
            const int32_t x = pq_layernorm_ptf_expand(
                args, j, pq_layernorm_load(args->x_type, args->x, i * c + j));
            pq_layernorm_store(args->y_type, args->y, i * c + j,
                               pq_layernorm_ptf_channel(args, row, j, x));
        }
    }
}

const struct pq_layernorm_ptf_kernel pq_layernorm_ptf_ref = {.rows = rows};
