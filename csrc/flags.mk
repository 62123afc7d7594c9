# Compiler flags of the C code. Read by csrc/Makefile and by setup.py, so: plain `NAME = words`, no functions.

# -ffp-contract=off: clang would otherwise fuse x*s+z wherever FMA is on, and results would depend on the ISA.
PQ_CFLAGS = -std=c11 -O2 -g -fPIC -fopenmp -ffp-contract=off -fno-math-errno -fvisibility=hidden
PQ_WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes
PQ_CXXFLAGS = -std=c++17 -O2 -g -fPIC -fvisibility=hidden -fvisibility-inlines-hidden -Wall -Wextra -Wshadow -Wconversion

# The suffix of a file's name decides what it may use; a file without one gets the baseline of its architecture.
PQ_X86_SUFFIXES = avx2 avx512 avx512vnni
PQ_ARM_SUFFIXES = neon neondot
PQ_FLAGS_avx2 = -mavx2
PQ_FLAGS_avx512 = -mavx512f -mavx512bw -mavx512vl -mavx512dq
PQ_FLAGS_avx512vnni = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni
PQ_FLAGS_neon =
PQ_FLAGS_neondot = -march=armv8.2-a+dotprod

# Wide register tiles fit exactly, and what compilers do to them must not cost a register. gcc 12 spills them with
# partial redundancy elimination.
PQ_GCC_FLAGS_avx2 = -fno-tree-pre
PQ_GCC_FLAGS_avx512 = -fno-tree-pre
PQ_GCC_FLAGS_avx512vnni = -fno-tree-pre
# The scheduling before register allocation moves loads up in the 6 x 16 tile; constants that gcc propagates into it
# cost one more.
PQ_GCC_FLAGS_neondot = -fno-schedule-insns -fno-ipa-cp
PQ_CLANG_FLAGS_neondot = -mllvm -enable-misched=false

# The emulated test build of files for AVX-512 and NEON. -O1: with -O2 gcc takes half a minute for an attention file.
# -Wno-psabi: 64-byte vectors passed without AVX-512 have an ABI of their own, which matters only between objects.
PQ_FLAGS_simde = -mavx2 -DPQ_SIMDE -Wno-psabi -O1

PQ_FAMILIES = core gemm softmax attention layernorm elementwise unary layout quantize levels derive observe metrics fake sim engine
