/* One term (rescale.h), as on AVX2. */
#include "elementwise/requantize_kernel.h"
#include "elementwise/rescale_avx512.h"

/* The types, and whether C.low is not 0, are constants where this is inlined. */
PQ_INLINE void loop(const pq_requantize_args *args, const pq_rescale *rescale, pq_rescale_term term,
                    size_t begin, size_t end, pq_dtype x_type, pq_dtype y_type, bool carry) {
    const pq_rescale_lanes lanes = pq_rescale_spread(rescale, args->out);
    const __m512i zero_point = _mm512_set1_epi16((int16_t)term.lane_zero_point);
    const __m512i low_multiplier = _mm512_set1_epi16(term.low), pair = pq_pair(term.high, 1);
    /* The low half of v * m.low carries when C.low comes to it if it is at least this. */
    const __m512i carries = _mm512_set1_epi16((int16_t)(uint16_t)(65536u - rescale->constant_low));
    const void *x = args->x; /* a store may alias args, as far as the compiler knows */
    void *y = args->y;
    for (size_t i = begin; i < end; i += 32) {
        const __mmask32 mask = pq_mask_32(i, end);
        const __m512i v = pq_load_32(x_type, x, i, mask, zero_point);
        __m512i low = _mm512_mulhi_epi16(v, low_multiplier);
        if (carry) {
            const __m512i rest = _mm512_mullo_epi16(v, low_multiplier);
            const __mmask32 carry_out = _mm512_cmpge_epu16_mask(rest, carries);
            low = _mm512_sub_epi16(low, _mm512_movm_epi16(carry_out)); /* lanes of -1 */
        }
        const __m512i a = _mm512_madd_epi16(_mm512_unpacklo_epi16(v, low), pair);
        const __m512i b = _mm512_madd_epi16(_mm512_unpackhi_epi16(v, low), pair);
        pq_rescale_store(&lanes, a, b, y_type, y, i, mask);
    }
}

static void run(const pq_requantize_args *args, size_t begin, size_t end) {
    pq_rescale_term term = {.multiplier = args->requant.multiplier,
                            .zero_point = args->x_zero_point,
                            .type = args->x_type};
    pq_rescale r;
    if (!pq_rescale_of(&term, 1, args->requant.shift, args->y_type, args->out, &r)) {
        pq_requantize_ref.run(args, begin, end);
        return;
    }
    const bool to_s8 = args->y_type == PQ_S8;
    if (args->x_type == PQ_S8) { /* all of the zero point is taken off in the lanes */
        to_s8 ? loop(args, &r, term, begin, end, PQ_S8, PQ_S8, false)
              : loop(args, &r, term, begin, end, PQ_S8, PQ_S16, false);
    } else if (r.constant_low == 0) {
        to_s8 ? loop(args, &r, term, begin, end, PQ_S16, PQ_S8, false)
              : loop(args, &r, term, begin, end, PQ_S16, PQ_S16, false);
    } else {
        to_s8 ? loop(args, &r, term, begin, end, PQ_S16, PQ_S8, true)
              : loop(args, &r, term, begin, end, PQ_S16, PQ_S16, true);
    }
}

const struct pq_requantize_kernel pq_requantize_avx512 = {.run = run};
