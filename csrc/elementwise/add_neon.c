/* |p * a_m + q * b_m| <= 2^48 (elementwise.h): the 64-bit sum of two products is exact. */
#include "elementwise/add_kernel.h"
#include "elementwise/elementwise_kernel.h"
#include "elementwise/elementwise_neon.h"

static void run(const pq_add_args *args, size_t n, const void *a, const void *b, void *y) {
    const pq_neon_output out = pq_neon_output_of(args->out);
    const int16x8_t a_zero_point = vdupq_n_s16((int16_t)args->a_zero_point);
    const int16x8_t b_zero_point = vdupq_n_s16((int16_t)args->b_zero_point);
    const int32x4_t a_m = vdupq_n_s32(args->a_multiplier), b_m = vdupq_n_s32(args->b_multiplier);
    const int32x2_t a_m2 = vget_low_s32(a_m), b_m2 = vget_low_s32(b_m);
    const int64x2_t shift = vdupq_n_s64(-args->shift);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const pq_s32x8 p = pq_centred_8(args->a_type, a, i, a_zero_point);
        const pq_s32x8 q = pq_centred_8(args->b_type, b, i, b_zero_point);
        const int64x2_t sum_01 =
            vmlal_s32(vmull_s32(vget_low_s32(p.low), a_m2), vget_low_s32(q.low), b_m2);
        const int64x2_t sum_23 = vmlal_high_s32(vmull_high_s32(p.low, a_m), q.low, b_m);
        const int64x2_t sum_45 =
            vmlal_s32(vmull_s32(vget_low_s32(p.high), a_m2), vget_low_s32(q.high), b_m2);
        const int64x2_t sum_67 = vmlal_high_s32(vmull_high_s32(p.high, a_m), q.high, b_m);
        const int16x8_t v = pq_neon_clamp_8(&out, pq_neon_round_4(sum_01, sum_23, shift, shift),
                                            pq_neon_round_4(sum_45, sum_67, shift, shift));
        pq_neon_store_8(args->y_type, y, i, v);
    }
    pq_add_ref.run(args, n - i, pq_at(args->a_type, a, i), pq_at(args->b_type, b, i),
                   pq_at_out(args->y_type, y, i));
}

const struct pq_add_kernel pq_add_neon = {.run = run};
