/* probe: what this machine can do at most, measured now, for a limit beside a time.
 *
 * Each measurement takes some tens of milliseconds on exec->num_threads threads at once, and is the
 * best of a few rounds: on a busy machine it is what was left over. No bits depend on it.
 */
#ifndef PYQUANT_PROBE_H
#define PYQUANT_PROBE_H

#include <stddef.h>
#include <stdint.h>

#include "pyquant/cpu.h"
#include "pyquant/exec.h"

/* `work` in `nanoseconds`, together on all threads. */
typedef struct pq_probe_rate {
    uint64_t work, nanoseconds;
} pq_probe_rate;

/* Multiply-adds in registers, by the instruction on which the kernels of the active ISA live:
 * vpmaddwd (AVX2), vpdpbusd (AVX-512 VNNI), sdot (NEON dotprod), a C loop otherwise. *isa is that
 * of the instruction. PQ_ERR_INTERRUPTED. */
PQ_NODISCARD pq_status pq_probe_multiply_add(const pq_exec *exec, pq_isa *isa, pq_probe_rate *rate);

/* Bytes read from a buffer of `bytes` bytes (at least 4096 a thread are used), over and over, each
 * thread its own part: what fits in a cache is read from there. PQ_ERR_NOMEM, PQ_ERR_INTERRUPTED.
 */
PQ_NODISCARD pq_status pq_probe_read(const pq_exec *exec, size_t bytes, pq_probe_rate *rate);

#endif
