/* The exponentials of the published methods, each in its own file, in integers as its paper has
 * them; and what turns exponentials into weights.
 *
 * A file here is where to read how a method works. derive calls these functions once for every step
 * u of a table; no kernel does. `u` counts steps below the row's maximum. */
#ifndef PYQUANT_SOFTMAX_SOFTMAX_BANK_H
#define PYQUANT_SOFTMAX_SOFTMAX_BANK_H

#include <stdint.h>

#include "pyquant/softmax.h"

/* I-BERT's polynomial on a grid of real step S: ln2 = ceil(0.6931 / S), b = floor(b' / S),
 * c = floor(c' / S^2) < 2^31 with the paper's b' and c' (softmax_ibert.c); n <= 30 octaves.
 * The result of u = 0 is `top`, < 2^20. */
typedef struct pq_exp_ibert {
    uint32_t ln2, b, c, n, top;
} pq_exp_ibert;
uint32_t pq_softmax_exp_ibert(const pq_exp_ibert *constants, uint32_t u);

/* I-ViT's shifts: one = ceil(1 / S); n <= 15 octaves; one * 2^n < 2^31. */
typedef struct pq_exp_ivit {
    uint32_t one, n;
} pq_exp_ivit;
uint32_t pq_softmax_exp_ivit(const pq_exp_ivit *constants, uint32_t u);

/* 2^fraction steps for x = 1; the result of u = 0 is 2^bits, bits <= 14. */
uint32_t pq_softmax_exp_iptq(uint32_t fraction, uint32_t bits, uint32_t u);

/* 2^fraction steps an octave, fraction <= 12; the result of u = 0 is `top`, <= 255. */
uint32_t pq_softmax_exp_qflash(uint32_t fraction, uint32_t top, uint32_t u);

/* 2^fraction steps for x = 1. A power of two, at most 2^14, or 0. */
uint32_t pq_softmax_exp_sole(uint32_t fraction, uint32_t u);

/* u * 1.4375 by shifts, as I-ViT and SOLE take log2(e): x + (x >> 1) - (x >> 4) of x = -u, negated.
 * An arithmetic shift floors, so of -u it is minus the quotient rounded up. */
static inline uint32_t pq_softmax_log2e(uint32_t u) {
    return u + (u + 1) / 2 - (u + 15) / 16;
}

/* How a method's weight follows from its exponential, which is all that a kernel needs to know. */
typedef enum pq_softmax_rule {
    PQ_SOFTMAX_AS_IS,  /* P = E */
    PQ_SOFTMAX_FACTOR, /* IBERT, IVIT */
    PQ_SOFTMAX_ROUND,  /* INDEX */
    PQ_SOFTMAX_POWER   /* FQVIT */
} pq_softmax_rule;

static inline pq_softmax_rule pq_softmax_rule_of(pq_softmax_method method) {
    switch (method) {
    case PQ_SOFTMAX_IBERT:
    case PQ_SOFTMAX_IVIT: return PQ_SOFTMAX_FACTOR;
    case PQ_SOFTMAX_INDEX: return PQ_SOFTMAX_ROUND;
    case PQ_SOFTMAX_FQVIT: return PQ_SOFTMAX_POWER;
    case PQ_SOFTMAX_TABLE16:
    case PQ_SOFTMAX_TABLE8:
    case PQ_SOFTMAX_IPTQ:
    case PQ_SOFTMAX_QFLASH:
    case PQ_SOFTMAX_SOLE:
    case PQ_SOFTMAX_METHOD_COUNT: break;
    }
    return PQ_SOFTMAX_AS_IS;
}

/* What a row's sum of exponentials makes of its weights: constants that hold for all of its keys. */
typedef struct pq_softmax_row {
    uint32_t sum, divisor;
    uint32_t factor;    /* IBERT, IVIT: f; INDEX: 255 * 2^23 / sum */
    uint32_t least[15]; /* FQVIT: the least E whose code is c or less; falls, then stays at the last
                           code that there is */
} pq_softmax_row;

/* `sum` is that of the exponentials; divisor is L, which SOLE derives from it too. */
pq_softmax_row pq_softmax_row_of(const pq_softmax *softmax, uint32_t sum);

/* P of one exponential: the definition, by division where the method divides. */
uint16_t pq_softmax_weight(const pq_softmax *softmax, uint32_t sum, uint32_t e);

/* FQ-ViT's code of sum / e (softmax_fqvit.c); 32 for e = 0. */
uint32_t pq_softmax_fqvit_code(uint32_t sum, uint32_t e);
/* The least E whose code is `code` or less. */
uint32_t pq_softmax_fqvit_least(uint32_t sum, uint32_t code);

/* SOLE's approximate divisor (softmax_sole.c); sum >= 1. */
uint32_t pq_softmax_sole_divisor(uint32_t sum);

#endif
