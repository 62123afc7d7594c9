/* The two fits behind derive_unary: float64 with + - * / only, besides the target itself. */
#ifndef PYQUANT_DERIVE_UNARY_INTERNAL_H
#define PYQUANT_DERIVE_UNARY_INTERNAL_H

#include "derive/derive_internal.h"
#include "pyquant/derive_unary.h"

typedef struct pq_poly_fit {
    double a, beta;
} pq_poly_fit;

/* `target` (odd, towards 1) at |v| * scale for every q of x's range. */
pq_poly_fit pq_fit_poly(double (*target)(double), double scale, pq_affine x);

/* Lines through f(v * s_x) / s_y, and the shift s of their integers. */
void pq_fit_nnlut(pq_unary function, pq_affine x, pq_affine y, int32_t entries, int32_t bits,
                  pq_nnlut *lines, int32_t *shift);

#endif
