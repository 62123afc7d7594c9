/* A program after pq_program_create. All but the context slots and counters is immutable then,
 * so that any number of threads may run it. */
#ifndef PYQUANT_ENGINE_PROGRAM_INTERNAL_H
#define PYQUANT_ENGINE_PROGRAM_INTERNAL_H

#include <stdatomic.h>

#include "engine/op.h"

/* Where the bytes of a storage live during a run. */
typedef enum pq_engine_place {
    PQ_PLACE_INPUT,  /* the caller's input number `slot` */
    PQ_PLACE_CONST,  /* program->constants[slot], slot being the value */
    PQ_PLACE_OUTPUT, /* the caller's output number `slot`: written where it is wanted */
    PQ_PLACE_FIXED,  /* arena + offset: unbatched temporaries */
    PQ_PLACE_BATCHED /* arena + fixed_size + offset * batch */
} pq_engine_place;

/* Memory that one or more values use: reshaped values share it, and so do the operand and the
 * result of an instruction that works in place. */
typedef struct pq_engine_storage {
    pq_engine_place place;
    bool batched;
    size_t size;        /* bytes per sample */
    size_t slot;        /* of INPUT, CONST, OUTPUT */
    size_t offset;      /* of FIXED, BATCHED; a multiple of 64 */
    size_t first, last; /* the instructions that write it first and use it last, for temporaries */
} pq_engine_storage;

/* Working memory of one run. */
typedef struct pq_engine_context {
    void *arena, *workspace;
    size_t arena_size, workspace_size;
} pq_engine_context;

/* More runs than this at one time make and free a context each. */
enum { PQ_CONTEXT_SLOTS = 64 };

struct pq_program {
    size_t value_count, instruction_count, output_count, input_count;
    pq_value *values;
    pq_instruction *instructions;
    size_t *outputs;     /* value indices */
    size_t *inputs;      /* value indices of the INPUT values, in order */
    void *constant_data; /* one block, each constant 64-byte aligned */
    void **constants;    /* per value; NULL if none, or only needed packed */
    void **prepared;     /* per instruction; NULL if nothing */
    size_t storage_count;
    pq_engine_storage *storages;
    size_t *storage_of; /* per value */
    size_t fixed_size;  /* arena bytes for unbatched temporaries */
    size_t sample_size; /* arena bytes per sample */
    size_t widest;      /* bytes per sample of the largest batched array that a run addresses */
    atomic_size_t slice_bytes;
    atomic_size_t context_count;
    /* The free list: taken and returned by exchanging a slot. Unlike a mutex, that cannot be held
     * by another thread at the moment of a fork. */
    atomic_size_t free_count;
    _Atomic(pq_engine_context *) contexts[PQ_CONTEXT_SLOTS];
};

/* Everything that program.h promises to check. */
PQ_NODISCARD pq_status pq_engine_validate(const pq_exec *exec, const pq_program_desc *desc);

/* Fills storages, storage_of, fixed_size and sample_size of a program with valid instructions. */
PQ_NODISCARD pq_status pq_engine_plan(const pq_exec *exec, pq_program *program);

/* A free context with at least these bytes, made or grown where there is none. NULL: no memory. */
pq_engine_context *pq_engine_context_acquire(pq_program *program, size_t arena_size,
                                             size_t workspace_size);
void pq_engine_context_release(pq_program *program, pq_engine_context *context);
void pq_engine_context_free(pq_engine_context *context);

/* Bytes of temporaries that stay near one core: the second-level cache. */
size_t pq_engine_cache_bytes(void);

#endif
