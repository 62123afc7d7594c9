/* Sums of at most 32767 s16 fit in s32, also with the zero points taken off (elementwise.h).
 *
 * Two rows at a time: their elements interleaved, one multiply-add by 1 makes the sum of each pair,
 * in s32 for s16 and in s16 for s8, where 127 sums of two (at most 256 in size) fit before they
 * have to be widened.
 *
 * The one rounding an output is done on 64-bit products. AVX2 has no arithmetic 64-bit shift:
 * v >> s (floor) is ((v + 2^63) >>> s) - (2^63 >>> s). If the result fits in 32 bits, only low
 * halves of the lanes count, and the subtraction may be done on them, modulo 2^32, together with
 * the zero point. `narrow` says when; other constants (a rescaling upward by 2^13 or more) are left
 * to the reference.
 */
#include <stdbool.h>

#include "core/simd_avx2.h"
#include "core/unroll.h"
#include "elementwise/elementwise_kernel.h"
#include "elementwise/mean_kernel.h"

#define INLINE static inline __attribute__((always_inline))

enum { COLUMNS = 32, PAIRS = 127 };

/* (v + 2^(s-1)) >> s plus a zero point fits in s32 for every |v| <= bound < 2^62. */
static bool narrow(uint64_t bound, int shift) {
    return (bound + (UINT64_C(1) << (shift - 1))) >> shift < (UINT64_C(1) << 30) - 1;
}

typedef struct lanes {
    __m256i start;      /* what the zero points come to, s32 */
    __m256i multiplier; /* s32 */
    __m256i addend;     /* 2^63 + 2^(s-1), s64 */
    __m256i offset;     /* zero point - (2^63 >>> s), s32 */
    __m256i low, high;  /* s32 */
    __m128i shift;
} lanes;

static lanes lanes_of(const pq_mean_args *args) {
    const int shift = args->requant.shift;
    const uint64_t top = UINT64_C(1) << 63, addend = top + (UINT64_C(1) << (shift - 1));
    const uint32_t offset = (uint32_t)args->out.zero_point - (uint32_t)(top >> shift);
    return (lanes){
        .start = _mm256_set1_epi32(-(int32_t)args->reduce * args->x_zero_point),
        .multiplier = _mm256_set1_epi32(args->requant.multiplier),
        .addend = _mm256_set1_epi64x((int64_t)addend),
        .offset = _mm256_set1_epi32((int32_t)offset),
        .low = _mm256_set1_epi32(args->out.quant_min),
        .high = _mm256_set1_epi32(args->out.quant_max),
        .shift = _mm_cvtsi32_si128(shift),
    };
}

/* Eight sums, s32, to eight outputs, s32. */
INLINE __m256i round_8(const lanes *k, __m256i sum) {
    __m256i even = _mm256_mul_epi32(sum, k->multiplier);
    __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(sum, 32), k->multiplier);
    even = _mm256_srl_epi64(_mm256_add_epi64(even, k->addend), k->shift);
    odd = _mm256_srl_epi64(_mm256_add_epi64(odd, k->addend), k->shift);
    __m256i y = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
    y = _mm256_add_epi32(y, k->offset);
    return _mm256_min_epi32(_mm256_max_epi32(y, k->low), k->high);
}

/* 16 sums as vpunpck[lh]wd leaves them, to 16 outputs in order. */
INLINE void store_16(const lanes *k, pq_dtype type, void *y, size_t i, __m256i a, __m256i b) {
    const __m256i v = _mm256_packs_epi32(round_8(k, a), round_8(k, b));
    if (type == PQ_S8) {
        const __m128i v_s8 =
            _mm_packs_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        _mm_storeu_si128((__m128i *)(void *)((int8_t *)y + i), v_s8);
    } else {
        _mm256_storeu_si256((__m256i *)(void *)((int16_t *)y + i), v);
    }
}

INLINE __m256i load_row(const int8_t *x) {
    return _mm256_loadu_si256((const __m256i *)(const void *)x);
}

/* 32 columns of s16. The step from row to row is in bytes. */
static void columns_s16(const lanes *k, const int8_t *x, size_t step, size_t rows, pq_dtype y_type,
                        void *y, size_t i) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i a[2] = {k->start, k->start}, b[2] = {k->start, k->start};
    for (size_t r = 0; r < rows; r += 2, x += 2 * step) {
        PQ_UNROLL
        for (int j = 0; j < 2; j++) {
            const __m256i p = load_row(x + 32 * j);
            const __m256i q = r + 1 < rows ? load_row(x + step + 32 * j) : _mm256_setzero_si256();
            a[j] = _mm256_add_epi32(a[j], _mm256_madd_epi16(_mm256_unpacklo_epi16(p, q), ones));
            b[j] = _mm256_add_epi32(b[j], _mm256_madd_epi16(_mm256_unpackhi_epi16(p, q), ones));
        }
    }
    for (int j = 0; j < 2; j++) {
        store_16(k, y_type, y, i + 16 * (size_t)j, a[j], b[j]);
    }
}

/* 32 columns of s8. Of 32 bytes, vpunpcklbw takes 0-7 and 16-23, vpunpckhbw the others; each is
 * widened to s32 by another vpunpck. */
static void columns_s8(const lanes *k, const int8_t *x, size_t step, size_t rows, pq_dtype y_type,
                       void *y, size_t i) {
    const __m256i ones = _mm256_set1_epi8(1);
    __m256i sums[4] = {k->start, k->start, k->start, k->start};
    for (size_t r = 0; r < rows;) {
        const size_t end = rows - r < 2 * PAIRS ? rows : r + 2 * PAIRS;
        __m256i s16[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        for (; r < end; r += 2, x += 2 * step) {
            const __m256i p = load_row(x);
            const __m256i q = r + 1 < end ? load_row(x + step) : _mm256_setzero_si256();
            s16[0] =
                _mm256_add_epi16(s16[0], _mm256_maddubs_epi16(ones, _mm256_unpacklo_epi8(p, q)));
            s16[1] =
                _mm256_add_epi16(s16[1], _mm256_maddubs_epi16(ones, _mm256_unpackhi_epi8(p, q)));
        }
        for (int j = 0; j < 2; j++) {
            const __m256i v = s16[j];
            sums[2 * j] =
                _mm256_add_epi32(sums[2 * j], _mm256_srai_epi32(_mm256_unpacklo_epi16(v, v), 16));
            sums[2 * j + 1] = _mm256_add_epi32(sums[2 * j + 1],
                                               _mm256_srai_epi32(_mm256_unpackhi_epi16(v, v), 16));
        }
    }
    /* Lane 0 of sums[0 .. 3] is columns 0-3, 4-7, 8-11, 12-15, lane 1 the next 16. */
    store_16(k, y_type, y, i, _mm256_permute2x128_si256(sums[0], sums[2], 0x20),
             _mm256_permute2x128_si256(sums[1], sums[3], 0x20));
    store_16(k, y_type, y, i + 16, _mm256_permute2x128_si256(sums[0], sums[2], 0x31),
             _mm256_permute2x128_si256(sums[1], sums[3], 0x31));
}

/* inner = 1: one contiguous row. A pair sum is at most 2^16 in size and a lane adds 2^11 of them.
 */
static int32_t row_sum(pq_dtype type, const void *x, size_t begin, size_t n) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum_s32 = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const void *at = pq_at(type, x, begin + i);
        const __m256i v =
            type == PQ_S8 ? _mm256_cvtepi8_epi16(_mm_loadu_si128(at)) : _mm256_loadu_si256(at);
        sum_s32 = _mm256_add_epi32(sum_s32, _mm256_madd_epi16(v, ones));
    }
    int32_t parts[8], sum = 0;
    _mm256_storeu_si256((__m256i *)parts, sum_s32);
    for (int j = 0; j < 8; j++) {
        sum += parts[j];
    }
    for (; i < n; i++) {
        sum += pq_load(type, x, begin + i);
    }
    return sum;
}

static void run(const pq_mean_args *args, size_t outer, size_t inner_begin, size_t inner_end) {
    const size_t x_row = outer * args->reduce * args->inner, y_row = outer * args->inner;
    const size_t rows = args->reduce;
    if (args->inner == 1) {
        const int64_t start = -(int64_t)rows * args->x_zero_point;
        const int64_t sum = row_sum(args->x_type, args->x, x_row, rows) + start;
        pq_store(args->y_type, args->y, y_row,
                 pq_requantize(sum, args->requant.multiplier, args->requant.shift, args->out));
        return;
    }
    const uint64_t bound =
        pq_distance_max(args->x_type) * rows * (uint64_t)args->requant.multiplier;
    size_t i = inner_begin;
    if (narrow(bound, args->requant.shift)) {
        const size_t size = pq_dtype_size(args->x_type), step = args->inner * size;
        const int8_t *x = (const int8_t *)args->x + x_row * size;
        const lanes k = lanes_of(args);
        while (i < inner_end && inner_end - inner_begin >= COLUMNS) {
            if (inner_end - i < COLUMNS) {
                if (args->x == args->y) { /* the columns before are no longer there */
                    break;
                }
                i = inner_end - COLUMNS; /* some are done again */
            }
            if (args->x_type == PQ_S8) {
                columns_s8(&k, x + i, step, rows, args->y_type, args->y, y_row + i);
            } else {
                columns_s16(&k, x + 2 * i, step, rows, args->y_type, args->y, y_row + i);
            }
            i += COLUMNS;
        }
    }
    pq_mean_ref.run(args, outer, i, inner_end);
}

const struct pq_mean_kernel pq_mean_avx2 = {.run = run};
