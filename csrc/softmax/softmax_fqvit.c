/* Log-Int-Softmax of FQ-ViT (arXiv 2111.13824, section 3.3, equations 15 to 17): weights that are
 * powers of two, so that P times V needs shifts only. Its exponential is I-BERT's.
 *
 *     t = round(sum / E),   code = floor(log2 t), one more from 1.5 * 2^code on,   P = 2^-code
 *
 * Codes beyond 2^bits - 1 weigh nothing. t is rounded half up, where the released code rounds half
 * to even. A weight is 2^(14 - code) in s16, hence code 15 of 4 bits, 2^-15 of the row, is nothing
 * as well: less than 0.01 dB on the softmax test of docs/numerics/softmax_methods.md. */
#include "softmax/softmax_bank.h"

#include <assert.h>

uint32_t pq_softmax_fqvit_code(uint32_t sum, uint32_t e) {
    if (e == 0) {
        return 32;
    }
    const uint32_t t = (uint32_t)(((uint64_t)sum + e / 2) / e);
    const uint32_t k = 31 - (uint32_t)__builtin_clz(t); /* t >= 1, since sum >= e */
    return k + (k > 0 && t - (1u << k) >= 1u << (k - 1));
}

/* code <= c means t < T with T = 2 for c = 0 and 3 * 2^(c-1) else, that is sum + e / 2 < T e, or
 * T e - floor(e / 2) > sum. The left side grows with e: its least solution is near 2 sum / (2 T - 1),
 * where the floor is without effect, and never above the quotient's successor by more than one. */
uint32_t pq_softmax_fqvit_least(uint32_t sum, uint32_t code) {
    const uint64_t t = code == 0 ? 2 : UINT64_C(3) << (code - 1);
    uint64_t e = 2 * (uint64_t)sum / (2 * t - 1);
    e = e > 0 ? e - 1 : 0;
    while (t * e - e / 2 <= sum) {
        e++;
    }
    return (uint32_t)e;
}
