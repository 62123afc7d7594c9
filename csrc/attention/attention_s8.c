/* Planning: units (attention_s8_kernel.h) are taken in waves. A wave packs some units and then
 * runs all their rows, so that memory stays bounded for a large batch and packed units are still
 * in cache when they are read. Rows, not heads, are the parallel items. */
#include "attention/attention_s8_kernel.h"

#include <assert.h>

#include "attention/attention_check.h"
#include "core/dispatch.h"
#include "core/grain.h"

/* Packed bytes of a wave: the size of an L2 cache; a single unit may be larger. */
enum { WAVE_SIZE = 1 << 19, PACK_KEYS_BYTES = 1 << 15 };

typedef struct pq_attention_s8_kernel kernel_type;

typedef struct plan {
    const pq_attention_args *args;
    const kernel_type *kernel;
    size_t packed_size, scratch_size;
    size_t units, wave;                    /* units in all, and in a wave */
    size_t rows, row_blocks, heads_a_unit; /* one item: a row block of one query head */
    size_t keys_a_chunk, chunks;           /* one item of packing: a chunk of a unit's keys */
    size_t begin;                          /* first unit of the wave that runs now */
    unsigned char *packed, *scratch;
    const pq_attention_trace *trace;
} plan;

static bool is_empty(const pq_attention_args *args) {
    return args->batch == 0 || args->groups == 0 || args->heads == 0 || args->q_len == 0 ||
           args->head_dim == 0 || args->kv_heads == 0; /* the last: before a check */
}

static plan make_plan(const kernel_type *kernel, int threads, const pq_attention_args *args) {
    plan p = {
        .args = args,
        .kernel = kernel,
        .packed_size = kernel->packed_size(args),
        .scratch_size = kernel->scratch_size(args),
        .units = args->batch * args->groups * args->kv_heads,
        .rows = kernel->rows(args),
        .heads_a_unit = args->heads / args->kv_heads,
    };
    p.row_blocks = pq_ceil_div(args->q_len, p.rows);
    const size_t least = pq_min_size(p.units, (size_t)threads);
    p.wave = p.packed_size == 0
                 ? p.units
                 : pq_min_size(p.units, pq_max_size(least, WAVE_SIZE / p.packed_size));
    const size_t keys = PACK_KEYS_BYTES / args->head_dim;
    p.keys_a_chunk = pq_round_up(pq_max_size(keys, 1), kernel->pack_step);
    p.chunks = pq_ceil_div(args->k_len, p.keys_a_chunk);
    return p;
}

/* SIZE_MAX if it does not fit, which no allocation can give. */
static size_t plan_size(const plan *p, int threads) {
    size_t packed, scratch;
    if (!pq_mul_size(p->wave, p->packed_size, &packed) ||
        !pq_mul_size((size_t)threads, p->scratch_size, &scratch) || packed > SIZE_MAX - scratch) {
        return SIZE_MAX;
    }
    return packed + scratch;
}

static size_t grain_of(const plan *p, const pq_exec *exec, size_t items, uint64_t macs_an_item) {
    return pq_grain(exec, items, 1, macs_an_item * 1000000 / (p->kernel->macs_per_ms / 1000));
}

static void unit_at(const pq_attention_args *args, size_t unit, size_t *batch, size_t *group,
                    size_t *kv_head) {
    *kv_head = unit % args->kv_heads;
    *group = unit / args->kv_heads % args->groups;
    *batch = unit / args->kv_heads / args->groups;
}

static void pack_range(void *task, size_t begin, size_t end, int slot) {
    const plan *p = task;
    (void)slot;
    for (size_t item = begin; item < end; item++) {
        const size_t in_wave = item / p->chunks, first = item % p->chunks * p->keys_a_chunk;
        size_t batch, group, kv_head;
        unit_at(p->args, p->begin + in_wave, &batch, &group, &kv_head);
        p->kernel->pack(p->args, batch, group, kv_head, first,
                        pq_min_size(p->args->k_len, first + p->keys_a_chunk),
                        p->packed + in_wave * p->packed_size);
    }
}

static void run_range(void *task, size_t begin, size_t end, int slot) {
    const plan *p = task;
    void *scratch = p->scratch + (size_t)slot * p->scratch_size;
    for (size_t item = begin; item < end; item++) {
        const size_t block = item % p->row_blocks, head = item / p->row_blocks;
        const size_t in_wave = head / p->heads_a_unit;
        pq_attention_rows rows = {.begin = block * p->rows};
        size_t kv_head;
        unit_at(p->args, p->begin + in_wave, &rows.batch, &rows.group, &kv_head);
        rows.head = kv_head * p->heads_a_unit + head % p->heads_a_unit;
        rows.end = pq_min_size(p->args->q_len, rows.begin + p->rows);
        if (p->trace != NULL) {
            pq_attention_s8_ref_rows(p->args, &rows, scratch, p->trace);
        } else {
            p->kernel->run(p->args, &rows, p->packed + in_wave * p->packed_size, scratch);
        }
    }
}

static pq_status run_plan(const pq_exec *exec, plan *p, void *workspace) {
    const pq_attention_args *args = p->args;
    const size_t row_macs = 2 * args->head_dim * pq_max_size(args->k_len, 1);
    p->packed = workspace;
    p->scratch = p->packed + p->wave * p->packed_size;
    for (p->begin = 0; p->begin < p->units; p->begin += p->wave) {
        const size_t units = pq_min_size(p->wave, p->units - p->begin);
        pq_status status = PQ_OK;
        if (p->packed_size != 0) {
            /* packing an element costs about as much as eight multiply-adds */
            const size_t items = units * p->chunks;
            const size_t macs = 8 * pq_min_size(p->keys_a_chunk, args->k_len) * args->head_dim;
            status = items == 0 ? PQ_OK
                                : exec->parallel_for(exec, items, grain_of(p, exec, items, macs),
                                                     pack_range, p);
        }
        if (status != PQ_OK) {
            return status;
        }
        const size_t items = units * p->heads_a_unit * p->row_blocks;
        const size_t grain = grain_of(p, exec, items, pq_min_size(p->rows, args->q_len) * row_macs);
        status = exec->parallel_for(exec, items, grain, run_range, p);
        if (status != PQ_OK) {
            return status;
        }
    }
    return PQ_OK;
}

pq_status pq_attention_check(const pq_exec *exec, const pq_attention_args *args) {
    pq_status status = pq_attention_check_sizes(exec, args);
    if (status == PQ_OK) {
        status = pq_attention_check_outputs(exec, args);
    }
    return status == PQ_OK ? pq_attention_check_constants(exec, args) : status;
}

size_t pq_attention_workspace(const pq_exec *exec, const pq_attention_args *args) {
    if (is_empty(args)) {
        return 0;
    }
    /* The most that any variant needs: the choice may change between this call and the run. Only
     * variants that can run: the file of another may use its instructions in any function. */
    size_t most = 0;
    for (int isa = 0; isa < PQ_ISA_COUNT; isa++) {
        const kernel_type *kernel = pq_kernel_present(PQ_KERNEL_OP_attention_s8, (pq_isa)isa);
        if (kernel != NULL) {
            const plan p = make_plan(kernel, exec->num_threads, args);
            most = pq_max_size(most, plan_size(&p, exec->num_threads));
        }
    }
    return most;
}

pq_status pq_attention_s8_in(const pq_exec *exec, const pq_attention_args *args, void *workspace,
                             size_t workspace_size) {
    pq_status status = pq_attention_check(exec, args);
    if (status != PQ_OK || is_empty(args)) {
        return status;
    }
    status = pq_attention_check_pointers(exec, "attention_s8", args);
    if (status != PQ_OK) {
        return status;
    }
    plan p = make_plan(pq_kernel_choose(PQ_KERNEL_OP_attention_s8), exec->num_threads, args);
    const size_t size = plan_size(&p, exec->num_threads);
    if (workspace_size < size) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "attention_s8: expected a workspace of %zu bytes, got %zu", size,
                       workspace_size);
    }
    return run_plan(exec, &p, workspace);
}

static pq_status allocate(const pq_exec *exec, size_t size, void **workspace) {
    *workspace = pq_alloc(size);
    if (*workspace == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "attention_s8: cannot allocate a workspace of %zu bytes",
                       size);
    }
    return PQ_OK;
}

pq_status pq_attention_s8(const pq_exec *exec, const pq_attention_args *args) {
    pq_status status = pq_attention_check(exec, args);
    if (status != PQ_OK || is_empty(args)) {
        return status;
    }
    const size_t size = pq_attention_workspace(exec, args);
    void *workspace;
    status = allocate(exec, size, &workspace);
    if (status == PQ_OK) {
        status = pq_attention_s8_in(exec, args, workspace, size);
        pq_free(workspace);
    }
    return status;
}

pq_status pq_attention_s8_trace(const pq_exec *exec, const pq_attention_args *args,
                                const pq_attention_trace *trace) {
    pq_status status = pq_attention_check(exec, args);
    if (status != PQ_OK || is_empty(args)) {
        return status;
    }
    status = pq_attention_check_pointers(exec, "attention_s8", args);
    if (status != PQ_OK) {
        return status;
    }
    plan p =
        make_plan(pq_kernel_find(PQ_KERNEL_OP_attention_s8, PQ_ISA_REF), exec->num_threads, args);
    p.trace = trace;
    void *workspace;
    status = allocate(exec, plan_size(&p, exec->num_threads), &workspace);
    if (status == PQ_OK) {
        status = run_plan(exec, &p, workspace);
        pq_free(workspace);
    }
    return status;
}
