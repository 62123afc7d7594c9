/* One vector for each sum: the latency of an addition is 16 elements in 4 cycles, several times
 * what memory delivers. Lanes beyond the end are read as zeros, which change no sum. */
#include "core/simd_avx512.h"
#include "metrics/metrics_sums_kernel.h"
#include "metrics/metrics_sums_load.h"

typedef struct sums {
    __m512 xx, yy, xy, dd, largest;
} sums;

static inline void step(sums *s, __m512 a, __m512 b) {
    const __m512 d = _mm512_sub_ps(a, b);
    s->xx = _mm512_add_ps(s->xx, _mm512_mul_ps(a, a));
    s->yy = _mm512_add_ps(s->yy, _mm512_mul_ps(b, b));
    s->xy = _mm512_add_ps(s->xy, _mm512_mul_ps(a, b));
    s->dd = _mm512_add_ps(s->dd, _mm512_mul_ps(d, d));
    s->largest = _mm512_max_ps(_mm512_abs_ps(d), s->largest);
}

static void block(size_t n, const float *x, const float *y, pq_metrics_lanes *lanes) {
    const __m512 zero = _mm512_setzero_ps();
    sums s = {zero, zero, zero, zero, zero};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        prefetch_next_block(x + i);
        prefetch_next_block(y + i);
        step(&s, _mm512_loadu_ps(x + i), _mm512_loadu_ps(y + i));
    }
    if (i < n) {
        const __mmask16 mask = (__mmask16)((1u << (n - i)) - 1);
        step(&s, _mm512_maskz_loadu_ps(mask, x + i), _mm512_maskz_loadu_ps(mask, y + i));
    }
    _mm512_storeu_ps(lanes->xx, s.xx);
    _mm512_storeu_ps(lanes->yy, s.yy);
    _mm512_storeu_ps(lanes->xy, s.xy);
    _mm512_storeu_ps(lanes->dd, s.dd);
    _mm512_storeu_ps(lanes->largest, s.largest);
}

const struct pq_metrics_sums_kernel pq_metrics_sums_avx512 = {
    .block = block, .from_s8 = from_s8, .from_s16 = from_s16};
