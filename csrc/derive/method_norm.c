/* Methods of LayerNorm and RMSNorm. */
#include "derive/method_lists.h"

static const pq_method_row rows[] = {
    {.name = "exact", .reference = "ours: reciprocal root to 31 bits, exact statistics"},
};

const pq_method_list pq_norm_methods = {"norm", PQ_METHOD_ROWS(rows)};
