/* A program interpreted as its definition reads: sample by sample, each value in memory of its
 * own, attributes by name, no planning. Softmax and layer norm come from the families' entry
 * points, limited to the reference kernels; everything else is written out here. */
#ifndef PYQUANT_TESTS_ENGINE_INTERPRET_H
#define PYQUANT_TESTS_ENGINE_INTERPRET_H

#include "engine_build.h"
#include "pyquant/cpu.h"
#include "pyquant/layernorm.h"
#include "pyquant/layout.h"
#include "pyquant/rnu.h"
#include "pyquant/softmax_rows.h"

typedef struct interpretation {
    const build *program;
    size_t batch;
    char *values[BUILD_VALUES]; /* batch samples if batched, else one */
    pq_attention_trace attention[BUILD_INSTRUCTIONS];
} interpretation;

static inline size_t interpret_bytes(const interpretation *in, int64_t value, bool whole) {
    const pq_value v = in->program->values[value];
    return (whole && v.batched ? in->batch : 1) * (size_t)v.size * pq_dtype_size((pq_dtype)v.dtype);
}

static inline char *interpret_at(const interpretation *in, int64_t value, size_t sample) {
    if (value < 0) {
        return NULL;
    }
    return in->values[value] +
           (in->program->values[value].batched ? sample : 0) * interpret_bytes(in, value, false);
}

static inline int64_t interpret_get(const void *data, int64_t dtype, int64_t i) {
    switch (dtype) {
    case PQ_S8: return ((const int8_t *)data)[i];
    case PQ_U8: return ((const uint8_t *)data)[i];
    case PQ_S16: return ((const int16_t *)data)[i];
    case PQ_S32: return ((const int32_t *)data)[i];
    default: return ((const int64_t *)data)[i];
    }
}

static inline void interpret_put(void *data, int64_t dtype, int64_t i, int64_t v) {
    switch (dtype) {
    case PQ_S8: ((int8_t *)data)[i] = (int8_t)v; break;
    case PQ_U8: ((uint8_t *)data)[i] = (uint8_t)v; break;
    case PQ_S16: ((int16_t *)data)[i] = (int16_t)v; break;
    case PQ_S32: ((int32_t *)data)[i] = (int32_t)v; break;
    default: ((int64_t *)data)[i] = v; break;
    }
}

static inline pq_clamp interpret_clamp(const pq_instruction *i) {
    return (pq_clamp){(int32_t)build_get(i, "zero_point"), (int32_t)build_get(i, "quant_min"),
                      (int32_t)build_get(i, "quant_max")};
}

/* One instruction on one sample: operands as pointers and types. */
typedef struct operands {
    const pq_instruction *i;
    const char *x[PQ_MAX_INPUTS];
    char *y;
    int64_t type[PQ_MAX_INPUTS], size[PQ_MAX_INPUTS], y_type, y_size;
    pq_attention_trace trace;
} operands;

static inline void interpret_reshape(const operands *o) {
    memcpy(o->y, o->x[0], (size_t)o->y_size * pq_dtype_size((pq_dtype)o->y_type));
}

static inline void interpret_copy(const operands *o) {
    const int64_t *dims = &o->i->attrs[build_attr(PQ_OP_COPY, "dim0")];
    const int64_t *strides = &o->i->attrs[build_attr(PQ_OP_COPY, "stride0")];
    for (int64_t at = 0; at < o->y_size; at++) {
        int64_t from = build_get(o->i, "offset"), rest = at;
        for (int d = (int)build_get(o->i, "ndim") - 1; d >= 0; d--) {
            from += rest % dims[d] * strides[d];
            rest /= dims[d];
        }
        interpret_put(o->y, o->y_type, at, interpret_get(o->x[0], o->y_type, from));
    }
}

static inline void interpret_concat(const operands *o) {
    const int64_t outer = build_get(o->i, "outer");
    int64_t at = 0;
    for (int64_t row = 0; row < outer; row++) {
        for (int t = 0; t < PQ_MAX_CONCAT && o->x[t] != NULL; t++) {
            for (int64_t e = 0; e < o->size[t] / outer; e++) {
                interpret_put(o->y, o->y_type, at++,
                              interpret_get(o->x[t], o->y_type, row * (o->size[t] / outer) + e));
            }
        }
    }
}

static inline void interpret_gather(const operands *o) {
    const int64_t inner = build_get(o->i, "inner");
    for (int64_t at = 0; at < o->y_size; at++) {
        const int64_t row = interpret_get(o->x[0], PQ_S32, at / inner);
        interpret_put(o->y, o->y_type, at,
                      interpret_get(o->x[1], o->y_type, row * inner + at % inner));
    }
}

static inline void interpret_gemm(const operands *o) {
    const int64_t n = build_get(o->i, "n"), k = build_get(o->i, "k");
    const int64_t zero = build_get(o->i, "x_zero_point");
    for (int64_t at = 0; at < o->y_size; at++) {
        const int64_t row = at / n, column = at % n;
        int64_t sum = o->x[2] == NULL ? 0 : interpret_get(o->x[2], PQ_S32, column);
        for (int64_t p = 0; p < k; p++) {
            sum += (interpret_get(o->x[0], PQ_S8, row * k + p) - zero) *
                   interpret_get(o->x[1], PQ_S8, column * k + p);
        }
        if (o->y_type != PQ_S32) {
            sum = pq_requantize(sum, (int32_t)interpret_get(o->x[3], PQ_S32, column),
                                (int)interpret_get(o->x[4], PQ_U8, column), interpret_clamp(o->i));
        }
        interpret_put(o->y, o->y_type, at, sum);
    }
}

static inline void interpret_gemm_s8s4(const operands *o) {
    const int64_t n = build_get(o->i, "n"), k = build_get(o->i, "k");
    const int64_t group_size = build_get(o->i, "group_size");
    const int64_t groups = group_size == 0 ? 0 : (k + group_size - 1) / group_size;
    for (int64_t at = 0; at < o->y_size; at++) {
        const int64_t row = at / n, column = at % n;
        int64_t sum = o->x[2] == NULL ? 0 : interpret_get(o->x[2], PQ_S32, column);
        for (int64_t p = 0; p < k; p++) {
            const int64_t byte = interpret_get(o->x[1], PQ_U8, column * ((k + 1) / 2) + p / 2);
            const int64_t half = p % 2 == 0 ? byte % 16 : byte / 16;
            const int64_t factor =
                groups == 0 ? 1 : interpret_get(o->x[5], PQ_U8, column * groups + p / group_size);
            sum += (interpret_get(o->x[0], PQ_S8, row * k + p) - build_get(o->i, "x_zero_point")) *
                   factor * (half > 7 ? half - 16 : half);
        }
        if (o->y_type != PQ_S32) {
            sum = pq_requantize(sum, (int32_t)interpret_get(o->x[3], PQ_S32, column),
                                (int)interpret_get(o->x[4], PQ_U8, column), interpret_clamp(o->i));
        }
        interpret_put(o->y, o->y_type, at, sum);
    }
}

static inline pq_strides interpret_strides(const pq_instruction *i, const char *offset) {
    const int64_t *a = &i->attrs[build_attr(PQ_OP_ATTENTION, offset)];
    return (pq_strides){0, (ptrdiff_t)a[1], (ptrdiff_t)a[2], (ptrdiff_t)a[3]};
}

static inline pq_softmax interpret_softmax_constants(const operands *o, int slot) {
    const pq_instruction *i = o->i;
    pq_softmax softmax = {.method = (pq_softmax_method)build_get(i, "method"),
                          .delta_max = (uint32_t)build_get(i, "delta_max"),
                          .multiplier = (uint32_t)build_get(i, "softmax_multiplier"),
                          .shift = (int32_t)build_get(i, "softmax_shift"),
                          .pmax = (int32_t)build_get(i, "pmax"),
                          .bits = (int32_t)build_get(i, "softmax_bits")};
    if (o->type[slot] == PQ_S32) {
        softmax.entries = (uint32_t)o->size[slot];
        softmax.exponentials = (const int32_t *)(const void *)o->x[slot];
        return softmax;
    }
    for (int j = 0; j < PQ_SOFTMAX_TABLE_SIZE; j++) {
        softmax.table[j] = (uint16_t)interpret_get(o->x[slot], PQ_S16, j);
    }
    return softmax;
}

static inline void interpret_softmax(const operands *o) {
    const pq_instruction *i = o->i;
    const size_t n = (size_t)build_get(i, "n");
    const pq_softmax_rows_args args = {
        .rows = (size_t)o->size[0] / n,
        .n = n,
        .x_type = (pq_dtype)o->type[0],
        .y_type = (pq_dtype)o->y_type,
        .x = o->x[0],
        .y = o->y,
        .softmax = interpret_softmax_constants(o, 1),
        .requant = {(int32_t)build_get(i, "multiplier"), (uint8_t)build_get(i, "shift")},
        .out = interpret_clamp(i),
    };
    const pq_exec exec = pq_exec_serial(NULL, 0);
    CHECK_OK(pq_softmax_rows(&exec, &args));
}

static inline void interpret_attention(const operands *o) {
    const pq_instruction *i = o->i;
    pq_attention_args args = {
        .batch = 1,
        .groups = (size_t)build_get(i, "groups"),
        .heads = (size_t)build_get(i, "heads"),
        .kv_heads = (size_t)build_get(i, "kv_heads"),
        .q_len = (size_t)build_get(i, "q_len"),
        .k_len = (size_t)build_get(i, "k_len"),
        .head_dim = (size_t)build_get(i, "head_dim"),
        .q = (const int8_t *)o->x[0] + build_get(i, "q_offset"),
        .k = (const int8_t *)o->x[1] + build_get(i, "k_offset"),
        .v = (const int8_t *)o->x[2] + build_get(i, "v_offset"),
        .y = (int8_t *)o->y + build_get(i, "y_offset"),
        .q_strides = interpret_strides(i, "q_offset"),
        .k_strides = interpret_strides(i, "k_offset"),
        .v_strides = interpret_strides(i, "v_offset"),
        .y_strides = interpret_strides(i, "y_offset"),
        .q_zero_point = (int32_t)build_get(i, "q_zero_point"),
        .k_zero_point = (int32_t)build_get(i, "k_zero_point"),
        .v_zero_point = (int32_t)build_get(i, "v_zero_point"),
        .keep = (const uint8_t *)o->x[4],
        .mask_add = (const int32_t *)(const void *)o->x[5],
        .causal = build_get(i, "causal") != 0,
        .softmax = interpret_softmax_constants(o, 3),
        .requant = {(int32_t)build_get(i, "multiplier"), (uint8_t)build_get(i, "shift")},
        .out = interpret_clamp(i),
    };
    const char *const keep[] = {"keep_group", "keep_head", "keep_query", "keep_key"};
    const char *const mask[] = {"mask_group", "mask_head", "mask_query", "mask_key"};
    for (int s = 0; s < 4; s++) {
        args.keep_strides[s + 1] = (ptrdiff_t)build_get(i, keep[s]);
        args.mask_strides[s + 1] = (ptrdiff_t)build_get(i, mask[s]);
    }
    const pq_exec exec = pq_exec_serial(NULL, 0);
    CHECK_OK(pq_attention_s8_trace(&exec, &args, &o->trace));
}

static inline void interpret_layernorm(const operands *o) {
    const pq_instruction *i = o->i;
    const size_t channels = (size_t)build_get(i, "channels");
    const pq_layernorm_args args = {
        .rows = (size_t)o->size[0] / channels,
        .channels = channels,
        .x_type = (pq_dtype)o->type[0],
        .y_type = (pq_dtype)o->y_type,
        .x = o->x[0],
        .y = o->y,
        .rms = build_get(i, "rms") != 0,
        .x_zero_point = (int32_t)build_get(i, "x_zero_point"),
        .epsilon = (uint64_t)build_get(i, "epsilon"),
        .gain = (const int32_t *)(const void *)o->x[1],
        .offset = (const int64_t *)(const void *)o->x[2],
        .shift = (int32_t)build_get(i, "shift"),
        .out = interpret_clamp(i),
        .method = (pq_norm_method)build_get(i, "method"),
        .iterations = (int32_t)build_get(i, "iterations"),
        .alpha = (const uint8_t *)o->x[3],
        .exponent = (const uint8_t *)o->x[4],
        .requant = {(int32_t)build_get(i, "ptf_multiplier"),
                    (uint8_t)build_get(i, "ptf_shift")},
        .zero_point = (int32_t)build_get(i, "ptf_zero_point"),
    };
    const pq_exec exec = pq_exec_serial(NULL, 0);
    CHECK_OK(pq_layernorm(&exec, &args));
}

static inline void interpret_table(const operands *o) {
    for (int64_t at = 0; at < o->y_size; at++) {
        const int64_t x = interpret_get(o->x[0], PQ_S8, at);
        interpret_put(o->y, PQ_S8, at, interpret_get(o->x[1], PQ_S8, x + 128));
    }
}

static inline void interpret_requantize(const operands *o) {
    for (int64_t at = 0; at < o->y_size; at++) {
        const int64_t x = interpret_get(o->x[0], o->type[0], at) - build_get(o->i, "x_zero_point");
        interpret_put(o->y, o->y_type, at,
                      pq_requantize(x, (int32_t)build_get(o->i, "multiplier"),
                                    (int)build_get(o->i, "shift"), interpret_clamp(o->i)));
    }
}

static inline void interpret_add(const operands *o) {
    const pq_clamp out = interpret_clamp(o->i);
    const int shift = (int)build_get(o->i, "shift");
    for (int64_t at = 0; at < o->y_size; at++) {
        const int64_t a = interpret_get(o->x[0], o->type[0], at);
        const int64_t b = interpret_get(o->x[1], o->type[1], at % o->size[1]);
        const int64_t sum =
            (a - build_get(o->i, "a_zero_point")) * build_get(o->i, "a_multiplier") +
            (b - build_get(o->i, "b_zero_point")) * build_get(o->i, "b_multiplier");
        const int64_t y = ((sum + (INT64_C(1) << (shift - 1))) >> shift) + out.zero_point;
        interpret_put(o->y, o->y_type, at, pq_clamp_s64(y, out.quant_min, out.quant_max));
    }
}

static inline void interpret_mean(const operands *o) {
    const int64_t reduce = build_get(o->i, "reduce"), inner = build_get(o->i, "inner");
    for (int64_t at = 0; at < o->y_size; at++) {
        int64_t sum = 0;
        for (int64_t r = 0; r < reduce; r++) {
            sum +=
                interpret_get(o->x[0], o->type[0], (at / inner * reduce + r) * inner + at % inner) -
                build_get(o->i, "x_zero_point");
        }
        interpret_put(o->y, o->y_type, at,
                      pq_requantize(sum, (int32_t)build_get(o->i, "multiplier"),
                                    (int)build_get(o->i, "shift"), interpret_clamp(o->i)));
    }
}

static inline size_t interpret_scores(const pq_instruction *i) {
    return (size_t)(build_get(i, "groups") * build_get(i, "heads") * build_get(i, "q_len"));
}

static inline void interpret_instruction(interpretation *in, size_t index) {
    static void (*const actions[PQ_OPCODE_COUNT])(const operands *) = {
#define PQ_INSTRUCTION(NAME, name, min_inputs, max_inputs, attrs) [PQ_OP_##NAME] = interpret_##name,
#include "pyquant/instructions.def"
#undef PQ_INSTRUCTION
    };
    const pq_instruction *i = &in->program->instructions[index];
    const pq_value *y = &in->program->values[i->output];
    const size_t samples = y->batched ? in->batch : 1;
    in->values[i->output] = build_block(interpret_bytes(in, i->output, true));
    size_t rows = 0, keys = 0;
    pq_attention_trace *trace = &in->attention[index];
    if (i->opcode == PQ_OP_ATTENTION) {
        rows = interpret_scores(i);
        keys = (size_t)build_get(i, "k_len");
        trace->score = build_block(samples * rows * keys * sizeof *trace->score);
        trace->p = build_block(samples * rows * keys * sizeof *trace->p);
        trace->l = build_block(samples * rows * sizeof *trace->l);
    }
    for (size_t s = 0; s < samples; s++) {
        operands o = {
            .i = i, .y = interpret_at(in, i->output, s), .y_type = y->dtype, .y_size = y->size};
        for (int slot = 0; slot < PQ_MAX_INPUTS; slot++) {
            if (i->inputs[slot] >= 0) {
                o.x[slot] = interpret_at(in, i->inputs[slot], s);
                o.type[slot] = in->program->values[i->inputs[slot]].dtype;
                o.size[slot] = in->program->values[i->inputs[slot]].size;
            }
        }
        if (trace->l != NULL) {
            o.trace = (pq_attention_trace){trace->score + s * rows * keys,
                                           trace->p + s * rows * keys, trace->l + s * rows};
        }
        actions[i->opcode](&o);
    }
}

/* inputs: one pointer per INPUT value, in order. */
static inline void interpret(interpretation *in, const build *program, size_t batch,
                             const void *const *inputs) {
    memset(in, 0, sizeof *in);
    in->program = program;
    in->batch = batch;
    CHECK_OK(pq_isa_limit("ref"));
    size_t input = 0;
    for (size_t v = 0; v < program->value_count; v++) {
        const void *from = program->values[v].kind == PQ_VALUE_INPUT   ? inputs[input++]
                           : program->values[v].kind == PQ_VALUE_CONST ? program->constants[v]
                                                                       : NULL;
        if (from != NULL) {
            const size_t bytes = interpret_bytes(in, (int64_t)v, true);
            in->values[v] = build_block(bytes);
            memcpy(in->values[v], from, bytes);
        }
    }
    for (size_t i = 0; i < program->instruction_count; i++) {
        interpret_instruction(in, i);
    }
    CHECK_OK(pq_isa_limit(NULL));
}

static inline void interpret_free(interpretation *in) {
    for (size_t v = 0; v < in->program->value_count; v++) {
        free(in->values[v]);
    }
    for (size_t i = 0; i < in->program->instruction_count; i++) {
        free(in->attention[i].score);
        free(in->attention[i].p);
        free(in->attention[i].l);
    }
}

#endif
