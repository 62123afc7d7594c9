#include "engine/program_internal.h"
#include "pyquant/cpu.h"

/* A free context, or NULL. The count is a right to one of the slots: a search alone could pass a
 * slot just before another thread gives back into it, and make one context too many. */
static pq_engine_context *take(pq_program *program) {
    size_t free_count = atomic_load(&program->free_count);
    do {
        if (free_count == 0) {
            return NULL;
        }
    } while (!atomic_compare_exchange_weak(&program->free_count, &free_count, free_count - 1));
    for (int i = 0;; i = (i + 1) % PQ_CONTEXT_SLOTS) {
        pq_engine_context *context = atomic_exchange(&program->contexts[i], NULL);
        if (context != NULL) {
            return context;
        }
    }
}

static bool grow(void **block, size_t *size, size_t wanted) {
    if (*size >= wanted) {
        return true;
    }
    /* Nothing in it is worth keeping, and freeing first halves the peak. */
    pq_free(*block);
    *block = pq_alloc(wanted);
    *size = *block == NULL ? 0 : wanted;
    return *block != NULL;
}

pq_engine_context *pq_engine_context_acquire(pq_program *program, size_t arena_size,
                                             size_t workspace_size) {
    pq_engine_context *context = take(program);
    if (context == NULL) {
        context = pq_alloc(sizeof *context);
        if (context == NULL) {
            return NULL;
        }
        *context = (pq_engine_context){0};
        atomic_fetch_add(&program->context_count, 1);
    }
    if (!grow(&context->arena, &context->arena_size, arena_size) ||
        !grow(&context->workspace, &context->workspace_size, workspace_size)) {
        pq_engine_context_release(program, context);
        return NULL;
    }
    return context;
}

void pq_engine_context_release(pq_program *program, pq_engine_context *context) {
    for (int i = 0; i < PQ_CONTEXT_SLOTS; i++) {
        pq_engine_context *expected = NULL;
        if (atomic_compare_exchange_strong(&program->contexts[i], &expected, context)) {
            atomic_fetch_add(&program->free_count, 1);
            return;
        }
    }
    pq_engine_context_free(context);
}

void pq_engine_context_free(pq_engine_context *context) {
    if (context != NULL) {
        pq_free(context->arena);
        pq_free(context->workspace);
        pq_free(context);
    }
}

/* Slices of more samples would read the weights less often, but products are not bound by that:
 * DeiT-S-size ViT (arena 0.53 MB a sample, weights 22 MB), batch 16, Zen 1 with 0.5 MB of L2 and 8
 * MB of L3, processor time a sample for slices of 1, 2, 4, 8, 16 samples, best of three in turn:
 * 216.6, 217.8, 220.2, 220.6, 218.1 ms. So the least memory, which is also what threads share best.
 */
size_t pq_engine_cache_bytes(void) {
    enum { LEAST = 1 << 18, MOST = 1 << 22 }; /* others are no caches that a core has to itself */
    const size_t bytes = pq_cpu_caches().l2;
    return bytes < LEAST ? LEAST : bytes > MOST ? MOST : bytes;
}
