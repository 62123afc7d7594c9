/* The few things a C test needs: checks that count and go on, and reproducible random numbers.
 *
 *     int main(void) {
 *         CHECK_EQ(pq_rnu(3, 1, 1), 2);
 *         return check_finish("test_rnu");
 *     }
 *
 * A macro evaluates each argument once.
 */
#ifndef PYQUANT_TESTS_CHECK_H
#define PYQUANT_TESTS_CHECK_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pyquant/status.h"

static int check_failures;
static long check_count;

static inline void check_report(bool good, const char *file, int line, const char *what) {
    check_count++;
    if (good) {
        return;
    }
    fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    if (++check_failures >= 20) { /* enough to see what is wrong */
        fprintf(stderr, "too many failures\n");
        exit(1);
    }
}

static inline bool check_equal(int64_t got, int64_t want, const char *file, int line,
                               const char *what) {
    if (got == want) {
        check_count++;
        return true;
    }
    char text[512];
    snprintf(text, sizeof text, "%s: got %" PRId64 ", want %" PRId64, what, got, want);
    check_report(false, file, line, text);
    return false;
}

static inline bool check_bytes(const void *got, const void *want, size_t size, const char *file,
                               int line, const char *what) {
    const unsigned char *a = got, *b = want;
    size_t i = 0;
    while (i < size && a[i] == b[i]) {
        i++;
    }
    char text[512];
    if (i < size) {
        snprintf(text, sizeof text, "%s: byte %zu of %zu: got 0x%02x, want 0x%02x", what, i, size,
                 a[i], b[i]);
    }
    check_report(i == size, file, line, text);
    return i == size;
}

static inline bool check_text(const char *got, const char *want, const char *file, int line) {
    const bool good = strstr(got, want) != NULL;
    char text[1024];
    snprintf(text, sizeof text, "\"%s\" does not contain \"%s\"", got, want);
    check_report(good, file, line, text);
    return good;
}

#define CHECK(condition) check_report((condition), __FILE__, __LINE__, #condition)
/* Integers. The value tells whether it held, for a loop that wants to stop or to say more. */
#define CHECK_EQ(got, want) \
    check_equal((int64_t)(got), (int64_t)(want), __FILE__, __LINE__, #got " == " #want)
#define CHECK_STATUS(got, want) \
    check_equal((int64_t)(got), (int64_t)(want), __FILE__, __LINE__, #got " returns " #want)
#define CHECK_OK(got) CHECK_STATUS(got, PQ_OK)
/* Two buffers of `size` bytes. */
#define CHECK_SAME(got, want, size) check_bytes((got), (want), (size), __FILE__, __LINE__, #got)
/* `got` contains `want`. */
#define CHECK_TEXT(got, want) check_text((got), (want), __FILE__, __LINE__)

/* Returns main's exit status. */
static inline int check_finish(const char *name) {
    printf("%-24s %8ld checks, %d failed\n", name, check_count, check_failures);
    return check_failures == 0 ? 0 : 1;
}

/* splitmix64: any seed is good, and the same seed gives the same test everywhere. */
static inline uint64_t check_random(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Uniform in [low, high]; the bias of the modulo is below 2^-31 for 32-bit ranges. */
static inline int64_t check_random_in(uint64_t *state, int64_t low, int64_t high) {
    const uint64_t range = (uint64_t)high - (uint64_t)low + 1;
    const uint64_t value = check_random(state);
    return (int64_t)((uint64_t)low + (range == 0 ? value : value % range));
}

static inline void check_random_s8(uint64_t *state, int8_t *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[i] = (int8_t)check_random_in(state, -128, 127);
    }
}

static inline void check_random_s16(uint64_t *state, int16_t *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[i] = (int16_t)check_random_in(state, -32768, 32767);
    }
}

static inline void check_random_s32(uint64_t *state, int32_t *out, size_t n, int32_t low,
                                    int32_t high) {
    for (size_t i = 0; i < n; i++) {
        out[i] = (int32_t)check_random_in(state, low, high);
    }
}

#endif
