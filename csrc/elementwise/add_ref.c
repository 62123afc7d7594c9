#include "elementwise/add_kernel.h"
#include "elementwise/elementwise_kernel.h"

static void run(const pq_add_args *args, size_t n, const void *a, const void *b, void *y) {
    const int64_t half = INT64_C(1) << (args->shift - 1);
    for (size_t i = 0; i < n; i++) {
        const int64_t p = (int64_t)pq_load(args->a_type, a, i) - args->a_zero_point;
        const int64_t q = (int64_t)pq_load(args->b_type, b, i) - args->b_zero_point;
        const int64_t sum = (p * args->a_multiplier + q * args->b_multiplier + half) >> args->shift;
        pq_store(args->y_type, y, i,
                 (int32_t)pq_clamp_s64(sum + args->out.zero_point, args->out.quant_min,
                                       args->out.quant_max));
    }
}

const struct pq_add_kernel pq_add_ref = {.run = run};
