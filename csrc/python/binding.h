/* pyquant._C: what the parts of the binding share. The only header that includes NumPy.
 *
 * The binding converts and raises; it holds no arithmetic. Every function makes the same five
 * moves: NULL-initialise, parse, convert and check, call without the GIL, `done:`.
 *
 * What the C entry points cannot see is checked here: that an object is an array, its dtype, byte
 * order, shape, strides, alignment, writability, and that an output overlaps no input. The rules
 * about constants and sizes are the entry points' own.
 */
#ifndef PYQUANT_PYTHON_BINDING_H
#define PYQUANT_PYTHON_BINDING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL pyquant_array_api
#ifndef PQ_IMPORT_ARRAY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include <stdbool.h>
#include <stdint.h>

#include "pyquant/exec.h"
#include "pyquant/softmax.h"
#include "pyquant/types.h"

#define PQ_KEYWORD_METHOD(name, function, doc) \
    { name, (PyCFunction)(void (*)(void))(function), METH_VARARGS | METH_KEYWORDS, doc }

/* ---- module state ---- */

typedef struct pq_state {
    PyObject *program_error; /* pyquant.ProgramError */
    PyObject *main_thread;   /* threading.main_thread */
    PyTypeObject *weights_type;
    PyTypeObject *program_type;
} pq_state;

static inline pq_state *pq_state_of(PyObject *module) {
    return PyModule_GetState(module);
}

/* ---- one call of an entry point ---- */

typedef struct pq_call {
    pq_exec exec;
    const pq_state *state;
    PyThreadState *thread; /* ours, while the GIL is released */
    int64_t next_poll;     /* monotonic nanoseconds */
    char message[512];
} pq_call;

/* Sets up `call->exec` (threads < 1: the default) and releases the GIL. The struct must not move.
 */
void pq_call_begin(pq_call *call, const pq_state *state, int threads);
/* Takes the GIL back. 0, or -1 with the exception that belongs to the status. */
int pq_call_end(pq_call *call, pq_status status);
/* Raises what the status means (not PQ_OK). Needs the GIL; returns -1. */
int pq_raise(const pq_state *state, pq_status status, const char *message);

/* ---- arrays ---- */

/* Element types as a set, so that an operand can accept several. */
enum {
    PQ_T_S8 = 1u << 0,
    PQ_T_U8 = 1u << 1, /* uint8 or bool */
    PQ_T_S16 = 1u << 2,
    PQ_T_S32 = 1u << 3,
    PQ_T_S64 = 1u << 4,
    PQ_T_F32 = 1u << 5,
    PQ_T_F64 = 1u << 6,
    PQ_T_EDGE = (1u << 0) | (1u << 2),
    PQ_T_INTEGER = (1u << 5) - 1
};

enum {
    PQ_OPTIONAL = 1u << 0, /* None gives NULL without an exception */
    PQ_STRIDED = 1u << 1,  /* any strides; else C-contiguous */
    PQ_WRITABLE = 1u << 2
};

/* Checks that `object` is a native, aligned array of one of `types` and of `ndim` axes (-1: any).
 * False with an exception on failure; else *array is a new reference (NULL for an optional None).
 */
bool pq_take(const char *op, const char *name, PyObject *object, unsigned types, int ndim,
             unsigned flags, PyArrayObject **array);

/* The caller's `out` (checked: shape, dtype, writable; contiguous unless PQ_STRIDED), or a new
 * array where it is None. */
bool pq_take_output(const char *op, PyObject *out, int ndim, const npy_intp *dims, pq_dtype type,
                    unsigned flags, PyArrayObject **array);
PyArrayObject *pq_new_array(int ndim, const npy_intp *dims, pq_dtype type);

/* False with ValueError if the two share memory. `same_allowed`: an input that is the output,
 * byte for byte, is fine. `in` may be NULL. */
bool pq_check_overlap(const char *op, PyArrayObject *out, const char *name, PyArrayObject *in,
                      bool same_allowed);

/* False with ValueError unless the array has exactly `size` elements. `array` may be NULL. */
bool pq_check_size(const char *op, const char *name, PyArrayObject *array, npy_intp size);

/* channels and inner of the per-axis form "channel of element i is (i / inner) % channels";
 * both 1 for PQ_NO_AXIS. False with ValueError for an axis that the array does not have. */
bool pq_axis_layout(const char *op, PyArrayObject *array, long long axis, size_t *channels,
                    size_t *inner);

/* The pq_dtype of an array that pq_take accepted as an integer type. */
pq_dtype pq_array_type(PyArrayObject *array);
int pq_numpy_type(pq_dtype type);
const char *pq_dtype_text(pq_dtype type);

/* ---- scalars: "O&" converters that know the argument's name; 1, or 0 with an exception ---- */

typedef struct pq_int {
    const char *name;
    long long low, high; /* what the C type holds; the rule itself is the entry point's */
    long long value;
    bool none_keeps; /* None leaves the default */
} pq_int;

#define PQ_INT32(name, value) \
    { name, INT32_MIN, INT32_MAX, value, false }
#define PQ_UINT32(name) \
    { name, 0, UINT32_MAX, 0, false }
#define PQ_INT64(name, value) \
    { name, INT64_MIN, INT64_MAX, value, false }
#define PQ_SIZE(name, value) \
    { name, 0, PTRDIFF_MAX, value, false }
#define PQ_SHIFT(name, value) \
    { name, 0, UINT8_MAX, value, false }
#define PQ_THREADS \
    { "threads", 1, 4096, 0, true }
#define PQ_AXIS \
    { "axis", INT32_MIN, INT32_MAX, PQ_NO_AXIS, true }
#define PQ_NO_AXIS INT64_MAX

typedef struct pq_real {
    const char *name;
    double value;
} pq_real;

typedef struct pq_grid { /* (scale, zero_point, quant_min, quant_max) */
    const char *name;
    pq_affine affine;
} pq_grid;

int pq_to_int(PyObject *object, void *value);  /* pq_int * */
int pq_to_real(PyObject *object, void *value); /* pq_real * */
int pq_to_grid(PyObject *object, void *value); /* pq_grid * */
int pq_to_edge_type(PyObject *object,
                    void *type); /* pq_dtype *, from int8 / int16 in any spelling */
int pq_to_gemm_type(PyObject *object, void *type); /* the same, int32 too */

/* ---- packed weights (bind_gemm.c) ---- */

struct pq_gemm_weights;
/* A new GemmWeights that owns `packed`; where it fails, `packed` is freed. */
PyObject *pq_wrap_weights(const pq_state *state, struct pq_gemm_weights *packed, npy_intp n,
                          npy_intp k, pq_dtype y_type);

/* ---- the constants of a softmax (bind_softmax.c) ---- */

/* The table of a method, which `softmax` names: 32 entries of s16, copied, or exponentials of s32,
 * pointed at while `held` lives. What is in it, the core checks. */
bool pq_take_softmax_table(const char *op, PyObject *table, pq_softmax *softmax,
                           PyArrayObject **held);
/* The table as a program stores it; NULL with an exception. */
PyArrayObject *pq_new_softmax_table(const pq_softmax *softmax);

/* Numbers in a row of states (bind_metrics.c). */
#define PQ_METRICS_STATE 9

/* ---- parts; each adds its functions and types ---- */

extern PyMethodDef pq_gemm_methods[];
extern PyMethodDef pq_gemm_s8s4_methods[];
extern PyMethodDef pq_attention_methods[];
extern PyMethodDef pq_elementwise_methods[];
extern PyMethodDef pq_layernorm_methods[];
extern PyMethodDef pq_softmax_rows_methods[];
extern PyMethodDef pq_layout_methods[];
extern PyMethodDef pq_quantize_methods[];
extern PyMethodDef pq_levels_methods[];
extern PyMethodDef pq_observe_methods[];
extern PyMethodDef pq_metrics_methods[];
extern PyMethodDef pq_fake_methods[];
extern PyMethodDef pq_derive_methods[];
extern PyMethodDef pq_method_methods[];
extern PyMethodDef pq_unary_functions[];
extern PyMethodDef pq_system_methods[];
extern PyMethodDef pq_probe_methods[];
extern PyType_Spec pq_weights_spec;
extern PyType_Spec pq_program_spec;

#endif
