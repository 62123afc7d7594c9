/* Element types and the affine map, shared by every family. */
#ifndef PYQUANT_TYPES_H
#define PYQUANT_TYPES_H

#include <stddef.h>
#include <stdint.h>

typedef enum pq_dtype {
    PQ_S8 = 1,
    PQ_U8 = 2, /* Boolean masks: 0 or not 0 */
    PQ_S16 = 3,
    PQ_S32 = 4,
    PQ_S64 = 5
} pq_dtype;

/* 1, 1, 2, 4, 8; 0 for a value that is no pq_dtype. */
static inline size_t pq_dtype_size(pq_dtype type) {
    switch (type) {
    case PQ_S8:
    case PQ_U8: return 1;
    case PQ_S16: return 2;
    case PQ_S32: return 4;
    case PQ_S64: return 8;
    }
    return 0;
}

/* The map between a float x and an integer q (docs/numerics/quantize.md):
 *     q = clamp(rne(x / scale) + zero_point, quant_min, quant_max),   x ~ (q - zero_point) * scale
 * Only the boundary families (quantize, derive, sim, observe) know a scale; integer ops do not.
 * Valid: 2^-100 <= scale <= 2^100, quant_min <= zero_point <= quant_max, and
 * [quant_min, quant_max] inside int8 or int16. */
typedef struct pq_affine {
    float scale;
    int32_t zero_point;
    int32_t quant_min;
    int32_t quant_max;
} pq_affine;

/* The output side of an integer op: y = clamp(v + zero_point, quant_min, quant_max), clamped in
 * int64. Valid as for pq_affine. */
typedef struct pq_clamp {
    int32_t zero_point;
    int32_t quant_min;
    int32_t quant_max;
} pq_clamp;

/* A dyadic number m / 2^s. Requantization: m in [2^30, 2^31), s in [1, 62] (docs/numerics/numbers.md). */
typedef struct pq_dyadic {
    int32_t multiplier;
    uint8_t shift;
} pq_dyadic;

#endif
