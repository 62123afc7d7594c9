#include "unary/unary_internal.h"

/* As I-BERT's erf with the fourth power: flatter at the top, steeper at 0, as erf and tanh are. The
 * square loses bits in between, so that its own square fits. */
int64_t pq_unary_poly(const pq_poly *k, int32_t v) {
    const int64_t w = pq_least(pq_raised(v < 0 ? -v : v, k->up), -k->b) + k->b;
    const int64_t h = w * w >> k->square;
    const int64_t size = (h * h + k->c) >> k->n;
    return v > 0 ? size : v < 0 ? -size : 0;
}
