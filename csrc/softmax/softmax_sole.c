/* E2Softmax of SOLE (ICCAD 2023, arXiv 2510.17189, section III): exponentials are powers of two with
 * a code of 4 bits, and the division is approximate.
 *
 *     k = round(x + x/2 - x/16),  E = 2^-k     (Log2Exp, to the nearest)
 *     sum = 2^ks (1 + s):  1 / sum near 2^-ks 0.818 for s < 1/2, and 2^-ks 0.568 from there on
 *
 * which are about the means of 1 / (1 + s) over the two halves, 0.811 and 0.575. The paper's full text
 * was not at hand: the two factors, and rounding to the nearest where an abstract prints brackets
 * that may also be read as a floor, are our reading. The divisor is kept
 * instead of its reciprocal: 2^ks times 313 / 256 = 1 / 0.8179 and 451 / 256 = 1 / 0.5676.
 *
 * A weight is 2^(14 - k) in s16: the last code, 15, which the paper gives to every key that is far
 * away, is nothing here. */
#include "softmax/softmax_bank.h"

#include <assert.h>

uint32_t pq_softmax_exp_sole(uint32_t fraction, uint32_t u) {
    assert(fraction >= 1 && fraction <= 12);
    const uint32_t k = (pq_softmax_log2e(u) + (1u << (fraction - 1))) >> fraction;
    return k > 14 ? 0 : 1u << (14 - k);
}

uint32_t pq_softmax_sole_divisor(uint32_t sum) {
    const uint32_t ks = 31 - (uint32_t)__builtin_clz(sum);
    const bool upper = ks > 0 && (sum >> (ks - 1) & 1) != 0;
    const uint64_t divisor = ((upper ? UINT64_C(451) : UINT64_C(313)) << ks) >> 8;
    return divisor == 0 ? 1 : (uint32_t)divisor; /* below 1.77 * sum < 2^32: sum < 2^31 */
}
