#include "elementwise/elementwise_kernel.h"
#include "elementwise/requantize_kernel.h"

static void run(const pq_requantize_args *args, size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
        const int64_t x = (int64_t)pq_load(args->x_type, args->x, i) - args->x_zero_point;
        pq_store(args->y_type, args->y, i,
                 pq_requantize(x, args->requant.multiplier, args->requant.shift, args->out));
    }
}

const struct pq_requantize_kernel pq_requantize_ref = {.run = run};
