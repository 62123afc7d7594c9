#include <assert.h>

#include "layernorm/layernorm_newton_kernel.h"

static void rows(const pq_layernorm_args *args, size_t begin, size_t end) {
    const size_t c = args->channels;
    assert(c >= 1 && c <= INT16_MAX);
    for (size_t i = begin; i < end; i++) {
        int64_t sum, square_sum;
        pq_layernorm_sums(args, i * c, &sum, &square_sum);
        const pq_layernorm_newton_row row = pq_layernorm_newton_row_of(args, sum, square_sum);
        for (size_t j = 0; j < c; j++) {
            const int32_t x = pq_layernorm_load(args->x_type, args->x, i * c + j);
            pq_layernorm_store(args->y_type, args->y, i * c + j,
                               pq_layernorm_newton_channel(args, row, j, x));
        }
    }
}

const struct pq_layernorm_newton_kernel pq_layernorm_newton_ref = {.rows = rows};
