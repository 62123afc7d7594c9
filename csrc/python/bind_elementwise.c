/* table, requantize, add, mean. */
#include "binding.h"

#include "pyquant/elementwise.h"

static PyObject *table(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "table";
    static char *keywords[] = {"x", "table", "out", "threads", NULL};
    PyObject *x_object, *table_object, *out_object = NULL;
    PyArrayObject *x = NULL, *values = NULL, *y = NULL;
    bool done = false;
    pq_int threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OO&:table", keywords, &x_object,
                                     &table_object, &out_object, pq_to_int, &threads)) {
        return NULL;
    }
    if (!pq_take(op, "x", x_object, PQ_T_S8, -1, 0, &x) ||
        !pq_take(op, "table", table_object, PQ_T_S8, 1, 0, &values) ||
        !pq_check_size(op, "table", values, 256) ||
        !pq_take_output(op, out_object, PyArray_NDIM(x), PyArray_DIMS(x), PQ_S8, 0, &y) ||
        !pq_check_overlap(op, y, "x", x, true) ||
        !pq_check_overlap(op, y, "table", values, false)) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status = pq_table_s8(&call.exec, (size_t)PyArray_SIZE(x), PyArray_DATA(x),
                                         PyArray_DATA(values), PyArray_DATA(y));
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(x);
    Py_XDECREF(values);
    if (!done) {
        Py_CLEAR(y);
    }
    return (PyObject *)y;
}

static PyObject *requantize(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "requantize";
    static char *keywords[] = {"x",          "multiplier", "shift",     "x_zero_point",
                               "zero_point", "quant_min",  "quant_max", "dtype",
                               "out",        "threads",    NULL};
    PyObject *x_object, *out_object = NULL;
    PyArrayObject *x = NULL, *y = NULL;
    bool done = false;
    pq_dtype y_type = PQ_S8;
    pq_int multiplier = PQ_INT32("multiplier", 0), shift = PQ_SHIFT("shift", 0);
    pq_int x_zero_point = PQ_INT32("x_zero_point", 0), zero_point = PQ_INT32("zero_point", 0);
    pq_int quant_min = PQ_INT32("quant_min", -128), quant_max = PQ_INT32("quant_max", 127);
    pq_int threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO&O&|O&O&O&O&O&OO&:requantize", keywords,
                                     &x_object, pq_to_int, &multiplier, pq_to_int, &shift,
                                     pq_to_int, &x_zero_point, pq_to_int, &zero_point, pq_to_int,
                                     &quant_min, pq_to_int, &quant_max, pq_to_edge_type, &y_type,
                                     &out_object, pq_to_int, &threads)) {
        return NULL;
    }
    if (!pq_take(op, "x", x_object, PQ_T_EDGE, -1, 0, &x) ||
        !pq_take_output(op, out_object, PyArray_NDIM(x), PyArray_DIMS(x), y_type, 0, &y) ||
        !pq_check_overlap(op, y, "x", x, true)) {
        goto done;
    }
    const pq_requantize_args call_args = {
        .n = (size_t)PyArray_SIZE(x),
        .x_type = pq_array_type(x),
        .y_type = y_type,
        .x = PyArray_DATA(x),
        .y = PyArray_DATA(y),
        .x_zero_point = (int32_t)x_zero_point.value,
        .requant = {(int32_t)multiplier.value, (uint8_t)shift.value},
        .out = {(int32_t)zero_point.value, (int32_t)quant_min.value, (int32_t)quant_max.value},
    };
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status = pq_requantize_n(&call.exec, &call_args);
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(x);
    if (!done) {
        Py_CLEAR(y);
    }
    return (PyObject *)y;
}

/* b's shape is the end of a's: then b repeats with the period of its size. */
static bool check_suffix(const char *op, PyArrayObject *a, PyArrayObject *b) {
    const int skip = PyArray_NDIM(a) - PyArray_NDIM(b);
    bool good = skip >= 0;
    for (int axis = 0; good && axis < PyArray_NDIM(b); ++axis) {
        good = PyArray_DIM(b, axis) == PyArray_DIM(a, axis + skip);
    }
    if (!good) {
        PyErr_Format(PyExc_ValueError, "%s: expected b of the last axes of a, got other sizes", op);
    }
    return good;
}

static PyObject *add(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "add";
    static char *keywords[] = {"a",
                               "b",
                               "a_multiplier",
                               "b_multiplier",
                               "shift",
                               "a_zero_point",
                               "b_zero_point",
                               "zero_point",
                               "quant_min",
                               "quant_max",
                               "dtype",
                               "out",
                               "threads",
                               NULL};
    PyObject *a_object, *b_object, *out_object = NULL;
    PyArrayObject *a = NULL, *b = NULL, *y = NULL;
    bool done = false;
    pq_dtype y_type = PQ_S16;
    pq_int a_multiplier = PQ_INT32("a_multiplier", 0), b_multiplier = PQ_INT32("b_multiplier", 0);
    pq_int a_zero_point = PQ_INT32("a_zero_point", 0), b_zero_point = PQ_INT32("b_zero_point", 0);
    pq_int shift = PQ_INT32("shift", 0), zero_point = PQ_INT32("zero_point", 0);
    pq_int quant_min = PQ_INT32("quant_min", -32768), quant_max = PQ_INT32("quant_max", 32767);
    pq_int threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "OOO&O&O&|O&O&O&O&O&O&OO&:add", keywords, &a_object, &b_object, pq_to_int,
            &a_multiplier, pq_to_int, &b_multiplier, pq_to_int, &shift, pq_to_int, &a_zero_point,
            pq_to_int, &b_zero_point, pq_to_int, &zero_point, pq_to_int, &quant_min, pq_to_int,
            &quant_max, pq_to_edge_type, &y_type, &out_object, pq_to_int, &threads)) {
        return NULL;
    }
    if (!pq_take(op, "a", a_object, PQ_T_EDGE, -1, 0, &a) ||
        !pq_take(op, "b", b_object, PQ_T_EDGE, -1, 0, &b) || !check_suffix(op, a, b) ||
        !pq_take_output(op, out_object, PyArray_NDIM(a), PyArray_DIMS(a), y_type, 0, &y) ||
        !pq_check_overlap(op, y, "a", a, true) ||
        !pq_check_overlap(op, y, "b", b, PyArray_SIZE(a) == PyArray_SIZE(b))) {
        goto done;
    }
    const pq_add_args call_args = {
        .n = (size_t)PyArray_SIZE(a),
        .period = (size_t)PyArray_SIZE(b),
        .a_type = pq_array_type(a),
        .b_type = pq_array_type(b),
        .y_type = y_type,
        .a = PyArray_DATA(a),
        .b = PyArray_DATA(b),
        .y = PyArray_DATA(y),
        .a_zero_point = (int32_t)a_zero_point.value,
        .b_zero_point = (int32_t)b_zero_point.value,
        .a_multiplier = (int32_t)a_multiplier.value,
        .b_multiplier = (int32_t)b_multiplier.value,
        .shift = (int32_t)shift.value,
        .out = {(int32_t)zero_point.value, (int32_t)quant_min.value, (int32_t)quant_max.value},
    };
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status = pq_add(&call.exec, &call_args);
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(a);
    Py_XDECREF(b);
    if (!done) {
        Py_CLEAR(y);
    }
    return (PyObject *)y;
}

static PyObject *mean(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "mean";
    static char *keywords[] = {"x",          "multiplier", "shift",     "x_zero_point",
                               "zero_point", "quant_min",  "quant_max", "dtype",
                               "out",        "threads",    NULL};
    PyObject *x_object, *out_object = NULL;
    PyArrayObject *x = NULL, *y = NULL;
    bool done = false;
    pq_dtype y_type = PQ_S8;
    pq_int multiplier = PQ_INT32("multiplier", 0), shift = PQ_SHIFT("shift", 0);
    pq_int x_zero_point = PQ_INT32("x_zero_point", 0), zero_point = PQ_INT32("zero_point", 0);
    pq_int quant_min = PQ_INT32("quant_min", -128), quant_max = PQ_INT32("quant_max", 127);
    pq_int threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO&O&|O&O&O&O&O&OO&:mean", keywords, &x_object,
                                     pq_to_int, &multiplier, pq_to_int, &shift, pq_to_int,
                                     &x_zero_point, pq_to_int, &zero_point, pq_to_int, &quant_min,
                                     pq_to_int, &quant_max, pq_to_edge_type, &y_type, &out_object,
                                     pq_to_int, &threads)) {
        return NULL;
    }
    if (!pq_take(op, "x", x_object, PQ_T_EDGE, 3, 0, &x)) {
        goto done;
    }
    const npy_intp dims[2] = {PyArray_DIM(x, 0), PyArray_DIM(x, 2)};
    if (!pq_take_output(op, out_object, 2, dims, y_type, 0, &y) ||
        !pq_check_overlap(op, y, "x", x, false)) {
        goto done;
    }
    const pq_mean_args call_args = {
        .outer = (size_t)dims[0],
        .reduce = (size_t)PyArray_DIM(x, 1),
        .inner = (size_t)dims[1],
        .x_type = pq_array_type(x),
        .y_type = y_type,
        .x = PyArray_DATA(x),
        .y = PyArray_DATA(y),
        .x_zero_point = (int32_t)x_zero_point.value,
        .requant = {(int32_t)multiplier.value, (uint8_t)shift.value},
        .out = {(int32_t)zero_point.value, (int32_t)quant_min.value, (int32_t)quant_max.value},
    };
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status = pq_mean(&call.exec, &call_args);
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(x);
    if (!done) {
        Py_CLEAR(y);
    }
    return (PyObject *)y;
}

PyMethodDef pq_elementwise_methods[] = {
    PQ_KEYWORD_METHOD("table", table,
                      "table(x, table, out=None, threads=None)\n--\n\n"
                      "y = table[x + 128] for int8 x (elementwise.h)."),
    PQ_KEYWORD_METHOD("requantize", requantize,
                      "requantize(x, multiplier, shift, x_zero_point=0, zero_point=0, "
                      "quant_min=-128, quant_max=127, dtype='int8', out=None, threads=None)\n--\n\n"
                      "Rescale integers by a dyadic number (elementwise.h)."),
    PQ_KEYWORD_METHOD(
        "add", add,
        "add(a, b, a_multiplier, b_multiplier, shift, a_zero_point=0, b_zero_point=0, "
        "zero_point=0, quant_min=-32768, quant_max=32767, dtype='int16', out=None, "
        "threads=None)\n--\n\nResidual add with one rounding (elementwise.h)."),
    PQ_KEYWORD_METHOD("mean", mean,
                      "mean(x, multiplier, shift, x_zero_point=0, zero_point=0, quant_min=-128, "
                      "quant_max=127, dtype='int8', out=None, threads=None)\n--\n\n"
                      "Mean over the middle of three axes (elementwise.h)."),
    {NULL, NULL, 0, NULL},
};
