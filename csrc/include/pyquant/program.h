/* program: a flat list of integer instructions over values, validated once, run many times.
 *
 * A value is an array of `size` elements per sample. A batched value holds `batch` samples, one
 * behind the other; the others hold one. Values are INPUT (the caller's), CONST (stored) or TEMP
 * (written by exactly one instruction, before any reads). Instructions run in order. Shapes, scales
 * and names are the file's business (pyquant/engine), not the core's.
 *
 * pq_program_create trusts nothing: every index, type, size, stride, range, product of sizes and
 * accumulator bound is checked, and PQ_ERR_PROGRAM names the instruction and the rule, e.g.
 *     program: instruction 3 (gemm): expected input 0 of n x 384 elements, got 1000
 * A program that was created runs for any batch without any undefined behaviour, on any input
 * bytes; only GATHER can still fail (PQ_ERR_INDEX), allocation (PQ_ERR_NOMEM), a batch whose arrays
 * cannot exist (PQ_ERR_OVERFLOW), pointers that are missing or misaligned (PQ_ERR_VALUE), and poll.
 *
 * Where the bits allow, two instructions run as one (a product and the table or residual add that
 * follows); a trace runs, and stores, each by itself.
 *
 * Running is re-entrant: working memory comes from a free list of contexts, which grows only at a
 * new maximum of concurrency or batch. All temporaries live in one arena, whose offsets scale
 * linearly with the batch. What depends on no input with a batch is computed once a run. A batch of
 * at least as many samples as threads is shared out by samples, a smaller one inside each
 * instruction. Results do not depend on threads, ISA or the split of a batch.
 */
#ifndef PYQUANT_PROGRAM_H
#define PYQUANT_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pyquant/attention.h"
#include "pyquant/exec.h"
#include "pyquant/types.h"

#define PQ_MAX_INPUTS 8
#define PQ_MAX_ATTRS 48
#define PQ_MAX_VALUES (1 << 16) /* also instructions and outputs: planning takes their square */
#define PQ_MAX_VALUE_SIZE (INT64_C(1) << 40) /* elements per sample */

typedef enum pq_opcode {
#define PQ_INSTRUCTION(NAME, name, min_inputs, max_inputs, attrs) PQ_OP_##NAME,
#include "pyquant/instructions.def"
#undef PQ_INSTRUCTION
    PQ_OPCODE_COUNT
} pq_opcode;

typedef enum pq_value_kind { PQ_VALUE_INPUT = 0, PQ_VALUE_CONST = 1, PQ_VALUE_TEMP = 2 } pq_value_kind;

/* Plain integers so that a reader can fill them from a file before anything is checked. */
typedef struct pq_value {
    int64_t kind, dtype, batched, size;
} pq_value;

typedef struct pq_instruction {
    int64_t opcode;
    int64_t inputs[PQ_MAX_INPUTS]; /* value indices; -1 = absent */
    int64_t output;
    int64_t attrs[PQ_MAX_ATTRS];
} pq_instruction;

typedef struct pq_program_desc {
    size_t value_count;
    const pq_value *values;
    const void *const *constants; /* per value: data of a CONST (element-aligned), else NULL */
    const size_t *constant_sizes; /* per value: bytes behind that pointer */
    size_t instruction_count;
    const pq_instruction *instructions;
    size_t output_count; /* >= 1; an output may be any value, also an input or a constant */
    const int64_t *outputs;
} pq_program_desc;

typedef struct pq_program pq_program;

/* Validates, copies and packs. Keeps no pointer of the caller. *program is NULL on failure. */
PQ_NODISCARD pq_status pq_program_create(const pq_exec *exec, const pq_program_desc *desc,
                                         pq_program **program);
void pq_program_free(pq_program *program);

/* inputs: one pointer per INPUT value in the order of the values, each batch * size elements (size
 * if unbatched); outputs: likewise per output, the caller's buffers, no overlap with inputs.
 * Pointers are aligned to their elements. batch = 0 is valid: unbatched outputs are written. */
PQ_NODISCARD pq_status pq_program_run(pq_program *program, const pq_exec *exec, size_t batch,
                                      const void *const *inputs, void *const *outputs);

/* Run, and copy out what the sites computed. values[i] (or NULL) receives value i if it is an
 * INPUT or a TEMP; it must be NULL for a CONST, which may be kept in packed form only.
 * attention[j] (or a struct of NULLs) receives the sub-sites of instruction j if it is an
 * ATTENTION. Either array may be NULL. Same bits as pq_program_run. */
PQ_NODISCARD pq_status pq_program_trace(pq_program *program, const pq_exec *exec, size_t batch,
                                        const void *const *inputs, void *const *outputs,
                                        void *const *values, const pq_attention_trace *attention);

/* What a run does in one go: an instruction, or two as one pass, whose result between them is then
 * never stored. Reshapes do nothing and take no time. */
typedef struct pq_program_step {
    size_t instruction;
    size_t consumer; /* the instruction whose output is written: the same, or that of the pair */
    /* The least that it has to do at the batch asked for. */
    uint64_t macs;           /* multiply-adds of matrix products */
    uint64_t bytes;          /* read and written, each operand once, other than constants */
    uint64_t constant_bytes; /* read, each constant once */
} pq_program_step;

/* All steps, in the order of a run; steps has room for pq_program_step_count of them. */
size_t pq_program_step_count(const pq_program *program);
void pq_program_steps(const pq_program *program, size_t batch, pq_program_step *steps);

/* A run with a look at the clock between steps: nanoseconds[i] receives the time of step i over all
 * slices. Where threads work on samples of their own it is the mean over the threads, so that the
 * sum is about the time of the run. */
PQ_NODISCARD pq_status pq_program_profile(pq_program *program, const pq_exec *exec, size_t batch,
                                          const void *const *inputs, void *const *outputs,
                                          uint64_t *nanoseconds);

/* A large batch runs in slices of samples, so that the arena takes about `bytes` for each thread
 * of the driver. The initial value is the second-level cache; 0 means one sample at a time.
 * Results do not depend on it. May be called at any time. */
void pq_program_set_slice_bytes(pq_program *program, size_t bytes);

/* Bytes of the arena for one sample in a run, and number of contexts made so far. */
size_t pq_program_arena_size(const pq_program *program);
size_t pq_program_context_count(const pq_program *program);

#endif
