/* LayerNorm by a Newton root (layernorm_avx512.h). |z| <= 2^30 leaves no room to raise a shift. */
#include "layernorm/layernorm_avx512.h"
#include "layernorm/layernorm_newton_kernel.h"

static INLINE row_lanes row_of(const pq_layernorm_args *args, int64_t sum, int64_t square_sum) {
    const pq_layernorm_newton_row row = pq_layernorm_newton_row_of(args, sum, square_sum);
    return (row_lanes){
        .centre = _mm512_set1_epi32(row.centre),
        .multiplier = _mm512_set1_epi32((int32_t)row.factor),
    };
}

/* y * factor lies in [-2^31, 2^31] and has the sign of y: its low 32 bits and that sign are all of
 * it, so that a logical shift and the sign make the floor of its half. */
static INLINE __m512i z_of(const call_lanes *k, const row_lanes *r, __m512i x) {
    const __m512i y = _mm512_sub_epi32(x, r->centre);
    const __m512i sign = _mm512_and_si512(y, _mm512_set1_epi32(INT32_MIN));
    (void)k;
    return _mm512_or_si512(_mm512_srli_epi32(_mm512_mullo_epi32(y, r->multiplier), 1), sign);
}

static void rows(const pq_layernorm_args *args, size_t begin, size_t end) {
    assert(args->channels >= 1 && args->channels <= INT16_MAX);
    if (!pq_layernorm_is_narrow(args, PQ_NEWTON_Z_BITS, 0)) {
        pq_layernorm_newton_ref.rows(args, begin, end);
        return;
    }
    method_rows((method){row_of, z_of}, args, begin, end);
}

const struct pq_layernorm_newton_kernel pq_layernorm_newton_avx512 = {.rows = rows};
