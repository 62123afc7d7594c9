/* What the machine can do at most: register-only multiply-add loops, memory reads and copies.
 *
 * A small shared library, built and called by probe.py:
 *     cc -std=c11 -O2 -fopenmp -shared -fPIC -o probe.so probe.c
 *
 * A multiply-add loop holds its accumulators in registers, twelve chains of them: enough to cover latency
 * times throughput on every core we know. Its figure is the limit of the execution units, which no kernel
 * passes that uses the same instruction. The memory loops walk a ring several times the last-level cache.
 *
 * The asm statements have no instructions: they keep the compiler from merging chains and hoisting products.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>
#endif

#define CHAINS 12
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 12")
#endif

#if defined(__x86_64__)
#define REGISTER "+v"
#else
#define REGISTER "+w"
#endif

/* STEP(acc, a, b, one) is the new accumulator. b passes through an asm in every step, or a product of two
 * constants would be worked out once, before the loop. */
#define LOOP(name, isa, vector, a_value, b_value, one_value, STEP) \
    isa static void name(long rounds) {                            \
        vector acc[CHAINS], a = a_value, b = b_value;              \
        const vector one = one_value;                              \
        (void)one;                                                 \
        UNROLL for (int i = 0; i < CHAINS; i++) {                  \
            acc[i] = a;                                            \
            __asm__ volatile("" : REGISTER(acc[i]));               \
        }                                                          \
        for (long r = 0; r < rounds; r++) {                        \
            UNROLL for (int i = 0; i < CHAINS; i++) {              \
                __asm__ volatile("" : REGISTER(b));                \
                acc[i] = STEP(acc[i], a, b, one);                  \
                __asm__ volatile("" : REGISTER(acc[i]));           \
            }                                                      \
        }                                                          \
    }

typedef struct probe {
    const char *name;
    double macs; /* of one vector step */
    void (*run)(long rounds);
} probe;

#if defined(__x86_64__)

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512bw")))
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vnni")))

#define FMA_256(c, a, b, one) _mm256_fmadd_ps(a, b, c)
#define MADD_256(c, a, b, one) _mm256_add_epi32(c, _mm256_madd_epi16(a, b))
#define MADDUBS_256(c, a, b, one) _mm256_add_epi16(c, _mm256_maddubs_epi16(a, b))
#define PAIRS_256(c, a, b, one) \
    _mm256_add_epi32(c, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), one))
#define FMA_512(c, a, b, one) _mm512_fmadd_ps(a, b, c)
#define MADD_512(c, a, b, one) _mm512_add_epi32(c, _mm512_madd_epi16(a, b))
#define DOT_512(c, a, b, one) _mm512_dpbusd_epi32(c, a, b)

#define PS_256 _mm256_set1_ps(1.0F), _mm256_set1_ps(1e-9F), _mm256_set1_ps(1.0F)
#define EPI_256 _mm256_set1_epi8(3), _mm256_set1_epi8(5), _mm256_set1_epi16(1)
#define PS_512 _mm512_set1_ps(1.0F), _mm512_set1_ps(1e-9F), _mm512_set1_ps(1.0F)
#define EPI_512 _mm512_set1_epi8(3), _mm512_set1_epi8(5), _mm512_set1_epi16(1)

/* The values are one macro each above: this second step expands them to three arguments. */
#define LOOP_OF(name, isa, vector, values, STEP) LOOP(name, isa, vector, values, STEP)

LOOP_OF(fma_f32, AVX2, __m256, PS_256, FMA_256)
LOOP_OF(vpmaddwd, AVX2, __m256i, EPI_256, MADD_256)
LOOP_OF(vpmaddubsw_vpaddw, AVX2, __m256i, EPI_256, MADDUBS_256)
LOOP_OF(vpmaddubsw_vpmaddwd, AVX2, __m256i, EPI_256, PAIRS_256)
LOOP_OF(fma_f32_512, AVX512, __m512, PS_512, FMA_512)
LOOP_OF(vpmaddwd_512, AVX512, __m512i, EPI_512, MADD_512)
LOOP_OF(vpdpbusd_512, VNNI, __m512i, EPI_512, DOT_512)

static const probe probes[] = {
    {"fma_f32", 8, fma_f32},
    {"vpmaddwd", 16, vpmaddwd},
    {"vpmaddubsw_vpaddw", 32, vpmaddubsw_vpaddw},
    {"vpmaddubsw_vpmaddwd", 32, vpmaddubsw_vpmaddwd},
    {"fma_f32_512", 16, fma_f32_512},
    {"vpmaddwd_512", 32, vpmaddwd_512},
    {"vpdpbusd_512", 64, vpdpbusd_512},
};

static int present(const probe *p) {
    if (p->run == vpdpbusd_512) {
        return __builtin_cpu_supports("avx512vnni") != 0;
    }
    if (p->run == fma_f32_512 || p->run == vpmaddwd_512) {
        return __builtin_cpu_supports("avx512bw") != 0;
    }
    return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
}

/* 256 bytes a step from four places far apart: one stream alone does not keep enough lines in flight. */
AVX2 static uint64_t read_streams(const char *from, size_t size) {
    const size_t stream = size / 4 & ~(size_t)63;
    __m256i sum[4];
    UNROLL for (int s = 0; s < 4; s++) sum[s] = _mm256_setzero_si256();
    for (size_t i = 0; i < stream; i += 64) {
        UNROLL for (int s = 0; s < 4; s++) {
            const char *at = from + (size_t)s * stream + i;
            sum[s] = _mm256_add_epi64(sum[s], _mm256_loadu_si256((const __m256i *)(const void *)at));
            sum[s] =
                _mm256_xor_si256(sum[s], _mm256_loadu_si256((const __m256i *)(const void *)(at + 32)));
        }
    }
    const __m256i all =
        _mm256_add_epi64(_mm256_add_epi64(sum[0], sum[1]), _mm256_add_epi64(sum[2], sum[3]));
    return (uint64_t)_mm256_extract_epi64(all, 0) + (uint64_t)_mm256_extract_epi64(all, 3);
}

#elif defined(__aarch64__)

#define BASE
#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))

#define FMLA(c, a, b, one) vfmaq_f32(c, a, b)
#define MLAL(c, a, b, one) vpadalq_s16(c, vmull_s8(vget_low_s8(a), vget_low_s8(b)))
#define SDOT(c, a, b, one) vdotq_s32(c, a, b)

/* The accumulators of the integer loops have another type than the operands. */
#define INTEGER_LOOP(name, isa, STEP)                                            \
    isa static void name(long rounds) {                                          \
        int32x4_t acc[CHAINS];                                                   \
        int8x16_t a = vdupq_n_s8(3), b = vdupq_n_s8(5);                          \
        UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = vdupq_n_s32(0);         \
        for (long r = 0; r < rounds; r++) {                                      \
            UNROLL for (int i = 0; i < CHAINS; i++) {                            \
                __asm__ volatile("" : REGISTER(b));                              \
                acc[i] = STEP(acc[i], a, b, one);                                \
                __asm__ volatile("" : REGISTER(acc[i]));                         \
            }                                                                    \
        }                                                                        \
    }

LOOP(fmla_f32, BASE, float32x4_t, vdupq_n_f32(1.0F), vdupq_n_f32(1e-9F), vdupq_n_f32(1.0F), FMLA)
INTEGER_LOOP(smull_sadalp, BASE, MLAL)
INTEGER_LOOP(sdot, DOTPROD, SDOT)

static const probe probes[] = {
    {"fmla_f32", 4, fmla_f32},
    {"smull_sadalp", 8, smull_sadalp},
    {"sdot", 16, sdot},
};

static int present(const probe *p) {
    enum { ASIMDDP = 1 << 20 }; /* HWCAP bit of the Linux AArch64 ABI */
    return p->run != sdot || (getauxval(AT_HWCAP) & ASIMDDP) != 0;
}

static uint64_t read_streams(const char *from, size_t size) {
    const size_t stream = size / 4 & ~(size_t)63;
    uint8x16_t sum[4];
    UNROLL for (int s = 0; s < 4; s++) sum[s] = vdupq_n_u8(0);
    for (size_t i = 0; i < stream; i += 16) {
        UNROLL for (int s = 0; s < 4; s++) {
            sum[s] = vaddq_u8(sum[s], vld1q_u8((const uint8_t *)from + (size_t)s * stream + i));
        }
    }
    return vaddvq_u8(vaddq_u8(vaddq_u8(sum[0], sum[1]), vaddq_u8(sum[2], sum[3])));
}

#else
#error "probe.c knows x86-64 and AArch64"
#endif

#define EXPORT __attribute__((visibility("default")))

EXPORT int bench_probe_count(void);
EXPORT const char *bench_probe_name(int which);
EXPORT int bench_probe_present(int which);
EXPORT double bench_probe_macs(int which);
EXPORT void bench_probe_compute(int which, int threads, long rounds);
EXPORT int bench_probe_ring(size_t size);
EXPORT uint64_t bench_probe_read(int threads, size_t size);
EXPORT void bench_probe_copy(int threads, size_t size);

int bench_probe_count(void) {
    return (int)(sizeof probes / sizeof probes[0]);
}

const char *bench_probe_name(int which) {
    return probes[which].name;
}

int bench_probe_present(int which) {
    return present(&probes[which]);
}

/* Multiply-adds of one round of one thread. */
double bench_probe_macs(int which) {
    return probes[which].macs * CHAINS;
}

void bench_probe_compute(int which, int threads, long rounds) {
#pragma omp parallel num_threads(threads)
    probes[which].run(rounds);
}

static char *ring;
static size_t ring_size, ring_at;

/* Memory for the two functions below; 0 if there is none. A later call does not shrink or grow it. */
int bench_probe_ring(size_t size) {
    if (ring == NULL) {
        ring = aligned_alloc(64, size & ~(size_t)63);
        ring_size = ring != NULL ? size & ~(size_t)63 : 0;
        if (ring != NULL) {
            memset(ring, 1, ring_size); /* else all pages are one page of zeros, which stays in cache */
        }
    }
    return ring != NULL;
}

/* The next `size` bytes of the ring, at most all of it. */
static char *next(size_t size) {
    if (ring_at + size > ring_size) {
        ring_at = 0;
    }
    char *at = ring + ring_at;
    ring_at += size;
    return at;
}

uint64_t bench_probe_read(int threads, size_t size) {
    const char *from = next(size);
    const size_t part = size / (size_t)threads;
    uint64_t sum = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : sum)
    for (int t = 0; t < threads; t++) {
        sum += read_streams(from + (size_t)t * part, part);
    }
    return sum;
}

/* Copies `size` bytes, hence moves twice as many. */
void bench_probe_copy(int threads, size_t size) {
    const char *from = next(2 * size);
    char *to = (char *)(uintptr_t)from + size;
    const size_t part = size / (size_t)threads;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; t++) {
        memcpy(to + (size_t)t * part, from + (size_t)t * part, part);
    }
}
