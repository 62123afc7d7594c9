/* One term (rescale.h): low = (v * m.low) >> 16 in 16-bit lanes, then v * m.high + low * 1 is one
 * vpmaddwd on v and low interleaved. */
#include "elementwise/elementwise_kernel.h"
#include "elementwise/requantize_kernel.h"
#include "elementwise/rescale_avx2.h"

/* The types, and whether C.low is not 0, are constants where this is inlined. Returns the first
 * element left. */
PQ_INLINE size_t loop(const pq_requantize_args *args, const pq_rescale *rescale,
                      pq_rescale_term term, size_t begin, size_t end, pq_dtype x_type,
                      pq_dtype y_type, bool carry) {
    const pq_rescale_lanes lanes = pq_rescale_spread(rescale, args->out);
    const __m256i zero_point = _mm256_set1_epi16((int16_t)term.lane_zero_point);
    const __m256i low_multiplier = _mm256_set1_epi16(term.low), pair = pq_pair(term.high, 1);
    /* The low half of v * m.low carries when C.low comes to it if it is at least this. */
    const __m256i carries = _mm256_set1_epi16((int16_t)(uint16_t)(65536u - rescale->constant_low));
    const void *x = args->x; /* a store may alias args, as far as the compiler knows */
    void *y = args->y;
    size_t i = begin;
    for (; i + 16 <= end; i += 16) {
        const __m256i v = pq_load_16(x_type, x, i, zero_point);
        __m256i low = _mm256_mulhi_epi16(v, low_multiplier);
        if (carry) {
            const __m256i rest = _mm256_mullo_epi16(v, low_multiplier);
            const __m256i minus_one = _mm256_cmpeq_epi16(_mm256_max_epu16(rest, carries), rest);
            low = _mm256_sub_epi16(low, minus_one);
        }
        const __m256i a = _mm256_madd_epi16(_mm256_unpacklo_epi16(v, low), pair);
        const __m256i b = _mm256_madd_epi16(_mm256_unpackhi_epi16(v, low), pair);
        pq_rescale_store(&lanes, a, b, y_type, y, i);
    }
    return i;
}

static void run(const pq_requantize_args *args, size_t begin, size_t end) {
    pq_rescale_term term = {.multiplier = args->requant.multiplier,
                            .zero_point = args->x_zero_point,
                            .type = args->x_type};
    pq_rescale r;
    size_t i = begin;
    if (pq_rescale_of(&term, 1, args->requant.shift, args->y_type, args->out, &r)) {
        const bool to_s8 = args->y_type == PQ_S8;
        if (args->x_type == PQ_S8) { /* all of the zero point is taken off in the lanes */
            i = to_s8 ? loop(args, &r, term, begin, end, PQ_S8, PQ_S8, false)
                      : loop(args, &r, term, begin, end, PQ_S8, PQ_S16, false);
        } else if (r.constant_low == 0) {
            i = to_s8 ? loop(args, &r, term, begin, end, PQ_S16, PQ_S8, false)
                      : loop(args, &r, term, begin, end, PQ_S16, PQ_S16, false);
        } else {
            i = to_s8 ? loop(args, &r, term, begin, end, PQ_S16, PQ_S8, true)
                      : loop(args, &r, term, begin, end, PQ_S16, PQ_S16, true);
        }
    }
    pq_requantize_ref.run(args, i, end);
}

const struct pq_requantize_kernel pq_requantize_avx2 = {.run = run};
