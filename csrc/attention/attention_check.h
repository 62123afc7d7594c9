/* The rules of attention.h that depend on constants and sizes, each with its message. */
#ifndef PYQUANT_ATTENTION_ATTENTION_CHECK_H
#define PYQUANT_ATTENTION_ATTENTION_CHECK_H

#include "pyquant/attention.h"

/* Head counts, lengths, and that no index, offset or array size leaves its type. */
PQ_NODISCARD pq_status pq_attention_check_sizes(const pq_exec *exec, const pq_attention_args *args);

/* No two outputs share an element. Sufficient, and not necessary: sorted by stride, each dimension
 * must step over all that the smaller ones cover, as it does in every permuted or padded array. */
PQ_NODISCARD pq_status pq_attention_check_outputs(const pq_exec *exec,
                                                  const pq_attention_args *args);

/* Softmax constants, zero points, requantization and the accumulator bounds. */
PQ_NODISCARD pq_status pq_attention_check_constants(const pq_exec *exec,
                                                    const pq_attention_args *args);

/* Data for every operand that has elements. */
PQ_NODISCARD pq_status pq_attention_check_pointers(const pq_exec *exec, const char *op,
                                                   const pq_attention_args *args);

#endif
