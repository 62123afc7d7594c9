#include <unistd.h>

#include "engine/program_internal.h"

static pq_engine_context *take(pq_program *program) {
    for (int i = 0; i < PQ_CONTEXT_SLOTS; i++) {
        pq_engine_context *context = atomic_exchange(&program->contexts[i], NULL);
        if (context != NULL) {
            return context;
        }
    }
    return NULL;
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

size_t pq_engine_cache_bytes(void) {
    /* The size of most server cores; also where the system does not tell (0 or -1). */
    enum { USUAL = 1 << 20, LEAST = 1 << 18, MOST = 1 << 22 };
    long bytes = USUAL;
#ifdef _SC_LEVEL2_CACHE_SIZE
    const long told = sysconf(_SC_LEVEL2_CACHE_SIZE);
    bytes = told > 0 ? told : USUAL;
#endif
    return (size_t)(bytes < LEAST ? LEAST : bytes > MOST ? MOST : bytes);
}
