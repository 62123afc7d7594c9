/* Methods of the softmax, in the order of pq_softmax_method. */
#include "derive/method_lists.h"
#include "pyquant/softmax.h"

#define BITS(value, low, high, meaning) \
    { "bits", value, low, high, true, meaning }
#define FRACTION(value, low, high, unit) \
    { "fraction", value, low, high, true, "bits of the score behind the point, in " unit }
#define OCTAVES(value, low, high) \
    { "n", value, low, high, true, "octaves after which the exponential stays as it is" }

static const pq_method_row rows[] = {
    [PQ_SOFTMAX_TABLE16] = {"table16", "ours: 2^x by 32 steps an octave, weights of 14 bits", {{0}}},
    [PQ_SOFTMAX_TABLE8] = {"table8", "ours: 2^x by 32 steps an octave, weights of 8 bits", {{0}}},
    [PQ_SOFTMAX_IBERT] = {"ibert",
                          "I-BERT, arXiv 2101.01321, algorithm 3",
                          {BITS(8, 4, 15, "of a weight"), OCTAVES(30, 4, 30),
                           FRACTION(9, 4, 9, "nats")}},
    [PQ_SOFTMAX_IVIT] = {"ivit",
                         "I-ViT, arXiv 2207.01405, algorithm 1 (Shiftmax)",
                         {BITS(16, 5, 16, "of a weight, its sign included"), OCTAVES(15, 4, 15),
                          {"step", 0.015625, 0.00390625, 1.0, false,
                           "real size of a unit of the score; 8-bit scores have about 0.2"}}},
    [PQ_SOFTMAX_FQVIT] = {"fqvit",
                          "FQ-ViT, arXiv 2111.13824, equations 15 to 17 (log-int-softmax)",
                          {BITS(4, 2, 4, "of a code"), OCTAVES(30, 8, 30),
                           FRACTION(9, 4, 9, "nats")}},
    [PQ_SOFTMAX_IPTQ] = {"iptq",
                         "after IPTQ-ViT, arXiv 2511.15369 (bit-shifting softmax), our reading",
                         {BITS(14, 7, 14, "of a weight"), FRACTION(8, 3, 8, "nats")}},
    [PQ_SOFTMAX_QFLASH] = {"qflash",
                           "QFlash, arXiv 2604.25306 (shift exp2)",
                           {BITS(7, 4, 8, "of a weight"), FRACTION(7, 3, 9, "octaves")}},
    [PQ_SOFTMAX_INDEX] = {"index",
                          "IntAttention, arXiv 2511.21513 (IndexSoftmax)",
                          {BITS(5, 3, 8, "of the index"),
                           {"clip", 6.6, 1.0, 20.0, false,
                            "nats below the maximum from which on a weight is 0"}}},
    [PQ_SOFTMAX_SOLE] = {"sole",
                         "SOLE, arXiv 2510.17189, section III (E2Softmax)",
                         {FRACTION(6, 2, 8, "nats")}},
};

const pq_method_list pq_softmax_methods = {"softmax", PQ_METHOD_ROWS(rows)};
