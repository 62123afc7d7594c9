/* Aligned allocation with two test hooks: fail the n-th call, and count what is live. The hooks
 * are two relaxed atomics, cheap enough to stay in every build: what is tested is what ships. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "pyquant/exec.h"

enum { ALIGNMENT = 64 }; /* a cache line, and the widest vector */

static atomic_long calls_until_failure = -1; /* < 0: off */
static atomic_long live_blocks;

static bool injected_failure(void) {
    long left = atomic_load_explicit(&calls_until_failure, memory_order_relaxed);
    /* The failing call moves the count from 0 to -1 and so turns the hook off. */
    while (left >= 0) {
        if (atomic_compare_exchange_weak(&calls_until_failure, &left, left - 1)) {
            return left == 0;
        }
    }
    return false;
}

void *pq_alloc(size_t size) {
    if (size > SIZE_MAX - ALIGNMENT || injected_failure()) {
        return NULL;
    }
    /* aligned_alloc wants a multiple of the alignment; size 0 must not look like a failure. */
    const size_t blocks = size == 0 ? 1 : (size + ALIGNMENT - 1) / ALIGNMENT;
    void *block = aligned_alloc(ALIGNMENT, blocks * ALIGNMENT);
    if (block != NULL) {
        atomic_fetch_add_explicit(&live_blocks, 1, memory_order_relaxed);
    }
    return block;
}

void pq_free(void *block) {
    if (block != NULL) {
        atomic_fetch_sub_explicit(&live_blocks, 1, memory_order_relaxed);
        free(block);
    }
}

void pq_alloc_fail_after(long calls) {
    atomic_store(&calls_until_failure, calls);
}

long pq_alloc_live(void) {
    return atomic_load(&live_blocks);
}
