/* Two rows at a time, as on AVX2; 64 columns, the last ones under a mask. The rounding needs no
 * condition on the constants: AVX-512 shifts and clamps in 64-bit lanes. */
#include "core/simd_avx512.h"
#include "core/unroll.h"
#include "elementwise/elementwise_kernel.h"
#include "elementwise/mean_kernel.h"

#define INLINE static inline __attribute__((always_inline))

enum { COLUMNS = 64, PAIRS = 127 }; /* 127 sums of two s8 fit in s16 */

typedef struct lanes {
    __m512i start;                       /* what the zero points come to, s32 */
    __m512i multiplier;                  /* s32 */
    __m512i half, zero_point, low, high; /* s64 */
    __m128i shift;
} lanes;

static lanes lanes_of(const pq_mean_args *args) {
    return (lanes){
        .start = _mm512_set1_epi32(-(int32_t)args->reduce * args->x_zero_point),
        .multiplier = _mm512_set1_epi32(args->requant.multiplier),
        .half = _mm512_set1_epi64(1LL << (args->requant.shift - 1)),
        .zero_point = _mm512_set1_epi64(args->out.zero_point),
        .low = _mm512_set1_epi64(args->out.quant_min),
        .high = _mm512_set1_epi64(args->out.quant_max),
        .shift = _mm_cvtsi32_si128(args->requant.shift),
    };
}

/* Products, s64, to outputs, s64. */
INLINE __m512i round_8(const lanes *k, __m512i product) {
    const __m512i v = _mm512_sra_epi64(_mm512_add_epi64(product, k->half), k->shift);
    return _mm512_min_epi64(_mm512_max_epi64(_mm512_add_epi64(v, k->zero_point), k->low), k->high);
}

/* 16 sums, s32, to 16 outputs, s32. */
INLINE __m512i round_16(const lanes *k, __m512i sum) {
    const __m512i even = round_8(k, _mm512_mul_epi32(sum, k->multiplier));
    const __m512i odd = round_8(k, _mm512_mul_epi32(_mm512_srli_epi64(sum, 32), k->multiplier));
    return _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}

/* 32 sums as vpunpck[lh]wd leaves them, to 32 outputs in order. */
INLINE void store_32(const lanes *k, pq_dtype type, void *y, size_t i, __mmask32 mask, __m512i a,
                     __m512i b) {
    const __m512i v = _mm512_packs_epi32(round_16(k, a), round_16(k, b));
    if (type == PQ_S8) {
        _mm256_mask_storeu_epi8((int8_t *)y + i, mask, _mm512_cvtsepi16_epi8(v));
    } else {
        _mm512_mask_storeu_epi16((int16_t *)y + i, mask, v);
    }
}

/* The step from row to row is in bytes. */
static void columns_s16(const lanes *k, const int8_t *x, size_t step, size_t rows, pq_dtype y_type,
                        void *y, size_t i, __mmask64 mask) {
    const __m512i ones = _mm512_set1_epi16(1);
    const __mmask32 masks[2] = {(__mmask32)(mask & UINT32_MAX), (__mmask32)(mask >> 32)};
    __m512i a[2] = {k->start, k->start}, b[2] = {k->start, k->start};
    for (size_t r = 0; r < rows; r += 2, x += 2 * step) {
        PQ_UNROLL
        for (int j = 0; j < 2; j++) {
            const __m512i p = _mm512_maskz_loadu_epi16(masks[j], x + 64 * j);
            const __m512i q = r + 1 < rows ? _mm512_maskz_loadu_epi16(masks[j], x + step + 64 * j)
                                           : _mm512_setzero_si512();
            a[j] = _mm512_add_epi32(a[j], _mm512_madd_epi16(_mm512_unpacklo_epi16(p, q), ones));
            b[j] = _mm512_add_epi32(b[j], _mm512_madd_epi16(_mm512_unpackhi_epi16(p, q), ones));
        }
    }
    store_32(k, y_type, y, i, masks[0], a[0], b[0]);
    store_32(k, y_type, y, i + 32, masks[1], a[1], b[1]);
}

/* Of each 16 bytes, vpunpcklbw takes the first 8 and vpunpckhbw the others; each is widened to s32
 * by another vpunpck. */
static void columns_s8(const lanes *k, const int8_t *x, size_t step, size_t rows, pq_dtype y_type,
                       void *y, size_t i, __mmask64 mask) {
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i sums[4] = {k->start, k->start, k->start, k->start};
    for (size_t r = 0; r < rows;) {
        const size_t end = rows - r < 2 * PAIRS ? rows : r + 2 * PAIRS;
        __m512i s16[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        for (; r < end; r += 2, x += 2 * step) {
            const __m512i p = _mm512_maskz_loadu_epi8(mask, x);
            const __m512i q =
                r + 1 < end ? _mm512_maskz_loadu_epi8(mask, x + step) : _mm512_setzero_si512();
            s16[0] =
                _mm512_add_epi16(s16[0], _mm512_maddubs_epi16(ones, _mm512_unpacklo_epi8(p, q)));
            s16[1] =
                _mm512_add_epi16(s16[1], _mm512_maddubs_epi16(ones, _mm512_unpackhi_epi8(p, q)));
        }
        PQ_UNROLL
        for (int j = 0; j < 2; j++) {
            const __m512i v = s16[j];
            sums[2 * j] =
                _mm512_add_epi32(sums[2 * j], _mm512_srai_epi32(_mm512_unpacklo_epi16(v, v), 16));
            sums[2 * j + 1] = _mm512_add_epi32(sums[2 * j + 1],
                                               _mm512_srai_epi32(_mm512_unpackhi_epi16(v, v), 16));
        }
    }
    /* Lane j of sums[0 .. 3] is columns 0-3, 4-7, 8-11, 12-15 of the j-th 16. Wanted: each lane of
     * the first operand of vpackssdw has four columns, the same lane of the second the next four.
     */
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i last = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    store_32(k, y_type, y, i, (__mmask32)(mask & UINT32_MAX),
             _mm512_permutex2var_epi64(sums[0], first, sums[2]),
             _mm512_permutex2var_epi64(sums[1], first, sums[3]));
    store_32(k, y_type, y, i + 32, (__mmask32)(mask >> 32),
             _mm512_permutex2var_epi64(sums[0], last, sums[2]),
             _mm512_permutex2var_epi64(sums[1], last, sums[3]));
}

/* inner = 1: one contiguous row. A pair sum is at most 2^16 in size and a lane adds 2^10 of them.
 */
static int32_t row_sum(pq_dtype type, const void *x, size_t begin, size_t n) {
    const __m512i ones = _mm512_set1_epi16(1);
    __m512i sum_s32 = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += 32) {
        const __mmask32 mask = n - i >= 32 ? UINT32_MAX : (UINT32_C(1) << (n - i)) - 1;
        const void *at = pq_at(type, x, begin + i);
        const __m512i v = type == PQ_S8 ? _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, at))
                                        : _mm512_maskz_loadu_epi16(mask, at);
        sum_s32 = _mm512_add_epi32(sum_s32, _mm512_madd_epi16(v, ones));
    }
    return _mm512_reduce_add_epi32(sum_s32);
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
    const size_t size = pq_dtype_size(args->x_type), step = args->inner * size;
    const int8_t *x = (const int8_t *)args->x + x_row * size;
    const lanes k = lanes_of(args);
    for (size_t i = inner_begin; i < inner_end; i += COLUMNS) {
        const size_t left = inner_end - i;
        const __mmask64 mask = left >= COLUMNS ? UINT64_MAX : (UINT64_C(1) << left) - 1;
        if (args->x_type == PQ_S8) {
            columns_s8(&k, x + i, step, rows, args->y_type, args->y, y_row + i, mask);
        } else {
            columns_s16(&k, x + 2 * i, step, rows, args->y_type, args->y, y_row + i, mask);
        }
    }
}

const struct pq_mean_kernel pq_mean_avx512 = {.run = run};
