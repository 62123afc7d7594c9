/* Squares of 16 x 16 bytes or 8 x 8 words, where there is room two side by side in the halves of a
 * vector.
 *
 * Number the elements of a square of 2^k x 2^k by row and column, 2k bits. Interleaving row i with
 * row i + 2^(k-1), low halves to row 2 i and high halves to row 2 i + 1, rotates these bits by one.
 * After k rounds row and column have changed places.
 *
 * What is left of the rows and columns at the end is done by one more square that overlaps the one
 * before; pieces narrower than a square go to the reference.
 */
#include <stdbool.h>

#include "core/simd_avx2.h"
#include "core/unroll.h"
#include "layout/transpose_kernel.h"

#define INLINE static inline __attribute__((always_inline))

/* One round; `count` is the side of the square. */
INLINE void interleave(int count, const __m256i *from, __m256i *to) {
    PQ_UNROLL
    for (int i = 0; i < count / 2; i++) {
        /* cppcheck-suppress uninitvar ; it thinks that count may be 0 */
        const __m256i a = from[i], b = from[i + count / 2];
        to[2 * i] = count == 16 ? _mm256_unpacklo_epi8(a, b) : _mm256_unpacklo_epi16(a, b);
        to[2 * i + 1] = count == 16 ? _mm256_unpackhi_epi8(a, b) : _mm256_unpackhi_epi16(a, b);
    }
}

INLINE __m256i load(bool both, const char *x) {
    return both ? _mm256_loadu_si256((const __m256i *)(const void *)x)
                : _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)x));
}

/* The halves of `row` to two rows of y. */
INLINE void store(bool both, __m256i row, char *low, char *high) {
    _mm_storeu_si128((__m128i *)(void *)low, _mm256_castsi256_si128(row));
    if (both) {
        _mm_storeu_si128((__m128i *)(void *)high, _mm256_extracti128_si256(row, 1));
    }
}

/* One square or two: `count` or 2 * count rows of y, count columns (16 bytes). */
INLINE void squares(int count, bool both, const char *x, ptrdiff_t x_step, char *y,
                    ptrdiff_t y_step) {
    const int half = count / 2;
    __m256i v[16], w[16];
    PQ_UNROLL
    for (int i = 0; i < half; i++) {
        v[i] = load(both, x + i * x_step);
        v[i + half] = load(both, x + (i + half) * x_step);
    }
    interleave(count, v, w);
    interleave(count, w, v);
    interleave(count, v, w);
    if (count == 16) {
        interleave(count, w, v);
    }
    PQ_UNROLL
    for (int i = 0; i < half; i++) {
        const __m256i a = count == 16 ? v[i] : w[i], b = count == 16 ? v[i + half] : w[i + half];
        store(both, a, y + i * y_step, y + (i + count) * y_step);
        store(both, b, y + (i + half) * y_step, y + (i + half + count) * y_step);
    }
}

typedef void (*squares_fn)(const char *x, ptrdiff_t x_step, char *y, ptrdiff_t y_step);

static void one_s8(const char *x, ptrdiff_t x_step, char *y, ptrdiff_t y_step) {
    squares(16, false, x, x_step, y, y_step);
}

static void two_s8(const char *x, ptrdiff_t x_step, char *y, ptrdiff_t y_step) {
    squares(16, true, x, x_step, y, y_step);
}

static void one_s16(const char *x, ptrdiff_t x_step, char *y, ptrdiff_t y_step) {
    squares(8, false, x, x_step, y, y_step);
}

static void two_s16(const char *x, ptrdiff_t x_step, char *y, ptrdiff_t y_step) {
    squares(8, true, x, x_step, y, y_step);
}

static void run(size_t size, size_t rows, size_t columns, const char *x, ptrdiff_t x_step, char *y,
                ptrdiff_t y_step) {
    const size_t side = 16 / size;
    if (size > 2 || rows < side || columns < side) {
        pq_transpose_ref.run(size, rows, columns, x, x_step, y, y_step);
        return;
    }
    const bool both = rows >= 2 * side;
    const size_t step = both ? 2 * side : side;
    const squares_fn fn = size == 1 ? (both ? two_s8 : one_s8) : (both ? two_s16 : one_s16);
    for (size_t c = 0; c < columns; c += side) {
        c = c + side > columns ? columns - side : c;
        for (size_t r = 0; r < rows; r += step) {
            r = r + step > rows ? rows - step : r;
            fn(x + (ptrdiff_t)c * x_step + r * size, x_step, y + (ptrdiff_t)r * y_step + c * size,
               y_step);
        }
    }
}

const struct pq_transpose_kernel pq_transpose_avx2 = {.run = run};
