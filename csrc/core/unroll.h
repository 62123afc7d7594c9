/* PQ_UNROLL before a `for` whose count is a constant (at most 8, known after inlining) unrolls it
 * completely: an array of vectors indexed by it becomes registers. Neither compiler does so at -O2
 * for all register tiles, and clang ignores `#pragma GCC unroll`. */
#ifndef PYQUANT_CORE_UNROLL_H
#define PYQUANT_CORE_UNROLL_H

#if defined(__clang__)
#define PQ_UNROLL _Pragma("clang loop unroll(full)")
#else
#define PQ_UNROLL _Pragma("GCC unroll 8")
#endif

#endif
