/* Choosing a kernel variant from csrc/core/kernels.def.
 *
 * A family declares `struct pq_<op>_kernel` in csrc/<family>/<op>_kernel.h and writes
 *     const struct pq_table_s8_kernel *kernel = pq_kernel_choose(PQ_KERNEL_OP_table_s8);
 * The result depends only on the machine and on pq_isa_limit.
 */
#ifndef PYQUANT_CORE_DISPATCH_H
#define PYQUANT_CORE_DISPATCH_H

#include "pyquant/cpu.h"

typedef enum pq_kernel_op {
#define PQ_KERNEL_OP(op) PQ_KERNEL_OP_##op,
#include "core/kernels.def"
    PQ_KERNEL_OP_COUNT
} pq_kernel_op;

/* The last eligible row of `op`. Never NULL: `ref` is always eligible and every op has one. */
const void *pq_kernel_choose(pq_kernel_op op);

/* The row (op, isa) if this machine has what it needs, inside the limit or not, else NULL: any of
 * them may be chosen later. */
const void *pq_kernel_present(pq_kernel_op op, pq_isa isa);

/* The row (op, isa) whether or not this machine may run it, or NULL: for tests, which also run
 * emulated kernels. */
const void *pq_kernel_find(pq_kernel_op op, pq_isa isa);

/* The row of a kernel that one of these gave. */
pq_kernel_row pq_kernel_row_of(const void *kernel);

#endif
