/* The fuzzer for machines without libFuzzer: random recipes.
 *
 *     test_fuzz_program [mutations [seed]]
 */
#include "fuzz_program.c"

int main(int argc, char **argv) {
    const long wanted = argc > 1 ? atol(argv[1]) : 20000;
    uint64_t random = argc > 2 ? (uint64_t)atoll(argv[2]) : 1;
    while (fuzz_program_counts.mutations < wanted) {
        uint8_t recipe_bytes[64];
        /* A program with one or two mutations is accepted often enough; long ones go deeper. */
        const int64_t mutations = check_random_in(&random, 0, 4);
        const size_t size = (size_t)(3 + mutations * check_random_in(&random, 2, 12));
        for (size_t i = 0; i < size; i++) {
            recipe_bytes[i] = (uint8_t)check_random(&random);
        }
        LLVMFuzzerTestOneInput(recipe_bytes, size);
    }
    const fuzz_counts *n = &fuzz_program_counts;
    printf(
        "%ld mutations in %ld programs, %ld accepted (%.1f %%), %ld runs, %ld too large to run\n",
        n->mutations, n->programs, n->accepted, 100.0 * (double)n->accepted / (double)n->programs,
        n->runs, n->too_large);
    CHECK(n->accepted * 20 > n->programs);
    CHECK(n->too_large * 20 < n->runs);
    return check_finish("test_fuzz_program");
}
