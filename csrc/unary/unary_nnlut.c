#include "unary/unary_internal.h"

/* In hardware the comparisons run side by side, and one multiply-add follows. */
int64_t pq_unary_nnlut(const pq_nnlut *k, int32_t v) {
    int32_t j = 0;
    for (int32_t i = 1; i < k->entries; i++) {
        j += v >= k->start[i];
    }
    return (int64_t)k->slope[j] * v + k->intercept[j];
}
