/* A piece is read once for its bins, its range and its largest magnitude; counting it, one load and
 * one store a value, hides the time memory takes for the next. */
#include <assert.h>
#include <math.h>

#include "core/simd_avx2.h"
#include "observe/observe_histogram_kernel.h"

typedef struct range {
    __m256 low, high;
    __m256i largest; /* magnitude bits, of the piece */
} range;

static inline __m256i step(__m256 x, __m256 scale, range *seen) {
    const __m256i absolute = _mm256_set1_epi32(0x7fffffff);
    seen->low = _mm256_min_ps(x, seen->low);
    seen->high = _mm256_max_ps(x, seen->high);
    seen->largest =
        _mm256_max_epu32(seen->largest, _mm256_and_si256(_mm256_castps_si256(x), absolute));
    const __m256 negative = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ);
    const __m256 below = _mm256_and_ps(negative, _mm256_set1_ps(-0x1p-126F));
    const __m256 v = _mm256_floor_ps(_mm256_add_ps(_mm256_mul_ps(x, scale), below));
    return _mm256_add_epi32(_mm256_cvttps_epi32(v), _mm256_set1_epi32(PQ_HISTOGRAM_HALF));
}

/* All lanes below the limit: both are at most 2^31 - 1, where signed order is the order. */
static inline bool fits(__m256i largest, __m256i limit) {
    return _mm256_movemask_epi8(_mm256_cmpgt_epi32(limit, largest)) == -1;
}

static size_t count(size_t n, const float *x, int32_t exponent,
                    uint32_t tables[PQ_HISTOGRAM_TABLES][PQ_HISTOGRAM_ROW], float *minimum,
                    float *maximum) {
    assert(n <= UINT32_MAX);
    if (exponent < PQ_HISTOGRAM_FLOAT_LEAST) {
        return pq_observe_histogram_ref.count(n, x, exponent, tables, minimum, maximum);
    }
    const __m256 scale = _mm256_set1_ps(pq_histogram_scale(exponent));
    const __m256i limit = _mm256_set1_epi32((int32_t)pq_histogram_limit(exponent));
    __m256 low = _mm256_set1_ps(INFINITY), high = _mm256_set1_ps(-INFINITY);
    size_t begin = 0;
    for (; begin + PQ_HISTOGRAM_PIECE <= n; begin += PQ_HISTOGRAM_PIECE) {
        int32_t bins[PQ_HISTOGRAM_PIECE];
        range seen = {low, high, _mm256_setzero_si256()};
        for (size_t i = 0; i < PQ_HISTOGRAM_PIECE; i += 8) {
            const __m256i bin = step(_mm256_loadu_ps(x + begin + i), scale, &seen);
            _mm256_storeu_si256((__m256i *)(void *)(bins + i), bin);
        }
        if (!fits(seen.largest, limit)) {
            break;
        }
        low = seen.low;
        high = seen.high;
        pq_histogram_add(bins, tables);
    }
    float lows[8], highs[8];
    _mm256_storeu_ps(lows, low);
    _mm256_storeu_ps(highs, high);
    for (int i = 0; i < 8; i++) {
        *minimum = lows[i] < *minimum ? lows[i] : *minimum;
        *maximum = highs[i] > *maximum ? highs[i] : *maximum;
    }
    if (n - begin >= PQ_HISTOGRAM_PIECE) {
        return begin;
    }
    return begin + pq_observe_histogram_ref.count(n - begin, x + begin, exponent, tables, minimum,
                                                  maximum);
}

const struct pq_observe_histogram_kernel pq_observe_histogram_avx2 = {.count = count};
