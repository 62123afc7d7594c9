/* Finding chains: greedy, and good enough. The heaviest group left takes the heaviest of the
 * lightest ones that still fits, twice. On Gaussian weights that costs 1 to 2 % more multiplies
 * than first-fit over all open chains (benchmarks/study_safe_groups.py), in linear time. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "gemm/gemm_chains.h"
#include "gemm/gemm_pack.h"
#include "gemm/gemm_plan.h"

enum {
    COLUMNS = PQ_GEMM_CHAIN_COLUMNS,
    LANES = PQ_GEMM_CHAIN_LANES,
    LONGEST = PQ_GEMM_CHAIN_LONGEST,
    WINDOW = 64 /* the lightest ones that are tried */
};

/* Four k of a panel. */
typedef struct group {
    uint32_t at;  /* k, in the cut */
    uint32_t sum; /* of load */
    uint16_t load[LANES];
} group;

/* Memory for one cut of one panel. */
typedef struct planner {
    group *groups;
    uint32_t *left;              /* groups that have no chain yet, heaviest first */
    uint32_t (*chains)[LONGEST]; /* groups of a chain */
    uint8_t *lengths;
    size_t chain_count;
} planner;

/* The weight of a column; 0 outside of w. */
static int weight_at(const pq_gemm_pack_args *args, size_t column, size_t p) {
    return column < args->n && p < args->k ? args->w[column * args->k + p] : 0;
}

static group make_group(const pq_gemm_pack_args *args, size_t column, size_t begin, size_t at) {
    group g = {.at = (uint32_t)at};
    for (size_t c = 0; c < COLUMNS; c++) {
        for (size_t q = 0; q < 4; q++) {
            const int w = weight_at(args, column + c, begin + at + q);
            const unsigned load = (unsigned)(w < 0 ? -w : w + 1);
            g.load[2 * c + q / 2] = (uint16_t)(g.load[2 * c + q / 2] + load);
            g.sum += load;
        }
    }
    return g;
}

/* Heaviest first; the order of k among equals, so that packing is reproducible. */
static int compare(const void *a, const void *b) {
    const group *x = a, *y = b;
    if (x->sum != y->sum) {
        return x->sum > y->sum ? -1 : 1;
    }
    return x->at < y->at ? -1 : 1;
}

/* The groups of k in [begin, end). */
static size_t list_groups(const pq_gemm_pack_args *args, size_t column, size_t begin, size_t end,
                          group *groups) {
    size_t count = 0;
    for (size_t at = 0; at < end - begin; at += 4) {
        groups[count++] = make_group(args, column, begin, at);
    }
    qsort(groups, count, sizeof *groups, compare);
    return count;
}

static bool fits(const uint16_t *sum, const uint16_t *load) {
    unsigned over = 0;
    for (int i = 0; i < LANES; i++) {
        over |= (unsigned)(sum[i] + load[i] > PQ_GEMM_CHAIN_ROOM);
    }
    return over == 0;
}

static void add(uint16_t *sum, const uint16_t *load) {
    for (int i = 0; i < LANES; i++) {
        sum[i] = (uint16_t)(sum[i] + load[i]);
    }
}

/* Makes a chain of left[begin] and what fits to it; returns how many of `left` remain, moved up to
 * left[begin + 1]. */
static size_t make_chain(planner *plan, size_t begin, size_t end) {
    uint32_t *chain = plan->chains[plan->chain_count];
    uint8_t length = 1;
    uint16_t sum[LANES];
    chain[0] = plan->left[begin++];
    memcpy(sum, plan->groups[chain[0]].load, sizeof sum);
    while (length < LONGEST) {
        size_t i = end - begin > WINDOW ? end - WINDOW : begin;
        while (i < end && !fits(sum, plan->groups[plan->left[i]].load)) {
            i++;
        }
        if (i == end) {
            break;
        }
        chain[length++] = plan->left[i];
        add(sum, plan->groups[plan->left[i]].load);
        memmove(plan->left + i, plan->left + i + 1, (end - i - 1) * sizeof *plan->left);
        end--;
    }
    plan->lengths[plan->chain_count++] = length;
    return end;
}

static void make_chains(planner *plan, size_t count) {
    for (size_t i = 0; i < count; i++) {
        plan->left[i] = (uint32_t)i;
    }
    plan->chain_count = 0;
    for (size_t begin = 0, end = count; begin < end; begin++) {
        end = make_chain(plan, begin, end);
    }
}

/* Writes the chains of one length; returns the place behind them. */
static size_t write_chains(const planner *plan, const pq_gemm_pack_args *args, size_t column,
                           size_t begin, unsigned length, uint16_t *order, int8_t *panel, size_t at,
                           uint32_t *chains) {
    for (size_t i = 0; i < plan->chain_count; i++) {
        if (plan->lengths[i] != length) {
            continue;
        }
        (*chains)++;
        for (unsigned l = 0; l < length; l++, at++) {
            const group *g = &plan->groups[plan->chains[i][l]];
            order[at] = (uint16_t)(g->at / 4);
            for (size_t c = 0; c < COLUMNS; c++) {
                for (size_t q = 0; q < 4; q++) {
                    const int w = weight_at(args, column + c, begin + g->at + q);
                    panel[at * PQ_GEMM_CHAIN_GROUP + c * 4 + q] = (int8_t)w;
                }
            }
        }
    }
    return at;
}

/* Memory of a planner for `capacity` groups in one block; NULL if there is none. */
static void *make_planner(planner *plan, size_t capacity) {
    const size_t each = sizeof(group) + sizeof *plan->left + sizeof *plan->chains + 1;
    char *block = capacity > SIZE_MAX / each ? NULL : pq_alloc(capacity * each);
    if (block != NULL) {
        plan->groups = (group *)(void *)block;
        plan->chains = (uint32_t(*)[LONGEST])(void *)(plan->groups + capacity);
        plan->left = (uint32_t *)(void *)(plan->chains + capacity);
        plan->lengths = (uint8_t *)(plan->left + capacity);
    }
    return block;
}

static void pack_panel(pq_gemm_weights *weights, const pq_gemm_pack_args *args, planner *plan,
                       size_t panel, pq_gemm_chain_cut *cuts, uint16_t *order) {
    pq_gemm_chains *chains = weights->extra;
    const size_t column = panel * COLUMNS, step = weights->blocking.k;
    int8_t *out = weights->panels + panel * weights->panel_size;
    size_t at = 0;
    for (size_t c = 0; c < chains->cut_count; c++) {
        const size_t begin = c * step, end = step < args->k - begin ? begin + step : args->k;
        make_chains(plan, list_groups(args, column, begin, end, plan->groups));
        pq_gemm_chain_cut *cut = &cuts[panel * chains->cut_count + c];
        cut->begin = (uint32_t)at;
        at = write_chains(plan, args, column, begin, 3, order, out, at, &cut->threes);
        at = write_chains(plan, args, column, begin, 2, order, out, at, &cut->twos);
        at = write_chains(plan, args, column, begin, 1, order, out, at, &cut->ones);
        chains->multiplies +=
            4 * (size_t)cut->threes + 3 * (size_t)cut->twos + 2 * (size_t)cut->ones;
        chains->plain_multiplies += 2 * ((end - begin + 3) / 4);
    }
}

/* The struct, and the arrays of chains behind it. */
typedef struct extra {
    pq_gemm_chains chains;
    pq_gemm_chain_cut cuts[]; /* then uint16_t order[] */
} extra;

static pq_gemm_weights *pack(const struct pq_gemm_chains_kernel *kernel,
                             const pq_gemm_pack_args *args, size_t step) {
    assert(step / 4 <= (size_t)UINT16_MAX + 1);
    const size_t panels = (args->n + COLUMNS - 1) / COLUMNS;
    const size_t cut_count = args->k == 0 ? 1 : (args->k - 1) / step + 1;
    const size_t group_count = (args->k + 3) / 4;
    size_t cuts, orders;
    if (!pq_mul_size(panels, cut_count * sizeof(pq_gemm_chain_cut), &cuts) ||
        !pq_mul_size(panels, group_count * sizeof(uint16_t), &orders) ||
        cuts > PTRDIFF_MAX / 2 - orders) {
        return NULL;
    }
    planner plan;
    void *block = make_planner(&plan, step / 4);
    pq_gemm_weights *weights =
        block == NULL ? NULL
                      : pq_gemm_allocate(&kernel->gemm, args, group_count * PQ_GEMM_CHAIN_GROUP,
                                         sizeof(extra) + cuts + orders);
    if (weights != NULL) {
        extra *e = weights->extra;
        uint16_t *order = (uint16_t *)(void *)((char *)e->cuts + cuts);
        e->chains = (pq_gemm_chains){
            .cut_count = cut_count, .group_count = group_count, .cuts = e->cuts, .order = order};
        for (size_t panel = 0; panel < panels; panel++) {
            pack_panel(weights, args, &plan, panel, e->cuts, order + panel * group_count);
        }
    }
    pq_free(block);
    return weights;
}

pq_status pq_gemm_chains_pack_for(const pq_exec *exec, const struct pq_gemm_chains_kernel *kernel,
                                  const pq_gemm_pack_args *args, pq_gemm_weights **weights) {
    *weights = NULL;
    const pq_status status = pq_gemm_s8s8_check(exec, args);
    if (status != PQ_OK) {
        return status;
    }
    const pq_gemm_blocking blocking = pq_gemm_blocking_of(&kernel->gemm, args->n, args->k);
    pq_gemm_weights *packed = pack(kernel, args, blocking.k);
    if (packed == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "gemm_s8s8: no memory to pack weights of %zu x %zu",
                       args->n, args->k);
    }
    pq_gemm_pack_columns(packed, args);
    *weights = packed;
    return PQ_OK;
}
