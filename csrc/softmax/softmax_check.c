#include "pyquant/softmax.h"

#include <inttypes.h>

#include "softmax/softmax_bank.h"
#include "softmax/softmax_method.h"

static int32_t pmax_limit(const pq_softmax *softmax) {
    switch (softmax->method) {
    case PQ_SOFTMAX_TABLE16: return 16383;
    case PQ_SOFTMAX_TABLE8:
    case PQ_SOFTMAX_QFLASH:
    case PQ_SOFTMAX_INDEX: return 255;
    case PQ_SOFTMAX_IBERT: return (1 << softmax->bits) - 1;
    case PQ_SOFTMAX_IVIT: return (1 << (softmax->bits - 1)) - 1;
    case PQ_SOFTMAX_FQVIT:
    case PQ_SOFTMAX_IPTQ:
    case PQ_SOFTMAX_SOLE: return 1 << 14;
    case PQ_SOFTMAX_METHOD_COUNT: break;
    }
    return 0;
}

/* The bits of weights and codes, without which nothing else can be looked at. */
static pq_status check_method(const pq_exec *exec, const char *op, const pq_softmax *softmax) {
    int32_t low = 0, high = 0;
    switch (softmax->method) {
    case PQ_SOFTMAX_IBERT: low = 4, high = 15; break;
    case PQ_SOFTMAX_IVIT: low = 5, high = 16; break;
    case PQ_SOFTMAX_FQVIT: low = 2, high = 4; break;
    case PQ_SOFTMAX_TABLE16:
    case PQ_SOFTMAX_TABLE8:
    case PQ_SOFTMAX_IPTQ:
    case PQ_SOFTMAX_QFLASH:
    case PQ_SOFTMAX_INDEX:
    case PQ_SOFTMAX_SOLE: break;
    case PQ_SOFTMAX_METHOD_COUNT:
    default:
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected a softmax method, got %d", op,
                       (int)softmax->method);
    }
    if (softmax->bits < low || softmax->bits > high) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected softmax bits in [%" PRId32 ", %" PRId32 "], got %" PRId32, op,
                       low, high, softmax->bits);
    }
    return PQ_OK;
}

/* P <= pmax follows from T[j] <= 2 * pmax, and L >= pmax from T[0] = 2 * pmax: a row that has a key
 * never divides by 0. */
static pq_status check_table(const pq_exec *exec, const char *op, const pq_softmax *softmax) {
    if (softmax->table[0] != 2 * softmax->pmax) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected table[0] = 2 * pmax = %" PRId32 ", got %d",
                       op, 2 * softmax->pmax, softmax->table[0]);
    }
    for (int j = 1; j < PQ_SOFTMAX_TABLE_SIZE; j++) {
        if (softmax->table[j] > softmax->table[j - 1]) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: expected a table that does not rise, got table[%d] = %d after %d",
                           op, j, softmax->table[j], softmax->table[j - 1]);
        }
    }
    return PQ_OK;
}

/* What one exponential may be. Weights that are exponentials are bounded by pmax. */
static int32_t exponential_limit(const pq_softmax *softmax) {
    switch (softmax->method) {
    case PQ_SOFTMAX_IPTQ:
    case PQ_SOFTMAX_QFLASH:
    case PQ_SOFTMAX_SOLE:
    case PQ_SOFTMAX_INDEX: return softmax->pmax;
    default: return INT32_MAX;
    }
}

static pq_status check_exponentials(const pq_exec *exec, const char *op, const pq_softmax *softmax,
                                    size_t keys) {
    if (softmax->entries < 1 || softmax->entries > PQ_SOFTMAX_ENTRIES_MAX ||
        softmax->exponentials == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected 1 to %d exponentials, got %" PRIu32, op,
                       PQ_SOFTMAX_ENTRIES_MAX, softmax->entries);
    }
    int32_t least = INT32_MAX, most = 0;
    for (uint32_t u = 0; u < softmax->entries; u++) {
        const int32_t e = softmax->exponentials[u];
        least = e < least ? e : least;
        most = e > most ? e : most;
    }
    const int32_t limit = exponential_limit(softmax);
    if (least < 0 || most > limit) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected exponentials in [0, %" PRId32 "], got %" PRId32, op, limit,
                       least < 0 ? least : most);
    }
    const uint64_t sums = softmax->method == PQ_SOFTMAX_INDEX  ? UINT32_MAX / 512
                          : softmax->method == PQ_SOFTMAX_IVIT ? INT32_MAX
                                                               : UINT32_MAX;
    if (most != 0 && keys > sums / (uint64_t)most) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected at most %" PRIu64 " keys with exponentials up to %" PRId32
                       ", got %zu",
                       op, sums / (uint64_t)most, most, keys);
    }
    return PQ_OK;
}

static pq_status check_index(const pq_exec *exec, const char *op, const pq_softmax *softmax) {
    if (softmax->shift < 1 || softmax->shift > 31) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected 1 <= softmax shift <= 31, got %" PRId32,
                       op, softmax->shift);
    }
    if (softmax->multiplier == 0 && softmax->delta_max != 0) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected delta_max = 0 for a softmax multiplier of 0, got %" PRIu32, op,
                       softmax->delta_max);
    }
    const uint64_t product = (uint64_t)softmax->delta_max * softmax->multiplier;
    const uint64_t half = UINT64_C(1) << (softmax->shift - 1);
    if (product > UINT32_MAX - half) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected delta_max * multiplier + 2^(shift-1) < 2^32, got %" PRIu32
                       " * %" PRIu32 " + 2^%" PRId32,
                       op, softmax->delta_max, softmax->multiplier, softmax->shift - 1);
    }
    return PQ_OK;
}

pq_status pq_softmax_check(const pq_exec *exec, const char *op, const pq_softmax *softmax,
                           size_t keys) {
    pq_status status = check_method(exec, op, softmax);
    if (status != PQ_OK) {
        return status;
    }
    const int32_t limit = pmax_limit(softmax);
    if (softmax->pmax < 1 || softmax->pmax > limit) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected 1 <= pmax <= %" PRId32 ", got %" PRId32,
                       op, limit, softmax->pmax);
    }
    status = pq_softmax_by_octaves(softmax->method)
                 ? check_table(exec, op, softmax)
                 : check_exponentials(exec, op, softmax, keys);
    return status == PQ_OK ? check_index(exec, op, softmax) : status;
}

uint64_t pq_softmax_weights_most(const pq_softmax *softmax, size_t keys) {
    switch (softmax->method) {
    case PQ_SOFTMAX_IBERT: return UINT64_C(1) << softmax->bits;
    case PQ_SOFTMAX_IVIT: return UINT64_C(1) << (softmax->bits - 1);
    case PQ_SOFTMAX_INDEX: return 255 + (uint64_t)keys / 2;
    case PQ_SOFTMAX_FQVIT: return UINT64_C(3) << 14;
    default: break;
    }
    const uint64_t pmax = (uint64_t)softmax->pmax;
    return keys > UINT64_MAX / pmax ? UINT64_MAX : pmax * keys;
}

uint64_t pq_softmax_divisor_most(const pq_softmax *softmax, size_t keys) {
    switch (softmax->method) {
    case PQ_SOFTMAX_IBERT: return UINT64_C(1) << softmax->bits;
    case PQ_SOFTMAX_IVIT: return UINT64_C(1) << (softmax->bits - 1);
    case PQ_SOFTMAX_INDEX: return 255;
    case PQ_SOFTMAX_FQVIT: return UINT64_C(1) << 14;
    default: break;
    }
    const uint64_t sum = pq_softmax_weights_most(softmax, keys);
    return softmax->method == PQ_SOFTMAX_SOLE && sum < UINT64_MAX / 2 ? 2 * sum : sum;
}

pq_status pq_softmax_check_requant(const pq_exec *exec, const char *op, pq_dyadic requant,
                                   uint32_t divisor) {
    const pq_dyadic last = pq_softmax_normalizer(requant, divisor);
    if (last.shift > 62) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected a requantization of at most 62 bits, got shift %d, which is "
                       "%d for a row sum of %" PRIu32,
                       op, requant.shift, last.shift, divisor);
    }
    return PQ_OK;
}
