/* One instruction of the engine as a value: what it accepts, how it is checked and how it runs.
 *
 * The middle of the engine (validate.c, fuse.c, plan.c, create.c, run.c) knows no op by name:
 * everything that is particular to one lies in its pq_engine_op. A new op is a row in
 * instructions.def, a row of positions in attrs.h and one of these.
 */
#ifndef PYQUANT_ENGINE_OP_H
#define PYQUANT_ENGINE_OP_H

#include "pyquant/program.h"

/* What an op's validator sees. The structure is already right: operands exist, have an allowed
 * type and are constants where they must be; attributes lie in their ranges. */
typedef struct pq_engine_check {
    const pq_exec *exec;
    const pq_program_desc *desc;
    const pq_instruction *instruction;
    size_t index;
} pq_engine_check;

/* One instruction in one run, or two of them where the op declares a fusion. */
typedef struct pq_engine_step {
    const pq_exec *exec;
    const pq_value *values;
    const pq_instruction *instruction;
    const pq_instruction *consumer;    /* of a fused step: the instruction done with the result */
    int slot;                          /* the consumer's input that is the result */
    size_t first, batch;               /* this slice of the run: samples [first, first + batch) */
    const void *inputs[PQ_MAX_INPUTS]; /* NULL where absent, or packed and not kept */
    const void *consumer_inputs[PQ_MAX_INPUTS]; /* NULL for the result */
    void *output;                               /* the consumer's, where there is one */
    void *prepared;                             /* what op->prepare made */
    void *workspace;
    size_t workspace_size;
    const pq_attention_trace *trace; /* of the whole run, or NULL */
} pq_engine_step;

/* Bits 1 << pq_dtype. */
#define PQ_ENGINE_S8 (1u << PQ_S8)
#define PQ_ENGINE_U8 (1u << PQ_U8)
#define PQ_ENGINE_S16 (1u << PQ_S16)
#define PQ_ENGINE_S32 (1u << PQ_S32)
#define PQ_ENGINE_S64 (1u << PQ_S64)
#define PQ_ENGINE_S8_S16 (PQ_ENGINE_S8 | PQ_ENGINE_S16)
#define PQ_ENGINE_ANY (PQ_ENGINE_S8 | PQ_ENGINE_U8 | PQ_ENGINE_S16 | PQ_ENGINE_S32 | PQ_ENGINE_S64)

typedef struct pq_engine_port {
    unsigned types;
    bool constant;
} pq_engine_port;

/* The bounds of one attribute. They make the narrowing to the family's argument types safe and
 * keep int64 arithmetic on sizes from overflowing; tighter rules are the family's. */
typedef struct pq_engine_range {
    int64_t low, high;
} pq_engine_range;

#define PQ_ENGINE_RANGE_BOOL \
    { 0, 1 }
#define PQ_ENGINE_RANGE_SIZE \
    { 0, PQ_MAX_VALUE_SIZE }
#define PQ_ENGINE_RANGE_COUNT \
    { 1, PQ_MAX_VALUE_SIZE }
#define PQ_ENGINE_RANGE_STRIDE \
    { -PQ_MAX_VALUE_SIZE, PQ_MAX_VALUE_SIZE }
#define PQ_ENGINE_RANGE_S8 \
    { INT8_MIN, INT8_MAX }
#define PQ_ENGINE_RANGE_S16 \
    { INT16_MIN, INT16_MAX }
#define PQ_ENGINE_RANGE_MULTIPLIER \
    { 0, INT32_MAX }
#define PQ_ENGINE_RANGE_U32 \
    { 0, UINT32_MAX }
#define PQ_ENGINE_RANGE_SHIFT \
    { 1, 62 }

/* What an op can do together with the only instruction that reads its result: one pass with the
 * same bits, and the result itself is never stored. The output may take over the consumer's other
 * operand where the consumer alone may. */
typedef struct pq_engine_fusion {
    pq_opcode consumer;
    /* Whether this pair can: sizes and types are valid for each alone. */
    bool (*accepts)(const pq_value *values, const pq_instruction *instruction,
                    const pq_instruction *consumer, int slot);
    pq_status (*execute)(const pq_engine_step *step);
    size_t (*workspace)(const pq_engine_step *step); /* or NULL */
} pq_engine_fusion;

/* What a step has to do at least, in one run. */
typedef struct pq_engine_work {
    uint64_t macs;  /* multiply-adds of matrix products */
    uint64_t bytes; /* read and written, other than constants */
    uint64_t constant_bytes;
} pq_engine_work;

typedef struct pq_engine_op {
    const pq_engine_range *ranges; /* one per attribute */
    int range_count;
    pq_engine_port inputs[PQ_MAX_INPUTS];
    pq_engine_port output;
    bool alias;      /* the output is the input's memory: nothing runs */
    bool may_repeat; /* the output may be batched though no input is */
    unsigned reuse;  /* inputs (bits) whose memory the output may take over */
    unsigned packed; /* constant inputs (bits) that `prepare` takes in: no need to keep them */
    pq_status (*validate)(const pq_engine_check *check);
    pq_status (*execute)(const pq_engine_step *step);
    /* All below may be NULL. */
    pq_status (*prepare)(const pq_engine_check *check, void **prepared);
    void (*release)(void *prepared);
    size_t (*workspace)(const pq_engine_step *step); /* bytes; pointers of the step are not set */
    /* Corrects what follows from the sizes of all operands, without multiply-adds; no pointers. */
    void (*work)(const pq_engine_step *step, pq_engine_work *work);
    const pq_engine_fusion *fusions;
    size_t fusion_count;
} pq_engine_op;

#define PQ_INSTRUCTION(NAME, name, min_inputs, max_inputs, attrs) \
    extern const pq_engine_op pq_engine_##name;
#include "pyquant/instructions.def"
#undef PQ_INSTRUCTION

/* One row of instructions.def. */
typedef struct pq_engine_row {
    const char *name;
    int min_inputs, max_inputs;
    const char *attrs;
    const pq_engine_op *op;
} pq_engine_row;

extern const pq_engine_row pq_engine_rows[PQ_OPCODE_COUNT];

/* "program: instruction 3 (gemm): " and the sentence; returns PQ_ERR_PROGRAM. */
PQ_NODISCARD pq_status pq_engine_reject(const pq_engine_check *check, const char *format, ...)
    PQ_PRINTF(2, 3);

/* A driver that keeps the sentence of a family's check function, for pq_engine_adopt. */
typedef struct pq_engine_probe {
    char message[384];
    pq_exec exec;
} pq_engine_probe;

void pq_engine_probe_init(pq_engine_probe *probe);
/* PQ_OK stays; a lack of memory stays; anything else becomes PQ_ERR_PROGRAM with the sentence. */
PQ_NODISCARD pq_status pq_engine_adopt(const pq_engine_check *check, const pq_engine_probe *probe,
                                       pq_status status);

/* Operand of the instruction under check; NULL where it is absent. */
const pq_value *pq_engine_input(const pq_engine_check *check, int slot);
const pq_value *pq_engine_output(const pq_engine_check *check);
const void *pq_engine_constant(const pq_engine_check *check, int slot);

/* Input `slot` has exactly `size` elements. */
PQ_NODISCARD pq_status pq_engine_expect_size(const pq_engine_check *check, int slot, int64_t size);
PQ_NODISCARD pq_status pq_engine_expect_output(const pq_engine_check *check, int64_t size);
/* The output has the type of the first input. */
PQ_NODISCARD pq_status pq_engine_expect_same_type(const pq_engine_check *check);

/* True if offset + sum_i index_i * stride_i lies in [0, size) for all 0 <= index_i < dims[i]; no
 * index at all needs 0 <= offset <= size. Any int64 is allowed. */
bool pq_engine_span_fits(int ndim, const int64_t *dims, const int64_t *strides, int64_t offset,
                         int64_t size);
/* a * b of sizes >= 0, or false where it passes PQ_MAX_VALUE_SIZE. */
bool pq_engine_multiply(int64_t a, int64_t b, int64_t *product);

/* Elements of a value in a run of `batch` samples. */
static inline size_t pq_engine_elements(const pq_value *value, size_t batch) {
    return (value->batched ? batch : 1) * (size_t)value->size;
}

static inline size_t pq_engine_bytes(const pq_value *value) {
    return (size_t)value->size * pq_dtype_size((pq_dtype)value->dtype);
}

static inline pq_clamp pq_engine_clamp(const int64_t *attrs) {
    return (pq_clamp){(int32_t)attrs[0], (int32_t)attrs[1], (int32_t)attrs[2]};
}

#endif
