/* Cache sizes: from the C library, else (musl, some virtual machines) from cpuid, else usual ones.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "pyquant/cpu.h"

static size_t told(int name) {
    const long bytes = sysconf(name);
    return bytes > 0 ? (size_t)bytes : 0;
}

static pq_cache_sizes from_library(void) {
    pq_cache_sizes sizes = {0, 0, 0};
#if defined(_SC_LEVEL1_DCACHE_SIZE)
    sizes.l1d = told(_SC_LEVEL1_DCACHE_SIZE);
    sizes.l2 = told(_SC_LEVEL2_CACHE_SIZE);
    sizes.l3 = told(_SC_LEVEL3_CACHE_SIZE);
#endif
    return sizes;
}

#if defined(__x86_64__)

/* Leaf 4 of Intel and 0x8000001D of AMD have one format: a cache a subleaf, until type 0. */
static void from_leaf(uint32_t leaf, pq_cache_sizes *sizes) {
    enum { NONE = 0, INSTRUCTION = 2, SUBLEAVES = 16 };
    uint32_t eax, ebx, ecx, edx;
    for (uint32_t i = 0; i < SUBLEAVES && __get_cpuid_count(leaf, i, &eax, &ebx, &ecx, &edx); i++) {
        const uint32_t type = eax & 31, level = eax >> 5 & 7;
        if (type == NONE) {
            return;
        }
        const size_t ways = (ebx >> 22) + 1, partitions = (ebx >> 12 & 1023) + 1;
        const size_t line = (ebx & 4095) + 1, sets = (size_t)ecx + 1;
        const size_t bytes = ways * partitions * line * sets;
        if (type != INSTRUCTION) {
            size_t *const size = level == 1   ? &sizes->l1d
                                 : level == 2 ? &sizes->l2
                                 : level == 3 ? &sizes->l3
                                              : NULL;
            if (size != NULL && *size == 0) {
                *size = bytes;
            }
        }
    }
}

static void from_cpuid(pq_cache_sizes *sizes) {
    from_leaf(4, sizes);
    from_leaf(0x8000001D, sizes);
}

#else

static void from_cpuid(pq_cache_sizes *sizes) {
    (void)sizes;
}

#endif

/* The least that a core with AVX2 or NEON dotprod has; without a third level, what counts as the
 * last one is the second. */
static void fill_gaps(pq_cache_sizes *sizes) {
    sizes->l1d = sizes->l1d == 0 ? (size_t)1 << 15 : sizes->l1d;
    sizes->l2 = sizes->l2 == 0 ? (size_t)1 << 18 : sizes->l2;
    sizes->l3 = sizes->l3 == 0 ? sizes->l2 : sizes->l3;
}

/* Three words, set one by one: threads that race in the first call write the same values, and
 * `known` is published last. */
static atomic_size_t l1d, l2, l3;
static atomic_bool known;

static void publish(pq_cache_sizes sizes) {
    atomic_store_explicit(&l1d, sizes.l1d, memory_order_relaxed);
    atomic_store_explicit(&l2, sizes.l2, memory_order_relaxed);
    atomic_store_explicit(&l3, sizes.l3, memory_order_relaxed);
    atomic_store_explicit(&known, true, memory_order_release);
}

static pq_cache_sizes detect(void) {
    pq_cache_sizes sizes = from_library();
    from_cpuid(&sizes);
    fill_gaps(&sizes);
    return sizes;
}

pq_cache_sizes pq_cpu_caches(void) {
    if (!atomic_load_explicit(&known, memory_order_acquire)) {
        publish(detect());
    }
    return (pq_cache_sizes){.l1d = atomic_load_explicit(&l1d, memory_order_relaxed),
                            .l2 = atomic_load_explicit(&l2, memory_order_relaxed),
                            .l3 = atomic_load_explicit(&l3, memory_order_relaxed)};
}

void pq_cpu_caches_set(const pq_cache_sizes *sizes) {
    publish(sizes == NULL ? detect() : *sizes);
}
