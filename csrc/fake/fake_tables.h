/* The checks of a call on channels, and its grids laid out as kernels read them. */
#ifndef PYQUANT_FAKE_FAKE_TABLES_H
#define PYQUANT_FAKE_FAKE_TABLES_H

#include "fake/fake_grid.h"

/* Runs of fewer elements than this are taken as rows of channels * inner (pyquant/fake.h). */
enum { PQ_FAKE_SHORT = 16 };

typedef struct pq_fake_tables {
    pq_fake_grid grid; /* of element 0 */
    size_t row;        /* short runs: elements of a row, an entry for each; else 0 */
    float one[4];      /* a single grid */
    float *block;      /* others; to be freed */
} pq_fake_tables;

PQ_NODISCARD pq_status pq_fake_check(const pq_exec *exec, const char *op, const pq_fake_args *args);
/* One operand: not NULL, aligned. */
PQ_NODISCARD pq_status pq_fake_operand(const pq_exec *exec, const char *op, const char *name,
                                       const void *operand, size_t size);
/* An output may be the one input `same`, and shares no byte with any other. */
PQ_NODISCARD pq_status pq_fake_overlap(const pq_exec *exec, const char *op, size_t n,
                                       const float *out, const float *in, const char *name,
                                       bool same_allowed);
PQ_NODISCARD pq_status pq_fake_tables_make(const pq_exec *exec, const char *op,
                                           const pq_fake_args *args, pq_fake_tables *tables);
void pq_fake_tables_free(pq_fake_tables *tables);
/* PQ_ERR_NAN with the index of the first NaN. */
pq_status pq_fake_nan(const pq_exec *exec, const char *op, size_t n, const float *x);

#endif
