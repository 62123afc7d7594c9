/* layernorm, the exact method (layernorm_avx512.h). */
#include "layernorm/layernorm_avx512.h"

static INLINE row_lanes row_of(const pq_layernorm_args *args, int64_t sum, int64_t square_sum) {
    const pq_layernorm_row row = pq_layernorm_row_quick(args, sum, square_sum);
    const int up = pq_raise(row.shift);
    return (row_lanes){
        .centre = _mm512_set1_epi32(row.centre),
        .multiplier = _mm512_set1_epi32(row.multiplier),
        .half = _mm512_set1_epi32(INT32_C(1) << (row.shift + up - 33)),
        .up = _mm_cvtsi32_si128(up),
        .shift = _mm_cvtsi32_si128(row.shift + up - 32),
    };
}

static INLINE __m512i z_of(const call_lanes *k, const row_lanes *r, __m512i x) {
    /* the upper words of x meet zeros */
    const __m512i w =
        _mm512_sll_epi32(_mm512_sub_epi32(_mm512_madd_epi16(x, k->channels), r->centre), r->up);
    const __m512i p = upper_halves(_mm512_mul_epi32(w, r->multiplier),
                                   _mm512_mul_epi32(_mm512_srli_epi64(w, 32), r->multiplier));
    return _mm512_sll_epi32(_mm512_sra_epi32(_mm512_add_epi32(p, r->half), r->shift), k->up);
}

static void rows(const pq_layernorm_args *args, size_t begin, size_t end) {
    assert(args->channels >= 1 && args->channels <= INT16_MAX);
    if (!pq_layernorm_is_narrow(args, PQ_Z_BITS, PQ_RAISE_MOST)) {
        pq_layernorm_ref.rows(args, begin, end);
        return;
    }
    method_rows((method){row_of, z_of}, args, begin, end);
}

const struct pq_layernorm_kernel pq_layernorm_avx512 = {.rows = rows};
