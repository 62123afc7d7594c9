/* layernorm, eight channels a step.
 *
 *   C * x - S1    within s32 (layernorm.h), by vmlal_s16: C <= 32767 is an s16
 *   z             |z| < 2^24: the 64-bit rounding shift, then a plain narrowing
 *   y             z * gain + offset within s64; the rounding shift rounds the unbounded sum and
 *                 the narrowings saturate (core/neon_output.h): no constants need another path
 */
#include <assert.h>

#include "core/neon_output.h"
#include "layernorm/layernorm_kernel.h"

/* sum x and sum x^2 of one row. Pairs of x: |x0 + x1| <= 2^16 over at most 2^12 steps fits s32; two
 * squares are at most 2^31, which fits u32, and are widened to 64 bits at once. */
static void row_sums(pq_dtype type, const void *x, size_t begin, size_t channels, int64_t *sum,
                     int64_t *square_sum) {
    int32x4_t sums = vdupq_n_s32(0);
    uint64x2_t squares = vdupq_n_u64(0);
    size_t c = 0;
    for (; c + 8 <= channels; c += 8) {
        const int16x8_t v = pq_neon_load_8(type, x, begin + c);
        const int32x4_t low = vmull_s16(vget_low_s16(v), vget_low_s16(v));
        const uint32x4_t pairs =
            vaddq_u32(vreinterpretq_u32_s32(low), vreinterpretq_u32_s32(vmull_high_s16(v, v)));
        sums = vpadalq_s16(sums, v);
        squares = vpadalq_u32(squares, pairs);
    }
    *sum = vaddlvq_s32(sums);
    *square_sum = (int64_t)vaddvq_u64(squares);
    for (; c < channels; c++) {
        const int64_t value =
            type == PQ_S8 ? ((const int8_t *)x)[begin + c] : ((const int16_t *)x)[begin + c];
        *sum += value;
        *square_sum += value * value;
    }
}

/* Constants of one row, spread over the lanes; shifts are negative. */
typedef struct row_lanes {
    int16x4_t channels;
    int32x4_t centre, multiplier; /* centre: negative */
    int64x2_t z_shift, y_shift;
} row_lanes;

static row_lanes spread(const pq_layernorm_args *args, pq_layernorm_row row) {
    return (row_lanes){
        .channels = vdup_n_s16((int16_t)row.channels),
        .centre = vdupq_n_s32(-row.centre),
        .multiplier = vdupq_n_s32(row.multiplier),
        .z_shift = vdupq_n_s64(-row.shift),
        .y_shift = vdupq_n_s64(-args->shift),
    };
}

/* Four channels: y before its zero point. */
static inline int32x4_t four(const row_lanes *k, int16x4_t x, const int32_t *gain,
                             const int64_t *offset) {
    const int32x4_t centred = vmlal_s16(k->centre, x, k->channels);
    const int64x2_t a = vmull_s32(vget_low_s32(centred), vget_low_s32(k->multiplier));
    const int64x2_t b = vmull_high_s32(centred, k->multiplier);
    const int32x2_t z_a = vmovn_s64(vrshlq_s64(a, k->z_shift));
    const int32x2_t z_b = vmovn_s64(vrshlq_s64(b, k->z_shift));
    return pq_neon_round_4(vmlal_s32(vld1q_s64(offset), z_a, vld1_s32(gain)),
                           vmlal_s32(vld1q_s64(offset + 2), z_b, vld1_s32(gain + 2)), k->y_shift,
                           k->y_shift);
}

static void row_channels(const pq_layernorm_args *args, pq_layernorm_row row, size_t begin) {
    const row_lanes k = spread(args, row);
    const pq_neon_output out = pq_neon_output_of(args->out);
    size_t c = 0;
    for (; c + 8 <= args->channels; c += 8) {
        const int16x8_t x = pq_neon_load_8(args->x_type, args->x, begin + c);
        const int32x4_t a = four(&k, vget_low_s16(x), args->gain + c, args->offset + c);
        const int32x4_t b = four(&k, vget_high_s16(x), args->gain + c + 4, args->offset + c + 4);
        pq_neon_store_8(args->y_type, args->y, begin + c, pq_neon_clamp_8(&out, a, b));
    }
    for (; c < args->channels; c++) {
        const size_t i = begin + c;
        const int32_t x =
            args->x_type == PQ_S8 ? ((const int8_t *)args->x)[i] : ((const int16_t *)args->x)[i];
        const int32_t y = pq_layernorm_channel(args, row, c, x);
        if (args->y_type == PQ_S8) {
            ((int8_t *)args->y)[i] = (int8_t)y;
        } else {
            ((int16_t *)args->y)[i] = (int16_t)y;
        }
    }
}

static void rows(const pq_layernorm_args *args, size_t begin, size_t end) {
    const size_t channels = args->channels;
    assert(channels >= 1 && channels <= INT16_MAX);
    for (size_t i = begin; i < end; i++) {
        int64_t sum, square_sum;
        row_sums(args->x_type, args->x, i * channels, channels, &sum, &square_sum);
        row_channels(args, pq_layernorm_row_of(args, sum, square_sum), i * channels);
    }
}

const struct pq_layernorm_kernel pq_layernorm_neon = {.rows = rows};
