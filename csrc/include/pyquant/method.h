/* method: which approximation a non-linear site computes, as a value and as text.
 *
 * A method is a row of a registry: one list an op (csrc/derive/method_<op>.c) names every method,
 * its parameters with their defaults and bounds, and where it comes from. Everything above reads
 * these lists: configuration, torch ops, command line. Its code is also its number in a program.
 *
 *   text       "name" or "name(parameter=number, ...)"; a parameter that is not named has its
 *              default. Numbers are decimal, with at most 15 digits and no exponent; blanks are
 *              allowed around words.
 *   canonical  no blanks; only the parameters that differ from their defaults, in the list's order.
 *
 * Statuses: PQ_ERR_VALUE for a text that is no method of the op; the sentence says what there is.
 */
#ifndef PYQUANT_METHOD_H
#define PYQUANT_METHOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pyquant/exec.h"

#define PQ_METHOD_PARAMETERS 4
#define PQ_METHOD_TEXT 128 /* bytes that hold any canonical text */

typedef enum pq_method_op {
    PQ_METHOD_SOFTMAX = 0,
    PQ_METHOD_UNARY,
    PQ_METHOD_NORM,
    PQ_METHOD_OP_COUNT
} pq_method_op;

typedef struct pq_method {
    int32_t code; /* row of the op's list */
    double parameters[PQ_METHOD_PARAMETERS];
} pq_method;

typedef struct pq_method_parameter {
    const char *name; /* NULL ends the list */
    double value;     /* default */
    double low, high;
    bool whole;          /* an integer */
    const char *meaning; /* one line */
} pq_method_parameter;

typedef struct pq_method_row {
    const char *name;
    const char *reference; /* paper and equation */
    pq_method_parameter parameters[PQ_METHOD_PARAMETERS];
} pq_method_row;

typedef struct pq_method_list {
    const char *op; /* "softmax", "unary", "norm" */
    const pq_method_row *rows;
    size_t count;
} pq_method_list;

/* The list of an op; NULL outside the enum. */
const pq_method_list *pq_method_list_of(pq_method_op op);
/* The op called `name`, or PQ_METHOD_OP_COUNT. */
pq_method_op pq_method_op_find(const char *name);

/* The method of row `code` with its defaults. */
pq_method pq_method_default(pq_method_op op, int32_t code);

PQ_NODISCARD pq_status pq_method_parse(const pq_exec *exec, pq_method_op op, const char *text,
                                       pq_method *method);
/* PQ_ERR_VALUE for a code or a parameter outside the list's bounds. */
PQ_NODISCARD pq_status pq_method_check(const pq_exec *exec, pq_method_op op,
                                       const pq_method *method);
/* The canonical text of a method that pq_method_check accepts. */
void pq_method_format(pq_method_op op, const pq_method *method, char text[PQ_METHOD_TEXT]);

#endif
