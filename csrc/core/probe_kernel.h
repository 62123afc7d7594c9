/* The loops of probe.h for one ISA. They are no kernels of kernels.def: no op has them, and nothing
 * depends on what they compute, which is nevertheless defined, so that a test sees that the work
 * is done.
 *
 * multiply_add: accumulators A[c][l] of 32 bits, c < chains, l < lanes, begin as c * lanes + l + 1.
 * A round adds to each the dot product of its own bytes or halves with those of the constant
 *     factor[l] = 0x01020304 * (l + 1)          (modulo 2^32)
 * as the instruction has it; the result is the sum of all. Each chain needs its own last value, so
 * that no compiler can merge or hoist them, and there are enough chains to hide that.
 *
 * read: all 32-bit words combined by exclusive or; `bytes` is a multiple of 4096.
 */
#ifndef PYQUANT_CORE_PROBE_KERNEL_H
#define PYQUANT_CORE_PROBE_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "pyquant/cpu.h"

enum { PQ_PROBE_PAGE = 4096 };

/* What a lane takes in one instruction. */
typedef enum pq_probe_dot {
    PQ_PROBE_S32,  /* the low halves only, signed: one multiply-add */
    PQ_PROBE_S16,  /* two products of signed halves */
    PQ_PROBE_U8S8, /* four products, the accumulator's bytes unsigned */
    PQ_PROBE_S8    /* four products of signed bytes */
} pq_probe_dot;

typedef struct pq_probe_kernel {
    pq_isa isa;
    uint32_t needs;
    pq_probe_dot dot;
    size_t chains, lanes;
    uint32_t (*multiply_add)(size_t rounds);
    uint32_t (*read)(const void *data, size_t bytes);
} pq_probe_kernel;

extern const pq_probe_kernel pq_probe_ref, pq_probe_avx2, pq_probe_avx512vnni, pq_probe_neondot;

/* The loops of this build, slow -> fast; NULL behind the last. */
const pq_probe_kernel *const *pq_probe_kernels(void);

static inline uint32_t pq_probe_factor(size_t lane) {
    return UINT32_C(0x01020304) * (uint32_t)(lane + 1);
}

#endif
