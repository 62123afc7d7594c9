/* Softmax by bit shifts, in the manner of IPTQ-ViT (arXiv 2511.15369).
 *
 * The text of the paper's equations was not at hand: this is our reading of "bit-shifting softmax
 * for better accuracy in PTQ", I-ViT's form with what costs it most put right. log2(e) = 1.442695
 * is taken as 1 + 1/2 - 1/16 + 1/128 = 1.445313, three shifts and 0.18 % off where I-ViT has two and
 * 0.36 %; octaves have 2^fraction steps whatever the scale of the scores, so that none is stretched
 * by rounding; and the weights keep their sum, so that nothing is lost by a short reciprocal. 2^-p
 * is 1 - p / 2 as there. */
#include "softmax/softmax_bank.h"

#include <assert.h>

uint32_t pq_softmax_exp_iptq(uint32_t fraction, uint32_t bits, uint32_t u) {
    const uint32_t x = pq_softmax_log2e(u) + (u + 127) / 128;
    const uint32_t q = x >> fraction, r = x & ((1u << fraction) - 1);
    assert(fraction <= 12 && bits <= 14);
    return q > 31 ? 0 : (((2u << fraction) - r) << bits >> (fraction + 1)) >> q;
}
