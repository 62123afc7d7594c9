/* Methods of element-wise functions. */
#include "derive/method_lists.h"

static const pq_method_row rows[] = {
    {.name = "table", .reference = "ours: the function itself, rounded once"},
};

const pq_method_list pq_unary_methods = {"unary", PQ_METHOD_ROWS(rows)};
