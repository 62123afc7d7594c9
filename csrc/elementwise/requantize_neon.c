#include "elementwise/elementwise_neon.h"
#include "elementwise/requantize_kernel.h"

static void run(const pq_requantize_args *args, size_t begin, size_t end) {
    const pq_neon_output out = pq_neon_output_of(args->out);
    const int16x8_t zero_point = vdupq_n_s16((int16_t)args->x_zero_point);
    const int32x4_t multiplier = vdupq_n_s32(args->requant.multiplier);
    const int64x2_t shift = vdupq_n_s64(-args->requant.shift);
    size_t i = begin;
    for (; i + 8 <= end; i += 8) {
        const pq_s32x8 x = pq_centred_8(args->x_type, args->x, i, zero_point);
        pq_requantize_8(&out, x, multiplier, shift, args->y_type, args->y, i);
    }
    pq_requantize_ref.run(args, i, end);
}

const struct pq_requantize_kernel pq_requantize_neon = {.run = run};
