/* layernorm with 4 channels in 64-bit lanes, 8 a step.
 *
 * AVX2 has no arithmetic 64-bit shift. v >> s (floor) is computed as ((v + 2^63) >>> s) - (2^63 >>>
 * s): the sum is v seen as an unsigned number with an offset, so that the logical shift floors it.
 * Both rnu results that follow are known to fit in 32 bits, so only the low halves of the lanes
 * count, and the subtraction of the low half of 2^63 >>> s makes them exact (arithmetic modulo
 * 2^32).
 *
 *   z    |z| < 2^24 always (layernorm.h)
 *   y    fits if 2^24 * max|gain| + max|offset| + 2^(s-1) is below 2^(s+30); `narrow` looks at the
 *        constants. derive's constants for any sensible gamma, beta and grid pass; what does not is
 *        left to the reference.
 */
#include <assert.h>
#include <string.h>

#include "core/simd_avx2.h"
#include "layernorm/layernorm_kernel.h"

static bool narrow(const pq_layernorm_args *args) {
    uint64_t gain = 0, offset = 0;
    for (size_t c = 0; c < args->channels; c++) {
        const int64_t g = args->gain[c], b = args->offset[c];
        const uint64_t g_size = (uint64_t)(g < 0 ? -g : g), b_size = (uint64_t)(b < 0 ? -b : b);
        gain = g_size > gain ? g_size : gain;
        offset = b_size > offset ? b_size : offset;
    }
    /* 2^55 + 2^61 + 2^61 fits; the comparison is made on the shifted value, which floors. */
    const uint64_t bound = (gain << 24) + offset + (UINT64_C(1) << (args->shift - 1));
    return bound >> args->shift < (UINT64_C(1) << 30) - 1;
}

static __m128i load_8_s16(pq_dtype type, const void *x, size_t i) {
    if (type == PQ_S8) {
        return _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)((const int8_t *)x + i)));
    }
    return _mm_loadu_si128((const __m128i *)((const int16_t *)x + i));
}

static int64_t sum_s32x8(__m256i v) {
    int32_t lanes[8];
    _mm256_storeu_si256((__m256i *)lanes, v);
    int64_t sum = 0;
    for (int i = 0; i < 8; i++) {
        sum += lanes[i];
    }
    return sum;
}

static int64_t sum_s64x4(__m256i v) {
    int64_t lanes[4];
    _mm256_storeu_si256((__m256i *)lanes, v);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

/* sum x and sum x^2 of one row. vpmaddwd sums in pairs: |x0 + x1| <= 2^16 over at most 2^11 steps
 * fits s32; x0^2 + x1^2 <= 2^31 fits u32 (only -32768 twice reaches it) and is widened to 64 bits
 * at once. */
static void row_sums(pq_dtype type, const void *x, size_t begin, size_t channels, int64_t *sum,
                     int64_t *square_sum) {
    const __m256i ones = _mm256_set1_epi16(1), low_half = _mm256_set1_epi64x(0xffffffff);
    __m256i sum_s32 = _mm256_setzero_si256(), square_s64 = _mm256_setzero_si256();
    size_t c = 0;
    for (; c + 16 <= channels; c += 16) {
        const __m256i v =
            _mm256_set_m128i(load_8_s16(type, x, begin + c + 8), load_8_s16(type, x, begin + c));
        const __m256i squares = _mm256_madd_epi16(v, v);
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

/* Constants of one row, spread over the lanes. */
typedef struct row_lanes {
    __m256i channels, centre, multiplier, z_addend, z_offset, y_addend;
    __m128i z_shift, y_shift;
} row_lanes;

static inline __attribute__((always_inline)) row_lanes spread(const pq_layernorm_args *args,
                                                              pq_layernorm_row row) {
    const uint64_t top = UINT64_C(1) << 63;
    const uint64_t z_addend = top + (UINT64_C(1) << (row.shift - 1));
    const uint64_t y_addend = top + (UINT64_C(1) << (args->shift - 1));
    return (row_lanes){
        .channels = _mm256_set1_epi64x(row.channels),
        .centre = _mm256_set1_epi64x(row.centre),
        .multiplier = _mm256_set1_epi64x(row.multiplier),
        .z_addend = _mm256_set1_epi64x((int64_t)z_addend),
        .z_offset = _mm256_set1_epi64x((int64_t)(top >> row.shift)),
        .y_addend = _mm256_set1_epi64x((int64_t)y_addend),
        .z_shift = _mm_cvtsi32_si128(row.shift),
        .y_shift = _mm_cvtsi32_si128(args->shift),
    };
}

/* Four channels: the low half of each lane is y before its offset 2^63 >>> s is taken off. */
static inline __attribute__((always_inline)) __m256i
four(const row_lanes *k, __m256i x_s64, const int32_t *gain, const int64_t *offset) {
    const __m256i centred = _mm256_sub_epi64(_mm256_mul_epi32(x_s64, k->channels), k->centre);
    __m256i z = _mm256_add_epi64(_mm256_mul_epi32(centred, k->multiplier), k->z_addend);
    z = _mm256_sub_epi64(_mm256_srl_epi64(z, k->z_shift), k->z_offset);
    const __m256i g = _mm256_cvtepu32_epi64(_mm_loadu_si128((const __m128i *)gain));
    const __m256i b = _mm256_loadu_si256((const __m256i *)offset);
    const __m256i sum = _mm256_add_epi64(_mm256_add_epi64(_mm256_mul_epi32(z, g), b), k->y_addend);
    return _mm256_srl_epi64(sum, k->y_shift);
}

static void row_channels(const pq_layernorm_args *args, pq_layernorm_row row, size_t begin) {
    const row_lanes k = spread(args, row);
    const uint32_t y_offset =
        (uint32_t)args->out.zero_point - (uint32_t)((UINT64_C(1) << 63) >> args->shift);
    const __m256i zero_point = _mm256_set1_epi32((int32_t)y_offset);
    const __m256i low = _mm256_set1_epi32(args->out.quant_min);
    const __m256i high = _mm256_set1_epi32(args->out.quant_max);
    size_t c = 0;
    for (; c + 8 <= args->channels; c += 8) {
        const __m128i x = load_8_s16(args->x_type, args->x, begin + c);
        const __m256i a = four(&k, _mm256_cvtepi16_epi64(x), args->gain + c, args->offset + c);
        const __m256i b = four(&k, _mm256_cvtepi16_epi64(_mm_srli_si128(x, 8)), args->gain + c + 4,
                               args->offset + c + 4);
        /* Low halves: a0 a1 b0 b1 | a2 a3 b2 b3, then in order. */
        __m256i v = _mm256_castps_si256(
            _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0x88));
        v = _mm256_permute4x64_epi64(v, 0xd8);
        v = _mm256_add_epi32(v, zero_point);
        v = _mm256_min_epi32(_mm256_max_epi32(v, low), high);
        const __m128i y =
            _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        if (args->y_type == PQ_S8) {
            _mm_storel_epi64((__m128i *)((int8_t *)args->y + begin + c), _mm_packs_epi16(y, y));
        } else {
            _mm_storeu_si128((__m128i *)((int16_t *)args->y + begin + c), y);
        }
    }
    for (; c < args->channels; c++) {
        const size_t i = begin + c;
        const int32_t x =
            args->x_type == PQ_S8 ? ((const int8_t *)args->x)[i] : ((const int16_t *)args->x)[i];
        const int32_t y = pq_layernorm_channel(args, row, c, x);
        if (args->y_type == PQ_S8) {
            ((int8_t *)args->y)[i] = (int8_t)y;
        } else {
            ((int16_t *)args->y)[i] = (int16_t)y;
        }
    }
}

static void rows(const pq_layernorm_args *args, size_t begin, size_t end) {
    const size_t channels = args->channels;
    assert(channels >= 1 && channels <= INT16_MAX);
    if (!narrow(args)) {
        pq_layernorm_ref.rows(args, begin, end);
        return;
    }
    for (size_t i = begin; i < end; i++) {
        int64_t sum, square_sum;
        row_sums(args->x_type, args->x, i * channels, channels, &sum, &square_sum);
        row_channels(args, pq_layernorm_row_of(args, sum, square_sum), i * channels);
    }
}

const struct pq_layernorm_kernel pq_layernorm_avx2 = {.rows = rows};
