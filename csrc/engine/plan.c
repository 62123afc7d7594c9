/* Which values share memory, and where it lies.
 *
 * 1. Reshaped values take the storage of what they reshape.
 * 2. A node that can work in place takes over an operand that dies there.
 * 3. A temporary that is an output lives in the caller's buffer.
 * 4. The rest is packed into the arena, largest first, each into the smallest hole among those
 *    live at the same time. (Optimal packing is NP-hard; largest first with best fit is the usual
 *    good heuristic, and deterministic.) Two regions: unbatched, and per sample. Sizes are
 *    rounded up to 64 per sample, so that all offsets times any batch stay aligned.
 */
#include <stdlib.h>

#include "engine/program_internal.h"

enum { ALIGN = 64 };

static size_t add_storage(const pq_program *program, pq_engine_schedule *schedule,
                          pq_engine_place place, size_t value, size_t slot) {
    const size_t index = schedule->storage_count++;
    schedule->storages[index] = (pq_engine_storage){
        .place = place,
        .batched = program->values[value].batched != 0,
        .size = pq_engine_bytes(&program->values[value]),
        .slot = slot,
    };
    schedule->storage_of[value] = index;
    return index;
}

static bool is_temporary(const pq_engine_storage *storage) {
    return storage->place == PQ_PLACE_FIXED || storage->place == PQ_PLACE_BATCHED;
}

/* The instruction whose output a node writes, and its op. */
static const pq_instruction *writer(const pq_program *program, const pq_engine_node *node) {
    return &program->instructions[node->consumer];
}

static const pq_engine_op *writer_op(const pq_program *program, const pq_engine_node *node) {
    return pq_engine_rows[writer(program, node)->opcode].op;
}

/* First pass: one storage per value, reshaped values sharing; and when each is used last. An
 * output is used after the last node. */
static void find_lifetimes(const pq_program *program, pq_engine_schedule *schedule) {
    size_t inputs = 0;
    for (size_t v = 0; v < program->value_count; v++) {
        schedule->storage_of[v] = PQ_ENGINE_NOT_STORED;
        if (program->values[v].kind == PQ_VALUE_INPUT) {
            add_storage(program, schedule, PQ_PLACE_INPUT, v, inputs++);
        } else if (program->values[v].kind == PQ_VALUE_CONST) {
            add_storage(program, schedule, PQ_PLACE_CONST, v, v);
        }
    }
    for (size_t i = 0; i < schedule->node_count; i++) {
        const pq_engine_node *node = &schedule->nodes[i];
        const size_t output = (size_t)writer(program, node)->output;
        size_t operands[2 * PQ_MAX_INPUTS];
        const int count = pq_engine_operands(program, node, operands);
        for (int n = 0; n < count; n++) {
            schedule->storages[schedule->storage_of[operands[n]]].last = i;
        }
        if (writer_op(program, node)->alias) {
            schedule->storage_of[output] = schedule->storage_of[operands[0]];
        } else {
            const pq_engine_place place =
                program->values[output].batched ? PQ_PLACE_BATCHED : PQ_PLACE_FIXED;
            pq_engine_storage *storage =
                &schedule->storages[add_storage(program, schedule, place, output, 0)];
            storage->first = storage->last = i;
        }
    }
    for (size_t j = 0; j < program->output_count; j++) {
        schedule->storages[schedule->storage_of[program->outputs[j]]].last = schedule->node_count;
    }
}

/* The first instruction of a fused node reads its operands while the output is being written. */
static bool is_read_by_first(const pq_program *program, const pq_engine_schedule *schedule,
                             const pq_engine_node *node, size_t storage) {
    const int64_t *inputs = program->instructions[node->instruction].inputs;
    for (int slot = 0; slot < PQ_MAX_INPUTS && node->fusion != NULL; slot++) {
        if (inputs[slot] >= 0 && schedule->storage_of[inputs[slot]] == storage) {
            return true;
        }
    }
    return false;
}

/* Second pass, in order: the storage that node i may take over, or its own. */
static size_t storage_to_reuse(const pq_program *program, const pq_engine_schedule *schedule,
                               size_t i, const size_t *moved_to) {
    const pq_engine_node *node = &schedule->nodes[i];
    const pq_instruction *instruction = writer(program, node);
    const unsigned reuse = writer_op(program, node)->reuse;
    const pq_value *y = &program->values[instruction->output];
    const size_t own = schedule->storage_of[instruction->output];
    for (int slot = 0; slot < PQ_MAX_INPUTS; slot++) {
        const bool is_result = node->fusion != NULL && slot == node->slot;
        if ((reuse >> slot & 1) == 0 || instruction->inputs[slot] < 0 || is_result) {
            continue;
        }
        const pq_value *x = &program->values[instruction->inputs[slot]];
        const size_t original = schedule->storage_of[instruction->inputs[slot]];
        const pq_engine_storage *storage = &schedule->storages[original];
        const bool same_shape =
            x->batched == y->batched && x->size == y->size && x->dtype == y->dtype;
        if (same_shape && is_temporary(storage) && storage->last == i &&
            !is_read_by_first(program, schedule, node, original)) {
            return moved_to[original];
        }
    }
    return own;
}

/* Storages that merge keep the first one's place; its lifetime grows. */
static void merge_in_place(const pq_program *program, pq_engine_schedule *schedule,
                           size_t *moved_to) {
    for (size_t s = 0; s < schedule->storage_count; s++) {
        moved_to[s] = s;
    }
    for (size_t i = 0; i < schedule->node_count; i++) {
        const pq_engine_node *node = &schedule->nodes[i];
        if (!writer_op(program, node)->alias) {
            const size_t own = schedule->storage_of[writer(program, node)->output];
            moved_to[own] = storage_to_reuse(program, schedule, i, moved_to);
        }
    }
    /* Not before all are known: the test above asks for the lifetime of the operand alone. */
    for (size_t s = 0; s < schedule->storage_count; s++) {
        pq_engine_storage *storage = &schedule->storages[s];
        pq_engine_storage *target = &schedule->storages[moved_to[s]];
        if (target != storage) {
            target->last = storage->last > target->last ? storage->last : target->last;
            storage->size = 0; /* needs no place of its own */
        }
    }
    for (size_t v = 0; v < program->value_count; v++) {
        if (schedule->storage_of[v] != PQ_ENGINE_NOT_STORED) {
            schedule->storage_of[v] = moved_to[schedule->storage_of[v]];
        }
    }
}

static void bind_outputs(const pq_program *program, pq_engine_schedule *schedule) {
    for (size_t j = 0; j < program->output_count; j++) {
        pq_engine_storage *storage = &schedule->storages[schedule->storage_of[program->outputs[j]]];
        if (is_temporary(storage)) { /* the first output that wants it; others are copied */
            storage->place = PQ_PLACE_OUTPUT;
            storage->slot = j;
        }
    }
}

static size_t padded(size_t size) {
    return (size + ALIGN - 1) / ALIGN * ALIGN;
}

static bool live_together(const pq_engine_storage *a, const pq_engine_storage *b) {
    return a->first <= b->last && b->first <= a->last;
}

/* qsort has no argument for context, so the keys travel with the indices. */
typedef struct sort_key {
    size_t size, first, index;
} sort_key;

static int largest_first(const void *left, const void *right) {
    const sort_key *a = left, *b = right;
    if (a->size != b->size) {
        return a->size < b->size ? 1 : -1;
    }
    if (a->first != b->first) {
        return a->first < b->first ? -1 : 1;
    }
    return a->index < b->index ? -1 : a->index > b->index;
}

/* Packs the storages of one place; returns the bytes of the region. */
static size_t pack_region(pq_engine_schedule *schedule, pq_engine_place place, sort_key *order,
                          size_t *placed) {
    pq_engine_storage *storages = schedule->storages;
    size_t count = 0, placed_count = 0, region = 0;
    for (size_t s = 0; s < schedule->storage_count; s++) {
        if (storages[s].place == place && storages[s].size > 0) {
            order[count++] = (sort_key){storages[s].size, storages[s].first, s};
        }
    }
    qsort(order, count, sizeof *order, largest_first);
    for (size_t i = 0; i < count; i++) {
        pq_engine_storage *storage = &storages[order[i].index];
        const size_t size = padded(storage->size);
        size_t cursor = 0, best = SIZE_MAX, best_offset = 0;
        for (size_t j = 0; j < placed_count; j++) {
            const pq_engine_storage *other = &storages[placed[j]];
            if (!live_together(storage, other)) {
                continue;
            }
            if (other->offset > cursor && other->offset - cursor >= size &&
                other->offset - cursor < best) {
                best = other->offset - cursor;
                best_offset = cursor;
            }
            const size_t end = other->offset + padded(other->size);
            cursor = end > cursor ? end : cursor;
        }
        storage->offset = best == SIZE_MAX ? cursor : best_offset;
        region = storage->offset + size > region ? storage->offset + size : region;
        size_t at = placed_count++;
        for (; at > 0 && storages[placed[at - 1]].offset > storage->offset; at--) {
            placed[at] = placed[at - 1];
        }
        placed[at] = order[i].index;
    }
    return region;
}

pq_status pq_engine_plan(const pq_exec *exec, const pq_program *program,
                         pq_engine_schedule *schedule) {
    const size_t count = program->value_count; /* no more storages than values */
    sort_key *order = pq_alloc(count * sizeof *order);
    size_t *scratch = pq_alloc(count * sizeof *scratch);
    pq_status status = PQ_OK;
    if (order == NULL || scratch == NULL) {
        status = pq_fail(exec, PQ_ERR_NOMEM, "program: no memory to plan %zu values", count);
        goto done;
    }
    schedule->storage_count = 0;
    find_lifetimes(program, schedule);
    merge_in_place(program, schedule, scratch);
    bind_outputs(program, schedule);
    schedule->fixed_size = pack_region(schedule, PQ_PLACE_FIXED, order, scratch);
    schedule->sample_size = pack_region(schedule, PQ_PLACE_BATCHED, order, scratch);
done:
    pq_free(scratch);
    pq_free(order);
    return status;
}
