/* LayerNorm on powers-of-two factors, 16 channels a step, one row at a time, all in 32 bits
 * (layernorm_wide.h). X is computed twice, for the sums and for the result: no place to keep it. */
#include "layernorm/layernorm_avx512.h"

/* Constants of all rows. */
typedef struct ptf_lanes {
    __m512i x_zero_point, multiplier, half, low, high;
    __m512i shift; /* of the upper half, without alpha */
    __m128i up;
} ptf_lanes;

static ptf_lanes spread_ptf(const pq_layernorm_args *args) {
    const int up = pq_raise(args->requant.shift), shift = args->requant.shift + up;
    return (ptf_lanes){
        .x_zero_point = _mm512_set1_epi32(args->x_zero_point),
        .multiplier = _mm512_set1_epi32(args->requant.multiplier),
        .half = _mm512_set1_epi32(INT32_C(1) << (shift - 33)),
        .shift = _mm512_set1_epi32(shift - 32),
        .low = _mm512_set1_epi32(INT8_MIN - args->zero_point),
        .high = _mm512_set1_epi32(INT8_MAX - args->zero_point),
        .up = _mm_cvtsi32_si128(up),
    };
}

static INLINE __m512i load_16_bytes(const uint8_t *p, __mmask16 mask) {
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, p));
}

/* X of channels c .. c + 15 of the row that begins at `row`; what the mask leaves out is of no
 * channel. */
static INLINE __m512i expand_16(const pq_layernorm_args *args, const ptf_lanes *k, size_t row,
                                size_t c, __mmask16 mask) {
    const __m512i alpha = load_16_bytes(args->alpha + c, mask);
    const __m512i x = load_16_s32(args->x_type, args->x, row + c, mask);
    const __m512i v = _mm512_sll_epi32(_mm512_sub_epi32(x, k->x_zero_point), k->up);
    const __m512i p = upper_halves(_mm512_mul_epi32(v, k->multiplier),
                                   _mm512_mul_epi32(_mm512_srli_epi64(v, 32), k->multiplier));
    const __m512i rounded = _mm512_add_epi32(p, _mm512_sllv_epi32(k->half, alpha));
    const __m512i step = _mm512_srav_epi32(rounded, _mm512_add_epi32(k->shift, alpha));
    return _mm512_sllv_epi32(_mm512_min_epi32(_mm512_max_epi32(step, k->low), k->high), alpha);
}

/* sum X and sum X^2. |X| <= 2040: the sum fits s32, X^2 < 2^22 is widened at once. */
static void expanded_sums(const pq_layernorm_args *args, const ptf_lanes *k, size_t begin,
                          int64_t *sum, int64_t *square_sum) {
    const __m512i low_half = _mm512_set1_epi64(0xffffffff);
    __m512i sum_s32 = _mm512_setzero_si512(), square_s64 = _mm512_setzero_si512();
    for (size_t c = 0; c < args->channels; c += LANES) {
        const __mmask16 mask = mask_16(args->channels - c);
        const __m512i x =
            _mm512_maskz_mov_epi32(mask, expand_16(args, k, begin, c, mask));
        const __m512i squares = _mm512_mullo_epi32(x, x);
        sum_s32 = _mm512_add_epi32(sum_s32, x);
        square_s64 = _mm512_add_epi64(square_s64, _mm512_and_si512(squares, low_half));
        square_s64 = _mm512_add_epi64(square_s64, _mm512_srli_epi64(squares, 32));
    }
    *sum = _mm512_reduce_add_epi32(sum_s32);
    *square_sum = _mm512_reduce_add_epi64(square_s64);
}

/* Constants of one row. */
typedef struct ptf_row_lanes {
    __m512i mean, inverse;
    __m512i n_base, down_base; /* 9 - h and 30 - h */
} ptf_row_lanes;

static ptf_row_lanes spread_ptf_row(pq_layernorm_ptf_row row) {
    return (ptf_row_lanes){
        .mean = _mm512_set1_epi32(row.mean),
        .inverse = _mm512_set1_epi32(row.inverse),
        .n_base = _mm512_set1_epi32(9 - row.half_shift),
        .down_base = _mm512_set1_epi32(30 - row.half_shift),
    };
}

/* (v + 1) >> 1 without overflow. */
static INLINE __m512i half_up(__m512i v) {
    return _mm512_add_epi32(_mm512_srai_epi32(v, 1), _mm512_and_si512(v, _mm512_set1_epi32(1)));
}

/* Low and high dwords of the offsets of channels c .. c + 15; low ones are signed and high ones
 * allow for that. */
static INLINE __m512i split_offsets(const int64_t *offset, __mmask16 mask, __m512i *high) {
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
    const __m512i a = _mm512_maskz_loadu_epi64((__mmask8)mask, offset);
    const __m512i b = _mm512_maskz_loadu_epi64((__mmask8)(mask >> 8), offset + 8);
    const __m512i low = _mm512_permutex2var_epi32(a, even, b);
    *high = _mm512_sub_epi32(_mm512_permutex2var_epi32(a, odd, b), _mm512_srai_epi32(low, 31));
    return low;
}

/* y of channels c .. c + 15 from their X, before zero point and clamp. */
static INLINE __m512i channels_16(const pq_layernorm_args *args, const ptf_row_lanes *r, size_t c,
                                  __mmask16 mask, __m512i x) {
    const __m512i one = _mm512_set1_epi32(1), zero = _mm512_setzero_si512();
    const __m512i gain = _mm512_maskz_loadu_epi32(mask, args->gain + c);
    const __m512i size = _mm512_abs_epi32(gain);
    const __m512i exponent = load_16_bytes(args->exponent + c, mask);
    const __m512i a_even = _mm512_srli_epi64(_mm512_mul_epu32(size, r->inverse), 32);
    const __m512i a_odd =
        _mm512_srli_epi64(_mm512_mul_epu32(_mm512_srli_epi64(size, 32), r->inverse), 32);
    const __m512i a = _mm512_or_si512(a_even, _mm512_slli_epi64(a_odd, 32));
    __m512i n = _mm512_sub_epi32(_mm512_add_epi32(exponent, r->n_base), _mm512_srli_epi32(a, 29));
    n = _mm512_min_epi32(_mm512_max_epi32(n, zero), _mm512_set1_epi32(31));
    const __m512i down = _mm512_sub_epi32(_mm512_add_epi32(exponent, r->down_base), n);
    const __m512i p =
        upper_halves(_mm512_mul_epi32(a_even, r->mean), _mm512_mul_epi32(a_odd, r->mean));
    const __m512i mean = half_up(
        _mm512_srav_epi32(p, _mm512_sub_epi32(down, _mm512_set1_epi32(PQ_PTF_DOWN_LEAST))));
    const __m512i product = _mm512_mullo_epi32(_mm512_srlv_epi32(a, down), x);
    const __m512i positive = _mm512_sub_epi32(product, mean);
    const __m512i term = _mm512_mask_sub_epi32(positive, _mm512_cmplt_epi32_mask(gain, zero), zero,
                                               positive);
    __m512i high;
    const __m512i low = split_offsets(args->offset + c, mask, &high);
    const __m512i bias =
        half_up(_mm512_srav_epi32(low, _mm512_sub_epi32(_mm512_set1_epi32(31), n)));
    const __m512i sum = _mm512_add_epi32(term, bias);
    const __m512i any = _mm512_min_epi32(n, one); /* whether there is a rounding */
    const __m512i y = _mm512_srav_epi32(
        _mm512_add_epi32(_mm512_srav_epi32(sum, _mm512_sub_epi32(n, any)), any), any);
    return _mm512_add_epi32(y, high);
}

static void rows(const pq_layernorm_args *args, size_t begin, size_t end) {
    assert(args->channels >= 1 && args->channels <= INT16_MAX);
    if (!pq_layernorm_ptf_is_narrow(args)) {
        pq_layernorm_ptf_ref.rows(args, begin, end);
        return;
    }
    const size_t channels = args->channels;
    const int exponent_min = pq_layernorm_ptf_exponent_min(args);
    const call_lanes call = spread_call(args);
    const ptf_lanes k = spread_ptf(args);
    for (size_t i = begin; i < end; i++) {
        int64_t sum, square_sum;
        expanded_sums(args, &k, i * channels, &sum, &square_sum);
        const pq_layernorm_ptf_row row = pq_layernorm_ptf_row_quick(args, sum, square_sum);
        if (!pq_layernorm_ptf_row_is_narrow(row, exponent_min)) {
            pq_layernorm_ptf_ref.rows(args, i, i + 1);
            continue;
        }
        const ptf_row_lanes r = spread_ptf_row(row);
        for (size_t c = 0; c < channels; c += LANES) { /* y may be x: read before it is written */
            const __mmask16 mask = mask_16(channels - c);
            const __m512i x = expand_16(args, &k, i * channels, c, mask);
            const __m512i y = channels_16(args, &r, c, mask, x);
            store_16(args, &call, i * channels + c, mask, _mm512_add_epi32(y, call.zero_point));
        }
    }
}

const struct pq_layernorm_ptf_kernel pq_layernorm_ptf_avx512 = {.rows = rows};
