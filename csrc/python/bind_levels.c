/* levels: values or codes. */
#include "binding.h"

#include "pyquant/levels.h"

static PyObject *levels(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "levels";
    static char *keywords[] = {"x",    "scale", "levels",  "thresholds",
                               "axis", "codes", "threads", NULL};
    PyObject *x_object, *scale_object, *levels_object, *thresholds_object;
    PyArrayObject *x = NULL, *scale = NULL, *table = NULL, *thresholds = NULL, *y = NULL;
    size_t channels, inner;
    pq_int axis = PQ_AXIS, threads = PQ_THREADS;
    int codes = 0;
    bool done = false;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO|O&pO&:levels", keywords, &x_object,
                                     &scale_object, &levels_object, &thresholds_object, pq_to_int,
                                     &axis, &codes, pq_to_int, &threads)) {
        return NULL;
    }
    if (!pq_take(op, "x", x_object, PQ_T_F32, -1, 0, &x) ||
        !pq_take(op, "scale", scale_object, PQ_T_F32, 1, 0, &scale) ||
        !pq_take(op, "levels", levels_object, PQ_T_F32, 1, 0, &table) ||
        !pq_take(op, "thresholds", thresholds_object, PQ_T_F32, 1, 0, &thresholds) ||
        !pq_axis_layout(op, x, axis.value, &channels, &inner) ||
        !pq_check_size(op, "scale", scale, (npy_intp)channels) ||
        !pq_check_size(op, "thresholds", thresholds,
                       PyArray_SIZE(table) > 0 ? PyArray_SIZE(table) - 1 : 0)) {
        goto done;
    }
    y = (PyArrayObject *)PyArray_SimpleNew(PyArray_NDIM(x), PyArray_DIMS(x),
                                           codes ? NPY_UINT8 : NPY_FLOAT32);
    if (y == NULL) {
        goto done;
    }
    const pq_levels_args call_args = {.op = op,
                                      .n = (size_t)PyArray_SIZE(x),
                                      .scale = PyArray_DATA(scale),
                                      .channels = channels,
                                      .inner = inner,
                                      .levels = PyArray_DATA(table),
                                      .thresholds = PyArray_DATA(thresholds),
                                      .count = (size_t)PyArray_SIZE(table)};
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status =
        codes ? pq_levels_codes(&call.exec, &call_args, PyArray_DATA(x), PyArray_DATA(y))
              : pq_levels_values(&call.exec, &call_args, PyArray_DATA(x), PyArray_DATA(y), NULL);
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(x);
    Py_XDECREF(scale);
    Py_XDECREF(table);
    Py_XDECREF(thresholds);
    if (!done) {
        Py_CLEAR(y);
    }
    return (PyObject *)y;
}

PyMethodDef pq_levels_methods[] = {
    PQ_KEYWORD_METHOD(
        "levels", levels,
        "levels(x, scale, levels, thresholds, axis=None, codes=False, threads=None)\n--\n\n"
        "float32 onto a codebook, as values or as uint8 codes (levels.h)."),
    {NULL, NULL, 0, NULL},
};
