/* The registries of methods, one a file. A new method is a row there and a value of its enum. */
#ifndef PYQUANT_DERIVE_METHOD_LISTS_H
#define PYQUANT_DERIVE_METHOD_LISTS_H

#include "pyquant/method.h"

#define PQ_METHOD_ROWS(rows) \
    (rows), sizeof(rows) / sizeof(rows)[0]

extern const pq_method_list pq_softmax_methods, pq_unary_methods, pq_norm_methods;

#endif
