/* LayerNorm with 16 channels a step, four rows at a time; masks take what is left. The arithmetic
 * is that of layernorm_wide.h.
 *
 * A method gives two functions, which are inlined: the constants of a row from its sums, and z of
 * sixteen channels. */
#ifndef PYQUANT_LAYERNORM_LAYERNORM_AVX512_H
#define PYQUANT_LAYERNORM_LAYERNORM_AVX512_H

#include <assert.h>

#include "core/simd_avx512.h"
#include "layernorm/layernorm_wide.h"

#define INLINE inline __attribute__((always_inline))

enum { ROWS = 4, LANES = 16 };

/* `left` is the number of elements from i on; those beyond are 0. */
static INLINE __m512i load_32_s16(pq_dtype type, const void *x, size_t i, size_t left) {
    const __mmask32 mask = left >= 32 ? UINT32_MAX : (UINT32_C(1) << left) - 1;
    if (type == PQ_S8) {
        return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, (const int8_t *)x + i));
    }
    return _mm512_maskz_loadu_epi16(mask, (const int16_t *)x + i);
}

static INLINE __mmask16 mask_16(size_t left) {
    return (__mmask16)(left >= LANES ? 0xffffu : (1u << left) - 1);
}

static INLINE __m512i load_16_s32(pq_dtype type, const void *x, size_t i, __mmask16 mask) {
    if (type == PQ_S8) {
        return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, (const int8_t *)x + i));
    }
    return _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(mask, (const int16_t *)x + i));
}

/* sum x and sum x^2 of one row. vpmaddwd sums in pairs: |x0 + x1| <= 2^16 over at most 2^10 steps
 * fits s32, all lanes together too; x0^2 + x1^2 <= 2^31 fits u32 and is widened to 64 bits. */
static void row_sums(pq_dtype type, const void *x, size_t begin, size_t channels, int64_t *sum,
                     int64_t *square_sum) {
    const __m512i ones = _mm512_set1_epi16(1), low_half = _mm512_set1_epi64(0xffffffff);
    __m512i sum_s32 = _mm512_setzero_si512(), square_s64 = _mm512_setzero_si512();
    for (size_t c = 0; c < channels; c += 32) {
        const __m512i v = load_32_s16(type, x, begin + c, channels - c);
        const __m512i squares = _mm512_madd_epi16(v, v);
        sum_s32 = _mm512_add_epi32(sum_s32, _mm512_madd_epi16(v, ones));
        square_s64 = _mm512_add_epi64(square_s64, _mm512_and_si512(squares, low_half));
        square_s64 = _mm512_add_epi64(square_s64, _mm512_srli_epi64(squares, 32));
    }
    *sum = _mm512_reduce_add_epi32(sum_s32);
    *square_sum = _mm512_reduce_add_epi64(square_s64);
}

/* Constants of one row, spread over the lanes. */
typedef struct row_lanes {
    __m512i centre, multiplier, half;
    __m128i up, shift;
} row_lanes;

/* Constants of all rows. */
typedef struct call_lanes {
    __m512i channels; /* C in the low words */
    __m512i half, zero_point, low, high;
    __m128i up, shift;
} call_lanes;

static call_lanes spread_call(const pq_layernorm_args *args) {
    const int up = pq_raise(args->shift);
    return (call_lanes){
        .channels = _mm512_set1_epi32((int32_t)args->channels),
        .half = _mm512_set1_epi32((int32_t)(INT64_C(1) << (args->shift + up - 33))),
        .zero_point = _mm512_set1_epi32(args->out.zero_point),
        .low = _mm512_set1_epi32(args->out.quant_min),
        .high = _mm512_set1_epi32(args->out.quant_max),
        .up = _mm_cvtsi32_si128(up),
        .shift = _mm_cvtsi32_si128(args->shift + up - 32),
    };
}

/* Constants of 16 channels. */
typedef struct channel_lanes {
    __m512i gain_even, gain_odd;     /* s32 in the low halves */
    __m512i offset_even, offset_odd; /* s64 */
} channel_lanes;

static INLINE channel_lanes load_channels(const pq_layernorm_args *args, const call_lanes *k,
                                          size_t c, __mmask16 mask) {
    const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    const __m512i odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
    const __m512i g = _mm512_maskz_loadu_epi32(mask, args->gain + c);
    const int64_t *const offset = args->offset + c;
    const __m512i b0 = _mm512_maskz_loadu_epi64((__mmask8)mask, offset);
    const __m512i b1 = _mm512_maskz_loadu_epi64((__mmask8)(mask >> 8), offset + 8);
    return (channel_lanes){
        .gain_even = g,
        .gain_odd = _mm512_srli_epi64(g, 32),
        .offset_even = _mm512_sll_epi64(_mm512_permutex2var_epi64(b0, even, b1), k->up),
        .offset_odd = _mm512_sll_epi64(_mm512_permutex2var_epi64(b0, odd, b1), k->up),
    };
}

/* The upper halves of even and odd 64-bit lanes, in the order of the lanes. */
static INLINE __m512i upper_halves(__m512i even, __m512i odd) {
    return _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
}

/* z of sixteen channels whose x are s32. */
typedef __m512i z_function(const call_lanes *k, const row_lanes *r, __m512i x);
typedef row_lanes row_function(const pq_layernorm_args *args, int64_t sum, int64_t square_sum);

typedef struct method {
    row_function *row_of;
    z_function *z_of;
} method;

/* Sixteen channels: y. */
static INLINE __m512i sixteen(const call_lanes *k, const channel_lanes *ch, __m512i z) {
    const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(z, ch->gain_even), ch->offset_even);
    const __m512i odd =
        _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(z, 32), ch->gain_odd), ch->offset_odd);
    const __m512i sum = _mm512_add_epi32(upper_halves(even, odd), k->half);
    return _mm512_add_epi32(_mm512_sra_epi32(sum, k->shift), k->zero_point);
}

/* Clamped, to element i on. */
static INLINE void store_16(const pq_layernorm_args *args, const call_lanes *k, size_t i,
                            __mmask16 mask, __m512i y) {
    y = _mm512_min_epi32(_mm512_max_epi32(y, k->low), k->high);
    if (args->y_type == PQ_S8) {
        _mm512_mask_cvtepi32_storeu_epi8((int8_t *)args->y + i, mask, y);
    } else {
        _mm512_mask_cvtepi32_storeu_epi16((int16_t *)args->y + i, mask, y);
    }
}

/* Up to ROWS rows. y may be x: an element is read before it is written. */
static INLINE void block(const method m, const pq_layernorm_args *args, const call_lanes *k,
                         size_t begin, size_t count) {
    const size_t channels = args->channels;
    row_lanes lanes[ROWS];
    int64_t sum[ROWS], square_sum[ROWS];
    for (size_t i = 0; i < count; i++) {
        row_sums(args->x_type, args->x, (begin + i) * channels, channels, &sum[i], &square_sum[i]);
    }
    for (size_t i = 0; i < count; i++) { /* apart, so that the rows' roots overlap */
        lanes[i] = m.row_of(args, sum[i], square_sum[i]);
    }
    for (size_t c = 0; c < channels; c += LANES) {
        const __mmask16 mask = mask_16(channels - c);
        const channel_lanes ch = load_channels(args, k, c, mask);
        for (size_t i = 0; i < count; i++) {
            const size_t at = (begin + i) * channels + c;
            const __m512i x = load_16_s32(args->x_type, args->x, at, mask);
            store_16(args, k, at, mask, sixteen(k, &ch, m.z_of(k, &lanes[i], x)));
        }
    }
}

static INLINE void method_rows(const method m, const pq_layernorm_args *args, size_t begin,
                               size_t end) {
    const call_lanes k = spread_call(args);
    for (size_t i = begin; i < end; i += ROWS) {
        block(m, args, &k, i, end - i < ROWS ? end - i : ROWS);
    }
}

#endif
