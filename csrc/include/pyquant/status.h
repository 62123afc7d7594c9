/* Status codes and error messages of the C core.
 *
 * Every entry point returns a pq_status. A failed entry point has written nothing to its
 * outputs that a caller may read, and has put one sentence into exec->message (if the caller gave
 * a buffer): the op, the rule and the value, e.g.
 *     gemm_s8s8: expected 0 < k <= 8421376, got 0
 * A status is never dropped: pq_status carries warn_unused_result.
 */
#ifndef PYQUANT_STATUS_H
#define PYQUANT_STATUS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define PQ_NODISCARD __attribute__((warn_unused_result))
#define PQ_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define PQ_API __attribute__((visibility("default")))
#else
#define PQ_NODISCARD
#define PQ_PRINTF(fmt, first)
#define PQ_API
#endif

/* Name, and the Python exception it becomes (the binding's switch has no default). */
typedef enum pq_status {
    PQ_OK = 0,
    PQ_ERR_VALUE,       /* an argument breaks a rule: ValueError */
    PQ_ERR_OVERFLOW,    /* a constant, size or accumulator bound cannot be held: OverflowError */
    PQ_ERR_NAN,         /* a float input holds NaN: ValueError */
    PQ_ERR_INDEX,       /* a run-time index is out of range: IndexError */
    PQ_ERR_NOMEM,       /* allocation failed: MemoryError */
    PQ_ERR_INTERRUPTED, /* the poll callback asked to stop: KeyboardInterrupt (or what the poll raised) */
    PQ_ERR_PROGRAM,     /* a program is malformed: pyquant.ProgramError (a ValueError) */
    PQ_ERR_UNSUPPORTED  /* no kernel of this build or machine does that: NotImplementedError */
} pq_status;

/* "ok", "value", "overflow", ...; never NULL. */
const char *pq_status_name(pq_status status);

#endif
