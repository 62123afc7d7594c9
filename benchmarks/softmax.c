/* The softmax inside attention by itself, linked from the objects of the module: panels of scores
 * as attention fills them, one after the other. A panel is copied in before each call, from rows
 * that stay in cache, because weights replace scores; attention's own come from the tile's
 * registers. */
#include <omp.h>
#include <string.h>

#include "softmax/softmax_method.h"

#define EXPORT __attribute__((visibility("default")))

enum { ROWS = 24, MOST_KEYS = 4096 };

static pq_softmax_panel_fn *softmax_of(const char *isa) {
#if defined(__x86_64__)
    if (strcmp(isa, "avx2") == 0) {
        return pq_softmax_table_avx2;
    }
    if (strncmp(isa, "avx512", 6) == 0) {
        return pq_softmax_table_avx512;
    }
#endif
    (void)isa;
    return NULL;
}

EXPORT int bench_softmax_present(const char *isa) {
    return softmax_of(isa) != NULL;
}

/* Bytes of one thread's panel. */
EXPORT size_t bench_softmax_panel(void) {
    return sizeof(int32_t) * ROWS * MOST_KEYS;
}

/* L of `rows` rows of n <= 4096 scores: scores[distinct][n] again and again. `panels` holds one for
 * each thread, aligned to 64 bytes. The weights stay there. */
EXPORT void bench_softmax(const char *isa, int threads, const uint16_t *table, uint32_t delta_max,
                          uint32_t multiplier, int shift, int pmax, size_t rows, size_t distinct,
                          size_t n, const int32_t *scores, void *panels, uint32_t *sums) {
    pq_softmax_panel_fn *const softmax = softmax_of(isa);
    pq_softmax method = {.method = PQ_SOFTMAX_TABLE16,
                         .delta_max = delta_max,
                         .multiplier = multiplier,
                         .shift = shift,
                         .pmax = pmax};
    const size_t step = strcmp(isa, "avx2") == 0 ? PQ_SOFTMAX_STEP : 2 * PQ_SOFTMAX_STEP;
    const size_t padded = (n + step - 1) / step * step;
    const size_t blocks = (rows + ROWS - 1) / ROWS;
    size_t plain[ROWS];
    memcpy(method.table, table, sizeof method.table);
    for (size_t i = 0; i < ROWS; i++) {
        plain[i] = n;
    }
#pragma omp parallel num_threads(threads)
    {
        char *const mine = (char *)panels + (size_t)omp_get_thread_num() * bench_softmax_panel();
        int32_t *const own = (int32_t *)(void *)mine;
#pragma omp for schedule(static)
        for (size_t block = 0; block < blocks; block++) {
            const size_t first = block * ROWS;
            const size_t count = rows - first < ROWS ? rows - first : ROWS;
            for (size_t i = 0; i < count; i++) {
                memcpy(own + i * padded, scores + (first + i) % distinct * n, sizeof *scores * n);
                for (size_t j = n; j < padded; j++) {
                    own[i * padded + j] = PQ_SCORE_EXCLUDED;
                }
            }
            const pq_softmax_panel panel = {.rows = count,
                                            .n = padded,
                                            .stride = padded,
                                            .scores = own,
                                            .plain = plain,
                                            .sums = sums + first};
            softmax(&method, &panel);
        }
    }
}
