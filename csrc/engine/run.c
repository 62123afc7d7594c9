/* Running a program: who works on which samples, and in whose memory.
 *
 * Nodes without a batch run once. Then, where there are at least as many samples as threads and
 * enough to do, each thread takes whole slices of the batch and runs all nodes on them alone: no
 * thread waits for another between nodes, and what one node writes the next reads from the same
 * core's cache. The samples left over, and small batches, are run by all threads together, node by
 * node. No value depends on which way a sample went.
 */
#include <string.h>

#include "core/driver.h"
#include "core/grain.h"
#include "engine/program_internal.h"

enum { ALIGN = 64 };

/* How the samples of a call are cut, and the memory for it. */
typedef struct cut {
    size_t alone;      /* samples [0, alone) go to single threads ... */
    size_t slices;     /* ... in so many slices, equal but for one sample */
    size_t together;   /* samples a slice of the rest */
    size_t alone_size; /* bytes of arena and of workspace for each thread that works alone */
    size_t alone_workspace;
    size_t arena_size, workspace_size;
} cut;

static pq_status check_pointer(const pq_engine_call *call, const pq_exec *exec, const char *what,
                               size_t index, size_t value, const void *pointer) {
    const pq_value *v = &call->program->values[value];
    if (pq_engine_elements(v, call->total) > 0 && pointer == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "program: %s %zu is missing", what, index);
    }
    if ((uintptr_t)pointer % pq_dtype_size((pq_dtype)v->dtype) != 0) {
        return pq_fail(exec, PQ_ERR_VALUE, "program: %s %zu is not aligned to its elements", what,
                       index);
    }
    return PQ_OK;
}

static pq_status check_call(const pq_engine_call *call, const pq_exec *exec) {
    const pq_program *program = call->program;
    /* With this, every offset and size below fits in ptrdiff_t. */
    if (program->widest > 0 && call->total > (size_t)PTRDIFF_MAX / program->widest) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "program: a batch of %zu with arrays of %zu bytes a sample is too large",
                       call->total, program->widest);
    }
    if ((program->input_count > 0 && call->inputs == NULL) || call->outputs == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "program: expected lists of inputs and outputs");
    }
    pq_status status = PQ_OK;
    for (size_t i = 0; i < program->input_count && status == PQ_OK; i++) {
        status = check_pointer(call, exec, "input", i, program->inputs[i], call->inputs[i]);
    }
    for (size_t j = 0; j < program->output_count && status == PQ_OK; j++) {
        status = check_pointer(call, exec, "output", j, program->outputs[j], call->outputs[j]);
    }
    for (size_t i = 0; i < program->value_count && call->values != NULL && status == PQ_OK; i++) {
        if (program->values[i].kind == PQ_VALUE_CONST && call->values[i] != NULL) {
            status = pq_fail(exec, PQ_ERR_VALUE,
                             "program: value %zu is a constant, which is not traced", i);
        }
    }
    return status;
}

static size_t thread_count(const pq_exec *exec) {
    return exec->num_threads < 1 ? 1 : (size_t)exec->num_threads;
}

/* Slices of at most as many samples as keep `count` arenas' worth of them near the cores. */
static size_t count_slices(const pq_engine_call *call, size_t samples, size_t arenas) {
    const size_t per_sample = call->schedule->sample_size;
    const size_t bytes = atomic_load_explicit(&call->program->slice_bytes, memory_order_relaxed);
    size_t wanted = per_sample == 0 ? samples : bytes / per_sample;
    wanted = wanted > SIZE_MAX / arenas ? SIZE_MAX : wanted * arenas;
    wanted = wanted < 1 ? 1 : wanted;
    return samples / wanted + (samples % wanted != 0);
}

/* Samples of the larger slices. */
static size_t largest_slice(size_t samples, size_t slices) {
    return slices == 0 ? 0 : samples / slices + (samples % slices != 0);
}

/* Two sizes of slice occur, one sample apart: a workspace may be larger for the smaller one. */
static size_t find_workspace(const pq_engine_call *call, const pq_exec *exec, size_t batch) {
    pq_engine_slice slice = {.call = call, .exec = exec, .batch = batch};
    const size_t most = pq_engine_find_workspace(&slice);
    slice.batch = batch > 1 ? batch - 1 : 0;
    const size_t other = pq_engine_find_workspace(&slice);
    return ((most > other ? most : other) + ALIGN - 1) / ALIGN * ALIGN;
}

static cut make_cut(const pq_engine_call *call, const pq_exec *exec) {
    const size_t threads = thread_count(exec), sample_size = call->schedule->sample_size;
    const size_t each = call->total / threads; /* samples that a thread could have to itself */
    const uint64_t sample_ns = call->program->sample_ns;
    const bool pays = sample_ns > 0 && each > PQ_RANGE_LEAST_PS / 1000 / sample_ns;
    cut c = {0};
    if (threads > 1 && pays) {
        c.alone = each * threads;
        c.slices = threads * count_slices(call, each, 1);
        const size_t slice = largest_slice(c.alone, c.slices);
        const pq_exec member = pq_exec_serial(NULL, 0);
        c.alone_size = sample_size * slice;
        c.alone_workspace = find_workspace(call, &member, slice);
        c.arena_size = threads * c.alone_size;
        c.workspace_size = threads * c.alone_workspace;
    }
    const size_t rest = call->total - c.alone;
    c.together = largest_slice(rest, count_slices(call, rest, threads));
    if (c.together * sample_size > c.arena_size) {
        c.arena_size = c.together * sample_size;
    }
    const size_t workspace = find_workspace(call, exec, c.together);
    c.workspace_size = workspace > c.workspace_size ? workspace : c.workspace_size;
    c.arena_size += call->schedule->fixed_size;
    /* Never nothing: there is no arithmetic on NULL. */
    c.arena_size = c.arena_size < ALIGN ? ALIGN : c.arena_size;
    c.workspace_size = c.workspace_size < ALIGN ? ALIGN : c.workspace_size;
    return c;
}

/* The slices that single threads work on. */
typedef struct team_task {
    const pq_engine_call *call;
    const cut *cut;
    pq_team team;
    char *arena, *workspace;
    uint64_t *nanoseconds; /* node_count for each slot, or NULL */
    /* The failure of the first slice that has one. Ranges begin in order, and a failure stops none
     * that has begun: that slice is always found, whatever the threads do. */
    atomic_flag reporting;
    atomic_size_t failed; /* its number, or SIZE_MAX */
    pq_status status;
    char message[384];
} team_task;

static void report(team_task *task, size_t index, pq_status status, const char *message) {
    while (atomic_flag_test_and_set_explicit(&task->reporting, memory_order_acquire)) {
    }
    if (index < atomic_load_explicit(&task->failed, memory_order_relaxed)) {
        atomic_store_explicit(&task->failed, index, memory_order_relaxed);
        task->status = status;
        memcpy(task->message, message, sizeof task->message);
    }
    atomic_flag_clear_explicit(&task->reporting, memory_order_release);
}

static void run_alone(void *argument, size_t begin, size_t end, int slot) {
    team_task *task = argument;
    const cut *c = task->cut;
    const size_t least = c->alone / c->slices, longer = c->alone % c->slices;
    for (size_t i = begin; i < end; i++) {
        if (i > atomic_load_explicit(&task->failed, memory_order_relaxed)) {
            return;
        }
        char message[sizeof task->message] = "";
        const pq_exec exec = pq_team_member(&task->team, message, sizeof message);
        const size_t nodes = task->call->schedule->node_count;
        const pq_engine_slice slice = {
            .call = task->call,
            .exec = &exec,
            .first = i * least + (i < longer ? i : longer),
            .batch = least + (i < longer),
            .arena = task->arena + (size_t)slot * c->alone_size,
            .workspace = task->workspace + (size_t)slot * c->alone_workspace,
            .workspace_size = c->alone_workspace,
            .nanoseconds =
                task->nanoseconds == NULL ? NULL : task->nanoseconds + (size_t)slot * nodes,
        };
        const pq_status status = pq_engine_execute(&slice, true);
        if (status != PQ_OK && status != PQ_ERR_INTERRUPTED) {
            report(task, i, status, message);
        }
    }
}

static pq_status run_team(const pq_engine_call *call, const pq_exec *exec, const cut *c,
                          char *arena, char *workspace, uint64_t *nanoseconds) {
    team_task task = {.call = call,
                      .cut = c,
                      .arena = arena,
                      .workspace = workspace,
                      .nanoseconds = nanoseconds,
                      .reporting = ATOMIC_FLAG_INIT};
    atomic_init(&task.failed, SIZE_MAX);
    pq_team_begin(&task.team, exec);
    const pq_status status =
        task.team.leader.parallel_for(&task.team.leader, c->slices, 1, run_alone, &task);
    if (status != PQ_OK) {
        return status;
    }
    if (pq_team_stopped(&task.team)) {
        return pq_fail(exec, PQ_ERR_INTERRUPTED, "interrupted");
    }
    return task.status == PQ_OK ? PQ_OK : pq_fail(exec, task.status, "%s", task.message);
}

/* Unbatched nodes, slices of single threads, slices of all threads. */
static pq_status run_cut(pq_engine_call *call, const pq_exec *exec, const cut *c,
                         const pq_engine_context *context, uint64_t *nanoseconds) {
    char *arena = context->arena;
    call->fixed = arena;
    arena += call->schedule->fixed_size;
    pq_engine_slice slice = {.call = call,
                             .exec = exec,
                             .batch = 1,
                             .arena = arena,
                             .workspace = context->workspace,
                             .workspace_size = context->workspace_size,
                             .nanoseconds = nanoseconds};
    pq_status status = pq_engine_execute(&slice, false);
    if (status == PQ_OK && c->alone > 0) {
        status = run_team(call, exec, c, arena, context->workspace,
                          nanoseconds == NULL ? NULL : nanoseconds + call->schedule->node_count);
    }
    slice.first = c->alone;
    while (slice.first < call->total && status == PQ_OK) {
        const size_t left = call->total - slice.first;
        slice.batch = left < c->together ? left : c->together;
        status = pq_engine_execute(&slice, true);
        slice.first += slice.batch;
    }
    return status;
}

pq_status pq_engine_run(pq_program *program, const pq_exec *exec, pq_engine_call *call,
                        uint64_t *nanoseconds) {
    pq_status status = check_call(call, exec);
    if (status) {
        return status;
    }
    const cut c = make_cut(call, exec);
    pq_engine_context *context = pq_engine_context_acquire(program, c.arena_size, c.workspace_size);
    if (context == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM,
                       "program: no memory for an arena of %zu and a workspace of %zu bytes",
                       c.arena_size, c.workspace_size);
    }
    status = run_cut(call, exec, &c, context, nanoseconds);
    pq_engine_context_release(program, context);
    return status;
}

pq_status pq_program_run(pq_program *program, const pq_exec *exec, size_t batch,
                         const void *const *inputs, void *const *outputs) {
    pq_engine_call call = {.program = program,
                           .schedule = &program->fused,
                           .total = batch,
                           .inputs = inputs,
                           .outputs = outputs};
    return pq_engine_run(program, exec, &call, NULL);
}

pq_status pq_program_trace(pq_program *program, const pq_exec *exec, size_t batch,
                           const void *const *inputs, void *const *outputs, void *const *values,
                           const pq_attention_trace *attention) {
    pq_engine_call call = {.program = program,
                           .schedule = &program->plain,
                           .total = batch,
                           .inputs = inputs,
                           .outputs = outputs,
                           .values = values,
                           .attention = attention};
    return pq_engine_run(program, exec, &call, NULL);
}
