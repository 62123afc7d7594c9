/* layernorm. */
#include "binding.h"

#include "pyquant/layernorm.h"

static PyObject *layernorm(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "layernorm";
    static char *keywords[] = {"x",     "gain",         "offset",     "epsilon",   "shift",
                               "rms",   "x_zero_point", "zero_point", "quant_min", "quant_max",
                               "dtype", "out",          "threads",    NULL};
    PyObject *x_object, *gain_object, *offset_object, *out_object = NULL;
    PyArrayObject *x = NULL, *gain = NULL, *offset = NULL, *y = NULL;
    bool done = false;
    int rms = 0;
    pq_dtype y_type = PQ_S8;
    pq_int epsilon = {"epsilon", 0, INT64_MAX, 0, false}, shift = PQ_INT32("shift", 1);
    pq_int x_zero_point = PQ_INT32("x_zero_point", 0), zero_point = PQ_INT32("zero_point", 0);
    pq_int quant_min = PQ_INT32("quant_min", -128), quant_max = PQ_INT32("quant_max", 127);
    pq_int threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO&O&|pO&O&O&O&O&OO&:layernorm", keywords,
                                     &x_object, &gain_object, &offset_object, pq_to_int, &epsilon,
                                     pq_to_int, &shift, &rms, pq_to_int, &x_zero_point, pq_to_int,
                                     &zero_point, pq_to_int, &quant_min, pq_to_int, &quant_max,
                                     pq_to_edge_type, &y_type, &out_object, pq_to_int, &threads)) {
        return NULL;
    }
    if (!pq_take(op, "x", x_object, PQ_T_EDGE, -1, 0, &x) ||
        !pq_take(op, "gain", gain_object, PQ_T_S32, 1, 0, &gain) ||
        !pq_take(op, "offset", offset_object, PQ_T_S64, 1, 0, &offset)) {
        goto done;
    }
    const int ndim = PyArray_NDIM(x);
    if (ndim < 1) {
        PyErr_Format(PyExc_ValueError, "%s: expected x of at least 1 axis, got 0", op);
        goto done;
    }
    const npy_intp channels = PyArray_DIM(x, ndim - 1);
    if (!pq_check_size(op, "gain", gain, channels) ||
        !pq_check_size(op, "offset", offset, channels) ||
        !pq_take_output(op, out_object, ndim, PyArray_DIMS(x), y_type, 0, &y) ||
        !pq_check_overlap(op, y, "x", x, true) || !pq_check_overlap(op, y, "gain", gain, false) ||
        !pq_check_overlap(op, y, "offset", offset, false)) {
        goto done;
    }
    const pq_layernorm_args call_args = {
        .rows = channels > 0 ? (size_t)(PyArray_SIZE(x) / channels) : 0,
        .channels = (size_t)channels,
        .x_type = pq_array_type(x),
        .y_type = y_type,
        .x = PyArray_DATA(x),
        .y = PyArray_DATA(y),
        .rms = rms != 0,
        .x_zero_point = (int32_t)x_zero_point.value,
        .epsilon = (uint64_t)epsilon.value,
        .gain = PyArray_DATA(gain),
        .offset = PyArray_DATA(offset),
        .shift = (int32_t)shift.value,
        .out = {(int32_t)zero_point.value, (int32_t)quant_min.value, (int32_t)quant_max.value},
    };
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status = pq_layernorm(&call.exec, &call_args);
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(x);
    Py_XDECREF(gain);
    Py_XDECREF(offset);
    if (!done) {
        Py_CLEAR(y);
    }
    return (PyObject *)y;
}

PyMethodDef pq_layernorm_methods[] = {
    PQ_KEYWORD_METHOD("layernorm", layernorm,
                      "layernorm(x, gain, offset, epsilon, shift, rms=False, x_zero_point=0, "
                      "zero_point=0, quant_min=-128, quant_max=127, dtype='int8', out=None, "
                      "threads=None)\n--\n\nNormalise over the last axis (layernorm.h)."),
    {NULL, NULL, 0, NULL},
};
