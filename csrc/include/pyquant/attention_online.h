/* attention_online64_s8: attention.h in its online form, keys in blocks of 64.
 *
 * Memory does not depend on the number of keys: no panel of scores, and no second pass. In exchange
 * the sums are rescaled when a block brings a new maximum, with a rounding, so that this is another
 * definition than attention_s8's. Keys belong to blocks by their index: block b holds the keys
 * 64 b .. 64 b + 63. With score, keep, T and P of attention.h, for every row, and for the blocks
 * in order (a block without a kept key changes nothing):
 *
 *   m'    = max(m, max_j score[j] over the block's kept keys)
 *   O[d]  = rnu(O[d], alpha, 15 + h),  L = rnu(L, alpha, 15 + h)       factor of Delta = m' - m
 *   P[j]  = weight of attention.h at m' - score[j]
 *   O[d] += sum_j P[j] * (v[j][d] - z_v),  L += sum_j P[j]                        (s32, u32)
 *
 * and at the end  y[d] = clamp(rnu(O[d], m_r, s_r) + z_y)  with m_r, s_r of attention.h. Before the
 * first kept key O = L = 0 and nothing is rescaled.
 *
 * The factor 2^(-Delta * M / 32), M = m / 2^s of the softmax, is linear between 33 entries:
 *
 *   x = (min(Delta, delta_max) * multiplier << 15) >> shift            steps of 2^-15 index (u64)
 *   j = (x >> 15) & 31,  h = x >> 20,  f = x & 32767,  A[j] = rne(2^15 * 2^(-j/32))
 *   alpha = A[j] - (((A[j] - A[j + 1]) * f + 2^14) >> 15)              in [2^14, 2^15]
 *   alpha = 0, h = 0 where the index u of Delta (attention.h) is 480
 *
 * At Delta = 0 it is exactly 1 and rnu changes nothing: a block whose maximum does not move the
 * row's only adds. It is finer than a weight, whose index is rounded, because it falls on all keys
 * so far alike and its errors do not average out (docs: up to 5 dB).
 *
 * Operands, masks, edges, statuses and messages are those of attention.h: the same arguments, the
 * same constants, checked by pq_attention_check. The method is PQ_SOFTMAX_TABLE16. Rows whose kept
 * keys all lie in one block get the bits of attention_s8.
 *
 * Bounds. alpha / 2^(15+h) <= 1 and rnu is monotonic and fixes integers, so |rnu(O)| <= |O| and
 * rnu(L) <= L: rescaling never grows a sum, |O| <= vmax * pmax * k_len <= 2^31 - 1 as there, and
 * L <= pmax * k_len. The key with the maximum weighs pmax, so L >= pmax after every block that has
 * a kept key: nothing is divided by 0. 15 + h <= 29, for u < 480: the low half of the 64-bit
 * product, shifted logically, is rnu.
 *
 * Source: docs/numerics/attention.md; Milakov and Gimelshein, "Online normalizer calculation for
 * softmax", arXiv:1805.02867. Specification: tests/spec/attention_online.py.
 */
#ifndef PYQUANT_ATTENTION_ONLINE_H
#define PYQUANT_ATTENTION_ONLINE_H

#include "pyquant/attention.h"

#define PQ_ATTENTION_ONLINE_BLOCK 64

/* Checks, then runs; workspace is allocated inside (one block a call). */
PQ_NODISCARD pq_status pq_attention_online64_s8(const pq_exec *exec, const pq_attention_args *args);

/* The same with the caller's workspace of pq_attention_online64_workspace bytes (64-byte aligned),
 * which are the same for any k_len. */
size_t pq_attention_online64_workspace(const pq_exec *exec, const pq_attention_args *args);
PQ_NODISCARD pq_status pq_attention_online64_s8_in(const pq_exec *exec,
                                                   const pq_attention_args *args, void *workspace,
                                                   size_t workspace_size);

#endif
