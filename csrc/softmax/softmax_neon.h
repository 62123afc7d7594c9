/* The wide softmax of the NEON variant, which multiplies bytes.
 *
 * In place over one row of n scores, n a multiple of the step. None of the first `plain` is
 * excluded; the others may be PQ_SCORE_EXCLUDED. Leaves, for every 16 keys, the low bytes of their
 * weights and then the high bytes. */
#ifndef PYQUANT_SOFTMAX_SOFTMAX_NEON_H
#define PYQUANT_SOFTMAX_SOFTMAX_NEON_H

#include "softmax/softmax_method.h"

enum { PQ_SOFTMAX_BYTES_STEP = 16 };

typedef pq_softmax_sums pq_softmax_bytes_fn(const pq_softmax *softmax, size_t n, size_t plain,
                                            int32_t *row);

pq_softmax_bytes_fn pq_softmax_table_neon, pq_softmax_lookup_neon;

#endif
