/* metrics_update, metrics_merge, metrics_kl.
 *
 * States live in a float64 array [groups, METRICS_STATE] that the caller owns: xx, yy, xy, dd,
 * largest, count, ratios, samples, exact (metrics.h). Counts are exact up to 2^53. A failed call
 * leaves them as they were. */
#include "binding.h"

#include "pyquant/metrics.h"

#include <math.h>

enum { XX, YY, XY, DD, LARGEST, COUNT, RATIOS, SAMPLES, EXACT, STATE_SIZE };
_Static_assert(STATE_SIZE == PQ_METRICS_STATE, "what Python is told");

static bool is_count(double value) {
    return value >= 0 && value <= 0x1p53 && value == floor(value);
}

static bool load_states(const char *op, PyArrayObject *array, pq_metrics_state *states) {
    const double *from = PyArray_DATA(array);
    for (npy_intp g = 0; g < PyArray_DIM(array, 0); ++g, from += STATE_SIZE) {
        if (!is_count(from[COUNT]) || !is_count(from[SAMPLES]) || !is_count(from[EXACT])) {
            PyErr_Format(PyExc_ValueError,
                         "%s: expected counts that are integers of at most 2^53, got others in "
                         "state %zd",
                         op, (Py_ssize_t)g);
            return false;
        }
        states[g] = (pq_metrics_state){.total = {.xx = from[XX],
                                                 .yy = from[YY],
                                                 .xy = from[XY],
                                                 .dd = from[DD],
                                                 .largest = from[LARGEST],
                                                 .count = (int64_t)from[COUNT]},
                                       .ratios = from[RATIOS],
                                       .samples = (int64_t)from[SAMPLES],
                                       .exact = (int64_t)from[EXACT]};
    }
    return true;
}

static void store_states(const pq_metrics_state *states, PyArrayObject *array) {
    double *to = PyArray_DATA(array);
    for (npy_intp g = 0; g < PyArray_DIM(array, 0); ++g, to += STATE_SIZE) {
        to[XX] = states[g].total.xx;
        to[YY] = states[g].total.yy;
        to[XY] = states[g].total.xy;
        to[DD] = states[g].total.dd;
        to[LARGEST] = states[g].total.largest;
        to[COUNT] = (double)states[g].total.count;
        to[RATIOS] = states[g].ratios;
        to[SAMPLES] = (double)states[g].samples;
        to[EXACT] = (double)states[g].exact;
    }
}

/* The array of states, and the same as a new block of structs, which the caller frees. */
static bool take_states(const char *op, const char *name, PyObject *object, unsigned flags,
                        PyArrayObject **array, pq_metrics_state **states) {
    if (!pq_take(op, name, object, PQ_T_F64, 2, flags, array)) {
        return false;
    }
    if (PyArray_DIM(*array, 1) != STATE_SIZE) {
        PyErr_Format(PyExc_ValueError, "%s: expected %s of shape (groups, %d), got (%zd, %zd)", op,
                     name, STATE_SIZE, (Py_ssize_t)PyArray_DIM(*array, 0),
                     (Py_ssize_t)PyArray_DIM(*array, 1));
        return false;
    }
    *states = PyMem_New(pq_metrics_state, (size_t)PyArray_DIM(*array, 0));
    if (*states == NULL) {
        PyErr_NoMemory();
        return false;
    }
    return load_states(op, *array, *states);
}

static PyObject *metrics_update(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "metrics_update";
    static char *keywords[] = {"x",      "y",     "states",     "samples", "pieces", "groups",
                               "length", "scale", "zero_point", "threads", NULL};
    PyObject *x_object, *y_object, *states_object, *result = NULL;
    PyArrayObject *x = NULL, *y = NULL, *array = NULL;
    pq_metrics_state *states = NULL;
    pq_int samples = PQ_SIZE("samples", 0), pieces = PQ_SIZE("pieces", 0);
    pq_int groups = PQ_SIZE("groups", 0), length = PQ_SIZE("length", 0);
    pq_int zero_point = PQ_INT32("zero_point", 0), threads = PQ_THREADS;
    pq_real scale = {"scale", 1.0};
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "OOOO&O&O&O&|O&O&O&:metrics_update", keywords, &x_object, &y_object,
            &states_object, pq_to_int, &samples, pq_to_int, &pieces, pq_to_int, &groups, pq_to_int,
            &length, pq_to_real, &scale, pq_to_int, &zero_point, pq_to_int, &threads)) {
        return NULL;
    }
    if (!pq_take(op, "x", x_object, PQ_T_F32, -1, 0, &x) ||
        !pq_take(op, "y", y_object, PQ_T_F32 | PQ_T_EDGE, -1, 0, &y) ||
        !take_states(op, "states", states_object, PQ_WRITABLE, &array, &states) ||
        !pq_check_overlap(op, array, "x", x, false) ||
        !pq_check_overlap(op, array, "y", y, false) ||
        !pq_check_size(op, "y", y, PyArray_SIZE(x))) {
        goto done;
    }
    const pq_metrics_shape shape = {(size_t)samples.value, (size_t)pieces.value,
                                    (size_t)groups.value, (size_t)length.value};
    size_t rows, row, size;
    if (!pq_mul_size(shape.samples, shape.groups, &rows) ||
        !pq_mul_size(shape.pieces, shape.length, &row) || !pq_mul_size(rows, row, &size) ||
        size != (size_t)PyArray_SIZE(x) || groups.value != (long long)PyArray_DIM(array, 0)) {
        PyErr_Format(PyExc_ValueError,
                     "%s: expected samples * pieces * groups * length = %zd and %zd groups, got "
                     "%lld, %lld, %lld, %lld",
                     op, (Py_ssize_t)PyArray_SIZE(x), (Py_ssize_t)PyArray_DIM(array, 0),
                     samples.value, pieces.value, groups.value, length.value);
        goto done;
    }
    pq_metrics_y operand = {.scale = (float)scale.value, .zero_point = (int32_t)zero_point.value};
    if (PyArray_DESCR(y)->kind == 'f') {
        operand.values = PyArray_DATA(y);
    } else {
        operand.integers = PyArray_DATA(y);
        operand.type = pq_array_type(y);
    }
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status =
        pq_metrics_update(&call.exec, &shape, PyArray_DATA(x), &operand, states);
    if (pq_call_end(&call, status) == 0) {
        store_states(states, array);
        result = Py_NewRef(Py_None);
    }
done:
    PyMem_Free(states);
    Py_XDECREF(x);
    Py_XDECREF(y);
    Py_XDECREF(array);
    return result;
}

static PyObject *metrics_merge(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "metrics_merge";
    static char *keywords[] = {"states", "other", NULL};
    PyObject *into_object, *from_object, *result = NULL;
    PyArrayObject *into_array = NULL, *from_array = NULL;
    pq_metrics_state *into = NULL, *from = NULL;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:metrics_merge", keywords, &into_object,
                                     &from_object)) {
        return NULL;
    }
    if (!take_states(op, "states", into_object, PQ_WRITABLE, &into_array, &into) ||
        !take_states(op, "other", from_object, 0, &from_array, &from) ||
        !pq_check_size(op, "other", from_array, PyArray_SIZE(into_array))) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), 1);
    const pq_status status =
        pq_metrics_merge(&call.exec, (size_t)PyArray_DIM(into_array, 0), into, from);
    if (pq_call_end(&call, status) == 0) {
        store_states(into, into_array);
        result = Py_NewRef(Py_None);
    }
done:
    PyMem_Free(into);
    PyMem_Free(from);
    Py_XDECREF(into_array);
    Py_XDECREF(from_array);
    return result;
}

static PyObject *metrics_kl(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "metrics_kl";
    static char *keywords[] = {"x", "y", "threads", NULL};
    PyObject *x_object, *y_object, *result = NULL;
    PyArrayObject *x = NULL, *y = NULL, *kl = NULL;
    pq_int threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O&:metrics_kl", keywords, &x_object,
                                     &y_object, pq_to_int, &threads)) {
        return NULL;
    }
    if (!pq_take(op, "x", x_object, PQ_T_F32, 2, 0, &x) ||
        !pq_take(op, "y", y_object, PQ_T_F32, 2, 0, &y)) {
        goto done;
    }
    if (!PyArray_SAMESHAPE(x, y)) {
        PyErr_Format(PyExc_ValueError, "%s: expected x and y of one shape", op);
        goto done;
    }
    kl = (PyArrayObject *)PyArray_SimpleNew(1, PyArray_DIMS(x), NPY_FLOAT64);
    if (kl == NULL) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status =
        pq_metrics_kl(&call.exec, (size_t)PyArray_DIM(x, 0), (size_t)PyArray_DIM(x, 1),
                      PyArray_DATA(x), PyArray_DATA(y), PyArray_DATA(kl));
    if (pq_call_end(&call, status) == 0) {
        result = Py_NewRef((PyObject *)kl);
    }
done:
    Py_XDECREF(x);
    Py_XDECREF(y);
    Py_XDECREF(kl);
    return result;
}

PyMethodDef pq_metrics_methods[] = {
    PQ_KEYWORD_METHOD("metrics_update", metrics_update,
                      "metrics_update(x, y, states, samples, pieces, groups, length, scale=1.0, "
                      "zero_point=0, threads=None)\n--\n\n"
                      "Add the errors of y against x to states, in place (metrics.h)."),
    PQ_KEYWORD_METHOD("metrics_merge", metrics_merge,
                      "metrics_merge(states, other)\n--\n\n"
                      "Add other states to these, in place (metrics.h)."),
    PQ_KEYWORD_METHOD("metrics_kl", metrics_kl,
                      "metrics_kl(x, y, threads=None)\n--\n\n"
                      "KL divergence of the softmax of each row, in nats (metrics.h)."),
    {NULL, NULL, 0, NULL},
};
