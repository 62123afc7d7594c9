/* What the references of this family share. Integer only: a test disassembles these objects. */
#ifndef PYQUANT_ELEMENTWISE_KERNEL_H
#define PYQUANT_ELEMENTWISE_KERNEL_H

#include <stdbool.h>

#include "core/elements.h"
#include "pyquant/rnu.h"
#include "pyquant/types.h"

/* Greatest |x - z| of a type whose zero point lies inside it. */
static inline uint64_t pq_distance_max(pq_dtype type) {
    return type == PQ_S8 ? 255 : 65535;
}

#endif
