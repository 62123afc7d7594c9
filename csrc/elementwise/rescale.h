/* Multiplying s16 by a 31-bit multiplier without 64-bit lanes: the constants, for every vector ISA.
 *
 * The sum to be shifted is T = sum_i v_i * m_i + C, with one term (requantize) or two (add), v_i of
 * 16 bits. Write m = high * 2^16 + low with -2^15 <= low < 2^15, and C likewise with
 * 0 <= low < 2^16. Flooring by 2^16 first and by 2^(s-16) then is flooring by 2^s, and a multiple
 * of 2^16 leaves the first floor unchanged, so
 *
 *     T >> s = (sum_i v_i * high_i + ((sum_i v_i * low_i + C.low) >> 16) + C.high) >> (s - 16).
 *
 * Every part is a product of 16-bit numbers, the sums are taken modulo 2^32, and they are right if
 * T >> 16 fits in s32. T grows with each v_i, so the two ends of the range decide that.
 *
 * C holds 2^(s-1) and whatever zero points the lanes do not take off. With s >= 17 and zero points
 * of 0 its low part is 0: for one term, ((v * low) >> 16) is then just the high half of a 16-bit
 * product, and there is no carry to find.
 */
#ifndef PYQUANT_ELEMENTWISE_RESCALE_H
#define PYQUANT_ELEMENTWISE_RESCALE_H

#include <stdbool.h>

#include "pyquant/types.h"

typedef struct pq_rescale_term {
    int32_t multiplier; /* in [0, 2^31) */
    int32_t zero_point; /* what is stored minus this is multiplied */
    pq_dtype type;
    int32_t lane_zero_point; /* out: taken off in the lanes; the rest is in the constant */
    int16_t high, low;       /* out */
} pq_rescale_term;

typedef struct pq_rescale {
    int32_t constant_high; /* modulo 2^32 */
    uint16_t constant_low;
    int shift; /* s - 16 */
    /* Added to the result saturated to s16. Exact for s8: what saturates is clamped anyway. */
    int16_t lane_addend;
} pq_rescale;

/* False if the sums could overflow: shifts of 47 and more, where every result is next to 0; upward
 * rescaling by 2^14 and more; multipliers within 2^15 of 2^31; far zero points of s16. Nothing that
 * calibration makes is among these, and the reference does it. */
static inline bool pq_rescale_of(pq_rescale_term *terms, int count, int shift, pq_dtype y_type,
                                 pq_clamp out, pq_rescale *rescale) {
    if (shift < 17 || shift > 46) {
        return false;
    }
    const int64_t unit = INT64_C(1) << shift;
    /* |C| <= 2^45 + 2 * 2^46 + 2^61 */
    int64_t constant = unit / 2 + (y_type == PQ_S8 ? 0 : out.zero_point * unit);
    int64_t least = 0, greatest = 0, low_size = UINT16_MAX;
    bool fits = true;
    for (int t = 0; t < count; t++) {
        pq_rescale_term *term = &terms[t];
        const int32_t low = (int16_t)(uint16_t)((uint32_t)term->multiplier & 0xffff);
        const int32_t high = (int32_t)(((int64_t)term->multiplier - low) >> 16);
        const bool narrow = term->type == PQ_S8;
        term->lane_zero_point = narrow ? term->zero_point : 0;
        constant -= (int64_t)(term->zero_point - term->lane_zero_point) * term->multiplier;
        const int64_t v_least = (narrow ? INT8_MIN : INT16_MIN) - term->lane_zero_point;
        const int64_t v_greatest = (narrow ? INT8_MAX : INT16_MAX) - term->lane_zero_point;
        least += v_least * term->multiplier;
        greatest += v_greatest * term->multiplier;
        low_size += (v_greatest > -v_least ? v_greatest : -v_least) * (low < 0 ? -low : low);
        fits = fits && high <= INT16_MAX;
        term->high = (int16_t)high;
        term->low = (int16_t)low;
    }
    rescale->constant_high = (int32_t)(uint32_t)((uint64_t)(constant >> 16) & UINT32_MAX);
    rescale->constant_low = (uint16_t)((uint64_t)constant & 0xffff);
    rescale->shift = shift - 16;
    rescale->lane_addend = (int16_t)(y_type == PQ_S8 ? out.zero_point : 0);
    return fits && low_size <= INT32_MAX && (least + constant) >> 16 >= INT32_MIN &&
           (greatest + constant) >> 16 <= INT32_MAX;
}

#endif
