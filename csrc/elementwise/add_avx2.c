/* Both zero points are folded into the rounding constant, modulo 2^64. */
#include "elementwise/add_kernel.h"
#include "elementwise/elementwise_avx2.h"
#include "elementwise/elementwise_kernel.h"

static void run(const pq_add_args *args, size_t n, const void *a, const void *b, void *y) {
    const int64_t a_m = args->a_multiplier, b_m = args->b_multiplier;
    const uint64_t bound = pq_distance_max(args->a_type) * (uint64_t)a_m +
                           pq_distance_max(args->b_type) * (uint64_t)b_m;
    if (!pq_narrow(bound, args->shift)) {
        pq_add_ref.run(args, n, a, b, y);
        return;
    }
    const pq_rounding rounding = pq_rounding_of(
        -(args->a_zero_point * a_m) - args->b_zero_point * b_m, args->shift, args->out);
    const __m256i a_multiplier = _mm256_set1_epi32(args->a_multiplier);
    const __m256i b_multiplier = _mm256_set1_epi32(args->b_multiplier);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i p = pq_load_8(args->a_type, a, i), q = pq_load_8(args->b_type, b, i);
        const __m256i even =
            _mm256_add_epi64(_mm256_mul_epi32(p, a_multiplier), _mm256_mul_epi32(q, b_multiplier));
        const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(pq_odd(p), a_multiplier),
                                             _mm256_mul_epi32(pq_odd(q), b_multiplier));
        pq_store_8(args->y_type, y, i, pq_round_8(&rounding, even, odd));
    }
    pq_add_ref.run(args, n - i, pq_at(args->a_type, a, i), pq_at(args->b_type, b, i),
                   pq_at_out(args->y_type, y, i));
}

const struct pq_add_kernel pq_add_avx2 = {.run = run};
