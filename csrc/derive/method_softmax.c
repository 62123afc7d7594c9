/* Methods of the softmax sub-site, in the order of pq_softmax_method. */
#include "derive/method_lists.h"
#include "pyquant/attention.h"

static const pq_method_row rows[] = {
    [PQ_SOFTMAX_TABLE16] = {.name = "table16",
                            .reference = "ours: 2^x by 32 steps an octave, 14-bit weights"},
    [PQ_SOFTMAX_TABLE8] = {.name = "table8",
                           .reference = "ours: 2^x by 32 steps an octave, 8-bit weights"},
};

const pq_method_list pq_softmax_methods = {"softmax", PQ_METHOD_ROWS(rows)};
