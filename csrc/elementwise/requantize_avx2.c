/* The zero point of x is folded: (x - z) * m + c = x * m + (c - z * m), modulo 2^64. */
#include "elementwise/elementwise_avx2.h"
#include "elementwise/elementwise_kernel.h"
#include "elementwise/requantize_kernel.h"

static void run(const pq_requantize_args *args, size_t begin, size_t end) {
    const int32_t m = args->requant.multiplier;
    const int shift = args->requant.shift;
    if (!pq_narrow(pq_distance_max(args->x_type) * (uint64_t)m, shift)) {
        pq_requantize_ref.run(args, begin, end);
        return;
    }
    const pq_rounding rounding = pq_rounding_of(-(int64_t)args->x_zero_point * m, shift, args->out);
    const __m256i multiplier = _mm256_set1_epi32(m);
    size_t i = begin;
    for (; i + 8 <= end; i += 8) {
        const __m256i x = pq_load_8(args->x_type, args->x, i);
        const __m256i even = _mm256_mul_epi32(x, multiplier);
        const __m256i odd = _mm256_mul_epi32(pq_odd(x), multiplier);
        pq_store_8(args->y_type, args->y, i, pq_round_8(&rounding, even, odd));
    }
    pq_requantize_ref.run(args, i, end);
}

const struct pq_requantize_kernel pq_requantize_avx2 = {.run = run};
