/* softmax: one row of integer scores becomes weights, by one of several methods.
 *
 * For scores x[j] of a row, where a key may be excluded, every method computes
 *
 *   Delta = min(max_j x - x[j], delta_max)                                               (u32)
 *   u     = min((Delta * m + 2^(s-1)) >> s, end)                                  (u32: "rnu32")
 *   E     = the method's exponential of u                                                (u32)
 *   P[j]  = the method's weight of E, given sum_j E; 0 for an excluded key               (u16)
 *   L     = what P is to be divided by: the probability of key j is P[j] / L             (u32)
 *
 * u counts steps of a fixed real size below the maximum. On integers, every approximation of the
 * exponential is a table over them: derive fills it from the method's own arithmetic (one file of
 * csrc/softmax each, where to read how it works), and a program stores it.
 *
 * method   step, real        E                                    P                        L
 * TABLE16  ln 2 / 32         (attention.h)                        E, at most 16383         sum P
 * TABLE8   ln 2 / 32         (attention.h)                        E, at most 255           sum P
 * IBERT    2^-fraction       i-exp to 16 bits                     (E * f) >> (32 - bits)   2^bits
 *                                                                 f = (2^32 - 1) / sum E
 * IVIT     step              ShiftExp, n octaves                  (E * f) >> (32 - bits)   2^(bits - 1)
 *                                                                 f = (2^31 - 1) / sum E
 * FQVIT    2^-fraction       i-exp to 20 bits                     2^(14 - code)            2^14
 * IPTQ     2^-fraction       shifts: 2^(-1.4453 x), linear        E                        sum P
 * QFLASH   ln 2 / 2^fraction shifts: 2^-x, linear                 E, at most 2^bits - 1    sum P
 * INDEX    clip / (2^bits-1) table of rne(255 e^-x), last 0       (510 E + S) / (2 S)      255
 * SOLE     2^-fraction       2^(14 - k), k = round(1.4375 x)      E                        near sum P
 *
 * Bounds, checked by pq_softmax_check for `keys` scores a row. Delta_max * m + 2^(s-1) < 2^32, and
 * the sum of E stays below 2^32 (IVIT: 2^31, or its factor would be 0; INDEX: 512 times the sum, so
 * that its exact division does).
 * P <= pmax < 2^15: two weights fit a multiply-add of s16. sum P, which bounds P times V:
 *   TABLE*, IPTQ, QFLASH, SOLE   pmax * keys
 *   IBERT, IVIT   E <= sum E, so sum P <= f * sum E >> (32 - bits), below L
 *   INDEX         sum (255 E / S + 1/2) = 255 + keys / 2
 *   FQVIT         3 * 2^14: code c >= 1 means sum / E + 1/2 < 1.5 * 2^c, hence
 *                 2^-c < 1.5 E / (sum - E / 2) <= 3 E / sum; and c = 0 happens above sum / 2 only
 * A row whose E are all 0 has P = 0 and L = 1.
 *
 * Source: docs/numerics/softmax_methods.md, which names paper and equation of each, says where a
 * released implementation differs, and derives the errors. Specification: tests/spec/softmax.py.
 */
#ifndef PYQUANT_SOFTMAX_H
#define PYQUANT_SOFTMAX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pyquant/exec.h"
#include "pyquant/types.h"

#define PQ_SOFTMAX_TABLE_SIZE 32
#define PQ_SOFTMAX_INDEX_END 480    /* TABLE16, TABLE8: u at and beyond this is weight 0 */
#define PQ_SOFTMAX_ENTRIES_MAX 8192 /* of exponentials */

/* The numbers are those of a program, and the rows of csrc/derive/method_softmax.c. */
typedef enum pq_softmax_method {
    PQ_SOFTMAX_TABLE16 = 0,
    PQ_SOFTMAX_TABLE8 = 1,
    PQ_SOFTMAX_IBERT = 2,
    PQ_SOFTMAX_IVIT = 3,
    PQ_SOFTMAX_FQVIT = 4,
    PQ_SOFTMAX_IPTQ = 5,
    PQ_SOFTMAX_QFLASH = 6,
    PQ_SOFTMAX_INDEX = 7,
    PQ_SOFTMAX_SOLE = 8,
    PQ_SOFTMAX_METHOD_COUNT = 9
} pq_softmax_method;

/* The constants of one softmax. */
typedef struct pq_softmax {
    pq_softmax_method method;
    uint32_t delta_max;
    uint32_t multiplier; /* rnu32 */
    int32_t shift;       /* in [1, 31] */
    int32_t pmax;        /* P <= pmax */
    int32_t bits;        /* IBERT, IVIT, FQVIT: of the weights or codes; else 0 */
    uint16_t table[PQ_SOFTMAX_TABLE_SIZE]; /* TABLE16, TABLE8 */
    uint32_t entries;                      /* of the others: end + 1 exponentials */
    const int32_t *exponentials;           /* >= 0 */
} pq_softmax;

/* Whether the method is TABLE16 or TABLE8, whose exponentials are computed by octaves. */
static inline bool pq_softmax_by_octaves(pq_softmax_method method) {
    return method == PQ_SOFTMAX_TABLE16 || method == PQ_SOFTMAX_TABLE8;
}

/* Every rule of the constants. `op` begins the messages. */
PQ_NODISCARD pq_status pq_softmax_check(const pq_exec *exec, const char *op,
                                        const pq_softmax *softmax, size_t keys);

/* Upper bounds over a row of `keys` >= 1 scores, for constants that pq_softmax_check accepts. */
uint64_t pq_softmax_weights_most(const pq_softmax *softmax, size_t keys); /* of sum P */
uint64_t pq_softmax_divisor_most(const pq_softmax *softmax, size_t keys); /* of L */

#endif
