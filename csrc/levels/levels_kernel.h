/* Kernels of levels.h, and the codebook as they search it.
 *
 * Small codebooks are halved in registers. For larger ones a float's magnitude bits, shifted right
 * until no cell holds two thresholds, number a cell; the cell says how many thresholds lie in lower
 * cells, and one comparison does the rest. Cells of positive floats follow those of negative ones:
 *     k = clamp((bits of |v| >> shift) - first, 0, half - 1),   cell = half + k, or half - 1 - k
 * with v + 0 for v, so that -0 is found where 0 is. A codebook that would need more than
 * PQ_LEVELS_CELLS is halved element by element.
 */
#ifndef PYQUANT_LEVELS_LEVELS_KERNEL_H
#define PYQUANT_LEVELS_LEVELS_KERNEL_H

#include <stdbool.h>

#include "pyquant/levels.h"

#define PQ_LEVELS_CELLS 8192

typedef struct pq_levels_book {
    float levels[PQ_LEVELS_MOST];     /* the last one repeated */
    float thresholds[PQ_LEVELS_MOST]; /* padded with NaN, which no v is above */
    float low, high;
    uint32_t count;
    uint32_t reach; /* the first step of halving: 2 * reach is the least power of two >= count */
    uint32_t shift;
    int32_t first, half; /* half = 0: no cells */
    int32_t cells[PQ_LEVELS_CELLS];
} pq_levels_book;

/* Element i of a run [begin, end) uses scale[(i - begin) * step], step 0 or 1. Those with a bool
 * return true where x holds NaN. */
struct pq_levels_kernel {
    uint32_t in_registers; /* the largest codebook that needs no cells */
    /* mask may be NULL; its bits of [begin, end) are 0 before. */
    bool (*values)(const pq_levels_book *book, size_t begin, size_t end, const float *x,
                   const float *scale, size_t step, float *x_hat, uint8_t *mask);
    bool (*codes)(const pq_levels_book *book, size_t begin, size_t end, const float *x,
                  const float *scale, size_t step, uint8_t *codes);
    /* n <= PQ_LEVELS_BLOCK elements of one channel; the sums of its lanes. */
    bool (*learned_run)(const pq_levels_book *book, size_t n, const float *x, const float *g,
                        float scale, float *dx, float *lanes);
    /* One element of each of n channels, added to sums. */
    bool (*learned_row)(const pq_levels_book *book, size_t n, const float *x, const float *g,
                        const float *scale, float *dx, float *sums);
};

extern const struct pq_levels_kernel pq_levels_ref, pq_levels_avx2, pq_levels_avx512;

/* Checks args->levels and args->thresholds and fills `book`, with cells where `cells` says so. */
PQ_NODISCARD pq_status pq_levels_book_make(const pq_exec *exec, const char *op,
                                           const pq_levels_args *args, bool cells,
                                           pq_levels_book *book);
/* What every entry checks of args, x and a second operand of n elements of `size` bytes. */
PQ_NODISCARD pq_status pq_levels_check(const pq_exec *exec, const char *op,
                                       const pq_levels_args *args, const float *x, const void *out,
                                       size_t size, const char *out_name);
/* PQ_ERR_NAN with the index of the first, unless the output has overwritten it. */
PQ_NODISCARD pq_status pq_levels_nan(const pq_exec *exec, const char *op, size_t n, const float *x);

#endif
