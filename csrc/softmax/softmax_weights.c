/* From exponentials to weights: what each method divides by, and how it rounds. */
#include "softmax/softmax_bank.h"

#include <assert.h>

/* IBERT, IVIT. The papers' 2^32 is 2^32 - 1 here, so that 32 bits hold every product: the same
 * quotient unless the sum is a power of two. */
static uint32_t factor_of(pq_softmax_method method, uint32_t sum) {
    return (method == PQ_SOFTMAX_IBERT ? UINT32_MAX : INT32_MAX) / sum;
}

static uint32_t divisor_of(const pq_softmax *softmax, uint32_t sum) {
    switch (softmax->method) {
    case PQ_SOFTMAX_IBERT: return 1u << softmax->bits;
    case PQ_SOFTMAX_IVIT: return 1u << (softmax->bits - 1);
    case PQ_SOFTMAX_FQVIT: return 1u << 14;
    case PQ_SOFTMAX_INDEX: return 255;
    case PQ_SOFTMAX_SOLE: return pq_softmax_sole_divisor(sum);
    case PQ_SOFTMAX_TABLE16:
    case PQ_SOFTMAX_TABLE8:
    case PQ_SOFTMAX_IPTQ:
    case PQ_SOFTMAX_QFLASH:
    case PQ_SOFTMAX_METHOD_COUNT: return sum;
    }
    assert(false);
    return sum;
}

pq_softmax_row pq_softmax_row_of(const pq_softmax *softmax, uint32_t sum) {
    pq_softmax_row row = {.sum = sum, .divisor = 1};
    if (sum == 0) {
        return row;
    }
    row.divisor = divisor_of(softmax, sum);
    if (softmax->method == PQ_SOFTMAX_IBERT || softmax->method == PQ_SOFTMAX_IVIT) {
        row.factor = factor_of(softmax->method, sum);
    } else if (softmax->method == PQ_SOFTMAX_INDEX) {
        row.factor = (UINT32_C(255) << 23) / sum; /* sum >= E: E * factor <= 255 * 2^23 */
    } else if (softmax->method == PQ_SOFTMAX_FQVIT) {
        const uint32_t codes = 1u << softmax->bits;
        for (uint32_t code = 0; code < 15; code++) {
            row.least[code] =
                code < codes ? pq_softmax_fqvit_least(sum, code) : row.least[codes - 1];
        }
    }
    return row;
}

uint16_t pq_softmax_weight(const pq_softmax *softmax, uint32_t sum, uint32_t e) {
    if (sum == 0) {
        return 0;
    }
    switch (softmax->method) {
    case PQ_SOFTMAX_IBERT:
    case PQ_SOFTMAX_IVIT:
        return (uint16_t)((e * factor_of(softmax->method, sum)) >> (32 - softmax->bits));
    case PQ_SOFTMAX_FQVIT: {
        const uint32_t code = pq_softmax_fqvit_code(sum, e), codes = 1u << softmax->bits;
        return (uint16_t)(code <= 14 && code < codes ? 1u << (14 - code) : 0);
    }
    case PQ_SOFTMAX_INDEX: return (uint16_t)((510 * e + sum) / (2 * sum));
    case PQ_SOFTMAX_TABLE16:
    case PQ_SOFTMAX_TABLE8:
    case PQ_SOFTMAX_IPTQ:
    case PQ_SOFTMAX_QFLASH:
    case PQ_SOFTMAX_SOLE:
    case PQ_SOFTMAX_METHOD_COUNT: return (uint16_t)e;
    }
    assert(false);
    return 0;
}
