/* Bins are floor(x * 2^(10 - e)) = k in [-1024, 1024), at index k + 1024. Exact in float64: a float
 * times 2^-118 .. 2^158 neither rounds nor leaves the normal range. */
#include <math.h>

#include "observe/observe_histogram_kernel.h"

static int32_t bin(float x, double scale) {
    const double v = (double)x * scale;
    const int32_t k = (int32_t)v; /* towards zero: one too high where v is negative, no integer */
    return k - (v < k) + PQ_HISTOGRAM_HALF;
}

static size_t count(size_t n, const float *x, int32_t exponent,
                    uint32_t tables[PQ_HISTOGRAM_TABLES][PQ_HISTOGRAM_ROW], float *minimum,
                    float *maximum) {
    const double scale = ldexp(1.0, PQ_HISTOGRAM_HALF_BITS - exponent);
    const uint32_t limit = pq_histogram_limit(exponent);
    for (size_t begin = 0; begin < n; begin += PQ_HISTOGRAM_PIECE) {
        const size_t left = n - begin, size = left < PQ_HISTOGRAM_PIECE ? left : PQ_HISTOGRAM_PIECE;
        const float *piece = x + begin;
        int32_t bins[PQ_HISTOGRAM_PIECE];
        for (size_t i = 0; i < size; i++) {
            if (pq_magnitude_bits(piece[i]) >= limit) {
                return begin;
            }
            bins[i] = bin(piece[i], scale);
        }
        for (size_t i = 0; i < size; i++) {
            *minimum = piece[i] < *minimum ? piece[i] : *minimum;
            *maximum = piece[i] > *maximum ? piece[i] : *maximum;
        }
        for (size_t i = 0; i < size; i++) {
            tables[i % PQ_HISTOGRAM_TABLES][bins[i]]++;
        }
    }
    return n;
}

const struct pq_observe_histogram_kernel pq_observe_histogram_ref = {.count = count};
