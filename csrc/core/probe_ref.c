#include "core/probe_kernel.h"

#include <string.h>

enum { CHAINS = 8 };

static uint32_t multiply_add(size_t rounds) {
    uint32_t a[CHAINS];
    for (uint32_t c = 0; c < CHAINS; c++) {
        a[c] = c + 1;
    }
    const int32_t factor = (int16_t)pq_probe_factor(0);
    for (size_t r = 0; r < rounds; r++) {
        for (int c = 0; c < CHAINS; c++) {
            a[c] += (uint32_t)((int16_t)a[c] * factor);
        }
    }
    uint32_t sum = 0;
    for (int c = 0; c < CHAINS; c++) {
        sum += a[c];
    }
    return sum;
}

static uint32_t read_words(const void *data, size_t bytes) {
    const char *p = data;
    uint64_t all[4] = {0};
    for (size_t i = 0; i < bytes; i += sizeof all) {
        uint64_t words[4];
        memcpy(words, p + i, sizeof words);
        for (int s = 0; s < 4; s++) {
            all[s] ^= words[s];
        }
    }
    const uint64_t x = all[0] ^ all[1] ^ all[2] ^ all[3];
    return (uint32_t)(x >> 32) ^ (uint32_t)x;
}

const pq_probe_kernel pq_probe_ref = {.isa = PQ_ISA_REF,
                                      .dot = PQ_PROBE_S32,
                                      .chains = CHAINS,
                                      .lanes = 1,
                                      .multiply_add = multiply_add,
                                      .read = read_words};
