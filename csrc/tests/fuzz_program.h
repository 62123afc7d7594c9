/* What a run of the fuzzer has seen. */
#ifndef PYQUANT_TESTS_FUZZ_PROGRAM_H
#define PYQUANT_TESTS_FUZZ_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

typedef struct fuzz_counts {
    long programs, mutations, accepted, runs;
    long too_large; /* runs not tried for their size */
} fuzz_counts;

extern fuzz_counts fuzz_program_counts;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
