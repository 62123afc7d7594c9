/* GEMM with the TABLE or the ADD of the same shape that follows: the epilogues of gemm.h. */
#include "engine/attrs.h"
#include "engine/op_gemm.h"
#include "pyquant/gemm.h"

/* One call of either kind. */
static pq_status run(const pq_engine_step *step, const pq_gemm_epilogue *epilogue) {
    const size_t n = (size_t)step->instruction->attrs[PQ_GEMM_N];
    const size_t k = (size_t)step->instruction->attrs[PQ_GEMM_K];
    const pq_value *x = &step->values[step->instruction->inputs[0]];
    return pq_gemm_s8s8_fused_in(step->exec, pq_engine_elements(x, step->batch) / k,
                                 step->inputs[0], k, step->prepared, epilogue, step->output, n,
                                 step->workspace, step->workspace_size);
}

static size_t workspace(const pq_engine_step *step, const pq_gemm_epilogue *epilogue) {
    return pq_gemm_workspace(step->exec, step->prepared) +
           pq_gemm_fused_workspace(step->exec, step->prepared, epilogue);
}

/* ---- table ---- */

static bool accepts_table(const pq_value *values, const pq_instruction *instruction,
                          const pq_instruction *consumer, int slot) {
    (void)consumer;
    return slot == 0 && values[instruction->output].dtype == PQ_S8;
}

static pq_status execute_table(const pq_engine_step *step) {
    const pq_gemm_epilogue epilogue = {.table = step->consumer_inputs[1]};
    return run(step, &epilogue);
}

static size_t workspace_table(const pq_engine_step *step) {
    static const int8_t some_table[256]; /* not read */
    const pq_gemm_epilogue epilogue = {.table = some_table};
    return workspace(step, &epilogue);
}

/* ---- add ---- */

static bool accepts_add(const pq_value *values, const pq_instruction *instruction,
                        const pq_instruction *consumer, int slot) {
    const pq_value *product = &values[instruction->output];
    const pq_value *other = &values[consumer->inputs[1 - slot]];
    return product->dtype != PQ_S32 && other->size == product->size &&
           other->batched == product->batched;
}

/* The product is a of the epilogue, whichever operand it is: a sum may be turned round. */
static pq_add_args product_first(const pq_engine_step *step) {
    const pq_add_args args = pq_engine_add_args(step->values, step->consumer, step->batch);
    if (step->slot == 0) {
        return args;
    }
    pq_add_args turned = args;
    turned.a_type = args.b_type;
    turned.b_type = args.a_type;
    turned.a_zero_point = args.b_zero_point;
    turned.b_zero_point = args.a_zero_point;
    turned.a_multiplier = args.b_multiplier;
    turned.b_multiplier = args.a_multiplier;
    return turned;
}

static pq_status execute_add(const pq_engine_step *step) {
    const pq_add_args add = product_first(step);
    const pq_gemm_epilogue epilogue = {.add = &add,
                                       .b = step->consumer_inputs[1 - step->slot],
                                       .ldb = (size_t)step->instruction->attrs[PQ_GEMM_N]};
    return run(step, &epilogue);
}

static size_t workspace_add(const pq_engine_step *step) {
    const pq_add_args add = product_first(step);
    const pq_gemm_epilogue epilogue = {.add = &add};
    return workspace(step, &epilogue);
}

const pq_engine_fusion pq_engine_gemm_fusions[PQ_GEMM_FUSIONS] = {
    {PQ_OP_TABLE, accepts_table, execute_table, workspace_table},
    {PQ_OP_ADD, accepts_add, execute_add, workspace_add},
};
