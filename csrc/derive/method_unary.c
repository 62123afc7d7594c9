/* Methods of element-wise functions, in the order of pq_unary_method. */
#include "derive/method_lists.h"
#include "pyquant/derive_unary.h"

#define X_BITS \
    {"x_bits", 8.0, 0.0, 12.0, true, "least bits of the unit of x; 0: integers as published"}

static const pq_method_row rows[PQ_UNARY_METHOD_COUNT] = {
    [PQ_UNARY_TABLE] = {.name = "table", .reference = "ours: the function itself, rounded once"},
    [PQ_UNARY_IBERT] =
        {.name = "ibert",
         .reference = "I-BERT, arXiv:2101.01321, Algorithms 2 and 3; all but GELU and exp are ours",
         .parameters = {{"n", 0.0, 0.0, 30.0, true,
                         "right shift of erf before GELU's product; the released code has 14"},
                        X_BITS,
                        {"bits", 15.0, 4.0, 16.0, true, "fraction bits of the sigmoid"}}},
    [PQ_UNARY_IVIT] =
        {.name = "ivit",
         .reference = "I-ViT, arXiv:2207.01405, ShiftGELU and ShiftExp, element by element",
         .parameters = {{"n", 23.0, 1.0, 28.0, true, "left shift of the exponential, at most"},
                        {"bits", 8.0, 2.0, 16.0, true, "bits of the sigmoid, sign included"},
                        {"division", 62.0, 31.0, 62.0, true,
                         "bits of the reciprocal; the released code has 31"},
                        X_BITS}},
    [PQ_UNARY_POLY] = {.name = "poly",
                       .reference = "IPTQ-ViT, arXiv:2511.15369, Data-aware Poly-GELU, sign and "
                                    "coefficient as they must be",
                       .parameters = {X_BITS}},
    [PQ_UNARY_NNLUT] =
        {.name = "nnlut",
         .reference = "NN-LUT, arXiv:2112.02191, the table fitted directly",
         .parameters = {{"entries", 16.0, 1.0, 32.0, true, "straight lines"},
                        {"bits", 16.0, 10.0, 16.0, true, "bits of a slope"}}},
};

const pq_method_list pq_unary_methods = {"unary", PQ_METHOD_ROWS(rows)};
