/* Two terms (rescale.h): on a and b interleaved, each of the two sums of products is one vpmaddwd.
 */
#include "elementwise/add_kernel.h"
#include "elementwise/elementwise_kernel.h"
#include "elementwise/rescale_avx2.h"

typedef struct operands {
    const pq_add_args *args;
    const void *a, *b;
    void *y;
    size_t n;
    pq_rescale rescale;
    pq_rescale_term terms[2];
} operands;

PQ_INLINE __m256i half(__m256i ab, __m256i high, __m256i low, __m256i constant_low, bool carry) {
    __m256i low_sum = _mm256_madd_epi16(ab, low);
    if (carry) {
        low_sum = _mm256_add_epi32(low_sum, constant_low);
    }
    return _mm256_add_epi32(_mm256_madd_epi16(ab, high), _mm256_srai_epi32(low_sum, 16));
}

/* The types, and whether C.low is not 0, are constants where this is inlined. Returns the first
 * element left. */
PQ_INLINE size_t loop(const operands *o, pq_dtype a_type, pq_dtype b_type, pq_dtype y_type,
                      bool carry) {
    const pq_rescale_lanes lanes = pq_rescale_spread(&o->rescale, o->args->out);
    const __m256i a_zero = _mm256_set1_epi16((int16_t)o->terms[0].lane_zero_point);
    const __m256i b_zero = _mm256_set1_epi16((int16_t)o->terms[1].lane_zero_point);
    const __m256i high = pq_pair(o->terms[0].high, o->terms[1].high);
    const __m256i low = pq_pair(o->terms[0].low, o->terms[1].low);
    const __m256i constant_low = _mm256_set1_epi32(o->rescale.constant_low);
    const void *a = o->a, *b = o->b; /* a store may alias *o, as far as the compiler knows */
    void *y = o->y;
    const size_t n = o->n;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256i p = pq_load_16(a_type, a, i, a_zero);
        const __m256i q = pq_load_16(b_type, b, i, b_zero);
        pq_rescale_store(&lanes, half(_mm256_unpacklo_epi16(p, q), high, low, constant_low, carry),
                         half(_mm256_unpackhi_epi16(p, q), high, low, constant_low, carry), y_type,
                         y, i);
    }
    return i;
}

PQ_INLINE size_t loop_to(const operands *o, pq_dtype y_type) {
    const bool a_s8 = o->args->a_type == PQ_S8, b_s8 = o->args->b_type == PQ_S8;
    if (a_s8 && b_s8) { /* both zero points are taken off in the lanes */
        return loop(o, PQ_S8, PQ_S8, y_type, false);
    }
    if (o->rescale.constant_low == 0) {
        return a_s8   ? loop(o, PQ_S8, PQ_S16, y_type, false)
               : b_s8 ? loop(o, PQ_S16, PQ_S8, y_type, false)
                      : loop(o, PQ_S16, PQ_S16, y_type, false);
    }
    return a_s8   ? loop(o, PQ_S8, PQ_S16, y_type, true)
           : b_s8 ? loop(o, PQ_S16, PQ_S8, y_type, true)
                  : loop(o, PQ_S16, PQ_S16, y_type, true);
}

static void run(const pq_add_args *args, size_t n, const void *a, const void *b, void *y) {
    operands o = {
        .args = args,
        .a = a,
        .b = b,
        .y = y,
        .n = n,
        .terms = {{.multiplier = args->a_multiplier,
                   .zero_point = args->a_zero_point,
                   .type = args->a_type},
                  {.multiplier = args->b_multiplier,
                   .zero_point = args->b_zero_point,
                   .type = args->b_type}},
    };
    size_t i = 0;
    if (pq_rescale_of(o.terms, 2, args->shift, args->y_type, args->out, &o.rescale)) {
        i = args->y_type == PQ_S8 ? loop_to(&o, PQ_S8) : loop_to(&o, PQ_S16);
    }
    pq_add_ref.run(args, n - i, pq_at(args->a_type, a, i), pq_at(args->b_type, b, i),
                   pq_at_out(args->y_type, y, i));
}

const struct pq_add_kernel pq_add_avx2 = {.run = run};
