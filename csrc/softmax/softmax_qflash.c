/* The exponential of QFlash (arXiv 2604.25306), successor of I-FlashAttention's ShiftExp2: scores
 * are in units of log2, so that octaves are exact, and 2^-p is near 1 - p / 2.
 *
 *     e = ((-r >> 1) + S) >> q    with S steps an octave; p = round(e (2^bits - 1) / S)
 *
 * The kernel's S is the rounded real number of score units an octave holds, some thousand; here it
 * is 2^12, and u is first shifted up to it. Of the kernel's other steps, its row sum begins at 1 (a
 * bias that vanishes for long rows), it rescales the sums when a later tile moves the maximum, and
 * it truncates the result to int8: attention here takes the maximum of the whole row, and rounds
 * once. */
#include "softmax/softmax_bank.h"

#include <assert.h>

enum { AMPLITUDE_BITS = 12 };

uint32_t pq_softmax_exp_qflash(uint32_t fraction, uint32_t top, uint32_t u) {
    const uint32_t q = u >> fraction;
    const uint32_t r = (u & ((1u << fraction) - 1)) << (AMPLITUDE_BITS - fraction);
    assert(fraction <= AMPLITUDE_BITS && top <= 255);
    const uint32_t e = q > 31 ? 0 : ((1u << AMPLITUDE_BITS) - (r + 1) / 2) >> q;
    return (2 * e * top + (1u << AMPLITUDE_BITS)) >> (AMPLITUDE_BITS + 1);
}
