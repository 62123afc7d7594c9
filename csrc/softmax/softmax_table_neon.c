/* 16 keys at a time. The index u has 9 bits: 5 choose the table entry, looked up in bytes, low and
 * high byte apart; the others are the octave h, whose rounding shift (T + 2^h) >> (h + 1) is one
 * vrshlq_u16 by -(h + 1) = ~h. The rounding shift of the index is vrshlq_u32. */
#include "softmax/softmax_neon.h"

#include <assert.h>

#include "core/simd_neon.h"

/* Bytes of the 32 entries. */
typedef struct lookup {
    uint8x16x2_t low, high;
} lookup;

typedef struct index_constants {
    int32x4_t highest;
    uint32x4_t delta_max, multiplier;
    int32x4_t shift; /* negative */
} index_constants;

static inline lookup make_lookup(const uint16_t table[PQ_SOFTMAX_TABLE_SIZE]) {
    const uint8x16x2_t first = vld2q_u8((const uint8_t *)table);
    const uint8x16x2_t second = vld2q_u8((const uint8_t *)(table + 16));
    return (lookup){.low = {{first.val[0], second.val[0]}},
                    .high = {{first.val[1], second.val[1]}}};
}

/* u of four keys before its own clamp. */
static inline uint32x4_t index_of(const index_constants *c, int32x4_t score) {
    const uint32x4_t delta = vreinterpretq_u32_s32(vsubq_s32(c->highest, score));
    return vrshlq_u32(vmulq_u32(vminq_u32(delta, c->delta_max), c->multiplier), c->shift);
}

/* u of eight keys; the narrowing saturates, so that the clamp may follow it. */
static inline uint16x8_t index_8(const index_constants *c, int32x4_t a, int32x4_t b) {
    const uint16x8_t u = vqmovn_high_u32(vqmovn_u32(index_of(c, a)), index_of(c, b));
    return vminq_u16(u, vdupq_n_u16(PQ_SOFTMAX_INDEX_END));
}

static inline uint16x8_t scale_octave(uint16x8_t entry, uint16x8_t u) {
    return vrshlq_u16(entry, vmvnq_s16(vreinterpretq_s16_u16(vshrq_n_u16(u, 5))));
}

static inline uint16x8_t is_excluded(int32x4_t a, int32x4_t b) {
    const int32x4_t excluded = vdupq_n_s32(PQ_SCORE_EXCLUDED);
    return vcombine_u16(vmovn_u32(vceqq_s32(a, excluded)), vmovn_u32(vceqq_s32(b, excluded)));
}

/* Weights of 16 keys, in place: 32 bytes at 2j, after the 64 bytes at 4j were read. */
static inline uint32x4_t weigh_16(const lookup *table, const index_constants *c, bool masked,
                                  const int32_t *score, uint8_t *p, uint32x4_t sum) {
    const int32x4_t s0 = vld1q_s32(score), s1 = vld1q_s32(score + 4);
    const int32x4_t s2 = vld1q_s32(score + 8), s3 = vld1q_s32(score + 12);
    const uint16x8_t u0 = index_8(c, s0, s1), u1 = index_8(c, s2, s3);
    const uint8x16_t entry =
        vandq_u8(vcombine_u8(vmovn_u16(u0), vmovn_u16(u1)), vdupq_n_u8(PQ_SOFTMAX_TABLE_SIZE - 1));
    const uint8x16_t low = vqtbl2q_u8(table->low, entry), high = vqtbl2q_u8(table->high, entry);
    uint16x8_t p0 = scale_octave(vreinterpretq_u16_u8(vzip1q_u8(low, high)), u0);
    uint16x8_t p1 = scale_octave(vreinterpretq_u16_u8(vzip2q_u8(low, high)), u1);
    if (masked) {
        p0 = vbicq_u16(p0, is_excluded(s0, s1));
        p1 = vbicq_u16(p1, is_excluded(s2, s3));
    }
    const uint8x16_t bytes_0 = vreinterpretq_u8_u16(p0), bytes_1 = vreinterpretq_u8_u16(p1);
    vst1q_u8(p, vuzp1q_u8(bytes_0, bytes_1));
    vst1q_u8(p + 16, vuzp2q_u8(bytes_0, bytes_1));
    return vpadalq_u16(vpadalq_u16(sum, p0), p1);
}

static int32_t row_maximum(size_t n, const int32_t *row) {
    int32x4_t a = vld1q_s32(row), b = vld1q_s32(row + 4);
    int32x4_t c = vld1q_s32(row + 8), d = vld1q_s32(row + 12);
    for (size_t j = 16; j < n; j += 16) {
        a = vmaxq_s32(a, vld1q_s32(row + j));
        b = vmaxq_s32(b, vld1q_s32(row + j + 4));
        c = vmaxq_s32(c, vld1q_s32(row + j + 8));
        d = vmaxq_s32(d, vld1q_s32(row + j + 12));
    }
    return vmaxvq_s32(vmaxq_s32(vmaxq_s32(a, b), vmaxq_s32(c, d)));
}

pq_softmax_sums pq_softmax_table_neon(const pq_softmax *softmax, size_t n, size_t plain,
                                      int32_t *row) {
    if (n == 0) {
        return (pq_softmax_sums){.weights = 0, .divisor = 1};
    }
    assert(n % PQ_SOFTMAX_BYTES_STEP == 0);
    const lookup table = make_lookup(softmax->table);
    const index_constants c = {
        .highest = vdupq_n_s32(row_maximum(n, row)),
        .delta_max = vdupq_n_u32(softmax->delta_max),
        .multiplier = vdupq_n_u32(softmax->multiplier),
        .shift = vdupq_n_s32(-softmax->shift),
    };
    uint8_t *const p = (uint8_t *)row;
    uint32x4_t sum = vdupq_n_u32(0); /* of the row: below 2^31 / 128 (the bound on L) */
    for (size_t j = 0; j < n; j += 16) {
        sum = weigh_16(&table, &c, j + 16 > plain, row + j, p + 2 * j, sum);
    }
    const uint32_t l = vaddvq_u32(sum);
    return (pq_softmax_sums){.weights = l, .divisor = l == 0 ? 1 : l};
}
