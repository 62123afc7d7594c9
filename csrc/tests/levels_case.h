/* Codebooks and inputs for the tests of levels, and the definition of levels.h written once more.
 */
#ifndef PYQUANT_TESTS_LEVELS_CASE_H
#define PYQUANT_TESTS_LEVELS_CASE_H

#include <math.h>

#include "check.h"
#include "levels/levels_kernel.h"

#define MAX_ELEMENTS 140000

static float x_data[MAX_ELEMENTS], g_data[MAX_ELEMENTS], y_data[MAX_ELEMENTS], want[MAX_ELEMENTS];
static uint8_t mask_data[MAX_ELEMENTS / 8 + 1], mask_want[MAX_ELEMENTS / 8 + 1];
static uint8_t code_data[MAX_ELEMENTS], code_want[MAX_ELEMENTS];
static uint64_t seed = 31;

typedef struct codebook {
    size_t count;
    float levels[PQ_LEVELS_MOST], thresholds[PQ_LEVELS_MOST];
} codebook;

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float random_float(void) {
    return ldexpf((float)check_random_in(&seed, -1000, 1000) / 64.0F,
                  (int)check_random_in(&seed, -20, 3));
}

/* Kinds: octaves; even steps; of both signs with a wide gap; close together (no cells serve);
 * anything; tiny, with 0 and subnormals among the thresholds. */
enum { KINDS = 6 };

static codebook make_codebook(int kind, size_t count) {
    codebook b = {.count = count};
    for (size_t i = 0; i < count; i++) {
        const float k = (float)i, of_end = (float)(count - 1 - i);
        switch (kind) {
        case 0: b.levels[i] = exp2f(-0.45F * of_end); break;
        case 1: b.levels[i] = k; break;
        case 2:
            b.levels[i] = i < count / 2 ? k - (float)(count / 2) : 64.0F * (k - (float)(count / 2));
            break;
        case 3: b.levels[i] = 1.0F + k * 0x1p-20F; break;
        case 4:
            b.levels[i] =
                (i == 0 ? -9.0F : b.levels[i - 1]) + (float)check_random_in(&seed, 1, 999) / 512.0F;
            break;
        default: b.levels[i] = (k - (float)(count / 2)) * 0x1p-148F; break;
        }
    }
    for (size_t i = 0; i + 1 < count; i++) {
        b.thresholds[i] =
            kind == 5 ? b.levels[i + 1] : b.levels[i] + (b.levels[i + 1] - b.levels[i]) / 2;
    }
    return b;
}

/* Levels, thresholds, their neighbours, infinities, zeros and subnormals among random values. */
static void draw(const codebook *b, size_t n, const pq_levels_args *a) {
    static const uint32_t special[] = {0x00000000, 0x80000000, 0x7f800000, 0xff800000, 0x00000001,
                                       0x80000001, 0x007fffff, 0x7f7fffff, 0xff7fffff};
    for (size_t i = 0; i < n; i++) {
        const float scale = a->scale[i / a->inner % a->channels];
        const size_t at = (size_t)check_random_in(&seed, 0, (int64_t)b->count - 1);
        float v = at + 1 < b->count && i % 2 == 0 ? b->thresholds[at] : b->levels[at];
        switch (check_random_in(&seed, 0, 7)) {
        case 0: v = nextafterf(v, INFINITY); break;
        case 1: v = nextafterf(v, -INFINITY); break;
        case 2: v = from_bits(special[check_random_in(&seed, 0, 8)]); break;
        case 3: v = random_float(); break;
        case 4: v = ldexpf(v, (int)check_random_in(&seed, -4, 4)); break;
        default: break;
        }
        x_data[i] = v * scale;
        g_data[i] = random_float();
    }
}

/* ---- the definition, once more ---- */

static size_t count_below(const codebook *b, float v) {
    size_t code = 0;
    while (code + 1 < b->count && b->thresholds[code] <= v) {
        code++;
    }
    return code;
}

static bool is_inside(const codebook *b, float v) {
    return b->levels[0] <= v && v <= b->levels[b->count - 1];
}

static void forward_want(const codebook *b, const pq_levels_args *a, size_t n) {
    memset(mask_want, 0, n / 8 + 1);
    for (size_t i = 0; i < n; i++) {
        const float scale = a->scale[i / a->inner % a->channels], v = x_data[i] / scale;
        code_want[i] = (uint8_t)count_below(b, v);
        want[i] = b->levels[code_want[i]] * scale;
        mask_want[i / 8] = (uint8_t)(mask_want[i / 8] | (is_inside(b, v) << i % 8));
    }
}

static float term(const codebook *b, const pq_levels_args *a, size_t i) {
    const float v = x_data[i] / a->scale[i / a->inner % a->channels];
    if (!is_inside(b, v)) {
        return g_data[i] * (v < b->levels[0] ? b->levels[0] : b->levels[b->count - 1]);
    }
    const float d = b->levels[count_below(b, v)] - v;
    return g_data[i] * d;
}

/* A channel's sum: elements at first + r * stride for r < rows, each `length` long. */
static double sum_want(const codebook *b, const pq_levels_args *a, size_t channel) {
    const size_t length = a->channels == 1 ? a->n : a->inner, period = a->channels * length;
    double total = 0.0;
    if (a->channels > 1 && a->inner == 1) {
        const size_t rows = a->n / a->channels;
        for (size_t row = 0; row < rows; row += PQ_LEVELS_ROWS) {
            float sum = 0.0F;
            for (size_t r = row; r < rows && r < row + PQ_LEVELS_ROWS; r++) {
                sum += term(b, a, r * a->channels + channel);
            }
            total += (double)sum;
        }
        return total;
    }
    const size_t runs = a->n / period;
    const size_t group = length < PQ_LEVELS_PIECE ? PQ_LEVELS_PIECE / length : 1;
    for (size_t first = 0; first < runs; first += group) {
        for (size_t piece = 0; piece < length; piece += PQ_LEVELS_PIECE) {
            double sum = 0.0;
            for (size_t run = first; run < runs && run < first + group; run++) {
                for (size_t k = piece; k < length && k < piece + PQ_LEVELS_PIECE;
                     k += PQ_LEVELS_BLOCK) {
                    float lanes[16] = {0};
                    double wide[16];
                    for (size_t i = k; i < length && i < k + PQ_LEVELS_BLOCK; i++) {
                        lanes[(i - k) % 16] += term(b, a, run * period + channel * length + i);
                    }
                    for (int i = 0; i < 16; i++) {
                        wide[i] = (double)lanes[i];
                    }
                    for (int half = 8; half > 0; half /= 2) {
                        for (int i = 0; i < half; i++) {
                            wide[i] += wide[i + half];
                        }
                    }
                    sum += wide[0];
                }
            }
            total += sum;
        }
    }
    return total;
}

#endif
