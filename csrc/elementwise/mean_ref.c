#include "elementwise/elementwise_kernel.h"
#include "elementwise/mean_kernel.h"

static void run(const pq_mean_args *args, size_t outer, size_t inner_begin, size_t inner_end) {
    const size_t x_row = outer * args->reduce * args->inner, y_row = outer * args->inner;
    for (size_t i = inner_begin; i < inner_end; i++) {
        int64_t sum = 0;
        for (size_t r = 0; r < args->reduce; r++) {
            sum += pq_load(args->x_type, args->x, x_row + r * args->inner + i) - args->x_zero_point;
        }
        pq_store(args->y_type, args->y, y_row + i,
                 pq_requantize(sum, args->requant.multiplier, args->requant.shift, args->out));
    }
}

const struct pq_mean_kernel pq_mean_ref = {.run = run};
