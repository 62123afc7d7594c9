/* Row by row through the methods of softmax_neon.h, which leave the low bytes of 16 weights and
 * then the high ones. */
#include <assert.h>
#include <string.h>

#include "core/neon_output.h"
#include "softmax/softmax_neon.h"
#include "softmax/softmax_rows_kernel.h"

enum { STEP = PQ_SOFTMAX_BYTES_STEP };

static void widen(const pq_softmax_rows_args *args, size_t row, size_t stride, int32_t *scores) {
    const void *const x = pq_at(args->x_type, args->x, row * args->n);
    size_t j = 0;
    for (; j + 8 <= args->n; j += 8) {
        const int16x8_t v = pq_neon_load_8(args->x_type, x, j);
        vst1q_s32(scores + j, vmovl_s16(vget_low_s16(v)));
        vst1q_s32(scores + j + 4, vmovl_high_s16(v));
    }
    for (; j < args->n; j++) {
        scores[j] = pq_load(args->x_type, x, j);
    }
    for (; j < stride; j++) {
        scores[j] = PQ_SCORE_EXCLUDED;
    }
}

typedef struct lanes {
    pq_neon_output out;
    int32x4_t multiplier;
    int64x2_t shift; /* negative */
} lanes;

static inline int32x4_t output_4(const lanes *k, uint32x4_t weights) {
    const int32x4_t p = vreinterpretq_s32_u32(weights);
    return pq_neon_round_4(vmull_s32(vget_low_s32(p), vget_low_s32(k->multiplier)),
                           vmull_high_s32(p, k->multiplier), k->shift, k->shift);
}

static inline int16x8_t output_8(const lanes *k, uint8x16_t weights) {
    const uint16x8_t p = vreinterpretq_u16_u8(weights);
    return pq_neon_clamp_8(&k->out, output_4(k, vmovl_u16(vget_low_u16(p))),
                           output_4(k, vmovl_high_u16(p)));
}

static inline void store_16(const lanes *k, const uint8_t *p, pq_dtype type, void *y, size_t j) {
    const uint8x16_t low = vld1q_u8(p), high = vld1q_u8(p + 16);
    pq_neon_store_8(type, y, j, output_8(k, vzip1q_u8(low, high)));
    pq_neon_store_8(type, y, j + 8, output_8(k, vzip2q_u8(low, high)));
}

static void write(const pq_softmax_rows_args *args, size_t row, pq_dyadic factor,
                  const int32_t *weights) {
    const uint8_t *const p = (const uint8_t *)weights;
    const size_t n = args->n, size = pq_dtype_size(args->y_type);
    char *const y = pq_at_out(args->y_type, args->y, row * n);
    const lanes k = {.out = pq_neon_output_of(args->out),
                     .multiplier = vdupq_n_s32(factor.multiplier),
                     .shift = vdupq_n_s64(-factor.shift)};
    size_t j = 0;
    for (; j + STEP <= n; j += STEP) {
        store_16(&k, p + 2 * j, args->y_type, y, j);
    }
    if (j < n) {
        int16_t all[STEP];
        store_16(&k, p + 2 * j, args->y_type, all, 0);
        memcpy(y + j * size, all, (n - j) * size);
    }
}

static size_t scratch_size(const pq_softmax_rows_args *args) {
    return pq_round_up(pq_round_up(args->n, STEP) * sizeof(int32_t), 64);
}

static void run(const pq_softmax_rows_args *args, size_t begin, size_t end, void *scratch) {
    pq_softmax_bytes_fn *const method = pq_softmax_by_octaves(args->softmax.method)
                                            ? pq_softmax_table_neon
                                            : pq_softmax_lookup_neon;
    const size_t stride = pq_round_up(args->n, STEP);
    int32_t *const scores = scratch;
    assert(args->n > 0);
    for (size_t i = begin; i < end; i++) {
        widen(args, i, stride, scores);
        const pq_softmax_sums sums = method(&args->softmax, stride, args->n, scores);
        write(args, i, pq_softmax_normalizer(args->requant, sums.divisor), scores);
    }
}

const struct pq_softmax_rows_kernel pq_softmax_rows_neon = {.scratch_size = scratch_size,
                                                            .run = run};
