/* Squares of 16 x 16 bytes, 8 x 8 words or 4 x 4 double words, by rounds of interleaving.
 *
 * Number the elements of a square of 2^k x 2^k by row and column, 2k bits. Interleaving row i with
 * row i + 2^(k-1), low halves to row 2 i and high halves to row 2 i + 1, rotates these bits by one.
 * After k rounds row and column have changed places.
 *
 * What is left of the rows and columns at the end is done by one more square that overlaps the one
 * before; pieces narrower than a square, and elements of 8 bytes, go to the reference.
 */
#include "core/simd_neon.h"
#include "core/unroll.h"
#include "layout/transpose_kernel.h"

#define INLINE static inline __attribute__((always_inline))

/* One round; `side` is that of the square. */
INLINE void interleave(int side, const uint8x16_t *from, uint8x16_t *to) {
    PQ_UNROLL
    for (int i = 0; i < side / 2; i++) {
        const uint8x16_t a = from[i], b = from[i + side / 2];
        if (side == 16) {
            to[2 * i] = vzip1q_u8(a, b);
            to[2 * i + 1] = vzip2q_u8(a, b);
        } else if (side == 8) {
            const uint16x8_t a16 = vreinterpretq_u16_u8(a), b16 = vreinterpretq_u16_u8(b);
            to[2 * i] = vreinterpretq_u8_u16(vzip1q_u16(a16, b16));
            to[2 * i + 1] = vreinterpretq_u8_u16(vzip2q_u16(a16, b16));
        } else {
            const uint32x4_t a32 = vreinterpretq_u32_u8(a), b32 = vreinterpretq_u32_u8(b);
            to[2 * i] = vreinterpretq_u8_u32(vzip1q_u32(a32, b32));
            to[2 * i + 1] = vreinterpretq_u8_u32(vzip2q_u32(a32, b32));
        }
    }
}

INLINE void square(int side, const uint8_t *x, ptrdiff_t x_step, uint8_t *y, ptrdiff_t y_step) {
    uint8x16_t v[16], w[16];
    const int half = side / 2; /* an unrolled loop has at most 8 turns */
    PQ_UNROLL
    for (int i = 0; i < half; i++) {
        v[i] = vld1q_u8(x + i * x_step);
        v[i + half] = vld1q_u8(x + (i + half) * x_step);
    }
    interleave(side, v, w);
    interleave(side, w, v);
    if (side > 4) {
        interleave(side, v, w);
    }
    if (side > 8) {
        interleave(side, w, v);
    }
    PQ_UNROLL
    for (int i = 0; i < half; i++) {
        vst1q_u8(y + i * y_step, side == 8 ? w[i] : v[i]);
        vst1q_u8(y + (i + half) * y_step, side == 8 ? w[i + half] : v[i + half]);
    }
}

static void square_16(const uint8_t *x, ptrdiff_t x_step, uint8_t *y, ptrdiff_t y_step) {
    square(16, x, x_step, y, y_step);
}

static void square_8(const uint8_t *x, ptrdiff_t x_step, uint8_t *y, ptrdiff_t y_step) {
    square(8, x, x_step, y, y_step);
}

static void square_4(const uint8_t *x, ptrdiff_t x_step, uint8_t *y, ptrdiff_t y_step) {
    square(4, x, x_step, y, y_step);
}

static void run(size_t size, size_t rows, size_t columns, const char *x, ptrdiff_t x_step, char *y,
                ptrdiff_t y_step) {
    const size_t side = 16 / size;
    if (size > 4 || rows < side || columns < side) {
        pq_transpose_ref.run(size, rows, columns, x, x_step, y, y_step);
        return;
    }
    for (size_t c = 0; c < columns; c += side) {
        c = c + side > columns ? columns - side : c;
        for (size_t r = 0; r < rows; r += side) {
            r = r + side > rows ? rows - side : r;
            const uint8_t *from = (const uint8_t *)x + (ptrdiff_t)c * x_step + r * size;
            uint8_t *to = (uint8_t *)y + (ptrdiff_t)r * y_step + c * size;
            switch (side) {
            case 16: square_16(from, x_step, to, y_step); break;
            case 8: square_8(from, x_step, to, y_step); break;
            default: square_4(from, x_step, to, y_step); break;
            }
        }
    }
}

const struct pq_transpose_kernel pq_transpose_neon = {.run = run};
