/* Planning: a range of row blocks, one query head after another, and one scratch a slot. Nothing is
 * packed ahead, so that memory is that of the scratches alone. */
#include "attention/attention_online64_s8_kernel.h"

#include "attention/attention_check.h"
#include "core/dispatch.h"
#include "core/grain.h"

typedef struct pq_attention_online64_s8_kernel kernel_type;

static const char op[] = "attention_online64_s8";

typedef struct plan {
    const pq_attention_args *args;
    const kernel_type *kernel;
    size_t rows, row_blocks, scratch_size;
    unsigned char *scratch;
} plan;

static bool is_empty(const pq_attention_args *args) {
    return args->batch == 0 || args->groups == 0 || args->heads == 0 || args->q_len == 0 ||
           args->head_dim == 0;
}

/* Blocks of a head's rows: at least one for each thread, and a number that gives all threads as
 * many, unless that makes blocks so small that to pack keys for each would cost more. */
static size_t count_blocks(const kernel_type *kernel, const pq_exec *exec,
                           const pq_attention_args *args) {
    enum { WORTHWHILE = 48 }; /* packing costs what some 5 rows cost: 10 % */
    const size_t heads = args->batch * args->groups * args->heads;
    const size_t threads = (size_t)exec->num_threads;
    size_t step = 1;
    while (step * heads % threads != 0) {
        step++;
    }
    const size_t least =
        pq_max_size(pq_ceil_div(args->q_len, kernel->rows(args)), pq_ceil_div(threads, heads));
    const size_t even = pq_round_up(least, step);
    return pq_min_size(args->q_len / even >= WORTHWHILE ? even : least, args->q_len);
}

static plan make_plan(const kernel_type *kernel, const pq_exec *exec,
                      const pq_attention_args *args) {
    const size_t blocks = count_blocks(kernel, exec, args);
    const size_t rows = pq_ceil_div(args->q_len, blocks);
    return (plan){.args = args,
                  .kernel = kernel,
                  .rows = rows,
                  .row_blocks = pq_ceil_div(args->q_len, rows),
                  .scratch_size = kernel->scratch_size(args)};
}

/* SIZE_MAX if it does not fit, which no allocation can give. */
static size_t plan_size(const plan *p, int threads) {
    size_t size;
    return pq_mul_size((size_t)threads, p->scratch_size, &size) ? size : SIZE_MAX;
}

static void run_range(void *task, size_t begin, size_t end, int slot) {
    const plan *p = task;
    const pq_attention_args *args = p->args;
    void *scratch = p->scratch + (size_t)slot * p->scratch_size;
    for (size_t item = begin; item < end; item++) {
        const size_t head = item / p->row_blocks;
        pq_attention_rows rows = {
            .batch = head / args->heads / args->groups,
            .group = head / args->heads % args->groups,
            .head = head % args->heads,
            .begin = item % p->row_blocks * p->rows,
        };
        const size_t left = args->q_len - rows.begin;
        rows.end = rows.begin + pq_min_size(left, p->rows);
        p->kernel->run(args, &rows, scratch);
    }
}

static pq_status check(const pq_exec *exec, const pq_attention_args *args) {
    const pq_status status = pq_attention_check(exec, args);
    if (status != PQ_OK) {
        return status;
    }
    if (args->softmax.method != PQ_SOFTMAX_TABLE16) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected the softmax method table16, got %d", op,
                       (int)args->softmax.method);
    }
    if (is_empty(args)) {
        return PQ_OK;
    }
    return pq_attention_check_pointers(exec, op, args);
}

size_t pq_attention_online64_workspace(const pq_exec *exec, const pq_attention_args *args) {
    if (is_empty(args)) {
        return 0;
    }
    /* The most of all variants that can run: the choice may change between this call and the run.
     */
    size_t most = 0;
    for (int isa = 0; isa < PQ_ISA_COUNT; isa++) {
        const kernel_type *kernel =
            pq_kernel_present(PQ_KERNEL_OP_attention_online64_s8, (pq_isa)isa);
        if (kernel != NULL) {
            const plan p = make_plan(kernel, exec, args);
            const size_t size = plan_size(&p, exec->num_threads);
            most = size > most ? size : most;
        }
    }
    return most;
}

pq_status pq_attention_online64_s8_in(const pq_exec *exec, const pq_attention_args *args,
                                      void *workspace, size_t workspace_size) {
    const pq_status status = check(exec, args);
    if (status != PQ_OK || is_empty(args)) {
        return status;
    }
    plan p = make_plan(pq_kernel_choose(PQ_KERNEL_OP_attention_online64_s8), exec, args);
    const size_t size = plan_size(&p, exec->num_threads);
    if (workspace_size < size) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected a workspace of %zu bytes, got %zu", op,
                       size, workspace_size);
    }
    p.scratch = workspace;
    const size_t items = args->batch * args->groups * args->heads * p.row_blocks;
    const uint64_t macs = 2 * args->head_dim * pq_max_size(args->k_len, 1) * p.rows;
    const size_t grain = pq_grain(exec, items, 1, macs * 1000000 / (p.kernel->macs_per_ms / 1000));
    return exec->parallel_for(exec, items, grain, run_range, &p);
}

pq_status pq_attention_online64_s8(const pq_exec *exec, const pq_attention_args *args) {
    pq_status status = check(exec, args);
    if (status != PQ_OK || is_empty(args)) {
        return status;
    }
    const size_t size = pq_attention_online64_workspace(exec, args);
    void *workspace = pq_alloc(size);
    if (workspace == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "%s: cannot allocate a workspace of %zu bytes", op,
                       size);
    }
    status = pq_attention_online64_s8_in(exec, args, workspace, size);
    pq_free(workspace);
    return status;
}
