/* Two terms (rescale.h), as on AVX2. */
#include "elementwise/add_kernel.h"
#include "elementwise/rescale_avx512.h"

typedef struct operands {
    const pq_add_args *args;
    const void *a, *b;
    void *y;
    size_t n;
    pq_rescale rescale;
    pq_rescale_term terms[2];
} operands;

PQ_INLINE __m512i half(__m512i ab, __m512i high, __m512i low, __m512i constant_low, bool carry) {
    __m512i low_sum = _mm512_madd_epi16(ab, low);
    if (carry) {
        low_sum = _mm512_add_epi32(low_sum, constant_low);
    }
    return _mm512_add_epi32(_mm512_madd_epi16(ab, high), _mm512_srai_epi32(low_sum, 16));
}

/* The types, and whether C.low is not 0, are constants where this is inlined. */
PQ_INLINE void loop(const operands *o, pq_dtype a_type, pq_dtype b_type, pq_dtype y_type,
                    bool carry) {
    const pq_rescale_lanes lanes = pq_rescale_spread(&o->rescale, o->args->out);
    const __m512i a_zero = _mm512_set1_epi16((int16_t)o->terms[0].lane_zero_point);
    const __m512i b_zero = _mm512_set1_epi16((int16_t)o->terms[1].lane_zero_point);
    const __m512i high = pq_pair(o->terms[0].high, o->terms[1].high);
    const __m512i low = pq_pair(o->terms[0].low, o->terms[1].low);
    const __m512i constant_low = _mm512_set1_epi32(o->rescale.constant_low);
    const void *a = o->a, *b = o->b; /* a store may alias *o, as far as the compiler knows */
    void *y = o->y;
    const size_t n = o->n;
    for (size_t i = 0; i < n; i += 32) {
        const __mmask32 mask = pq_mask_32(i, n);
        const __m512i p = pq_load_32(a_type, a, i, mask, a_zero);
        const __m512i q = pq_load_32(b_type, b, i, mask, b_zero);
        pq_rescale_store(&lanes, half(_mm512_unpacklo_epi16(p, q), high, low, constant_low, carry),
                         half(_mm512_unpackhi_epi16(p, q), high, low, constant_low, carry), y_type,
                         y, i, mask);
    }
}

PQ_INLINE void loop_to(const operands *o, pq_dtype y_type) {
    const bool a_s8 = o->args->a_type == PQ_S8, b_s8 = o->args->b_type == PQ_S8;
    if (a_s8 && b_s8) { /* both zero points are taken off in the lanes */
        loop(o, PQ_S8, PQ_S8, y_type, false);
    } else if (o->rescale.constant_low == 0) {
        a_s8   ? loop(o, PQ_S8, PQ_S16, y_type, false)
        : b_s8 ? loop(o, PQ_S16, PQ_S8, y_type, false)
               : loop(o, PQ_S16, PQ_S16, y_type, false);
    } else {
        a_s8   ? loop(o, PQ_S8, PQ_S16, y_type, true)
        : b_s8 ? loop(o, PQ_S16, PQ_S8, y_type, true)
               : loop(o, PQ_S16, PQ_S16, y_type, true);
    }
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
    if (!pq_rescale_of(o.terms, 2, args->shift, args->y_type, args->out, &o.rescale)) {
        pq_add_ref.run(args, n, a, b, y);
    } else if (args->y_type == PQ_S8) {
        loop_to(&o, PQ_S8);
    } else {
        loop_to(&o, PQ_S16);
    }
}

const struct pq_add_kernel pq_add_avx512 = {.run = run};
