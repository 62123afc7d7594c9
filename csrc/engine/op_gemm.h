/* What GEMM and GEMM_S8S4 share, and what they do together with the instruction that reads their
 * product (op_gemm_fused.c). The attributes of both begin with those of GEMM. */
#ifndef PYQUANT_ENGINE_OP_GEMM_H
#define PYQUANT_ENGINE_OP_GEMM_H

#include "engine/op.h"
#include "pyquant/elementwise.h"

enum { GEMM_X, GEMM_W, GEMM_BIAS, GEMM_MULTIPLIER, GEMM_SHIFT, GEMM_GROUP_MULTIPLIER };

/* Sizes and presence of all operands, where a row of w has `row_size` elements. */
PQ_NODISCARD pq_status pq_engine_gemm_validate(const pq_engine_check *check, int64_t row_size);

/* On packed weights (step->prepared), whatever their type. */
PQ_NODISCARD pq_status pq_engine_gemm_execute(const pq_engine_step *step);
size_t pq_engine_gemm_workspace(const pq_engine_step *step);
void pq_engine_gemm_work(const pq_engine_step *step, pq_engine_work *work);
void pq_engine_gemm_release(void *prepared);

enum { PQ_GEMM_FUSIONS = 2 };
extern const pq_engine_fusion pq_engine_gemm_fusions[PQ_GEMM_FUSIONS];

/* The arguments of an ADD, without pointers (op_elementwise.c). */
pq_add_args pq_engine_add_args(const pq_value *values, const pq_instruction *instruction,
                               size_t batch);

#endif
