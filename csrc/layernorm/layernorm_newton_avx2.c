/* LayerNorm by a Newton root (layernorm_avx2.h). |z| <= 2^30 leaves no room to raise a shift. */
#include "layernorm/layernorm_avx2.h"
#include "layernorm/layernorm_newton_kernel.h"

static INLINE row_lanes row_of(const pq_layernorm_args *args, int64_t sum, int64_t square_sum) {
    const pq_layernorm_newton_row row = pq_layernorm_newton_row_of(args, sum, square_sum);
    return (row_lanes){
        .centre = _mm256_set1_epi32(row.centre),
        .multiplier = _mm256_set1_epi32((int32_t)row.factor),
    };
}

/* y * factor lies in [-2^31, 2^31] and has the sign of y: its low 32 bits and that sign are all of
 * it, so that a logical shift and the sign make the floor of its half. */
static INLINE __m256i z_of(const call_lanes *k, const row_lanes *r, __m256i v) {
    const __m256i x = _mm256_madd_epi16(v, _mm256_set1_epi32(1));
    const __m256i y = _mm256_sub_epi32(x, r->centre);
    const __m256i sign = _mm256_and_si256(y, _mm256_set1_epi32(INT32_MIN));
    (void)k;
    return _mm256_or_si256(_mm256_srli_epi32(_mm256_mullo_epi32(y, r->multiplier), 1), sign);
}

static void rows(const pq_layernorm_args *args, size_t begin, size_t end) {
    assert(args->channels >= 1 && args->channels <= INT16_MAX);
    if (args->channels < STEP || !pq_layernorm_is_narrow(args, PQ_NEWTON_Z_BITS, 0)) {
        pq_layernorm_newton_ref.rows(args, begin, end);
        return;
    }
    method_rows((method){false, row_of, z_of}, args, begin, end);
}

const struct pq_layernorm_newton_kernel pq_layernorm_newton_avx2 = {.rows = rows};
