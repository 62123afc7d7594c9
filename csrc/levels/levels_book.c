#include <math.h>
#include <string.h>

#include "levels/levels_kernel.h"

#define LARGEST 0x1p24F

/* Finer cells than these would need more than PQ_LEVELS_CELLS for any two exponents. */
enum { COARSEST = 23, FINEST = 11 };

static pq_status ascending(const pq_exec *exec, const char *op, const char *name, size_t count,
                           const float *values) {
    for (size_t i = 0; i < count; i++) {
        if (!(fabsf(values[i]) <= LARGEST)) { /* NaN too */
            return pq_fail(exec, PQ_ERR_VALUE, "%s: expected |%s[%zu]| <= 2^24, got %g", op, name,
                           i, (double)values[i]);
        }
        if (i > 0 && !(values[i] > values[i - 1])) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: expected %s in ascending order, got %.9g and %.9g at [%zu]", op,
                           name, (double)values[i - 1], (double)values[i], i);
        }
    }
    return PQ_OK;
}

static uint32_t magnitude_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & INT32_MAX;
}

static int32_t cell_of(const pq_levels_book *book, float t) {
    int32_t k = (int32_t)(magnitude_bits(t) >> book->shift) - book->first;
    k = k < 0 ? 0 : k < book->half ? k : book->half - 1;
    return t < 0.0F ? book->half - 1 - k : book->half + k; /* -0 with 0 */
}

/* Whether no cell holds two thresholds with the shift that `book` has; then fills the cells. */
static bool fill(pq_levels_book *book) {
    const uint32_t count = book->count - 1;
    for (uint32_t i = 1; i < count; i++) {
        if (cell_of(book, book->thresholds[i]) <= cell_of(book, book->thresholds[i - 1])) {
            return false;
        }
    }
    int32_t below = 0;
    for (int32_t cell = 0; cell < 2 * book->half; cell++) {
        book->cells[cell] = below;
        below += (uint32_t)below < count && cell_of(book, book->thresholds[below]) == cell;
    }
    return true;
}

/* The coarsest cells that serve, or none. */
static void make_cells(pq_levels_book *book) {
    uint32_t least = UINT32_MAX, most = 0;
    for (uint32_t i = 0; i + 1 < book->count; i++) {
        const uint32_t bits = magnitude_bits(book->thresholds[i]);
        least = bits > 0 && bits < least ? bits : least;
        most = bits > most ? bits : most;
    }
    for (uint32_t shift = COARSEST; shift >= FINEST && most > 0; shift--) {
        /* One cell below the least magnitude, for what is smaller and for 0. */
        book->shift = shift;
        book->first = (int32_t)(least >> shift) - (least >> shift > 0);
        const int32_t half = (int32_t)(most >> shift) - book->first + 1;
        book->half = half;
        if (half > PQ_LEVELS_CELLS / 2) {
            break;
        }
        if (fill(book)) {
            return;
        }
    }
    book->half = 0;
}

pq_status pq_levels_book_make(const pq_exec *exec, const char *op, const pq_levels_args *args,
                              bool cells, pq_levels_book *book) {
    const size_t count = args->count;
    if (count < 1 || count > PQ_LEVELS_MOST || args->levels == NULL ||
        (count > 1 && args->thresholds == NULL)) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected 1 to %d levels and one threshold less, got %zu levels", op,
                       PQ_LEVELS_MOST, count);
    }
    pq_status status = ascending(exec, op, "levels", count, args->levels);
    if (status == PQ_OK) {
        status = ascending(exec, op, "thresholds", count - 1, args->thresholds);
    }
    if (status != PQ_OK) {
        return status;
    }
    for (size_t i = 0; i < PQ_LEVELS_MOST; i++) {
        book->levels[i] = args->levels[i < count ? i : count - 1];
        book->thresholds[i] = i + 1 < count ? args->thresholds[i] : NAN;
    }
    book->low = args->levels[0];
    book->high = args->levels[count - 1];
    book->count = (uint32_t)count;
    book->reach = 0;
    while (book->reach * 2 < count && count > 1) {
        book->reach = book->reach == 0 ? 1 : book->reach * 2;
    }
    book->shift = 0;
    book->first = book->half = 0;
    if (cells) {
        make_cells(book);
    }
    return PQ_OK;
}
