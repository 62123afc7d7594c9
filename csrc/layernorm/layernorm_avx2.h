/* LayerNorm with 16 channels a step, four rows at a time: gains and offsets are spread over the
 * lanes once for four rows. AVX2 has no arithmetic 64-bit shift and needs none (layernorm_wide.h).
 *
 * A method gives two functions, which are inlined: the constants of a row from its sums, and z of
 * eight channels. */
#ifndef PYQUANT_LAYERNORM_LAYERNORM_AVX2_H
#define PYQUANT_LAYERNORM_LAYERNORM_AVX2_H

#include <assert.h>

#include "core/simd_avx2.h"
#include "core/unroll.h"
#include "layernorm/layernorm_wide.h"

#define INLINE inline __attribute__((always_inline))

enum { ROWS = 4, STEP = 16 };

/* Sixteen elements from i on as s16. */
static INLINE __m256i load_16(pq_dtype type, const void *x, size_t i) {
    if (type == PQ_S8) {
        return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)((const int8_t *)x + i)));
    }
    return _mm256_loadu_si256((const __m256i *)((const int16_t *)x + i));
}

static INLINE int64_t sum_s64x4(__m256i v) {
    const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    return _mm_cvtsi128_si64(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half)));
}

/* Lanes up to 2^27: their sums in pairs fit. */
static INLINE int64_t sum_s32x8(__m256i v) {
    const __m128i half = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    return sum_s64x4(_mm256_cvtepi32_epi64(half));
}

/* sum x and sum x^2 of one row. vpmaddwd sums in pairs: |x0 + x1| <= 2^16 over at most 2^11 steps
 * fits s32; x0^2 + x1^2 <= 2^31 fits u32 (only -32768 twice reaches it) and is widened to 64 bits
 * at once. */
static void row_sums(pq_dtype type, const void *x, size_t begin, size_t channels, int64_t *sum,
                     int64_t *square_sum) {
    const __m256i ones = _mm256_set1_epi16(1), low_half = _mm256_set1_epi64x(0xffffffff);
    __m256i sum_s32 = _mm256_setzero_si256(), square_s64 = _mm256_setzero_si256();
    size_t c = 0;
    for (; c + STEP <= channels; c += STEP) {
        const __m256i v = load_16(type, x, begin + c), squares = _mm256_madd_epi16(v, v);
        sum_s32 = _mm256_add_epi32(sum_s32, _mm256_madd_epi16(v, ones));
        square_s64 = _mm256_add_epi64(square_s64, _mm256_and_si256(squares, low_half));
        square_s64 = _mm256_add_epi64(square_s64, _mm256_srli_epi64(squares, 32));
    }
    *sum = sum_s32x8(sum_s32);
    *square_sum = sum_s64x4(square_s64);
    for (; c < channels; c++) {
        const int64_t value =
            type == PQ_S8 ? ((const int8_t *)x)[begin + c] : ((const int16_t *)x)[begin + c];
        *sum += value;
        *square_sum += value * value;
    }
}

/* Constants of one row, spread over the lanes; half, up and shift where z is rounded. */
typedef struct row_lanes {
    __m256i centre, multiplier, half;
    __m128i up, shift;
} row_lanes;

/* Constants of all rows. */
typedef struct call_lanes {
    __m256i channels; /* C in the low words */
    __m256i half, zero_point, low, high;
    __m128i up, shift;
} call_lanes;

static call_lanes spread_call(const pq_layernorm_args *args) {
    const int up = pq_raise(args->shift);
    return (call_lanes){
        .channels = _mm256_set1_epi32((int32_t)args->channels),
        .half = _mm256_set1_epi32((int32_t)(INT64_C(1) << (args->shift + up - 33))),
        .zero_point = _mm256_set1_epi32(args->out.zero_point),
        .low = _mm256_set1_epi16((int16_t)args->out.quant_min),
        .high = _mm256_set1_epi16((int16_t)args->out.quant_max),
        .up = _mm_cvtsi32_si128(up),
        .shift = _mm_cvtsi32_si128(args->shift + up - 32),
    };
}

/* Constants of eight channels: c .. c + 3 and c + 8 .. c + 11, the order of unpacks. */
typedef struct channel_lanes {
    __m256i gain_even, gain_odd;     /* s32 in the low halves */
    __m256i offset_even, offset_odd; /* s64 */
} channel_lanes;

static INLINE __m256i load_halves(const void *first, const void *second) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)first)),
                                   _mm_loadu_si128((const __m128i *)second), 1);
}

static INLINE channel_lanes load_channels(const pq_layernorm_args *args, const call_lanes *k,
                                          size_t c) {
    const int32_t *const gain = args->gain + c;
    const int64_t *const offset = args->offset + c;
    const __m256i g = load_halves(gain, gain + 8);
    const __m256i b01 = load_halves(offset, offset + 8);
    const __m256i b23 = load_halves(offset + 2, offset + 10);
    return (channel_lanes){
        .gain_even = g,
        .gain_odd = _mm256_srli_epi64(g, 32),
        .offset_even = _mm256_sll_epi64(_mm256_unpacklo_epi64(b01, b23), k->up),
        .offset_odd = _mm256_sll_epi64(_mm256_unpackhi_epi64(b01, b23), k->up),
    };
}

/* The upper halves of even and odd 64-bit lanes, in the order of the lanes. */
static INLINE __m256i upper_halves(__m256i even, __m256i odd) {
    return _mm256_blend_epi32(_mm256_shuffle_epi32(even, 0xf5), odd, 0xaa);
}

/* z of eight channels whose x are the low words of v. */
typedef __m256i z_function(const call_lanes *k, const row_lanes *r, __m256i v);
typedef row_lanes row_function(const pq_layernorm_args *args, int64_t sum, int64_t square_sum);

/* A method: whether k->up is not 0, and its two functions. */
typedef struct method {
    bool raise;
    row_function *row_of;
    z_function *z_of;
} method;

/* Eight channels with x in the low words: y before its clamp. */
static INLINE __m256i eight(const method m, const call_lanes *k, const row_lanes *r,
                            const channel_lanes *ch, __m256i x) {
    __m256i z = m.z_of(k, r, x);
    if (m.raise) {
        z = _mm256_sll_epi32(z, k->up);
    }
    const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(z, ch->gain_even), ch->offset_even);
    const __m256i odd = _mm256_add_epi64(
        _mm256_mul_epi32(_mm256_shuffle_epi32(z, 0xf5), ch->gain_odd), ch->offset_odd);
    const __m256i y = _mm256_add_epi32(upper_halves(even, odd), k->half);
    return _mm256_add_epi32(_mm256_sra_epi32(y, k->shift), k->zero_point);
}

/* Sixteen channels in s16, saturated (which keeps the clamp right), to element i on. */
static INLINE void store_16(const pq_layernorm_args *args, const call_lanes *k, size_t i,
                            __m256i v) {
    v = _mm256_min_epi16(_mm256_max_epi16(v, k->low), k->high);
    if (args->y_type == PQ_S8) {
        const __m128i bytes =
            _mm_packs_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        _mm_storeu_si128((__m128i *)((int8_t *)args->y + i), bytes);
    } else {
        _mm256_storeu_si256((__m256i *)((int16_t *)args->y + i), v);
    }
}

/* Channels c .. c + 15 of some rows; x[i], y[i] are elements of row i. */
static INLINE void sixteen(const method m, const pq_layernorm_args *args, const call_lanes *k,
                           const row_lanes *rows, size_t count, size_t c, const __m256i *x,
                           const size_t *y) {
    const channel_lanes first = load_channels(args, k, c), second = load_channels(args, k, c + 4);
    const __m256i zero = _mm256_setzero_si256();
    for (size_t i = 0; i < count; i++) {
        /* packs restore the order of the unpacks */
        const __m256i low = eight(m, k, &rows[i], &first, _mm256_unpacklo_epi16(x[i], zero));
        const __m256i high = eight(m, k, &rows[i], &second, _mm256_unpackhi_epi16(x[i], zero));
        store_16(args, k, y[i], _mm256_packs_epi32(low, high));
    }
}

/* Up to ROWS rows of at least 16 channels. The last step overlaps the one before it where channels
 * are no multiple of 16: y may be x, so that its elements are read first. */
static INLINE void block(const method m, const pq_layernorm_args *args, const call_lanes *k,
                         size_t begin, size_t count) {
    const size_t channels = args->channels, last = channels - STEP;
    row_lanes lanes[ROWS];
    __m256i x[ROWS], x_last[ROWS];
    size_t y[ROWS];
    int64_t sum[ROWS], square_sum[ROWS];
    for (size_t i = 0; i < count; i++) {
        const size_t row = (begin + i) * channels;
        row_sums(args->x_type, args->x, row, channels, &sum[i], &square_sum[i]);
        x_last[i] = load_16(args->x_type, args->x, row + last);
    }
    for (size_t i = 0; i < count; i++) { /* apart, so that the rows' roots overlap */
        lanes[i] = m.row_of(args, sum[i], square_sum[i]);
    }
    for (size_t c = 0; c <= last; c += STEP) {
        for (size_t i = 0; i < count; i++) {
            y[i] = (begin + i) * channels + c;
            x[i] = load_16(args->x_type, args->x, y[i]);
        }
        sixteen(m, args, k, lanes, count, c, x, y);
    }
    if (channels % STEP != 0) {
        for (size_t i = 0; i < count; i++) {
            y[i] = (begin + i) * channels + last;
        }
        sixteen(m, args, k, lanes, count, last, x_last, y);
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
