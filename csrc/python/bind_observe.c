/* observe_minmax, observe_histogram, histogram_merge.
 *
 * The state lives in NumPy arrays that the caller owns and the functions update: minimum and
 * maximum float32 [channels]; counts int64 [HISTOGRAM_BINS] with meta float64 [4] =
 * (total, minimum, maximum, exponent). A failed call leaves the state as it was. */
#include "binding.h"

#include "pyquant/observe.h"

#include <math.h>
#include <string.h>

enum { META_TOTAL, META_MINIMUM, META_MAXIMUM, META_EXPONENT, META_SIZE };

static PyObject *observe_minmax(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "observe_minmax";
    static char *keywords[] = {"x", "minimum", "maximum", "axis", "threads", NULL};
    PyObject *x_object, *minimum_object, *maximum_object, *result = NULL;
    PyArrayObject *x = NULL, *minimum = NULL, *maximum = NULL;
    size_t channels, inner;
    pq_int axis = PQ_AXIS, threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|O&O&:observe_minmax", keywords, &x_object,
                                     &minimum_object, &maximum_object, pq_to_int, &axis, pq_to_int,
                                     &threads)) {
        return NULL;
    }
    if (!pq_take(op, "x", x_object, PQ_T_F32, -1, 0, &x) ||
        !pq_take(op, "minimum", minimum_object, PQ_T_F32, 1, PQ_WRITABLE, &minimum) ||
        !pq_take(op, "maximum", maximum_object, PQ_T_F32, 1, PQ_WRITABLE, &maximum) ||
        !pq_axis_layout(op, x, axis.value, &channels, &inner) ||
        !pq_check_size(op, "minimum", minimum, (npy_intp)channels) ||
        !pq_check_size(op, "maximum", maximum, (npy_intp)channels) ||
        !pq_check_overlap(op, minimum, "x", x, false) ||
        !pq_check_overlap(op, maximum, "x", x, false) ||
        !pq_check_overlap(op, minimum, "maximum", maximum, false)) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status =
        pq_observe_minmax(&call.exec, (size_t)PyArray_SIZE(x), channels, inner, PyArray_DATA(x),
                          PyArray_DATA(minimum), PyArray_DATA(maximum));
    if (pq_call_end(&call, status) == 0) {
        result = Py_NewRef(Py_None);
    }
done:
    Py_XDECREF(x);
    Py_XDECREF(minimum);
    Py_XDECREF(maximum);
    return result;
}

/* Reads a state out of its two arrays, refusing what no observation can have left there. */
static bool load_state(const char *op, PyArrayObject *counts, PyArrayObject *meta,
                       pq_histogram *histogram) {
    const double *values = PyArray_DATA(meta);
    const double total = values[META_TOTAL], exponent = values[META_EXPONENT];
    memcpy(histogram->counts, PyArray_DATA(counts), sizeof histogram->counts);
    int64_t left = INT64_C(1) << 53;
    bool good = total >= 0 && total <= (double)left && exponent == floor(exponent) &&
                ((exponent >= -149 && exponent <= 129) || exponent == (double)PQ_HISTOGRAM_EMPTY);
    for (int i = 0; good && i < PQ_HISTOGRAM_BINS; ++i) {
        good = histogram->counts[i] >= 0 && histogram->counts[i] <= left;
        left -= good ? histogram->counts[i] : 0;
    }
    if (!good) {
        PyErr_Format(
            PyExc_ValueError,
            "%s: expected counts and meta of a histogram (total, minimum, maximum, exponent), "
            "got other values",
            op);
        return false;
    }
    histogram->total = (int64_t)total;
    histogram->minimum = (float)values[META_MINIMUM];
    histogram->maximum = (float)values[META_MAXIMUM];
    histogram->exponent = (int32_t)exponent;
    return true;
}

static void store_state(const pq_histogram *histogram, PyArrayObject *counts, PyArrayObject *meta) {
    double *values = PyArray_DATA(meta);
    memcpy(PyArray_DATA(counts), histogram->counts, sizeof histogram->counts);
    values[META_TOTAL] = (double)histogram->total;
    values[META_MINIMUM] = (double)histogram->minimum;
    values[META_MAXIMUM] = (double)histogram->maximum;
    values[META_EXPONENT] = (double)histogram->exponent;
}

static bool take_state(const char *op, PyObject *counts_object, PyObject *meta_object,
                       unsigned flags, PyArrayObject **counts, PyArrayObject **meta) {
    return pq_take(op, "counts", counts_object, PQ_T_S64, 1, flags, counts) &&
           pq_check_size(op, "counts", *counts, PQ_HISTOGRAM_BINS) &&
           pq_take(op, "meta", meta_object, PQ_T_F64, 1, flags, meta) &&
           pq_check_size(op, "meta", *meta, META_SIZE);
}

static PyObject *observe_histogram(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "observe_histogram";
    static char *keywords[] = {"x", "counts", "meta", "threads", NULL};
    PyObject *x_object, *counts_object, *meta_object, *result = NULL;
    PyArrayObject *x = NULL, *counts = NULL, *meta = NULL;
    pq_histogram histogram;
    pq_int threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|O&:observe_histogram", keywords, &x_object,
                                     &counts_object, &meta_object, pq_to_int, &threads)) {
        return NULL;
    }
    if (!pq_take(op, "x", x_object, PQ_T_F32, -1, 0, &x) ||
        !take_state(op, counts_object, meta_object, PQ_WRITABLE, &counts, &meta) ||
        !load_state(op, counts, meta, &histogram)) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status =
        pq_observe_histogram(&call.exec, (size_t)PyArray_SIZE(x), PyArray_DATA(x), &histogram);
    if (pq_call_end(&call, status) == 0) {
        store_state(&histogram, counts, meta);
        result = Py_NewRef(Py_None);
    }
done:
    Py_XDECREF(x);
    Py_XDECREF(counts);
    Py_XDECREF(meta);
    return result;
}

static PyObject *histogram_merge(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "histogram_merge";
    static char *keywords[] = {"counts", "meta", "other_counts", "other_meta", NULL};
    PyObject *objects[4], *result = NULL;
    PyArrayObject *counts = NULL, *meta = NULL, *other_counts = NULL, *other_meta = NULL;
    pq_histogram into, from;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO:histogram_merge", keywords, &objects[0],
                                     &objects[1], &objects[2], &objects[3])) {
        return NULL;
    }
    if (!take_state(op, objects[0], objects[1], PQ_WRITABLE, &counts, &meta) ||
        !take_state(op, objects[2], objects[3], 0, &other_counts, &other_meta) ||
        !load_state(op, counts, meta, &into) || !load_state(op, other_counts, other_meta, &from)) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), 1);
    const pq_status status = pq_histogram_merge(&call.exec, &into, &from);
    if (pq_call_end(&call, status) == 0) {
        store_state(&into, counts, meta);
        result = Py_NewRef(Py_None);
    }
done:
    Py_XDECREF(counts);
    Py_XDECREF(meta);
    Py_XDECREF(other_counts);
    Py_XDECREF(other_meta);
    return result;
}

PyMethodDef pq_observe_methods[] = {
    PQ_KEYWORD_METHOD("observe_minmax", observe_minmax,
                      "observe_minmax(x, minimum, maximum, axis=None, threads=None)\n--\n\n"
                      "Merge the extremes of x into minimum and maximum, in place (observe.h)."),
    PQ_KEYWORD_METHOD("observe_histogram", observe_histogram,
                      "observe_histogram(x, counts, meta, threads=None)\n--\n\n"
                      "Count x into a histogram, in place (observe.h)."),
    PQ_KEYWORD_METHOD("histogram_merge", histogram_merge,
                      "histogram_merge(counts, meta, other_counts, other_meta)\n--\n\n"
                      "Add another histogram to this one, in place (observe.h)."),
    {NULL, NULL, 0, NULL},
};
