/* What the ops with a softmax inside share: its constants in attributes, and its table. */
#ifndef PYQUANT_ENGINE_OP_SOFTMAX_H
#define PYQUANT_ENGINE_OP_SOFTMAX_H

#include "engine/op.h"
#include "pyquant/softmax.h"

/* Where they stand from an op's attribute `method` on. */
enum { PQ_SOFTMAX_ATTR_METHOD, PQ_SOFTMAX_ATTR_DELTA_MAX, PQ_SOFTMAX_ATTR_MULTIPLIER,
       PQ_SOFTMAX_ATTR_SHIFT, PQ_SOFTMAX_ATTR_PMAX, PQ_SOFTMAX_ATTR_BITS };

#define PQ_ENGINE_RANGE_SOFTMAX_METHOD \
    { 0, PQ_SOFTMAX_METHOD_COUNT - 1 }
#define PQ_ENGINE_RANGE_SOFTMAX_SHIFT \
    { 1, 31 }
#define PQ_ENGINE_RANGE_SOFTMAX_PMAX \
    { 1, INT16_MAX }
#define PQ_ENGINE_RANGE_SOFTMAX_BITS \
    { 0, 16 }

/* `attrs` begins with the method. `table` is the constant `value`, or NULL where sizes count. */
pq_softmax pq_engine_softmax_of(const int64_t *attrs, const pq_value *value, const void *table);

/* The constant input `slot`: 32 entries of s16, or a table of s32; the family checks what is in it.
 */
PQ_NODISCARD pq_status pq_engine_expect_softmax_table(const pq_engine_check *check, int slot,
                                                      const int64_t *attrs);

#endif
