/* i-exp of I-BERT (arXiv 2101.01321, section 3.5, algorithm 3).
 *
 * exp(-x) for x >= 0 is split by octaves, x = q ln 2 + p with 0 <= p < ln 2: a shift by q, and on
 * one octave the paper's polynomial 0.3585 (p - 1.353)^2 + 0.344, off by at most 2.1e-3. With a
 * factor a taken out and p = r S it is a quadratic in integers,
 *     r^2 - b r + c,     b = floor(b' / S),  c = floor(c' / S^2),
 * where b' = 0.96963238 / 0.35815147 and c' = 1 / 0.35815147 are the released code's constants (1.9e-3).
 * It falls from c at r = 0 to about c / 2 at r = ln 2 / S: never below 0, since the paper's polynomial
 * is at least 0.344.
 *
 * The released code then computes floor(z 2^(n - q)) and requantizes to 16 bits, with a range that
 * it observes. No observation is needed: a row's largest exponential is always that of its maximum,
 * c 2^n, which becomes `top`; so both steps are one rounding division here. n bounds the octaves. */
#include "softmax/softmax_bank.h"

#include <assert.h>

uint32_t pq_softmax_exp_ibert(const pq_exp_ibert *constants, uint32_t u) {
    const uint32_t ln2 = constants->ln2, end = constants->n * ln2;
    const uint32_t x = u < end ? u : end;
    const uint32_t q = x / ln2;
    const int64_t r = x % ln2;
    const int64_t z = r * r - (int64_t)constants->b * r + constants->c;
    assert(z > 0 && z <= constants->c && q <= 30 && constants->top < 1u << 20);
    /* z * top < 2^51, c << q < 2^61 */
    const uint64_t whole = (uint64_t)constants->c << q;
    return (uint32_t)((2 * (uint64_t)z * constants->top + whole) / (2 * whole));
}
