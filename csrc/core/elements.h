/* One element of an operand of s8 or s16, for plain code. */
#ifndef PYQUANT_CORE_ELEMENTS_H
#define PYQUANT_CORE_ELEMENTS_H

#include <stddef.h>
#include <stdint.h>

#include "pyquant/types.h"

/* s8 or s16, as the callers have checked. */
static inline int32_t pq_load(pq_dtype type, const void *x, size_t i) {
    return type == PQ_S8 ? ((const int8_t *)x)[i] : ((const int16_t *)x)[i];
}

static inline void pq_store(pq_dtype type, void *y, size_t i, int32_t value) {
    if (type == PQ_S8) {
        ((int8_t *)y)[i] = (int8_t)value;
    } else {
        ((int16_t *)y)[i] = (int16_t)value;
    }
}

static inline const void *pq_at(pq_dtype type, const void *x, size_t i) {
    return (const char *)x + i * pq_dtype_size(type);
}

static inline void *pq_at_out(pq_dtype type, void *y, size_t i) {
    return (char *)y + i * pq_dtype_size(type);
}

#endif
