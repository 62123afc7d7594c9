/* The softmax sub-site: one row of scores becomes weights P and their sum L.
 *
 * A method is one file for its definition (`softmax_<method>_ref.c`) and one for each ISA. The
 * variants of attention call it through these types, so that another method is another file and
 * one line in the switch of each variant. All methods leave the weights unnormalised: attention
 * divides once, by L, after P times V.
 */
#ifndef PYQUANT_ATTENTION_SOFTMAX_METHOD_H
#define PYQUANT_ATTENTION_SOFTMAX_METHOD_H

#include <stddef.h>
#include <stdint.h>

#include "pyquant/attention.h"

/* The definition. score[n], keep[n] (0 excludes) -> p[n]; returns L = sum p, which is 0 exactly if
 * every key is excluded. */
typedef uint32_t pq_softmax_ref_fn(const pq_softmax *softmax, size_t n, const int32_t *score,
                                   const uint8_t *keep, uint16_t *p);

/* A score that marks an excluded key in a panel: no true score is that low (|score| < 2^31). */
#define PQ_SCORE_EXCLUDED INT32_MIN

/* Keys that a wide softmax takes in one step. */
enum { PQ_SOFTMAX_STEP = 32 };

/* A wide form: in place over a panel row of n scores, n a multiple of PQ_SOFTMAX_STEP. None of the
 * first `plain` is excluded; the others may be PQ_SCORE_EXCLUDED. Leaves n weights as s16 at the
 * start of the row (pmax < 2^15). The row is 32-byte aligned. */
typedef uint32_t pq_softmax_panel_fn(const pq_softmax *softmax, size_t n, size_t plain,
                                     int32_t *row);

pq_softmax_ref_fn pq_softmax_table_ref; /* PQ_SOFTMAX_TABLE16 and PQ_SOFTMAX_TABLE8 */
pq_softmax_panel_fn pq_softmax_table_avx2;

#endif
