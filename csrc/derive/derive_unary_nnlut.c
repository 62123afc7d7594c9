#include "derive/derive_unary_internal.h"

enum { POINTS = 256, SHIFT_MAX = 24 };

/* In squared steps of y: far above the rounding errors of the sums, far below what matters. A cut
 * must save that much, so that the last bit of a math library moves no cut. */
static const double WORTH = 1e-6;

/* Sums over the points before the i-th: those of a run are differences. v is small: exact. */
typedef struct sums {
    double n, v, vv, g, vg, gg;
} sums;

typedef struct line {
    double slope, v, g; /* through the means of v and g */
    double error;       /* squared, summed */
} line;

static line line_of(const sums *from, const sums *to) {
    const double n = to->n - from->n, v = (to->v - from->v) / n, g = (to->g - from->g) / n;
    const double vv = (to->vv - from->vv) - n * v * v, vg = (to->vg - from->vg) - n * v * g;
    const double gg = (to->gg - from->gg) - n * g * g;
    const double slope = n > 1.0 ? vg / vv : 0.0, error = gg - slope * vg;
    return (line){slope, v, g, error > 0.0 ? error : 0.0};
}

static int collect(pq_unary function, pq_affine x, pq_affine y, sums before[POINTS + 1]) {
    const double low = y.quant_min - y.zero_point, high = y.quant_max - y.zero_point;
    int count = 0;
    before[0] = (sums){0};
    for (int32_t q = x.quant_min; q <= x.quant_max; q++, count++) {
        const double v = q - x.zero_point;
        const double steps = pq_unary_value(function, v * (double)x.scale) / (double)y.scale;
        const double g = steps < low ? low : steps > high ? high : steps;
        const sums *s = &before[count];
        before[count + 1] =
            (sums){s->n + 1.0, s->v + v, s->vv + v * v, s->g + g, s->vg + v * g, s->gg + g * g};
    }
    return count;
}

/* The integers of a line on 2^s; false where they are too wide. */
static bool encode(const line *at, int32_t s, int32_t bits, int32_t *slope, int32_t *intercept) {
    const double k = rint(ldexp(at->slope, s));
    const double d = rint(ldexp(at->g, s) - k * at->v); /* of the rounded slope */
    if (fabs(k) >= ldexp(1.0, bits - 1) || fabs(d) >= ldexp(1.0, bits + 7)) {
        return false;
    }
    *slope = (int32_t)k;
    *intercept = (int32_t)d;
    return true;
}

void pq_fit_nnlut(pq_unary function, pq_affine x, pq_affine y, int32_t entries, int32_t bits,
                  pq_nnlut *lines, int32_t *shift) {
    sums before[POINTS + 1];
    double least[POINTS + 1][PQ_NNLUT_ENTRIES_MAX + 1]; /* [points covered][runs] */
    int32_t cut[POINTS + 1][PQ_NNLUT_ENTRIES_MAX + 1];  /* where the last run begins */
    const int count = collect(function, x, y, before);
    for (int j = 0; j <= count; j++) {
        for (int32_t k = 0; k <= entries; k++) {
            least[j][k] = j == 0 ? 0.0 : (double)INFINITY;
            cut[j][k] = 0;
        }
    }
    for (int j = 1; j <= count; j++) {
        for (int i = j - 1; i >= 0; i--) { /* short runs first: their errors end the loop below */
            const double error = line_of(&before[i], &before[j]).error;
            /* more runs leave less: from the first k that this run is too much for, all are */
            for (int32_t k = 1; k <= entries && error < least[j][k]; k++) {
                if (least[i][k - 1] + error < least[j][k] - WORTH) {
                    least[j][k] = least[i][k - 1] + error;
                    cut[j][k] = i;
                }
            }
        }
    }
    int32_t runs = 1;
    for (int32_t k = 2; k <= entries; k++) {
        runs = least[count][k] < least[count][runs] - WORTH ? k : runs;
    }
    line found[PQ_NNLUT_ENTRIES_MAX];
    int end = count;
    lines->entries = runs;
    for (int32_t k = runs; k >= 1; k--) {
        const int begin = cut[end][k];
        found[k - 1] = line_of(&before[begin], &before[end]);
        lines->start[k - 1] = x.quant_min + begin - x.zero_point;
        end = begin;
    }
    for (int32_t s = SHIFT_MAX;; s--) {
        int32_t k = 0;
        while (k < runs && encode(&found[k], s, bits, &lines->slope[k], &lines->intercept[k])) {
            k++;
        }
        if (k == runs) {
            *shift = s;
            return;
        }
    }
}
