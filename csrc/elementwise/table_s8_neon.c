/* table_s8 by four look-ups of 64 entries: vqtbx4q_u8 keeps what is there where the index is 64 or
 * more, so that each quarter of the table answers for its own quarter of the indices. The table
 * takes 16 of the 32 registers; two vectors a step hide the latency of the chain. */
#include "core/simd_neon.h"
#include "elementwise/table_s8_kernel.h"

static inline uint8x16x4_t load_quarter(const int8_t *table) {
    uint8x16x4_t quarter;
    for (int i = 0; i < 4; i++) {
        quarter.val[i] = vld1q_u8((const uint8_t *)table + 16 * i);
    }
    return quarter;
}

static inline uint8x16_t look_up(const uint8x16x4_t table[4], uint8x16_t index) {
    const uint8x16_t step = vdupq_n_u8(64);
    uint8x16_t y = vqtbl4q_u8(table[0], index);
    for (int i = 1; i < 4; i++) {
        index = vsubq_u8(index, step);
        y = vqtbx4q_u8(y, table[i], index);
    }
    return y;
}

static void run(size_t n, const int8_t *x, const int8_t table[256], int8_t *y) {
    uint8x16x4_t quarters[4];
    for (int i = 0; i < 4; i++) {
        quarters[i] = load_quarter(table + 64 * i);
    }
    const uint8x16_t flip = vdupq_n_u8(128); /* x + 128 */
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const uint8x16_t a = veorq_u8(vld1q_u8((const uint8_t *)x + i), flip);
        const uint8x16_t b = veorq_u8(vld1q_u8((const uint8_t *)x + i + 16), flip);
        const uint8x16_t y_a = look_up(quarters, a), y_b = look_up(quarters, b);
        vst1q_u8((uint8_t *)y + i, y_a);
        vst1q_u8((uint8_t *)y + i + 16, y_b);
    }
    for (; i < n; i++) {
        y[i] = table[x[i] + 128];
    }
}

const struct pq_table_s8_kernel pq_table_s8_neon = {.run = run};
