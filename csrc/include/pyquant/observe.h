/* observe: what calibration remembers of a float tensor, in fixed memory, one pass each.
 *
 * minmax     min and max per channel (channel of element i: (i / inner) % channels), merged into
 *            what is there (start with +inf, -inf). NaN is PQ_ERR_NAN, and +-inf is PQ_ERR_VALUE.
 * histogram  PQ_HISTOGRAM_BINS counts over [-2^e, 2^e): bin floor((x + 2^e) * bins / 2^(e+1)).
 *            When |x| >= 2^e (or e is not set yet) e grows to the least exponent that holds every
 *            value and neighbouring bins merge in pairs around 0: counts stay exact, and the state
 *            does not depend on the order or the split of the batches. Two states merge by growing
 *            the smaller. min, max and the number of elements ride along.
 *
 * While no nonzero value has been seen, e is PQ_HISTOGRAM_EMPTY, all counts are 0 and the zeros
 * wait in `total`; the first nonzero value sets e and moves them into the bin of 0. From then on
 * the counts add up to `total`. e lies in [-148, 128]. A state is checked before it is used
 * (PQ_ERR_VALUE).
 *
 * Both give the same state for any thread count (min, max and integer sums commute). A minimum or
 * maximum of zero is +0. n = 0 changes nothing. More elements than memory holds, or 2^63 in all,
 * are PQ_ERR_OVERFLOW. After an error the state is as it was.
 */
#ifndef PYQUANT_OBSERVE_H
#define PYQUANT_OBSERVE_H

#include <stddef.h>
#include <stdint.h>

#include "pyquant/exec.h"
#include "pyquant/types.h"

#define PQ_HISTOGRAM_BINS 2048
#define PQ_HISTOGRAM_EMPTY INT32_MIN /* exponent of a histogram that has seen no nonzero value */

typedef struct pq_histogram {
    int64_t counts[PQ_HISTOGRAM_BINS];
    int64_t total;
    float minimum, maximum; /* +inf, -inf while empty */
    int32_t exponent;       /* e, or PQ_HISTOGRAM_EMPTY (see above) */
} pq_histogram;

PQ_NODISCARD pq_status pq_observe_minmax(const pq_exec *exec, size_t n, size_t channels,
                                         size_t inner, const float *x, float *minimum,
                                         float *maximum);
void pq_histogram_clear(pq_histogram *histogram);
PQ_NODISCARD pq_status pq_observe_histogram(const pq_exec *exec, size_t n, const float *x,
                                            pq_histogram *histogram);
PQ_NODISCARD pq_status pq_histogram_merge(const pq_exec *exec, pq_histogram *into,
                                          const pq_histogram *from);

#endif
