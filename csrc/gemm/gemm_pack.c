/* What packing is for every type of weights: the memory, and the constants of a column. */
#include "gemm/gemm_pack.h"

#include <string.h>

#include "core/byte_sums.h"
#include "core/dispatch.h"
#include "gemm/gemm_plan.h"
#include "pyquant/rnu.h"

/* Lays pieces behind one another, each 64-byte aligned. `overflow` sticks. */
typedef struct layout {
    size_t used;
    bool overflow;
} layout;

static size_t reserve(layout *l, size_t count, size_t size) {
    const size_t begin = l->used;
    size_t bytes;
    if (!pq_mul_size(count, size, &bytes) || bytes > PTRDIFF_MAX / 2 ||
        begin > PTRDIFF_MAX / 2 - bytes) {
        l->overflow = true;
        return 0;
    }
    l->used = (begin + bytes + 63) & ~(size_t)63;
    return begin;
}

pq_gemm_weights *pq_gemm_allocate(const struct pq_gemm_s8s8_kernel *kernel,
                                  const pq_gemm_pack_args *args, size_t panel_size,
                                  size_t extra_size) {
    const size_t n = args->n, k = args->k;
    const size_t columns = pq_round_up(n, kernel->column_tile);
    layout l = {0, false};
    reserve(&l, 1, sizeof(pq_gemm_weights));
    const size_t panels = reserve(&l, columns / kernel->column_tile, panel_size);
    const size_t extra = reserve(&l, extra_size, 1);
    const size_t plain_bias = reserve(&l, n, 4), plain_multiplier = reserve(&l, n, 4);
    const size_t plain_shift = reserve(&l, n, 1);
    const size_t bias = reserve(&l, columns, 4), low = reserve(&l, columns, 4);
    const size_t high = reserve(&l, columns, 4), multiplier = reserve(&l, columns, 4);
    const size_t post = reserve(&l, columns, 4);
    const size_t shift = reserve(&l, columns, 8), round = reserve(&l, columns, 8);
    char *base = l.overflow ? NULL : pq_alloc(l.used);
    if (base == NULL) {
        return NULL;
    }
    memset(base, 0, l.used); /* the padding: columns and k of zeros */
    pq_gemm_weights *weights = (pq_gemm_weights *)(void *)base;
    *weights = (pq_gemm_weights){
        .kernel = kernel,
        .n = n,
        .k = k,
        .x_zero_point = args->x_zero_point,
        .y_type = args->y_type,
        .out = args->out,
        .blocking = pq_gemm_blocking_of(kernel, n, k),
        .plain_bias = (int32_t *)(void *)(base + plain_bias),
        .plain_multiplier = (int32_t *)(void *)(base + plain_multiplier),
        .plain_shift = (uint8_t *)(base + plain_shift),
        .panels = (int8_t *)(base + panels),
        .panel_size = panel_size,
        .extra = base + extra,
        .bias = (int32_t *)(void *)(base + bias),
        .low = (int32_t *)(void *)(base + low),
        .high = (int32_t *)(void *)(base + high),
        .multiplier = (int32_t *)(void *)(base + multiplier),
        .post = (int32_t *)(void *)(base + post),
        .shift = (uint64_t *)(void *)(base + shift),
        .round = (uint64_t *)(void *)(base + round),
    };
    return weights;
}

/* The smallest accumulator whose result is at least `bound` before the clamp; INT32_MAX if none.
 *
 * It is (bound - 1/2) 2^shift / multiplier, rounded up. |2 bound - 1| < 2^18: with a shift of up to
 * 44 the numerator fits, and the quotient is the answer or the one before it. So two steps find it
 * between the quotient's neighbours; otherwise, and outside int32, all are searched. */
static int32_t first_at_least(int32_t multiplier, int shift, int64_t bound) {
    int64_t below = (int64_t)INT32_MIN - 1, above = INT32_MAX;
    if (shift <= 44) {
        const int64_t near = (2 * bound - 1) * (INT64_C(1) << (shift - 1)) / multiplier;
        if (near > INT32_MIN + 2 && near < INT32_MAX - 2) {
            below = near - 2;
            above = near + 2;
        }
    }
    while (above - below > 1) {
        const int64_t middle = below + (above - below) / 2;
        if (pq_rnu(middle, multiplier, shift) >= bound) {
            above = middle;
        } else {
            below = middle;
        }
    }
    return (int32_t)above;
}

/* Where the 64-bit constants of column j stand: even columns of a vector, then odd ones. */
static size_t wide_index(size_t j, size_t lanes) {
    const size_t lane = j % lanes;
    return j - lane + lane / 2 + (lane % 2) * (lanes / 2);
}

static void pack_requantization(pq_gemm_weights *weights, size_t j, int32_t multiplier, int shift) {
    const uint64_t top = UINT64_C(1) << 62;
    const pq_clamp out = weights->out;
    const int64_t min = (int64_t)out.quant_min - out.zero_point;
    const int64_t max = (int64_t)out.quant_max - out.zero_point;
    weights->plain_multiplier[j] = multiplier;
    weights->plain_shift[j] = (uint8_t)shift;
    weights->multiplier[j] = multiplier;
    weights->high[j] = first_at_least(multiplier, shift, max);
    /* The largest with a result of at most min: the one before the first above it. */
    const int32_t above = first_at_least(multiplier, shift, min + 1);
    const bool none_above = pq_rnu(above, multiplier, shift) <= min;
    weights->low[j] = above == INT32_MIN || none_above ? above : above - 1;
    const size_t wide = wide_index(j, weights->kernel->lanes);
    weights->shift[wide] = (uint64_t)shift;
    weights->round[wide] = top + (UINT64_C(1) << (shift - 1));
    const uint32_t post = (uint32_t)out.zero_point - (uint32_t)(top >> shift);
    memcpy(&weights->post[j], &post, sizeof post);
}

void pq_gemm_pack_column(pq_gemm_weights *weights, const pq_gemm_pack_args *args, size_t j,
                         int64_t weight_sum) {
    const int64_t offset = (int64_t)args->x_zero_point + weights->kernel->x_offset;
    weights->plain_bias[j] = args->bias == NULL ? 0 : args->bias[j];
    const uint32_t folded = (uint32_t)weights->plain_bias[j] - (uint32_t)(offset * weight_sum);
    memcpy(&weights->bias[j], &folded, sizeof folded);
    if (args->y_type != PQ_S32) {
        pack_requantization(weights, j, args->multiplier[j], args->shift[j]);
    }
}

void pq_gemm_pack_columns(pq_gemm_weights *weights, const pq_gemm_pack_args *args) {
    for (size_t j = 0; j < args->n; j++) {
        uint64_t size;
        const int8_t *row = args->k == 0 ? NULL : args->w + j * args->k;
        pq_gemm_pack_column(weights, args, j, pq_byte_sums(args->k, row, &size));
    }
}

void pq_gemm_weights_free(pq_gemm_weights *weights) {
    pq_free(weights);
}

/* The row's kernel begins with the one in `weights`, whatever the row's op. */
pq_kernel_row pq_gemm_weights_kernel(const pq_gemm_weights *weights) {
    return pq_kernel_row_of(weights->kernel);
}
