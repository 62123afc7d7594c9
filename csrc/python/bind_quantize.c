/* quantize, dequantize, fake_quantize. */
#include "binding.h"

#include "pyquant/quantize.h"

/* The grid arguments that the three share. */
typedef struct grid {
    PyArrayObject *scale;
    pq_int axis, zero_point, quant_min, quant_max, threads;
    pq_dtype type;
} grid;

#define GRID \
    { \
        NULL, PQ_AXIS, PQ_INT32("zero_point", 0), PQ_INT32("quant_min", -128), \
            PQ_INT32("quant_max", 127), PQ_THREADS, PQ_S8 \
    }

/* Fills `args` for an array of that shape; holds a reference to the scale. */
static bool read_grid(const char *op, PyArrayObject *x, PyObject *scale, grid *g,
                      pq_quantize_args *args) {
    size_t channels, inner;
    if (!pq_take(op, "scale", scale, PQ_T_F32, 1, 0, &g->scale) ||
        !pq_axis_layout(op, x, g->axis.value, &channels, &inner) ||
        !pq_check_size(op, "scale", g->scale, (npy_intp)channels)) {
        return false;
    }
    *args = (pq_quantize_args){
        .n = (size_t)PyArray_SIZE(x),
        .q_type = g->type,
        .scale = PyArray_DATA(g->scale),
        .channels = channels,
        .inner = inner,
        .zero_point = (int32_t)g->zero_point.value,
        .quant_min = (int32_t)g->quant_min.value,
        .quant_max = (int32_t)g->quant_max.value,
    };
    return true;
}

static bool take_float_output(const char *op, PyObject *out, PyArrayObject *like,
                              PyArrayObject **y) {
    if (out == NULL || out == Py_None) {
        *y =
            (PyArrayObject *)PyArray_SimpleNew(PyArray_NDIM(like), PyArray_DIMS(like), NPY_FLOAT32);
        return *y != NULL;
    }
    if (!pq_take(op, "out", out, PQ_T_F32, PyArray_NDIM(like), PQ_WRITABLE, y)) {
        return false;
    }
    if (!PyArray_SAMESHAPE(*y, like)) {
        PyErr_Format(PyExc_ValueError, "%s: expected out of the shape of the input, got another",
                     op);
        Py_CLEAR(*y);
        return false;
    }
    return true;
}

static PyObject *quantize(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "quantize";
    static char *keywords[] = {"x",    "scale", "zero_point", "quant_min", "quant_max",
                               "axis", "dtype", "out",        "threads",   NULL};
    PyObject *x_object, *scale, *out = NULL;
    PyArrayObject *x = NULL, *q = NULL;
    bool done = false;
    grid g = GRID;
    pq_quantize_args call_args;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O&O&O&O&O&OO&:quantize", keywords, &x_object,
                                     &scale, pq_to_int, &g.zero_point, pq_to_int, &g.quant_min,
                                     pq_to_int, &g.quant_max, pq_to_int, &g.axis, pq_to_edge_type,
                                     &g.type, &out, pq_to_int, &g.threads)) {
        return NULL;
    }
    if (!pq_take(op, "x", x_object, PQ_T_F32, -1, 0, &x) ||
        !read_grid(op, x, scale, &g, &call_args) ||
        !pq_take_output(op, out, PyArray_NDIM(x), PyArray_DIMS(x), g.type, 0, &q) ||
        !pq_check_overlap(op, q, "x", x, false) ||
        !pq_check_overlap(op, q, "scale", g.scale, false)) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), (int)g.threads.value);
    const pq_status status =
        pq_quantize_f32(&call.exec, &call_args, PyArray_DATA(x), PyArray_DATA(q));
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(x);
    Py_XDECREF(g.scale);
    if (!done) {
        Py_CLEAR(q);
    }
    return (PyObject *)q;
}

static PyObject *dequantize(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "dequantize";
    static char *keywords[] = {"q", "scale", "zero_point", "axis", "out", "threads", NULL};
    PyObject *q_object, *scale, *out = NULL;
    PyArrayObject *q = NULL, *x = NULL;
    bool done = false;
    grid g = GRID;
    pq_quantize_args call_args;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O&O&OO&:dequantize", keywords, &q_object,
                                     &scale, pq_to_int, &g.zero_point, pq_to_int, &g.axis, &out,
                                     pq_to_int, &g.threads)) {
        return NULL;
    }
    if (!pq_take(op, "q", q_object, PQ_T_EDGE, -1, 0, &q)) {
        goto done;
    }
    g.type = pq_array_type(q);
    g.quant_min.value = g.type == PQ_S8 ? INT8_MIN : INT16_MIN;
    g.quant_max.value = g.type == PQ_S8 ? INT8_MAX : INT16_MAX;
    if (!read_grid(op, q, scale, &g, &call_args) || !take_float_output(op, out, q, &x) ||
        !pq_check_overlap(op, x, "q", q, false) ||
        !pq_check_overlap(op, x, "scale", g.scale, false)) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), (int)g.threads.value);
    const pq_status status =
        pq_dequantize_f32(&call.exec, &call_args, PyArray_DATA(q), PyArray_DATA(x));
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(q);
    Py_XDECREF(g.scale);
    if (!done) {
        Py_CLEAR(x);
    }
    return (PyObject *)x;
}

static PyObject *fake_quantize(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "fake_quantize";
    static char *keywords[] = {"x",    "scale", "zero_point", "quant_min", "quant_max",
                               "axis", "out",   "threads",    NULL};
    PyObject *x_object, *scale, *out = NULL;
    PyArrayObject *x = NULL, *y = NULL;
    bool done = false;
    grid g = GRID;
    pq_quantize_args call_args;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O&O&O&O&OO&:fake_quantize", keywords,
                                     &x_object, &scale, pq_to_int, &g.zero_point, pq_to_int,
                                     &g.quant_min, pq_to_int, &g.quant_max, pq_to_int, &g.axis,
                                     &out, pq_to_int, &g.threads)) {
        return NULL;
    }
    g.type = g.quant_min.value >= INT8_MIN && g.quant_max.value <= INT8_MAX ? PQ_S8 : PQ_S16;
    if (!pq_take(op, "x", x_object, PQ_T_F32, -1, 0, &x) ||
        !read_grid(op, x, scale, &g, &call_args) || !take_float_output(op, out, x, &y) ||
        !pq_check_overlap(op, y, "x", x, true) ||
        !pq_check_overlap(op, y, "scale", g.scale, false)) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), (int)g.threads.value);
    const pq_status status =
        pq_fake_quantize_f32(&call.exec, &call_args, PyArray_DATA(x), PyArray_DATA(y));
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(x);
    Py_XDECREF(g.scale);
    if (!done) {
        Py_CLEAR(y);
    }
    return (PyObject *)y;
}

PyMethodDef pq_quantize_methods[] = {
    PQ_KEYWORD_METHOD(
        "quantize", quantize,
        "quantize(x, scale, zero_point=0, quant_min=-128, quant_max=127, axis=None, "
        "dtype='int8', out=None, threads=None)\n--\n\nfloat32 to a grid (quantize.h)."),
    PQ_KEYWORD_METHOD(
        "dequantize", dequantize,
        "dequantize(q, scale, zero_point=0, axis=None, out=None, threads=None)\n--\n\n"
        "A grid to float32 (quantize.h)."),
    PQ_KEYWORD_METHOD(
        "fake_quantize", fake_quantize,
        "fake_quantize(x, scale, zero_point=0, quant_min=-128, quant_max=127, axis=None, "
        "out=None, threads=None)\n--\n\n"
        "dequantize(quantize(x)) in one pass (quantize.h)."),
    {NULL, NULL, 0, NULL},
};
