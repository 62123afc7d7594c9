/* Shiftmax of I-ViT (arXiv 2207.01405, section 3.3, algorithm 1).
 *
 * e^x = 2^(x log2 e), and log2(e) = 1.4427 is near 1.4375 = 1 + 1/2 - 1/16, which two shifts and two
 * additions multiply by. The whole octaves q of the result are a shift; of the rest p in [0, 1),
 * 2^-p is near 1 - p / 2, a shift again: at most 6.1 % too large. With one = ceil(1 / S) steps an
 * octave,
 *     q = x' / one,  r = x' % one,  E = (one - r / 2) 2^(n - q) = ((2 one - r) 2^n) >> (q + 1),
 * which is what the released code computes: its floor only matters at q = n, where r is 0.
 *
 * one is rounded up, so a coarse S makes octaves too long: at 8-bit scores 1 / S may be 5.2 and one
 * 6, which is why the method loses so much there. */
#include "softmax/softmax_bank.h"

#include <assert.h>

uint32_t pq_softmax_exp_ivit(const pq_exp_ivit *constants, uint32_t u) {
    const uint32_t one = constants->one, end = constants->n * one;
    const uint32_t by_log2e = pq_softmax_log2e(u);
    const uint32_t x = by_log2e < end ? by_log2e : end;
    const uint32_t q = x / one, r = x % one;
    assert(constants->n <= 15 && (uint64_t)one << constants->n < UINT64_C(1) << 31);
    return (uint32_t)(((uint64_t)(2 * one - r) << constants->n) >> (q + 1));
}
