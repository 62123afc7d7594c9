/* layernorm, and the constants of its methods. */
#include "binding.h"

#include "pyquant/derive.h"
#include "pyquant/layernorm.h"

static PyObject *layernorm(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "layernorm";
    static char *keywords[] = {"x",         "gain",           "offset",    "epsilon",
                               "shift",     "rms",            "x_zero_point", "zero_point",
                               "quant_min", "quant_max",      "dtype",     "out",
                               "threads",   "method",         "iterations", "alpha",
                               "exponent",  "ptf_multiplier", "ptf_shift", "ptf_zero_point",
                               NULL};
    PyObject *x_object, *gain_object, *offset_object, *out_object = NULL;
    PyObject *alpha_object = Py_None, *exponent_object = Py_None;
    PyArrayObject *x = NULL, *gain = NULL, *offset = NULL, *alpha = NULL, *exponent = NULL,
                  *y = NULL;
    bool done = false;
    int rms = 0;
    pq_dtype y_type = PQ_S8;
    pq_int epsilon = {"epsilon", 0, INT64_MAX, 0, false}, shift = PQ_INT32("shift", 1);
    pq_int x_zero_point = PQ_INT32("x_zero_point", 0), zero_point = PQ_INT32("zero_point", 0);
    pq_int quant_min = PQ_INT32("quant_min", -128), quant_max = PQ_INT32("quant_max", 127);
    pq_int threads = PQ_THREADS, method = PQ_INT32("method", 0);
    pq_int iterations = PQ_INT32("iterations", 0), ptf_multiplier = PQ_INT32("ptf_multiplier", 0);
    pq_int ptf_shift = {"ptf_shift", 0, UINT8_MAX, 0, false};
    pq_int ptf_zero_point = PQ_INT32("ptf_zero_point", 0);
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "OOOO&O&|pO&O&O&O&O&OO&O&O&OOO&O&O&:layernorm", keywords, &x_object,
            &gain_object, &offset_object, pq_to_int, &epsilon, pq_to_int, &shift, &rms, pq_to_int,
            &x_zero_point, pq_to_int, &zero_point, pq_to_int, &quant_min, pq_to_int, &quant_max,
            pq_to_edge_type, &y_type, &out_object, pq_to_int, &threads, pq_to_int, &method,
            pq_to_int, &iterations, &alpha_object, &exponent_object, pq_to_int, &ptf_multiplier,
            pq_to_int, &ptf_shift, pq_to_int, &ptf_zero_point)) {
        return NULL;
    }
    if (!pq_take(op, "x", x_object, PQ_T_EDGE, -1, 0, &x) ||
        !pq_take(op, "gain", gain_object, PQ_T_S32, 1, 0, &gain) ||
        !pq_take(op, "offset", offset_object, PQ_T_S64, 1, 0, &offset) ||
        !pq_take(op, "alpha", alpha_object, PQ_T_U8, 1, PQ_OPTIONAL, &alpha) ||
        !pq_take(op, "exponent", exponent_object, PQ_T_U8, 1, PQ_OPTIONAL, &exponent)) {
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
        !pq_check_size(op, "alpha", alpha, channels) ||
        !pq_check_size(op, "exponent", exponent, channels) ||
        !pq_take_output(op, out_object, ndim, PyArray_DIMS(x), y_type, 0, &y) ||
        !pq_check_overlap(op, y, "x", x, true) || !pq_check_overlap(op, y, "gain", gain, false) ||
        !pq_check_overlap(op, y, "offset", offset, false) ||
        !pq_check_overlap(op, y, "alpha", alpha, false) ||
        !pq_check_overlap(op, y, "exponent", exponent, false)) {
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
        .method = (pq_norm_method)method.value,
        .iterations = (int32_t)iterations.value,
        .alpha = alpha != NULL ? PyArray_DATA(alpha) : NULL,
        .exponent = exponent != NULL ? PyArray_DATA(exponent) : NULL,
        .requant = {(int32_t)ptf_multiplier.value, (uint8_t)ptf_shift.value},
        .zero_point = (int32_t)ptf_zero_point.value,
    };
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status = pq_layernorm(&call.exec, &call_args);
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(x);
    Py_XDECREF(gain);
    Py_XDECREF(offset);
    Py_XDECREF(alpha);
    Py_XDECREF(exponent);
    if (!done) {
        Py_CLEAR(y);
    }
    return (PyObject *)y;
}

/* An array of the result, or None in its place. */
static PyObject *or_none(PyArrayObject *array, bool there) {
    return there ? (PyObject *)array : Py_None;
}

static PyObject *derive_norm(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "derive_layernorm";
    static char *keywords[] = {"method",  "channels", "gamma",   "beta", "epsilon",
                               "x_scale", "y_scale",  "x_range", NULL};
    const char *text;
    PyObject *gamma_object, *beta_object, *range_object, *result = NULL;
    PyArrayObject *gamma = NULL, *beta = NULL, *range = NULL, *gain = NULL, *offset = NULL;
    PyArrayObject *alpha = NULL, *exponent = NULL;
    pq_int channels = PQ_SIZE("channels", 0);
    pq_real epsilon = {"epsilon", 0.0}, x_scale = {"x_scale", 0.0}, y_scale = {"y_scale", 0.0};
    pq_method method;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sO&OOO&O&O&O:derive_norm", keywords, &text,
                                     pq_to_int, &channels, &gamma_object, &beta_object, pq_to_real,
                                     &epsilon, pq_to_real, &x_scale, pq_to_real, &y_scale,
                                     &range_object)) {
        return NULL;
    }
    const npy_intp size = (npy_intp)channels.value;
    if (size > INT16_MAX) { /* the rule of layernorm.h; here it also bounds the allocation */
        PyErr_Format(PyExc_ValueError, "%s: expected 1 <= channels <= 32767, got %zd", op,
                     (Py_ssize_t)size);
        return NULL;
    }
    if (!pq_take(op, "gamma", gamma_object, PQ_T_F32, 1, PQ_OPTIONAL, &gamma) ||
        !pq_check_size(op, "gamma", gamma, size) ||
        !pq_take(op, "beta", beta_object, PQ_T_F32, 1, PQ_OPTIONAL, &beta) ||
        !pq_check_size(op, "beta", beta, size) ||
        !pq_take(op, "x_range", range_object, PQ_T_F32, 2, PQ_OPTIONAL, &range) ||
        !pq_check_size(op, "x_range", range, 2 * size)) {
        goto done;
    }
    gain = pq_new_array(1, &size, PQ_S32);
    offset = pq_new_array(1, &size, PQ_S64);
    alpha = pq_new_array(1, &size, PQ_U8);
    exponent = pq_new_array(1, &size, PQ_U8);
    if (gain == NULL || offset == NULL || alpha == NULL || exponent == NULL) {
        goto done;
    }
    pq_norm_constants constants = {.gain = PyArray_DATA(gain),
                                   .offset = PyArray_DATA(offset),
                                   .alpha = PyArray_DATA(alpha),
                                   .exponent = PyArray_DATA(exponent)};
    pq_call_begin(&call, pq_state_of(module), 1);
    pq_status status = pq_method_parse(&call.exec, PQ_METHOD_NORM, text, &method);
    if (status == PQ_OK) {
        status = pq_derive_norm(&call.exec, &method, (size_t)size,
                                gamma != NULL ? PyArray_DATA(gamma) : NULL,
                                beta != NULL ? PyArray_DATA(beta) : NULL, epsilon.value,
                                (float)x_scale.value, (float)y_scale.value,
                                range != NULL ? PyArray_DATA(range) : NULL, &constants);
    }
    if (pq_call_end(&call, status) == 0) {
        const bool ptf = constants.method == PQ_NORM_PTF;
        result = Py_BuildValue(
            "KOOiiiOOiii", (unsigned long long)constants.epsilon, (PyObject *)gain,
            (PyObject *)offset, (int)constants.shift, (int)constants.method,
            (int)constants.iterations, or_none(alpha, ptf), or_none(exponent, ptf),
            (int)constants.requant.multiplier, (int)constants.requant.shift,
            (int)constants.zero_point);
    }
done:
    Py_XDECREF(gamma);
    Py_XDECREF(beta);
    Py_XDECREF(range);
    Py_XDECREF(gain);
    Py_XDECREF(offset);
    Py_XDECREF(alpha);
    Py_XDECREF(exponent);
    return result;
}

PyMethodDef pq_layernorm_methods[] = {
    PQ_KEYWORD_METHOD("layernorm", layernorm,
                      "layernorm(x, gain, offset, epsilon, shift, rms=False, x_zero_point=0, "
                      "zero_point=0, quant_min=-128, quant_max=127, dtype='int8', out=None, "
                      "threads=None, method=0, iterations=0, alpha=None, exponent=None, "
                      "ptf_multiplier=0, ptf_shift=0, ptf_zero_point=0)\n--\n\nNormalise over "
                      "the last axis (layernorm.h)."),
    PQ_KEYWORD_METHOD("derive_norm", derive_norm,
                      "derive_norm(method, channels, gamma, beta, epsilon, x_scale, y_scale, "
                      "x_range)\n--\n\n(epsilon, gain, offset, shift, method, iterations, alpha, "
                      "exponent, ptf_multiplier, ptf_shift, ptf_zero_point)."),
    {NULL, NULL, 0, NULL},
};
