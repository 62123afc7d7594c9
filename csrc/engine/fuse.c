/* The order in which instructions run, and which of them run as one.
 *
 * A pair is fused where the op of the first declares it (op.h), nothing but the second reads the
 * result, and the result is no output of the program. It runs at the place of the second, where
 * all operands of both exist. Reshapes between the two vanish with the result. Saved programs and
 * digests know nothing of this.
 */
#include "engine/program_internal.h"

enum { NONE = -1, MANY = -2 };

/* Who reads a value: an instruction, NONE, or MANY (several, one in two slots, the caller). */
static void find_readers(const pq_program *program, int64_t *readers) {
    for (size_t v = 0; v < program->value_count; v++) {
        readers[v] = NONE;
    }
    for (size_t i = 0; i < program->instruction_count; i++) {
        for (int slot = 0; slot < PQ_MAX_INPUTS; slot++) {
            const int64_t value = program->instructions[i].inputs[slot];
            if (value >= 0) {
                readers[value] = readers[value] == NONE ? (int64_t)i : MANY;
            }
        }
    }
    for (size_t j = 0; j < program->output_count; j++) {
        readers[program->outputs[j]] = MANY;
    }
}

static const pq_engine_op *op_of(const pq_program *program, size_t instruction) {
    return pq_engine_rows[program->instructions[instruction].opcode].op;
}

/* The only instruction that reads the result of another, reshapes aside; false if there is none.
 * `value` becomes what it reads. */
static bool only_reader(const pq_program *program, const int64_t *readers, size_t *value,
                        size_t *reader) {
    while (readers[*value] >= 0) {
        *reader = (size_t)readers[*value];
        if (!op_of(program, *reader)->alias) {
            return true;
        }
        *value = (size_t)program->instructions[*reader].output;
    }
    return false;
}

/* The fused node that begins with an instruction, or false. */
static bool find_fusion(const pq_program *program, const int64_t *readers, size_t index,
                        pq_engine_node *node) {
    const pq_engine_op *op = op_of(program, index);
    size_t value = (size_t)program->instructions[index].output, consumer;
    if (op->fusion_count == 0 || !only_reader(program, readers, &value, &consumer)) {
        return false;
    }
    const pq_instruction *last = &program->instructions[consumer];
    int slot = 0;
    while (last->inputs[slot] != (int64_t)value) {
        slot++;
    }
    for (size_t f = 0; f < op->fusion_count; f++) {
        const pq_engine_fusion *fusion = &op->fusions[f];
        if ((int64_t)fusion->consumer == last->opcode &&
            fusion->accepts(program->values, &program->instructions[index], last, slot)) {
            *node = (pq_engine_node){index, consumer, slot, fusion};
            return true;
        }
    }
    return false;
}

/* nodes[i] becomes the node that ends with instruction i; those inside another are marked. From
 * the end: of two products that meet in one sum the later has it, whose operands live there. */
static void fuse_pairs(const pq_program *program, const int64_t *readers, pq_engine_node *nodes,
                       bool *inside) {
    for (size_t i = program->instruction_count; i-- > 0;) {
        pq_engine_node node;
        if (!find_fusion(program, readers, i, &node) || inside[node.consumer] ||
            nodes[node.consumer].fusion != NULL) {
            continue;
        }
        nodes[node.consumer] = node;
        for (size_t at = i; at != node.consumer;
             at = (size_t)readers[program->instructions[at].output]) {
            inside[at] = true;
        }
    }
}

pq_status pq_engine_order(const pq_exec *exec, const pq_program *program, bool fuse,
                          pq_engine_schedule *schedule) {
    const size_t count = program->instruction_count;
    int64_t *readers = pq_alloc(program->value_count * sizeof *readers);
    pq_engine_node *nodes = pq_alloc(count * sizeof *nodes);
    bool *inside = pq_alloc(count * sizeof *inside);
    pq_status status = PQ_OK;
    if (readers == NULL || nodes == NULL || inside == NULL) {
        status = pq_fail(exec, PQ_ERR_NOMEM, "program: no memory to order %zu instructions", count);
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        nodes[i] = (pq_engine_node){i, i, 0, NULL};
        inside[i] = false;
    }
    if (fuse) {
        find_readers(program, readers);
        fuse_pairs(program, readers, nodes, inside);
    }
    schedule->node_count = 0;
    for (int batched = 0; batched < 2; batched++) {
        for (size_t i = 0; i < count; i++) {
            const pq_value *output = &program->values[program->instructions[i].output];
            if (!inside[i] && (output->batched != 0) == (batched != 0)) {
                schedule->nodes[schedule->node_count++] = nodes[i];
            }
        }
        if (!batched) {
            schedule->unbatched_count = schedule->node_count;
        }
    }
done:
    pq_free(readers);
    pq_free(nodes);
    pq_free(inside);
    return status;
}
