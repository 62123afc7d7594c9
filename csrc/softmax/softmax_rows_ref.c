#include <string.h>

#include "pyquant/rnu.h"
#include "softmax/softmax_rows_kernel.h"

/* One row's scores (s32), weights (u16), and which of them are kept (u8): all. */
static size_t scratch_size(const pq_softmax_rows_args *args) {
    return pq_round_up(7 * args->n, 64);
}

static void run(const pq_softmax_rows_args *args, size_t begin, size_t end, void *scratch) {
    pq_softmax_ref_fn *const softmax = pq_softmax_ref_of(args->softmax.method);
    const size_t n = args->n;
    int32_t *const score = scratch;
    uint16_t *const p = (uint16_t *)(void *)(score + n);
    uint8_t *const keep = (uint8_t *)(p + n);
    memset(keep, 1, n);
    for (size_t i = begin; i < end; i++) {
        for (size_t j = 0; j < n; j++) {
            score[j] = pq_load(args->x_type, args->x, i * n + j);
        }
        const pq_softmax_sums sums = softmax(&args->softmax, n, score, keep, p);
        const pq_dyadic factor = pq_softmax_normalizer(args->requant, sums.divisor);
        for (size_t j = 0; j < n; j++) {
            pq_store(args->y_type, args->y, i * n + j,
                     pq_requantize(p[j], factor.multiplier, factor.shift, args->out));
        }
    }
}

const struct pq_softmax_rows_kernel pq_softmax_rows_ref = {.scratch_size = scratch_size,
                                                           .run = run};
