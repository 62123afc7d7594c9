/* GEMM_S8S4: GEMM with weights of four bits. Constants stay two to a byte in the program and in the
 * file: to everything but this op they are plain u8. */
#include "engine/attrs.h"
#include "engine/op_gemm.h"
#include "pyquant/gemm_s8s4.h"

static const pq_engine_range ranges[PQ_GEMM_S8S4_ATTRS] = {
    [PQ_GEMM_N] = PQ_ENGINE_RANGE_COUNT,
    [PQ_GEMM_K] = PQ_ENGINE_RANGE_COUNT,
    [PQ_GEMM_X_ZERO_POINT] = PQ_ENGINE_RANGE_S8,
    [PQ_GEMM_ZERO_POINT] = PQ_ENGINE_RANGE_S16,
    [PQ_GEMM_QUANT_MIN] = PQ_ENGINE_RANGE_S16,
    [PQ_GEMM_QUANT_MAX] = PQ_ENGINE_RANGE_S16,
    [PQ_GEMM_S8S4_GROUP_SIZE] = PQ_ENGINE_RANGE_SIZE,
};

static pq_gemm_s8s4_pack_args pack_args(const pq_engine_check *check) {
    const int64_t *attrs = check->instruction->attrs;
    return (pq_gemm_s8s4_pack_args){
        .n = (size_t)attrs[PQ_GEMM_N],
        .k = (size_t)attrs[PQ_GEMM_K],
        .w = pq_engine_constant(check, GEMM_W),
        .group_size = (size_t)attrs[PQ_GEMM_S8S4_GROUP_SIZE],
        .group_multiplier = pq_engine_constant(check, GEMM_GROUP_MULTIPLIER),
        .bias = pq_engine_constant(check, GEMM_BIAS),
        .multiplier = pq_engine_constant(check, GEMM_MULTIPLIER),
        .shift = pq_engine_constant(check, GEMM_SHIFT),
        .x_zero_point = (int32_t)attrs[PQ_GEMM_X_ZERO_POINT],
        .y_type = (pq_dtype)pq_engine_output(check)->dtype,
        .out = pq_engine_clamp(&attrs[PQ_GEMM_ZERO_POINT]),
    };
}

static pq_status validate(const pq_engine_check *check) {
    const int64_t *attrs = check->instruction->attrs;
    const int64_t n = attrs[PQ_GEMM_N], k = attrs[PQ_GEMM_K];
    const int64_t group_size = attrs[PQ_GEMM_S8S4_GROUP_SIZE];
    pq_status status = pq_engine_gemm_validate(check, (int64_t)pq_s4_row_size((size_t)k));
    if (status) {
        return status;
    }
    if ((pq_engine_input(check, GEMM_GROUP_MULTIPLIER) == NULL) != (group_size == 0)) {
        return pq_engine_reject(check, "group_multiplier goes with a group_size, and is absent "
                                       "without");
    }
    if (group_size > 0) {
        const size_t groups = pq_s4_groups((size_t)k, (size_t)group_size);
        status = pq_engine_expect_size(check, GEMM_GROUP_MULTIPLIER, n * (int64_t)groups);
        if (status) {
            return status;
        }
    }
    pq_engine_probe probe;
    pq_engine_probe_init(&probe);
    const pq_gemm_s8s4_pack_args args = pack_args(check);
    return pq_engine_adopt(check, &probe, pq_gemm_s8s4_check(&probe.exec, &args));
}

static pq_status prepare(const pq_engine_check *check, void **prepared) {
    const pq_gemm_s8s4_pack_args args = pack_args(check);
    pq_gemm_weights *weights = NULL;
    const pq_status status = pq_gemm_s8s4_pack(check->exec, &args, &weights);
    *prepared = weights;
    return status;
}

const pq_engine_op pq_engine_gemm_s8s4 = {
    .ranges = ranges,
    .range_count = PQ_GEMM_S8S4_ATTRS,
    .inputs = {{PQ_ENGINE_S8, false},
               {PQ_ENGINE_U8, true},
               {PQ_ENGINE_S32, true},
               {PQ_ENGINE_S32, true},
               {PQ_ENGINE_U8, true},
               {PQ_ENGINE_U8, true}},
    .output = {PQ_ENGINE_S8_S16 | PQ_ENGINE_S32, false},
    .packed = 1u << GEMM_W | 1u << GEMM_BIAS | 1u << GEMM_MULTIPLIER | 1u << GEMM_SHIFT |
              1u << GEMM_GROUP_MULTIPLIER,
    .validate = validate,
    .execute = pq_engine_gemm_execute,
    .prepare = prepare,
    .release = pq_engine_gemm_release,
    .workspace = pq_engine_gemm_workspace,
    .work = pq_engine_gemm_work,
    .fusions = pq_engine_gemm_fusions,
    .fusion_count = PQ_GEMM_FUSIONS,
};
