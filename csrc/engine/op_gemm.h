/* What GEMM does together with the instruction that reads its product (op_gemm_fused.c). */
#ifndef PYQUANT_ENGINE_OP_GEMM_H
#define PYQUANT_ENGINE_OP_GEMM_H

#include "engine/op.h"
#include "pyquant/elementwise.h"

enum { PQ_GEMM_FUSIONS = 2 };
extern const pq_engine_fusion pq_engine_gemm_fusions[PQ_GEMM_FUSIONS];

/* The arguments of an ADD, without pointers (op_elementwise.c). */
pq_add_args pq_engine_add_args(const pq_value *values, const pq_instruction *instruction,
                               size_t batch);

#endif
