#include "core/dispatch.h"

#include <assert.h>

/* The structs stay incomplete here: dispatch knows addresses only. */
#define PQ_KERNEL(op, isa, needs) extern const struct pq_##op##_kernel pq_##op##_##isa;
#include "core/kernels.def"

/* Row names are the names of the files; the enum is upper case. */
enum {
    ISA_ref = PQ_ISA_REF,
    ISA_avx2 = PQ_ISA_AVX2,
    ISA_avx512 = PQ_ISA_AVX512,
    ISA_avx512vnni = PQ_ISA_AVX512VNNI,
    ISA_neon = PQ_ISA_NEON,
    ISA_neondot = PQ_ISA_NEONDOT
};

typedef struct row {
    const void *kernel;
    uint32_t needs;
    pq_kernel_op op;
    pq_isa isa;
} row;

/* The last element is a sentinel, so that the array is never empty. */
static const row rows[] = {
#define PQ_KERNEL(op, isa, needs) {&pq_##op##_##isa, (needs), PQ_KERNEL_OP_##op, (pq_isa)ISA_##isa},
#include "core/kernels.def"
    {NULL, 0, PQ_KERNEL_OP_COUNT, PQ_ISA_COUNT}};

static const char *const op_names[] = {
#define PQ_KERNEL_OP(op) #op,
#include "core/kernels.def"
    NULL};

const void *pq_kernel_choose(pq_kernel_op op) {
    const void *best = NULL;
    for (const row *r = rows; r->kernel != NULL; r++) {
        if (r->op == op && pq_isa_eligible(r->isa, r->needs)) {
            best = r->kernel;
        }
    }
    assert(best != NULL);
    return best;
}

const void *pq_kernel_present(pq_kernel_op op, pq_isa isa) {
    for (const row *r = rows; r->kernel != NULL; r++) {
        if (r->op == op && r->isa == isa && (r->needs & ~pq_cpu_features()) == 0) {
            return r->kernel;
        }
    }
    return NULL;
}

const void *pq_kernel_find(pq_kernel_op op, pq_isa isa) {
    for (const row *r = rows; r->kernel != NULL; r++) {
        if (r->op == op && r->isa == isa) {
            return r->kernel;
        }
    }
    return NULL;
}

static pq_kernel_row describe(const row *r) {
    return (pq_kernel_row){.op = op_names[r->op],
                           .isa = r->isa,
                           .needs = r->needs,
                           .eligible = pq_isa_eligible(r->isa, r->needs)};
}

pq_kernel_row pq_kernel_row_of(const void *kernel) {
    const row *r = rows;
    while (r->kernel != kernel) {
        assert(r->kernel != NULL);
        r++;
    }
    return describe(r);
}

int pq_kernel_rows(pq_kernel_row *out, int capacity) {
    int count = 0;
    for (const row *r = rows; r->kernel != NULL; r++, count++) {
        if (count < capacity) {
            out[count] = describe(r);
        }
    }
    return count;
}
