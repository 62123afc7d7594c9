/* As on AVX2 (see there), four squares side by side. A mask covers the rows that are left, so only
 * pieces with fewer columns than a square is wide go to the reference. */
#include <stdbool.h>
#include <stdint.h>

#include "core/simd_avx512.h"
#include "core/unroll.h"
#include "layout/transpose_kernel.h"

#define INLINE static inline __attribute__((always_inline))

/* One round; `count` is the side of the square. */
INLINE void interleave(int count, const __m512i *from, __m512i *to) {
    PQ_UNROLL
    for (int i = 0; i < count / 2; i++) {
        /* cppcheck-suppress uninitvar ; it thinks that count may be 0 */
        const __m512i a = from[i], b = from[i + count / 2];
        to[2 * i] = count == 16 ? _mm512_unpacklo_epi8(a, b) : _mm512_unpacklo_epi16(a, b);
        to[2 * i + 1] = count == 16 ? _mm512_unpackhi_epi8(a, b) : _mm512_unpackhi_epi16(a, b);
    }
}

/* The quarters of v are rows i, i + count, i + 2 count, i + 3 count of y, those below `rows`. */
INLINE void store(int count, __m512i v, char *y, ptrdiff_t y_step, int i, int rows) {
    const __m128i quarters[4] = {_mm512_castsi512_si128(v), _mm512_extracti32x4_epi32(v, 1),
                                 _mm512_extracti32x4_epi32(v, 2), _mm512_extracti32x4_epi32(v, 3)};
    PQ_UNROLL
    for (int j = 0; j < 4; j++) {
        const int row = i + j * count;
        if (row < rows) {
            _mm_storeu_si128((__m128i *)(void *)(y + row * y_step), quarters[j]);
        }
    }
}

/* `rows` of y, at most 4 * count, and count columns (16 bytes). */
INLINE void squares(int count, int rows, const char *x, ptrdiff_t x_step, char *y,
                    ptrdiff_t y_step) {
    const int half = count / 2, bytes = rows * (16 / count);
    const __mmask64 mask = bytes == 64 ? UINT64_MAX : (UINT64_C(1) << bytes) - 1;
    __m512i v[16], w[16];
    PQ_UNROLL
    for (int i = 0; i < half; i++) {
        v[i] = _mm512_maskz_loadu_epi8(mask, x + i * x_step);
        v[i + half] = _mm512_maskz_loadu_epi8(mask, x + (i + half) * x_step);
    }
    interleave(count, v, w);
    interleave(count, w, v);
    interleave(count, v, w);
    if (count == 16) {
        interleave(count, w, v);
    }
    PQ_UNROLL
    for (int i = 0; i < half; i++) {
        store(count, count == 16 ? v[i] : w[i], y, y_step, i, rows);
        store(count, count == 16 ? v[i + half] : w[i + half], y, y_step, i + half, rows);
    }
}

static void squares_s8(int rows, const char *x, ptrdiff_t x_step, char *y, ptrdiff_t y_step) {
    squares(16, rows, x, x_step, y, y_step);
}

static void squares_s16(int rows, const char *x, ptrdiff_t x_step, char *y, ptrdiff_t y_step) {
    squares(8, rows, x, x_step, y, y_step);
}

static void run(size_t size, size_t rows, size_t columns, const char *x, ptrdiff_t x_step, char *y,
                ptrdiff_t y_step) {
    const size_t side = 16 / size, most = 4 * side;
    if (size > 2 || columns < side) {
        pq_transpose_ref.run(size, rows, columns, x, x_step, y, y_step);
        return;
    }
    for (size_t c = 0; c < columns; c += side) {
        c = c + side > columns ? columns - side : c;
        for (size_t r = 0; r < rows; r += most) {
            const int here = (int)(rows - r < most ? rows - r : most);
            (size == 1 ? squares_s8 : squares_s16)(here, x + (ptrdiff_t)c * x_step + r * size,
                                                   x_step, y + (ptrdiff_t)r * y_step + c * size,
                                                   y_step);
        }
    }
}

const struct pq_transpose_kernel pq_transpose_avx512 = {.run = run};
