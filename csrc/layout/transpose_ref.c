#include <string.h>

#include "layout/transpose_kernel.h"

static void run(size_t size, size_t rows, size_t columns, const char *x, ptrdiff_t x_step, char *y,
                ptrdiff_t y_step) {
    /* memcpy of a constant size is one move, and asks for no alignment. */
#define PQ_TRANSPOSE_OF(bytes) \
    case bytes: \
        for (size_t r = 0; r < rows; r++) { \
            for (size_t c = 0; c < columns; c++) { \
                memcpy(y + (ptrdiff_t)r * y_step + c * bytes, \
                       x + (ptrdiff_t)c * x_step + r * bytes, bytes); \
            } \
        } \
        break
    switch (size) {
        PQ_TRANSPOSE_OF(1);
        PQ_TRANSPOSE_OF(2);
        PQ_TRANSPOSE_OF(4);
        PQ_TRANSPOSE_OF(8);
    }
#undef PQ_TRANSPOSE_OF
}

const struct pq_transpose_kernel pq_transpose_ref = {.run = run};
