/* As on AVX2, 16 at a time. */
#include <assert.h>
#include <math.h>

#include "core/simd_avx512.h"
#include "observe/observe_histogram_kernel.h"

#define FLOOR (_MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)

typedef struct range {
    __m512 low, high;
    __m512i largest; /* magnitude bits, of the piece */
} range;

static inline __m512i step(__m512 x, __m512 scale, range *seen) {
    const __m512i absolute = _mm512_set1_epi32(0x7fffffff);
    seen->low = _mm512_min_ps(x, seen->low);
    seen->high = _mm512_max_ps(x, seen->high);
    seen->largest =
        _mm512_max_epu32(seen->largest, _mm512_and_si512(_mm512_castps_si512(x), absolute));
    const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    const __m512 v = _mm512_mul_ps(x, scale);
    const __m512 below = _mm512_mask_add_ps(v, negative, v, _mm512_set1_ps(-0x1p-126F));
    const __m512i bin = _mm512_cvttps_epi32(_mm512_roundscale_ps(below, FLOOR));
    return _mm512_add_epi32(bin, _mm512_set1_epi32(PQ_HISTOGRAM_HALF));
}

static size_t count(size_t n, const float *x, int32_t exponent,
                    uint32_t tables[PQ_HISTOGRAM_TABLES][PQ_HISTOGRAM_ROW], float *minimum,
                    float *maximum) {
    assert(n <= UINT32_MAX);
    if (exponent < PQ_HISTOGRAM_FLOAT_LEAST) {
        return pq_observe_histogram_ref.count(n, x, exponent, tables, minimum, maximum);
    }
    const __m512 scale = _mm512_set1_ps(pq_histogram_scale(exponent));
    const uint32_t limit = pq_histogram_limit(exponent);
    __m512 low = _mm512_set1_ps(INFINITY), high = _mm512_set1_ps(-INFINITY);
    size_t begin = 0;
    for (; begin + PQ_HISTOGRAM_PIECE <= n; begin += PQ_HISTOGRAM_PIECE) {
        int32_t bins[PQ_HISTOGRAM_PIECE];
        range seen = {low, high, _mm512_setzero_si512()};
        for (size_t i = 0; i < PQ_HISTOGRAM_PIECE; i += 16) {
            const __m512i bin = step(_mm512_loadu_ps(x + begin + i), scale, &seen);
            _mm512_storeu_si512(bins + i, bin);
        }
        if (_mm512_reduce_max_epu32(seen.largest) >= limit) {
            break;
        }
        low = seen.low;
        high = seen.high;
        pq_histogram_add(bins, tables);
    }
    const float first = _mm512_reduce_min_ps(low), last = _mm512_reduce_max_ps(high);
    *minimum = first < *minimum ? first : *minimum;
    *maximum = last > *maximum ? last : *maximum;
    if (n - begin >= PQ_HISTOGRAM_PIECE) {
        return begin;
    }
    return begin + pq_observe_histogram_ref.count(n - begin, x + begin, exponent, tables, minimum,
                                                  maximum);
}

const struct pq_observe_histogram_kernel pq_observe_histogram_avx512 = {.count = count};
