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
 * result of a node that works in place. */
typedef struct pq_engine_storage {
    pq_engine_place place;
    bool batched;
    size_t size;        /* bytes per sample */
    size_t slot;        /* of INPUT, CONST, OUTPUT */
    size_t offset;      /* of FIXED, BATCHED; a multiple of 64 */
    size_t first, last; /* the nodes that write it first and use it last, for temporaries */
} pq_engine_storage;

/* storage_of of the result inside a fused node. */
#define PQ_ENGINE_NOT_STORED SIZE_MAX

/* What a run does in one go: an instruction, or two that the op of the first does as one. */
typedef struct pq_engine_node {
    size_t instruction;
    size_t consumer; /* the instruction whose output is written; the same one if not fused */
    int slot;        /* the consumer's input that is the result of `instruction` */
    const pq_engine_fusion *fusion; /* NULL: not fused */
} pq_engine_node;

/* An order of all instructions and the memory of their values. Nodes that write unbatched values
 * come first: they read nothing batched, so that one execution serves all samples of a run. */
typedef struct pq_engine_schedule {
    size_t node_count, unbatched_count;
    pq_engine_node *nodes;
    size_t storage_count;
    pq_engine_storage *storages;
    size_t *storage_of; /* per value */
    size_t fixed_size;  /* arena bytes for unbatched temporaries */
    size_t sample_size; /* arena bytes per sample */
} pq_engine_schedule;

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
    size_t *outputs;          /* value indices */
    size_t *inputs;           /* value indices of the INPUT values, in order */
    void *constant_data;      /* one block, each constant 64-byte aligned */
    void **constants;         /* per value; NULL if none, or only needed packed */
    void **prepared;          /* per instruction; NULL if nothing */
    pq_engine_schedule fused; /* what runs */
    pq_engine_schedule plain; /* what is traced: every value is stored */
    size_t widest;      /* bytes per sample of the largest batched array that a run addresses */
    uint64_t sample_ns; /* about what one sample takes on one thread, if not less */
    atomic_size_t slice_bytes;
    atomic_size_t context_count;
    /* The free list: taken and returned by exchanging a slot. Unlike a mutex, that cannot be held
     * by another thread at the moment of a fork. */
    atomic_size_t free_count;
    _Atomic(pq_engine_context *) contexts[PQ_CONTEXT_SLOTS];
};

/* Everything that program.h promises to check. */
PQ_NODISCARD pq_status pq_engine_validate(const pq_exec *exec, const pq_program_desc *desc);

/* The nodes of a schedule whose lists are allocated: one an instruction, or with fusions. */
PQ_NODISCARD pq_status pq_engine_order(const pq_exec *exec, const pq_program *program, bool fuse,
                                       pq_engine_schedule *schedule);

/* Fills the memory side of a schedule whose nodes are known. */
PQ_NODISCARD pq_status pq_engine_plan(const pq_exec *exec, const pq_program *program,
                                      pq_engine_schedule *schedule);

/* The values that a node reads, a fused result excluded; returns how many. */
static inline int pq_engine_operands(const pq_program *program, const pq_engine_node *node,
                                     size_t operands[2 * PQ_MAX_INPUTS]) {
    int count = 0;
    const pq_instruction *first = &program->instructions[node->instruction];
    const pq_instruction *last = &program->instructions[node->consumer];
    for (int slot = 0; slot < PQ_MAX_INPUTS; slot++) {
        if (first->inputs[slot] >= 0) {
            operands[count++] = (size_t)first->inputs[slot];
        }
        if (last != first && slot != node->slot && last->inputs[slot] >= 0) {
            operands[count++] = (size_t)last->inputs[slot];
        }
    }
    return count;
}

/* What all slices of one call of the caller share. */
typedef struct pq_engine_call {
    const pq_program *program;
    const pq_engine_schedule *schedule;
    size_t total; /* samples of the call */
    const void *const *inputs;
    void *const *outputs;
    void *const *values;                 /* trace, or NULL */
    const pq_attention_trace *attention; /* trace, or NULL */
    char *fixed;                         /* memory of unbatched temporaries */
} pq_engine_call;

/* Some samples of a call, and the memory in which they are worked on. */
typedef struct pq_engine_slice {
    const pq_engine_call *call;
    const pq_exec *exec;
    size_t first, batch; /* samples [first, first + batch) */
    char *arena;         /* sample_size * batch bytes */
    void *workspace;
    size_t workspace_size;
    uint64_t *nanoseconds; /* per node, added to; or NULL */
} pq_engine_slice;

/* The unbatched nodes (batched = false; once a call, before all slices) or the batched ones. */
PQ_NODISCARD pq_status pq_engine_execute(const pq_engine_slice *slice, bool batched);
/* The largest workspace that any of all nodes asks for; the slice's memory is not used. */
size_t pq_engine_find_workspace(const pq_engine_slice *slice);
/* A whole call. nanoseconds (or NULL) has node_count zeros for what all threads do together, and
 * behind them as many for each thread of exec by itself; times are added. */
PQ_NODISCARD pq_status pq_engine_run(pq_program *program, const pq_exec *exec, pq_engine_call *call,
                                     uint64_t *nanoseconds);
/* What a node has to do in a run of `batch` samples. */
pq_engine_work pq_engine_find_work(const pq_program *program, const pq_engine_node *node,
                                   size_t batch);

/* A free context with at least these bytes, made or grown where there is none. NULL: no memory. */
pq_engine_context *pq_engine_context_acquire(pq_program *program, size_t arena_size,
                                             size_t workspace_size);
void pq_engine_context_release(pq_program *program, pq_engine_context *context);
void pq_engine_context_free(pq_engine_context *context);

/* Bytes of temporaries that stay near one core: the second-level cache. */
size_t pq_engine_cache_bytes(void);

#endif
