/* Floats of AVX-512: in the `quantize` and `observe` families only. */
#include "core/simd_avx512.h"
#include "simd_rows.h"

static __m512i a, b, a63;
static __m512 fa, fb, fc, fsmall;
static __m512d da, db, dc, dsmall;
static __m256i a256;
static uint32_t table[64];

static double small(int i) {
    return x.s16[i] / 4.0;
}

static void load(void) {
    memcpy(&a, &x, sizeof a);
    memcpy(&b, &y, sizeof b);
    memcpy(&a256, &x, sizeof a256);
    memcpy(&fa, &fx, sizeof fa);
    memcpy(&fb, &fy, sizeof fb);
    memcpy(&fc, &fz, sizeof fc);
    memcpy(&da, &dx, sizeof da);
    memcpy(&db, &dy, sizeof db);
    memcpy(&dc, &dz, sizeof dc);
    a63 = _mm512_and_si512(a, _mm512_set1_epi32(63));
    for (int i = 0; i < 64; i++) {
        table[i] = (uint32_t)check_random(&seed);
    }
    lanes floats, doubles;
    for (int i = 0; i < 16; i++) {
        floats.f32[i] = (float)small(i);
        doubles.f64[i % 8] = small(i % 8);
    }
    memcpy(&fsmall, &floats, sizeof fsmall);
    memcpy(&dsmall, &doubles, sizeof dsmall);
}

/* The least integer where `value` does not fit, NaN included. */
static int64_t to_integer(double value, int width) {
    const double limit = width == 32 ? 0x1p31 : 0x1p63;
    const int64_t least = width == 32 ? INT32_MIN : INT64_MIN;
    return value >= -limit && value < limit ? (int64_t)value : least;
}

static double reduced_add(int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
        sum += small(i);
    }
    return sum;
}

static double reduced_max(int n) {
    double most = small(0);
    for (int i = 1; i < n; i++) {
        most = fmax(most, small(i));
    }
    return most;
}

static double reduced_min(int n) {
    double least = small(0);
    for (int i = 1; i < n; i++) {
        least = fmin(least, small(i));
    }
    return least;
}

static void float_moves(void) {
    ROW(_mm512_loadu_ps, __m512, u32, ((const float *)memory), before[0].u32[i]);
    STORE_ROW(_mm512_storeu_ps, u32, 16, (memory, fa), fx.u32[i]);
    ROW(_mm512_maskz_loadu_ps, __m512, u32, ((__mmask16)k, memory),
        bit_of(k, i) ? before[0].u32[i] : 0);
    ROW(_mm512_mask_loadu_ps, __m512, u32, (fa, (__mmask16)k, memory),
        (bit_of(k, i) ? before[0] : fx).u32[i]);
    STORE_ROW(_mm512_mask_storeu_ps, u32, 16, (memory, (__mmask16)k, fa),
              (bit_of(k, i) ? fx : before[0]).u32[i]);
    ROW(_mm512_set1_ps, __m512, f32, (fx.f32[0]), fx.f32[0 * i]);
    ROW(_mm512_setzero_ps, __m512, u32, (), 0 * (uint32_t)i);
    ROW(_mm512_castps_si512, __m512i, u32, (fa), fx.u32[i]);
    ROW(_mm512_castsi512_ps, __m512, u32, (a), x.u32[i]);
    ROW(_mm512_mask_blend_ps, __m512, f32, ((__mmask16)k, fa, fb), (bit_of(k, i) ? fy : fx).f32[i]);
    ROW(_mm512_mask_mov_ps, __m512, f32, (fa, (__mmask16)k, fb), (bit_of(k, i) ? fy : fx).f32[i]);
    ROW(_mm512_maskz_mov_ps, __m512, f32, ((__mmask16)k, fa), bit_of(k, i) ? fx.f32[i] : 0);
    ROW(_mm512_loadu_pd, __m512d, u64, ((const double *)memory), before[0].u64[i]);
    STORE_ROW(_mm512_storeu_pd, u64, 8, (memory, da), dx.u64[i]);
    ROW(_mm512_maskz_loadu_pd, __m512d, u64, ((__mmask8)k, memory),
        bit_of(k, i) ? before[0].u64[i] : 0);
    ROW(_mm512_mask_loadu_pd, __m512d, u64, (da, (__mmask8)k, memory),
        (bit_of(k, i) ? before[0] : dx).u64[i]);
    STORE_ROW(_mm512_mask_storeu_pd, u64, 8, (memory, (__mmask8)k, da),
              (bit_of(k, i) ? dx : before[0]).u64[i]);
    ROW(_mm512_set1_pd, __m512d, f64, (dx.f64[0]), dx.f64[0 * i]);
    ROW(_mm512_setzero_pd, __m512d, u64, (), 0 * (uint64_t)i);
    ROW(_mm512_castpd_si512, __m512i, u64, (da), dx.u64[i]);
    ROW(_mm512_castsi512_pd, __m512d, u64, (a), x.u64[i]);
    ROW(_mm512_mask_blend_pd, __m512d, f64, ((__mmask8)k, da, db), (bit_of(k, i) ? dy : dx).f64[i]);
    ROW(_mm512_mask_mov_pd, __m512d, f64, (da, (__mmask8)k, db), (bit_of(k, i) ? dy : dx).f64[i]);
    ROW(_mm512_maskz_mov_pd, __m512d, f64, ((__mmask8)k, da), bit_of(k, i) ? dx.f64[i] : 0);
    STORE_ROW(_mm512_stream_ps, u32, 16, ((float *)(void *)memory, fa), fx.u32[i]);
    ROW(_mm512_cvtss_f32, float, u32, (fa), fx.u32[i]);
    ROW(_mm512_castps512_ps256, __m256, u32, (fa), fx.u32[i]);
    ROW(_mm512_castps512_ps128, __m128, u32, (fa), fx.u32[i]);
    ROW(_mm512_extractf32x8_ps, __m256, u32, (fa, 1), fx.u32[i + 8]);
    ROW(_mm512_extractf32x4_ps, __m128, u32, (fa, 2), fx.u32[i + 8]);
    ROW(_mm512_extractf64x4_pd, __m256d, u64, (da, 1), dx.u64[i + 4]);
    ROW(_mm512_shuffle_ps, __m512, u32, (fa, fb, 0x4E),
        (i % 4 < 2 ? fx : fy).u32[i / 4 * 4 + (i + 2) % 4]);
    ROW(_mm512_permutexvar_ps, __m512, u32, (a, fa), fx.u32[x.u32[i] % 16]);
    ROW(_mm512_permutex2var_ps, __m512, u32, (fa, b, fb),
        (y.u32[i] / 16 % 2 == 0 ? fx : fy).u32[y.u32[i] % 16]);
    ROW(_mm512_i32gather_ps, __m512, u32, (a63, table, 4), table[x.u32[i] % 64]);
}

static void float_arithmetic(void) {
    ROW(_mm512_add_ps, __m512, f32, (fa, fb), fx.f32[i] + fy.f32[i]);
    ROW(_mm512_sub_ps, __m512, f32, (fa, fb), fx.f32[i] - fy.f32[i]);
    ROW(_mm512_mul_ps, __m512, f32, (fa, fb), fx.f32[i] * fy.f32[i]);
    ROW(_mm512_div_ps, __m512, f32, (fa, fb), fx.f32[i] / fy.f32[i]);
    ROW(_mm512_sqrt_ps, __m512, f32, (fa), sqrtf(fx.f32[i]));
    ROW(_mm512_abs_ps, __m512, f32, (fa), fabsf(fx.f32[i]));
    ROW(_mm512_min_ps, __m512, f32, (fa, fb), fx.f32[i] < fy.f32[i] ? fx.f32[i] : fy.f32[i]);
    ROW(_mm512_max_ps, __m512, f32, (fa, fb), fx.f32[i] > fy.f32[i] ? fx.f32[i] : fy.f32[i]);
    ROW(_mm512_mask_add_ps, __m512, f32, (fc, (__mmask16)k, fa, fb),
        bit_of(k, i) ? fx.f32[i] + fy.f32[i] : fz.f32[i]);
    ROW(_mm512_mask_min_ps, __m512, f32, (fc, (__mmask16)k, fa, fb),
        !bit_of(k, i)           ? fz.f32[i]
        : fx.f32[i] < fy.f32[i] ? fx.f32[i]
                                : fy.f32[i]);
    ROW(_mm512_mask_max_ps, __m512, f32, (fc, (__mmask16)k, fa, fb),
        !bit_of(k, i)           ? fz.f32[i]
        : fx.f32[i] > fy.f32[i] ? fx.f32[i]
                                : fy.f32[i]);
    ROW(_mm512_fmadd_ps, __m512, f32, (fa, fb, fc), fmaf(fx.f32[i], fy.f32[i], fz.f32[i]));
    ROW(_mm512_fnmadd_ps, __m512, f32, (fa, fb, fc), fmaf(-fx.f32[i], fy.f32[i], fz.f32[i]));
    ROW(_mm512_fmsub_ps, __m512, f32, (fa, fb, fc), fmaf(fx.f32[i], fy.f32[i], -fz.f32[i]));
    ROW(_mm512_roundscale_ps, __m512, f32, (fa, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
        rintf(fx.f32[i]));
    ROW(_mm512_roundscale_ps, __m512, f32, (fa, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC),
        floorf(fx.f32[i]));
    ROW(_mm512_roundscale_ps, __m512, f32, (fa, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC),
        truncf(fx.f32[i]));
    ROW(_mm512_and_ps, __m512, u32, (fa, fb), fx.u32[i] & fy.u32[i]);
    ROW(_mm512_or_ps, __m512, u32, (fa, fb), fx.u32[i] | fy.u32[i]);
    ROW(_mm512_xor_ps, __m512, u32, (fa, fb), fx.u32[i] ^ fy.u32[i]);
    ROW(_mm512_andnot_ps, __m512, u32, (fa, fb), ~fx.u32[i] & fy.u32[i]);
    ROW(_mm512_add_pd, __m512d, f64, (da, db), dx.f64[i] + dy.f64[i]);
    ROW(_mm512_sub_pd, __m512d, f64, (da, db), dx.f64[i] - dy.f64[i]);
    ROW(_mm512_mul_pd, __m512d, f64, (da, db), dx.f64[i] * dy.f64[i]);
    ROW(_mm512_div_pd, __m512d, f64, (da, db), dx.f64[i] / dy.f64[i]);
    ROW(_mm512_sqrt_pd, __m512d, f64, (da), sqrt(dx.f64[i]));
    ROW(_mm512_abs_pd, __m512d, f64, (da), fabs(dx.f64[i]));
    ROW(_mm512_min_pd, __m512d, f64, (da, db), dx.f64[i] < dy.f64[i] ? dx.f64[i] : dy.f64[i]);
    ROW(_mm512_max_pd, __m512d, f64, (da, db), dx.f64[i] > dy.f64[i] ? dx.f64[i] : dy.f64[i]);
    ROW(_mm512_mask_min_pd, __m512d, f64, (dc, (__mmask8)k, da, db),
        !bit_of(k, i)           ? dz.f64[i]
        : dx.f64[i] < dy.f64[i] ? dx.f64[i]
                                : dy.f64[i]);
    ROW(_mm512_mask_max_pd, __m512d, f64, (dc, (__mmask8)k, da, db),
        !bit_of(k, i)           ? dz.f64[i]
        : dx.f64[i] > dy.f64[i] ? dx.f64[i]
                                : dy.f64[i]);
    ROW(_mm512_fmadd_pd, __m512d, f64, (da, db, dc), fma(dx.f64[i], dy.f64[i], dz.f64[i]));
    ROW(_mm512_fnmadd_pd, __m512d, f64, (da, db, dc), fma(-dx.f64[i], dy.f64[i], dz.f64[i]));
    ROW(_mm512_fmsub_pd, __m512d, f64, (da, db, dc), fma(dx.f64[i], dy.f64[i], -dz.f64[i]));
    ROW(_mm512_roundscale_pd, __m512d, f64, (da, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
        rint(dx.f64[i]));
    ROW(_mm512_roundscale_pd, __m512d, f64, (da, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC),
        floor(dx.f64[i]));
    ROW(_mm512_roundscale_pd, __m512d, f64, (da, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC),
        trunc(dx.f64[i]));
    ROW(_mm512_and_pd, __m512d, u64, (da, db), dx.u64[i] & dy.u64[i]);
    ROW(_mm512_or_pd, __m512d, u64, (da, db), dx.u64[i] | dy.u64[i]);
    ROW(_mm512_xor_pd, __m512d, u64, (da, db), dx.u64[i] ^ dy.u64[i]);
    ROW(_mm512_andnot_pd, __m512d, u64, (da, db), ~dx.u64[i] & dy.u64[i]);
}

static void float_compare(void) {
    MASK_ROW(_mm512_cmp_ps_mask, 16, (fa, fb, _CMP_EQ_OQ), fx.f32[i] == fy.f32[i]);
    MASK_ROW(_mm512_cmp_ps_mask, 16, (fa, fb, _CMP_LT_OQ), fx.f32[i] < fy.f32[i]);
    MASK_ROW(_mm512_cmp_ps_mask, 16, (fa, fb, _CMP_LE_OQ), fx.f32[i] <= fy.f32[i]);
    MASK_ROW(_mm512_cmp_ps_mask, 16, (fa, fb, _CMP_GT_OQ), fx.f32[i] > fy.f32[i]);
    MASK_ROW(_mm512_cmp_ps_mask, 16, (fa, fb, _CMP_GE_OQ), fx.f32[i] >= fy.f32[i]);
    MASK_ROW(_mm512_cmp_ps_mask, 16, (fa, fb, _CMP_NEQ_UQ), !(fx.f32[i] == fy.f32[i]));
    MASK_ROW(_mm512_cmp_ps_mask, 16, (fa, fb, _CMP_UNORD_Q), isnan(fx.f32[i]) || isnan(fy.f32[i]));
    MASK_ROW(_mm512_cmp_ps_mask, 16, (fa, fb, _CMP_NLE_UQ), !(fx.f32[i] <= fy.f32[i]));
    MASK_ROW(_mm512_cmp_ps_mask, 16, (fa, fb, _CMP_NLT_UQ), !(fx.f32[i] < fy.f32[i]));
    MASK_ROW(_mm512_cmp_ps_mask, 16, (fa, fb, _CMP_ORD_Q), !isnan(fx.f32[i]) && !isnan(fy.f32[i]));
    MASK_ROW(_mm512_cmp_pd_mask, 8, (da, db, _CMP_EQ_OQ), dx.f64[i] == dy.f64[i]);
    MASK_ROW(_mm512_cmp_pd_mask, 8, (da, db, _CMP_LT_OQ), dx.f64[i] < dy.f64[i]);
    MASK_ROW(_mm512_cmp_pd_mask, 8, (da, db, _CMP_LE_OQ), dx.f64[i] <= dy.f64[i]);
    MASK_ROW(_mm512_cmp_pd_mask, 8, (da, db, _CMP_GT_OQ), dx.f64[i] > dy.f64[i]);
    MASK_ROW(_mm512_cmp_pd_mask, 8, (da, db, _CMP_GE_OQ), dx.f64[i] >= dy.f64[i]);
    MASK_ROW(_mm512_cmp_pd_mask, 8, (da, db, _CMP_NEQ_UQ), !(dx.f64[i] == dy.f64[i]));
    MASK_ROW(_mm512_cmp_pd_mask, 8, (da, db, _CMP_UNORD_Q), isnan(dx.f64[i]) || isnan(dy.f64[i]));
    MASK_ROW(_mm512_cmp_pd_mask, 8, (da, db, _CMP_NLE_UQ), !(dx.f64[i] <= dy.f64[i]));
    MASK_ROW(_mm512_cmp_pd_mask, 8, (da, db, _CMP_NLT_UQ), !(dx.f64[i] < dy.f64[i]));
    MASK_ROW(_mm512_cmp_pd_mask, 8, (da, db, _CMP_ORD_Q), !isnan(dx.f64[i]) && !isnan(dy.f64[i]));
    MASK_ROW(_mm512_mask_cmp_ps_mask, 16, ((__mmask16)k, fa, fb, _CMP_LT_OQ),
             bit_of(k, i) && fx.f32[i] < fy.f32[i]);
}

static void float_convert(void) {
    ROW(_mm512_cvtepi32_ps, __m512, f32, (a), (float)x.s32[i]);
    ROW(_mm512_cvtps_epi32, __m512i, s32, (fa), (int32_t)to_integer(rint((double)fx.f32[i]), 32));
    ROW(_mm512_cvttps_epi32, __m512i, s32, (fa), (int32_t)to_integer(trunc((double)fx.f32[i]), 32));
    ROW(_mm512_cvtps_pd, __m512d, f64, (_mm512_castps512_ps256(fa)), (double)fx.f32[i]);
    ROW(_mm512_cvtpd_ps, __m256, f32, (da), (float)dx.f64[i]);
    ROW(_mm512_cvtepi32_pd, __m512d, f64, (a256), (double)x.s32[i]);
    ROW(_mm512_cvtepi64_pd, __m512d, f64, (a), (double)x.s64[i]);
    ROW(_mm512_cvtpd_epi32, __m256i, s32, (da), (int32_t)to_integer(rint(dx.f64[i]), 32));
    ROW(_mm512_cvttpd_epi32, __m256i, s32, (da), (int32_t)to_integer(trunc(dx.f64[i]), 32));
    ROW(_mm512_cvtpd_epi64, __m512i, s64, (da), to_integer(rint(dx.f64[i]), 64));
    ROW(_mm512_cvttpd_epi64, __m512i, s64, (da), to_integer(trunc(dx.f64[i]), 64));
}

static void float_reduce(void) {
    /* No NaN: what a reduction makes of one depends on its place. Sums are exact, so that their
     * order does not matter. */
    ROW(_mm512_reduce_max_ps, float, f32, (fsmall), (float)reduced_max(16));
    ROW(_mm512_reduce_max_pd, double, f64, (dsmall), reduced_max(8));
    ROW(_mm512_reduce_min_ps, float, f32, (fsmall), (float)reduced_min(16));
    ROW(_mm512_reduce_min_pd, double, f64, (dsmall), reduced_min(8));
    ROW(_mm512_reduce_add_ps, float, f32, (fsmall), (float)reduced_add(16));
    ROW(_mm512_reduce_add_pd, double, f64, (dsmall), reduced_add(8));
}

static void rows(void) {
    float_moves();
    float_arithmetic();
    float_compare();
    float_convert();
    float_reduce();
}

int main(void) {
    return simd_run("test_simd_floats_avx512", PQ_CPU_AVX512, load, rows);
}
