/* The rows of a panel, for the methods by table of x86: what AVX2 and AVX-512 share. */
#ifndef PYQUANT_SOFTMAX_SOFTMAX_LOOKUP_PANEL_H
#define PYQUANT_SOFTMAX_SOFTMAX_LOOKUP_PANEL_H

#include <assert.h>

#include "softmax/softmax_bank.h"
#include "softmax/softmax_method.h"

/* Exponentials in place of n scores; returns their sum. */
typedef uint32_t pq_exponentials_fn(const pq_softmax *softmax, size_t n, int32_t *row);

/* Weights over the exponentials of a row by one rule, a constant; returns their sum. `down` is the
 * shift behind the factor. */
typedef uint32_t pq_weights_fn(const pq_softmax_rule rule, const pq_softmax_row *constants,
                               int32_t down, size_t n, int32_t *row);

/* Inlined, so that each call below is the function for its rule. */
static inline __attribute__((always_inline)) void
pq_lookup_panel(const pq_softmax *softmax, const pq_softmax_panel *panel,
                pq_exponentials_fn *exponentials, pq_weights_fn *weights) {
    const int32_t down = 32 - softmax->bits;
    assert(panel->n % PQ_SOFTMAX_STEP == 0);
    for (size_t i = 0; i < panel->rows; i++) {
        int32_t *const row = panel->scores + i * panel->stride;
        const uint32_t sum = panel->n == 0 ? 0 : exponentials(softmax, panel->n, row);
        const pq_softmax_row constants = pq_softmax_row_of(softmax, sum);
        panel->divisors[i] = constants.divisor;
        panel->sums[i] = 0;
        if (sum == 0) {
            continue; /* n zeros of 32 bits: the weights too are 0 */
        }
        switch (pq_softmax_rule_of(softmax->method)) {
        case PQ_SOFTMAX_AS_IS:
            panel->sums[i] = weights(PQ_SOFTMAX_AS_IS, &constants, down, panel->n, row);
            break;
        case PQ_SOFTMAX_FACTOR:
            panel->sums[i] = weights(PQ_SOFTMAX_FACTOR, &constants, down, panel->n, row);
            break;
        case PQ_SOFTMAX_ROUND:
            panel->sums[i] = weights(PQ_SOFTMAX_ROUND, &constants, down, panel->n, row);
            break;
        case PQ_SOFTMAX_POWER:
            panel->sums[i] = weights(PQ_SOFTMAX_POWER, &constants, down, panel->n, row);
            break;
        }
    }
}

#endif
