/* attention_s8: integer scaled-dot-product attention, softmax inside, one composite op.
 *
 * For every batch b, group g (a window, else 1), query head h with key head h' = h / (heads / kv_heads), and
 * query i over keys j (head_dim d):
 *
 *   score[j] = sum_d (q[i][d] - z_q) * k[j][d]  (+ mask_add[i][j])                       (s32)
 *   Delta    = min(max_j score - score[j], delta_max)                                    (u32)
 *   u        = min((Delta * m + 2^(s-1)) >> s, 480)                                      (u32: "rnu32")
 *   h        = u >> 5,  P[j] = (T[u & 31] + 2^h) >> (h + 1)         in [0, pmax];  P = 0 at u = 480
 *   L        = sum_j P[j];   O[d] = sum_j P[j] * v[j][d]                                 (u32, s32)
 *   y[i][d]  = clamp(rnu(O[d] - z_v * sum P, m_r, s_r) + z_y, quant_min, quant_max)
 *   t = (multiplier << 32) / L,  b = bitlen(t),  m_r = t >> (b - 31),  s_r = shift + 63 - b
 *
 * The key zero point needs no term: z_k * sum_d (q - z_q) does not depend on j and softmax
 * consumes the scores. `trace` shows the true scores, that term included.
 * u = 480 is 2^-15 of the maximum: pmax * 2^-15 < 1/2 rounds to 0. (A clamp at 479 would give
 * every far key 1/16383 of the maximum's weight: 1.2 % of a one-hot row of 197.)
 *
 * Methods. Above is PQ_SOFTMAX_TABLE16: T[j] = rne(2 * pmax * 2^(-j/32)) is s16 and pmax <= 16383;
 * PQ_SOFTMAX_TABLE8: the same with pmax = 255, P is u8. The others (softmax.h) have P and L of their
 * own from the same Delta.
 *
 * operand  shape                 layout
 * q        batch, groups, heads, q_len, d     strides in elements; d contiguous
 * k, v     batch, groups, kv_heads, k_len, d  the same; zero strides are allowed (broadcast)
 * y        batch, groups, heads, q_len, d     the same; no two outputs share an element; no overlap
 * keep     [batch, groups, heads, q_len, k_len] u8, optional; 0 excludes the key from maximum and sum
 * mask_add the same in s32, optional; |value| <= 2^24
 *
 * Edges: q_len = 0 or d = 0: no-op; k_len = 0 or a row with every key excluded gives O = 0, L = 1,
 * hence y = clamp(z_y). causal: key j is excluded for j > i + (k_len - q_len).
 *
 * Bounds. |score| <= 255 * 128 * d + 2^24 < 2^31 for d <= 32767. vmax = max(127 - z_v, 128 + z_v)
 * bounds |v - z_v| over all of int8, whatever grid v has: stored bytes are not to be trusted. It
 * lies in [128, 255]; |O - z_v * sum P| <= vmax * sum P <= 2^31 - 1: pq_attention_check demands it of
 * the method's bound on sum P (softmax.h; pmax * k_len here), and derive chooses for TABLE16
 * pmax = min(16383, (2^31 - 1) / (vmax * keys)).
 * delta_max * m + 2^(s-1) < 2^32 and s_r in [1, 62] for every L that can be: checked too.
 * Relative error of m_r below 2^-30.
 * The maximum is exact at every length: kernels keep a panel of scores or compute Q K^T twice.
 *
 * Source: docs/numerics/attention.md. Specification: tests/spec/attention.py.
 */
#ifndef PYQUANT_ATTENTION_H
#define PYQUANT_ATTENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pyquant/exec.h"
#include "pyquant/softmax.h"
#include "pyquant/types.h"

#define PQ_MASK_ADD_LIMIT (1 << 24)

typedef struct pq_strides {
    ptrdiff_t batch, group, head, token; /* in elements */
} pq_strides;

typedef struct pq_attention_args {
    size_t batch, groups, heads, kv_heads, q_len, k_len, head_dim; /* kv_heads divides heads */
    const int8_t *q, *k, *v;
    pq_strides q_strides, k_strides, v_strides;
    int32_t q_zero_point, k_zero_point, v_zero_point; /* k's is used by trace only */
    const uint8_t *keep; /* or NULL */
    ptrdiff_t keep_strides[5];
    const int32_t *mask_add; /* or NULL */
    ptrdiff_t mask_strides[5];
    bool causal;
    pq_softmax softmax;
    pq_dyadic requant; /* of s_v / s_y */
    pq_clamp out;
    int8_t *y;
    pq_strides y_strides;
} pq_attention_args;

/* Where trace writes; each may be NULL. Contiguous [batch, groups, heads, q_len, k_len] and [.., q_len].
 * score holds the true scores (key zero point and additive mask included; excluded keys too). */
typedef struct pq_attention_trace {
    int32_t *score;
    uint16_t *p;
    uint32_t *l;
} pq_attention_trace;

/* Every rule above that depends on constants and sizes (not on data). */
PQ_NODISCARD pq_status pq_attention_check(const pq_exec *exec, const pq_attention_args *args);

/* Checks, then runs; workspace is allocated inside (one block a call). */
PQ_NODISCARD pq_status pq_attention_s8(const pq_exec *exec, const pq_attention_args *args);

/* The same with the caller's workspace of pq_attention_workspace bytes (64-byte aligned). */
size_t pq_attention_workspace(const pq_exec *exec, const pq_attention_args *args);
PQ_NODISCARD pq_status pq_attention_s8_in(const pq_exec *exec, const pq_attention_args *args,
                                          void *workspace, size_t workspace_size);

/* Runs the reference and also writes the sub-sites. Same y. */
PQ_NODISCARD pq_status pq_attention_s8_trace(const pq_exec *exec, const pq_attention_args *args,
                                             const pq_attention_trace *trace);

#endif
