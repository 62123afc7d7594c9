/* layernorm, the exact method (layernorm_avx2.h). */
#include "layernorm/layernorm_avx2.h"

static INLINE row_lanes row_of(const pq_layernorm_args *args, int64_t sum, int64_t square_sum) {
    const pq_layernorm_row row = pq_layernorm_row_quick(args, sum, square_sum);
    const int up = pq_raise(row.shift);
    return (row_lanes){
        .centre = _mm256_set1_epi32(row.centre),
        .multiplier = _mm256_set1_epi32(row.multiplier),
        .half = _mm256_set1_epi32(INT32_C(1) << (row.shift + up - 33)),
        .up = _mm_cvtsi32_si128(up),
        .shift = _mm_cvtsi32_si128(row.shift + up - 32),
    };
}

static INLINE __m256i z_of(const call_lanes *k, const row_lanes *r, __m256i v) {
    const __m256i w =
        _mm256_sll_epi32(_mm256_sub_epi32(_mm256_madd_epi16(v, k->channels), r->centre), r->up);
    const __m256i p = upper_halves(_mm256_mul_epi32(w, r->multiplier),
                                   _mm256_mul_epi32(_mm256_shuffle_epi32(w, 0xf5), r->multiplier));
    return _mm256_sra_epi32(_mm256_add_epi32(p, r->half), r->shift);
}

static void rows(const pq_layernorm_args *args, size_t begin, size_t end) {
    assert(args->channels >= 1 && args->channels <= INT16_MAX);
    if (args->channels < STEP || !pq_layernorm_is_narrow(args, PQ_Z_BITS, PQ_RAISE_MOST)) {
        pq_layernorm_ref.rows(args, begin, end);
    } else if (pq_raise(args->shift) != 0) {
        method_rows((method){true, row_of, z_of}, args, begin, end);
    } else {
        method_rows((method){false, row_of, z_of}, args, begin, end);
    }
}

const struct pq_layernorm_kernel pq_layernorm_avx2 = {.rows = rows};
