/* Methods of LayerNorm and RMSNorm, in the order of pq_norm_method. */
#include "derive/method_lists.h"
#include "pyquant/layernorm.h"

static const pq_method_row rows[] = {
    [PQ_NORM_EXACT] = {.name = "exact",
                       .reference = "ours: reciprocal root to 31 bits, exact statistics"},
    [PQ_NORM_IBERT] = {.name = "ibert",
                       .reference = "I-BERT, arXiv:2101.01321, Alg. 4: integer Newton root"},
    [PQ_NORM_IVIT] = {.name = "ivit",
                      .reference = "I-ViT, arXiv:2207.01405, I-LayerNorm, started so that it "
                                   "converges",
                      .parameters = {{"iterations", 10, 1, PQ_NORM_ITERATIONS_MAX, true,
                                      "Newton steps of the root; 5 are enough"}}},
    [PQ_NORM_IVIT_PUBLISHED] = {.name = "ivit_published",
                                .reference = "I-ViT, arXiv:2207.01405, I-LayerNorm as released: "
                                             "ten steps from 2^16"},
    [PQ_NORM_PTF] = {.name = "ptf",
                     .reference = "FQ-ViT, arXiv:2111.13824, Powers-of-Two Factor: 8 bits a "
                                  "channel, 8-bit multipliers"},
};

const pq_method_list pq_norm_methods = {"norm", PQ_METHOD_ROWS(rows)};
