/* The checks that every integer entry point makes on its operands. */
#ifndef PYQUANT_CORE_OPERANDS_H
#define PYQUANT_CORE_OPERANDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pyquant/exec.h"
#include "pyquant/types.h"

static inline bool pq_is_s8_or_s16(pq_dtype type) {
    return type == PQ_S8 || type == PQ_S16;
}

/* Least and greatest value of s8 or s16. */
static inline int32_t pq_type_min(pq_dtype type) {
    return type == PQ_S8 ? INT8_MIN : INT16_MIN;
}

static inline int32_t pq_type_max(pq_dtype type) {
    return type == PQ_S8 ? INT8_MAX : INT16_MAX;
}

PQ_NODISCARD static inline pq_status pq_type_check(const pq_exec *exec, const char *op,
                                                   const char *operand, pq_dtype type) {
    if (!pq_is_s8_or_s16(type)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected %s of type s8 or s16, got type %d", op,
                       operand, (int)type);
    }
    return PQ_OK;
}

/* A zero point that a value of `type` can hold: |value - zero_point| is at most 255 or 65535. */
PQ_NODISCARD static inline pq_status pq_zero_point_check(const pq_exec *exec, const char *op,
                                                         const char *operand, pq_dtype type,
                                                         int32_t zero_point) {
    if (zero_point < pq_type_min(type) || zero_point > pq_type_max(type)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected the zero point of %s in [%d, %d], got %d",
                       op, operand, pq_type_min(type), pq_type_max(type), zero_point);
    }
    return PQ_OK;
}

/* The output side (types.h): quant_min <= zero_point <= quant_max, inside `type`. */
PQ_NODISCARD static inline pq_status pq_clamp_check(const pq_exec *exec, const char *op,
                                                    pq_dtype type, pq_clamp out) {
    if (out.quant_min < pq_type_min(type) || out.quant_max > pq_type_max(type) ||
        out.zero_point < out.quant_min || out.zero_point > out.quant_max) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected %d <= quant_min <= zero_point <= quant_max <= %d, got %d, %d, "
                       "%d",
                       op, pq_type_min(type), pq_type_max(type), out.quant_min, out.zero_point,
                       out.quant_max);
    }
    return PQ_OK;
}

PQ_NODISCARD static inline pq_status pq_dyadic_check(const pq_exec *exec, const char *op,
                                                     pq_dyadic number) {
    if (number.multiplier < INT32_C(1) << 30 || number.shift < 1 || number.shift > 62) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected a multiplier in [2^30, 2^31) and a shift in [1, 62], got %d "
                       "and %d",
                       op, number.multiplier, number.shift);
    }
    return PQ_OK;
}

/* Whether two byte ranges share a byte. */
static inline bool pq_overlaps(const void *a, size_t a_size, const void *b, size_t b_size) {
    const uintptr_t a_begin = (uintptr_t)a, b_begin = (uintptr_t)b;
    return a_size > 0 && b_size > 0 && a_begin < b_begin + b_size && b_begin < a_begin + a_size;
}

/* Output y may be exactly input x (in_place: the op allows it and the element sizes agree), or
 * share no byte with it. */
PQ_NODISCARD static inline pq_status pq_overlap_check(const pq_exec *exec, const char *op,
                                                      const char *operand, const void *x,
                                                      size_t x_size, const void *y, size_t y_size,
                                                      bool in_place) {
    if (pq_overlaps(x, x_size, y, y_size) && !(in_place && x == y)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected y not to overlap %s%s", op, operand,
                       in_place ? " unless they are the same" : "");
    }
    return PQ_OK;
}

#endif
