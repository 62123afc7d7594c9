/* LayerNorm on powers-of-two factors, 16 channels a step, one row at a time, all in 32 bits
 * (layernorm_wide.h). X is computed twice, for the sums and for the result: no place to keep it. */
#include "layernorm/layernorm_avx2.h"

/* Constants of all rows. */
typedef struct ptf_lanes {
    __m256i x_zero_point, multiplier, half, low, high;
    __m256i shift; /* of the upper half, without alpha */
    __m128i up;
} ptf_lanes;

static ptf_lanes spread_ptf(const pq_layernorm_args *args) {
    const int up = pq_raise(args->requant.shift), shift = args->requant.shift + up;
    return (ptf_lanes){
        .x_zero_point = _mm256_set1_epi32(args->x_zero_point),
        .multiplier = _mm256_set1_epi32(args->requant.multiplier),
        .half = _mm256_set1_epi32(INT32_C(1) << (shift - 33)),
        .shift = _mm256_set1_epi32(shift - 32),
        .low = _mm256_set1_epi32(INT8_MIN - args->zero_point),
        .high = _mm256_set1_epi32(INT8_MAX - args->zero_point),
        .up = _mm_cvtsi32_si128(up),
    };
}

/* Eight bytes from p on as s32. */
static INLINE __m256i load_8_bytes(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

/* X of eight channels from c on. */
static INLINE __m256i expand_8(const pq_layernorm_args *args, const ptf_lanes *k, size_t c,
                               __m128i x) {
    const __m256i alpha = load_8_bytes(args->alpha + c);
    const __m256i v =
        _mm256_sll_epi32(_mm256_sub_epi32(_mm256_cvtepi16_epi32(x), k->x_zero_point), k->up);
    const __m256i p = upper_halves(_mm256_mul_epi32(v, k->multiplier),
                                   _mm256_mul_epi32(_mm256_shuffle_epi32(v, 0xf5), k->multiplier));
    const __m256i rounded = _mm256_add_epi32(p, _mm256_sllv_epi32(k->half, alpha));
    const __m256i step = _mm256_srav_epi32(rounded, _mm256_add_epi32(k->shift, alpha));
    return _mm256_sllv_epi32(_mm256_min_epi32(_mm256_max_epi32(step, k->low), k->high), alpha);
}

/* X of channels c .. c + 15. */
static INLINE void expand_16(const pq_layernorm_args *args, const ptf_lanes *k, size_t c, __m256i x,
                             __m256i *first, __m256i *second) {
    *first = expand_8(args, k, c, _mm256_castsi256_si128(x));
    *second = expand_8(args, k, c + 8, _mm256_extracti128_si256(x, 1));
}

/* sum X and sum X^2. |X| <= 2040: packs does not saturate, pairs of X^2 are below 2^23. The last
 * step reaches back over channels that were counted, which `fresh` masks. */
static void expanded_sums(const pq_layernorm_args *args, const ptf_lanes *k, size_t begin,
                          int64_t *sum, int64_t *square_sum) {
    const size_t channels = args->channels;
    const __m256i ones = _mm256_set1_epi16(1), low_half = _mm256_set1_epi64x(0xffffffff);
    __m256i sum_s32 = _mm256_setzero_si256(), square_s64 = _mm256_setzero_si256();
    for (size_t c = 0; c < channels; c += STEP) {
        const size_t at = c + STEP <= channels ? c : channels - STEP;
        const int16_t stale = (int16_t)(c - at);
        __m256i first, second;
        expand_16(args, k, at, load_16(args->x_type, args->x, begin + at), &first, &second);
        /* packs takes four lanes of each in turn: 0 1 2 3 8 9 10 11 4 5 6 7 12 13 14 15 */
        const __m256i order =
            _mm256_setr_epi16(0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15);
        const __m256i fresh = _mm256_cmpgt_epi16(order, _mm256_set1_epi16((int16_t)(stale - 1)));
        const __m256i v = _mm256_and_si256(_mm256_packs_epi32(first, second), fresh);
        const __m256i squares = _mm256_madd_epi16(v, v);
        sum_s32 = _mm256_add_epi32(sum_s32, _mm256_madd_epi16(v, ones));
        square_s64 = _mm256_add_epi64(square_s64, _mm256_and_si256(squares, low_half));
        square_s64 = _mm256_add_epi64(square_s64, _mm256_srli_epi64(squares, 32));
    }
    *sum = sum_s32x8(sum_s32);
    *square_sum = sum_s64x4(square_s64);
}

/* Constants of one row. */
typedef struct ptf_row_lanes {
    __m256i mean, inverse;
    __m256i n_base, down_base; /* 9 - h and 30 - h */
} ptf_row_lanes;

static ptf_row_lanes spread_ptf_row(pq_layernorm_ptf_row row) {
    return (ptf_row_lanes){
        .mean = _mm256_set1_epi32(row.mean),
        .inverse = _mm256_set1_epi32(row.inverse),
        .n_base = _mm256_set1_epi32(9 - row.half_shift),
        .down_base = _mm256_set1_epi32(30 - row.half_shift),
    };
}

/* (v + 1) >> 1 without overflow. */
static INLINE __m256i half_up(__m256i v) {
    return _mm256_add_epi32(_mm256_srai_epi32(v, 1),
                            _mm256_and_si256(v, _mm256_set1_epi32(1)));
}

/* Low and high dwords of the offsets of channels c .. c + 7; low ones are signed and high ones
 * allow for that. */
static INLINE __m256i split_offsets(const int64_t *offset, __m256i *high) {
    const __m256i a = _mm256_shuffle_epi32(load_halves(offset, offset + 4), 0xd8);
    const __m256i b = _mm256_shuffle_epi32(load_halves(offset + 2, offset + 6), 0xd8);
    const __m256i low = _mm256_unpacklo_epi64(a, b);
    *high = _mm256_sub_epi32(_mm256_unpackhi_epi64(a, b), _mm256_srai_epi32(low, 31));
    return low;
}

/* y of eight channels from c on, before zero point and clamp. */
static INLINE __m256i channels_8(const pq_layernorm_args *args, const ptf_row_lanes *r, size_t c,
                                 __m256i x) {
    const __m256i one = _mm256_set1_epi32(1), zero = _mm256_setzero_si256();
    const __m256i gain = _mm256_loadu_si256((const __m256i *)(args->gain + c));
    const __m256i size = _mm256_abs_epi32(gain), exponent = load_8_bytes(args->exponent + c);
    const __m256i a_even = _mm256_srli_epi64(_mm256_mul_epu32(size, r->inverse), 32);
    const __m256i a_odd =
        _mm256_srli_epi64(_mm256_mul_epu32(_mm256_srli_epi64(size, 32), r->inverse), 32);
    const __m256i a = _mm256_or_si256(a_even, _mm256_slli_epi64(a_odd, 32));
    __m256i n = _mm256_sub_epi32(_mm256_add_epi32(exponent, r->n_base), _mm256_srli_epi32(a, 29));
    n = _mm256_min_epi32(_mm256_max_epi32(n, zero), _mm256_set1_epi32(31));
    const __m256i down = _mm256_sub_epi32(_mm256_add_epi32(exponent, r->down_base), n);
    const __m256i p =
        upper_halves(_mm256_mul_epi32(a_even, r->mean), _mm256_mul_epi32(a_odd, r->mean));
    const __m256i mean = half_up(
        _mm256_srav_epi32(p, _mm256_sub_epi32(down, _mm256_set1_epi32(PQ_PTF_DOWN_LEAST))));
    const __m256i product = _mm256_mullo_epi32(_mm256_srlv_epi32(a, down), x);
    const __m256i term = _mm256_sign_epi32(_mm256_sub_epi32(product, mean), gain);
    __m256i high;
    const __m256i low = split_offsets(args->offset + c, &high);
    const __m256i bias =
        half_up(_mm256_srav_epi32(low, _mm256_sub_epi32(_mm256_set1_epi32(31), n)));
    const __m256i sum = _mm256_add_epi32(term, bias);
    const __m256i any = _mm256_min_epi32(n, one); /* whether there is a rounding */
    const __m256i y = _mm256_srav_epi32(
        _mm256_add_epi32(_mm256_srav_epi32(sum, _mm256_sub_epi32(n, any)), any), any);
    return _mm256_add_epi32(y, high);
}

/* Channels c .. c + 15 whose x are given, to element i on. */
static INLINE void channels_16(const pq_layernorm_args *args, const call_lanes *call,
                               const ptf_lanes *k, const ptf_row_lanes *r, size_t c, __m256i x,
                               size_t i) {
    __m256i first, second;
    expand_16(args, k, c, x, &first, &second);
    first = _mm256_add_epi32(channels_8(args, r, c, first), call->zero_point);
    second = _mm256_add_epi32(channels_8(args, r, c + 8, second), call->zero_point);
    store_16(args, call, i, _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xd8));
}

static void rows(const pq_layernorm_args *args, size_t begin, size_t end) {
    assert(args->channels >= 1 && args->channels <= INT16_MAX);
    const size_t channels = args->channels;
    if (channels < STEP || !pq_layernorm_ptf_is_narrow(args)) {
        pq_layernorm_ptf_ref.rows(args, begin, end);
        return;
    }
    const int exponent_min = pq_layernorm_ptf_exponent_min(args);
    const call_lanes call = spread_call(args);
    const ptf_lanes k = spread_ptf(args);
    const size_t last = channels - STEP;
    for (size_t i = begin; i < end; i++) {
        int64_t sum, square_sum;
        expanded_sums(args, &k, i * channels, &sum, &square_sum);
        const pq_layernorm_ptf_row row = pq_layernorm_ptf_row_quick(args, sum, square_sum);
        if (!pq_layernorm_ptf_row_is_narrow(row, exponent_min)) {
            pq_layernorm_ptf_ref.rows(args, i, i + 1);
            continue;
        }
        const ptf_row_lanes r = spread_ptf_row(row);
        /* y may be x: the last step, which reaches back, reads first */
        const __m256i x_last = load_16(args->x_type, args->x, i * channels + last);
        for (size_t c = 0; c <= last; c += STEP) {
            const size_t at = i * channels + c;
            channels_16(args, &call, &k, &r, c, load_16(args->x_type, args->x, at), at);
        }
        if (channels % STEP != 0) {
            channels_16(args, &call, &k, &r, last, x_last, i * channels + last);
        }
    }
}

const struct pq_layernorm_ptf_kernel pq_layernorm_ptf_avx2 = {.rows = rows};
