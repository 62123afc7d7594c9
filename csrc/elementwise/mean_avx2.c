/* Sums of at most 32767 s16 fit in s32, also with the zero points taken off (elementwise.h). */
#include <string.h>

#include "elementwise/elementwise_avx2.h"
#include "elementwise/elementwise_kernel.h"
#include "elementwise/mean_kernel.h"

/* 8 * COUNT columns: the sums stay in registers over all rows. */
static inline __attribute__((always_inline)) void columns(const pq_mean_args *args,
                                                          const pq_rounding *rounding, int count,
                                                          size_t x_begin, size_t y_begin) {
    const __m256i multiplier = _mm256_set1_epi32(args->requant.multiplier);
    const __m256i start = _mm256_set1_epi32(-(int32_t)args->reduce * args->x_zero_point);
    __m256i sums[4] = {start, start, start, start};
    for (size_t r = 0; r < args->reduce; r++) {
        for (int j = 0; j < count; j++) {
            sums[j] =
                _mm256_add_epi32(sums[j], pq_load_8(args->x_type, args->x,
                                                    x_begin + r * args->inner + 8 * (size_t)j));
        }
    }
    for (int j = 0; j < count; j++) {
        const __m256i even = _mm256_mul_epi32(sums[j], multiplier);
        const __m256i odd = _mm256_mul_epi32(pq_odd(sums[j]), multiplier);
        pq_store_8(args->y_type, args->y, y_begin + 8 * (size_t)j, pq_round_8(rounding, even, odd));
    }
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
    int32_t lanes[8], sum = 0;
    _mm256_storeu_si256((__m256i *)lanes, sum_s32);
    for (int j = 0; j < 8; j++) {
        sum += lanes[j];
    }
    for (; i < n; i++) {
        sum += pq_load(type, x, begin + i);
    }
    return sum;
}

static void run(const pq_mean_args *args, size_t outer, size_t inner_begin, size_t inner_end) {
    const size_t x_row = outer * args->reduce * args->inner, y_row = outer * args->inner;
    const int64_t start = -(int64_t)args->reduce * args->x_zero_point;
    if (args->inner == 1) {
        const int64_t sum = row_sum(args->x_type, args->x, x_row, args->reduce) + start;
        pq_store(args->y_type, args->y, y_row,
                 pq_requantize(sum, args->requant.multiplier, args->requant.shift, args->out));
        return;
    }
    const uint64_t bound =
        pq_distance_max(args->x_type) * args->reduce * (uint64_t)args->requant.multiplier;
    size_t i = inner_begin;
    if (pq_narrow(bound, args->requant.shift)) {
        const pq_rounding rounding = pq_rounding_of(0, args->requant.shift, args->out);
        for (; i + 32 <= inner_end; i += 32) {
            columns(args, &rounding, 4, x_row + i, y_row + i);
        }
        for (; i + 8 <= inner_end; i += 8) {
            columns(args, &rounding, 1, x_row + i, y_row + i);
        }
    }
    pq_mean_ref.run(args, outer, i, inner_end);
}

const struct pq_mean_kernel pq_mean_avx2 = {.run = run};
