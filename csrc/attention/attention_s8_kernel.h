/* What a variant of attention_s8 is, and the few formulas that entry and variants share.
 *
 * The work of a call falls into units: one key head of one group of one batch entry, whose keys and
 * values a variant may pack once. All query heads of that key head read the packed unit, in blocks
 * of rows that are independent of each other. Variants are pure range functions over checked
 * arguments: no allocation, no threads, no globals.
 */
#ifndef PYQUANT_ATTENTION_ATTENTION_S8_KERNEL_H
#define PYQUANT_ATTENTION_ATTENTION_S8_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "core/sizes.h"
#include "pyquant/attention.h"

/* Queries [begin, end) of one query head. */
typedef struct pq_attention_rows {
    size_t batch, group, head, begin, end;
} pq_attention_rows;

/* All sizes are multiples of 64 bytes; packed and scratch are 64-byte aligned. */
struct pq_attention_s8_kernel {
    /* Queries that run() takes at once; it is given at most that many. */
    size_t (*rows)(const pq_attention_args *args);
    /* Bytes of one packed unit, linear in k_len; 0: the variant reads k and v as they are. */
    size_t (*packed_size)(const pq_attention_args *args);
    /* Bytes that run() scribbles on, one piece for each slot, linear in k_len. */
    size_t (*scratch_size)(const pq_attention_args *args);
    /* Packs keys [begin, end); begin is a multiple of pack_step. NULL if packed_size is 0. */
    void (*pack)(const pq_attention_args *args, size_t batch, size_t group, size_t kv_head,
                 size_t begin, size_t end, void *packed);
    void (*run)(const pq_attention_args *args, const pq_attention_rows *rows, const void *packed,
                void *scratch);
    size_t pack_step;
    /* Multiply-adds of a millisecond, roughly: sets the grain. */
    size_t macs_per_ms;
};

/* The reference, which can also show its sub-sites: trace may be NULL. */
void pq_attention_s8_ref_rows(const pq_attention_args *args, const pq_attention_rows *rows,
                              void *scratch, const pq_attention_trace *trace);
size_t pq_attention_s8_ref_scratch(const pq_attention_args *args);

static inline ptrdiff_t pq_token_offset(pq_strides strides, size_t batch, size_t group, size_t head,
                                        size_t token) {
    return (ptrdiff_t)batch * strides.batch + (ptrdiff_t)group * strides.group +
           (ptrdiff_t)head * strides.head + (ptrdiff_t)token * strides.token;
}

/* Where row (batch, group, head, query) of keep or mask_add begins. */
static inline ptrdiff_t pq_mask_offset(const ptrdiff_t strides[5], const pq_attention_rows *rows,
                                       size_t query) {
    return (ptrdiff_t)rows->batch * strides[0] + (ptrdiff_t)rows->group * strides[1] +
           (ptrdiff_t)rows->head * strides[2] + (ptrdiff_t)query * strides[3];
}

/* Keys that query i sees if none is excluded by keep: a prefix. */
static inline size_t pq_visible_keys(const pq_attention_args *args, size_t query) {
    if (!args->causal) {
        return args->k_len;
    }
    const size_t end = query + 1 + args->k_len; /* query < q_len: the difference is <= k_len */
    return end > args->q_len ? end - args->q_len : 0;
}

#endif
