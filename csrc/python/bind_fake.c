/* fake_quantize_mask, fake_quantize_backward, fake_quantize_learned_backward (fake.h). */
#include "binding.h"

#include "pyquant/fake.h"

/* What the two ops on x share. */
typedef struct grids {
    PyArrayObject *scale, *zero_point;
    pq_int axis, quant_min, quant_max, threads;
} grids;

#define GRIDS \
    { NULL, NULL, PQ_AXIS, PQ_INT32("quant_min", -128), PQ_INT32("quant_max", 127), PQ_THREADS }

/* Fills `args` for an array of that shape; holds references to the arrays of the grids. */
static bool read_grids(const char *op, PyArrayObject *x, PyObject *scale, PyObject *zero_point,
                       grids *g, pq_fake_args *args) {
    size_t channels, inner;
    if (!pq_take(op, "scale", scale, PQ_T_F32, 1, 0, &g->scale) ||
        !pq_take(op, "zero_point", zero_point, PQ_T_S32, 1, 0, &g->zero_point) ||
        !pq_axis_layout(op, x, g->axis.value, &channels, &inner) ||
        !pq_check_size(op, "scale", g->scale, (npy_intp)channels)) {
        return false;
    }
    const size_t n = (size_t)PyArray_SIZE(x);
    *args = (pq_fake_args){.n = n,
                           .channels = channels,
                           .inner = n == 0 ? 1 : inner, /* without elements any shape is good */
                           .scale = PyArray_DATA(g->scale),
                           .zero_point = PyArray_DATA(g->zero_point),
                           .zero_points = (size_t)PyArray_SIZE(g->zero_point),
                           .quant_min = (int32_t)g->quant_min.value,
                           .quant_max = (int32_t)g->quant_max.value};
    return true;
}

static PyArrayObject *new_like(PyArrayObject *x) {
    return (PyArrayObject *)PyArray_SimpleNew(PyArray_NDIM(x), PyArray_DIMS(x), NPY_FLOAT32);
}

static PyArrayObject *new_vector(npy_intp n, int type) {
    return (PyArrayObject *)PyArray_SimpleNew(1, &n, type);
}

static PyObject *fake_quantize_mask(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "fake_quantize";
    static char *keywords[] = {"x",         "scale", "zero_point", "quant_min",
                               "quant_max", "axis",  "threads",    NULL};
    PyObject *x_object, *scale, *zero_point, *result = NULL;
    PyArrayObject *x = NULL, *y = NULL, *mask = NULL;
    grids g = GRIDS;
    pq_fake_args call_args;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|O&O&O&O&:fake_quantize_mask", keywords,
                                     &x_object, &scale, &zero_point, pq_to_int, &g.quant_min,
                                     pq_to_int, &g.quant_max, pq_to_int, &g.axis, pq_to_int,
                                     &g.threads)) {
        return NULL;
    }
    if (!pq_take(op, "x", x_object, PQ_T_F32, -1, 0, &x) ||
        !read_grids(op, x, scale, zero_point, &g, &call_args) || (y = new_like(x)) == NULL ||
        (mask = new_vector((PyArray_SIZE(x) + 7) / 8, NPY_UINT8)) == NULL) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), (int)g.threads.value);
    const pq_status status = pq_fake_forward(&call.exec, &call_args, PyArray_DATA(x),
                                             PyArray_DATA(y), PyArray_DATA(mask));
    if (pq_call_end(&call, status) == 0) {
        result = PyTuple_Pack(2, (PyObject *)y, (PyObject *)mask);
    }
done:
    Py_XDECREF(x);
    Py_XDECREF(y);
    Py_XDECREF(mask);
    Py_XDECREF(g.scale);
    Py_XDECREF(g.zero_point);
    return result;
}

static PyObject *fake_quantize_backward(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "fake_quantize_backward";
    static char *keywords[] = {"g", "mask", "threads", NULL};
    PyObject *g_object, *mask_object;
    PyArrayObject *g = NULL, *mask = NULL, *dx = NULL;
    pq_int threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O&:fake_quantize_backward", keywords,
                                     &g_object, &mask_object, pq_to_int, &threads)) {
        return NULL;
    }
    if (!pq_take(op, "g", g_object, PQ_T_F32, -1, 0, &g) ||
        !pq_take(op, "mask", mask_object, PQ_T_U8, 1, 0, &mask) ||
        !pq_check_size(op, "mask", mask, (PyArray_SIZE(g) + 7) / 8) || (dx = new_like(g)) == NULL) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status = pq_fake_backward(&call.exec, (size_t)PyArray_SIZE(g), PyArray_DATA(g),
                                              PyArray_DATA(mask), PyArray_DATA(dx));
    if (pq_call_end(&call, status) != 0) {
        Py_CLEAR(dx);
    }
done:
    Py_XDECREF(g);
    Py_XDECREF(mask);
    return (PyObject *)dx;
}

static PyObject *fake_quantize_learned_backward(PyObject *module, PyObject *args,
                                                PyObject *kwargs) {
    static const char op[] = "fake_quantize_learned_backward";
    static char *keywords[] = {"x",         "g",    "scale",   "zero_point", "quant_min",
                               "quant_max", "axis", "threads", NULL};
    PyObject *x_object, *g_object, *scale, *zero_point, *result = NULL;
    PyArrayObject *x = NULL, *gradient = NULL, *dx = NULL, *ds = NULL, *dz = NULL;
    grids g = GRIDS;
    pq_fake_args call_args;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO|O&O&O&O&:fake_quantize_learned_backward",
                                     keywords, &x_object, &g_object, &scale, &zero_point, pq_to_int,
                                     &g.quant_min, pq_to_int, &g.quant_max, pq_to_int, &g.axis,
                                     pq_to_int, &g.threads)) {
        return NULL;
    }
    if (!pq_take(op, "x", x_object, PQ_T_F32, -1, 0, &x) ||
        !pq_take(op, "g", g_object, PQ_T_F32, PyArray_NDIM(x), 0, &gradient) ||
        !read_grids(op, x, scale, zero_point, &g, &call_args)) {
        goto done;
    }
    if (!PyArray_SAMESHAPE(gradient, x)) {
        PyErr_Format(PyExc_ValueError, "%s: expected g of the shape of x, got another", op);
        goto done;
    }
    const npy_intp channels = PyArray_SIZE(g.scale);
    if ((dx = new_like(x)) == NULL || (ds = new_vector(channels, NPY_FLOAT64)) == NULL ||
        (dz = new_vector(channels, NPY_FLOAT64)) == NULL) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), (int)g.threads.value);
    const pq_status status =
        pq_fake_learned_backward(&call.exec, &call_args, PyArray_DATA(x), PyArray_DATA(gradient),
                                 PyArray_DATA(dx), PyArray_DATA(ds), PyArray_DATA(dz));
    if (pq_call_end(&call, status) == 0) {
        result = PyTuple_Pack(3, (PyObject *)dx, (PyObject *)ds, (PyObject *)dz);
    }
done:
    Py_XDECREF(x);
    Py_XDECREF(gradient);
    Py_XDECREF(dx);
    Py_XDECREF(ds);
    Py_XDECREF(dz);
    Py_XDECREF(g.scale);
    Py_XDECREF(g.zero_point);
    return result;
}

PyMethodDef pq_fake_methods[] = {
    PQ_KEYWORD_METHOD("fake_quantize_mask", fake_quantize_mask,
                      "fake_quantize_mask(x, scale, zero_point, quant_min=-128, quant_max=127, "
                      "axis=None, threads=None)\n--\n\n"
                      "Fake-quantized x, and a bit for each element inside (fake.h)."),
    PQ_KEYWORD_METHOD("fake_quantize_backward", fake_quantize_backward,
                      "fake_quantize_backward(g, mask, threads=None)\n--\n\n"
                      "g where the bit is set, else 0 (fake.h)."),
    PQ_KEYWORD_METHOD("fake_quantize_learned_backward", fake_quantize_learned_backward,
                      "fake_quantize_learned_backward(x, g, scale, zero_point, quant_min=-128, "
                      "quant_max=127, axis=None, threads=None)\n--\n\n"
                      "Gradients of x, scale and zero point (fake.h)."),
    {NULL, NULL, 0, NULL},
};
