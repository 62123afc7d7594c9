/* Weights of four bits: packing for gemm, and their derivation. */
#include "binding.h"

#include "pyquant/derive.h"
#include "pyquant/gemm_s8s4.h"

/* group_multiplier is absent, or holds n rows; how many, the entry points say. */
static bool take_multipliers(const char *op, PyObject *object, npy_intp n, npy_intp k,
                             long long group_size, PyArrayObject **array) {
    if (!pq_take(op, "group_multiplier", object, PQ_T_U8, 2, PQ_OPTIONAL, array)) {
        return false;
    }
    const size_t groups = group_size > 0 ? pq_s4_groups((size_t)k, (size_t)group_size) : 0;
    return pq_check_size(op, "group_multiplier", *array, n * (npy_intp)groups);
}

static void *data_or_null(PyArrayObject *array) {
    return array != NULL ? PyArray_DATA(array) : NULL;
}

static PyObject *pack_gemm_s8s4(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "gemm_s8s4";
    static char *keywords[] = {"w",
                               "k",
                               "bias",
                               "multiplier",
                               "shift",
                               "group_size",
                               "group_multiplier",
                               "x_zero_point",
                               "zero_point",
                               "quant_min",
                               "quant_max",
                               "dtype",
                               NULL};
    PyObject *w_object, *bias_object = NULL, *multiplier_object = NULL, *shift_object = NULL;
    PyObject *factor_object = NULL, *result = NULL;
    PyArrayObject *w = NULL, *bias = NULL, *multiplier = NULL, *shift = NULL, *factor = NULL;
    pq_int k = PQ_SIZE("k", 0), group_size = PQ_SIZE("group_size", 0);
    pq_int x_zero_point = PQ_INT32("x_zero_point", 0), zero_point = PQ_INT32("zero_point", 0);
    pq_int quant_min = PQ_INT32("quant_min", -128), quant_max = PQ_INT32("quant_max", 127);
    pq_dtype y_type = PQ_S8;
    pq_gemm_weights *packed = NULL;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO&|OOOO&OO&O&O&O&O&:pack_gemm_s8s4", keywords,
                                     &w_object, pq_to_int, &k, &bias_object, &multiplier_object,
                                     &shift_object, pq_to_int, &group_size, &factor_object,
                                     pq_to_int, &x_zero_point, pq_to_int, &zero_point, pq_to_int,
                                     &quant_min, pq_to_int, &quant_max, pq_to_gemm_type, &y_type)) {
        return NULL;
    }
    const unsigned requant = y_type == PQ_S32 ? PQ_OPTIONAL : 0;
    if (!pq_take(op, "w", w_object, PQ_T_U8, 2, 0, &w) ||
        !pq_take(op, "bias", bias_object, PQ_T_S32, 1, PQ_OPTIONAL, &bias) ||
        !pq_take(op, "multiplier", multiplier_object, PQ_T_S32, 1, requant, &multiplier) ||
        !pq_take(op, "shift", shift_object, PQ_T_U8, 1, requant, &shift)) {
        goto done;
    }
    const npy_intp n = PyArray_DIM(w, 0);
    if ((size_t)PyArray_DIM(w, 1) != pq_s4_row_size((size_t)k.value)) {
        PyErr_Format(PyExc_ValueError, "%s: expected w of %zu bytes a row for k = %lld, got %zd",
                     op, pq_s4_row_size((size_t)k.value), k.value, (Py_ssize_t)PyArray_DIM(w, 1));
        goto done;
    }
    if (!pq_check_size(op, "bias", bias, n) || !pq_check_size(op, "multiplier", multiplier, n) ||
        !pq_check_size(op, "shift", shift, n) ||
        !take_multipliers(op, factor_object, n, (npy_intp)k.value, group_size.value, &factor)) {
        goto done;
    }
    const pq_gemm_s8s4_pack_args pack = {
        .n = (size_t)n,
        .k = (size_t)k.value,
        .w = PyArray_DATA(w),
        .group_size = (size_t)group_size.value,
        .group_multiplier = data_or_null(factor),
        .bias = data_or_null(bias),
        .multiplier = data_or_null(multiplier),
        .shift = data_or_null(shift),
        .x_zero_point = (int32_t)x_zero_point.value,
        .y_type = y_type,
        .out = {(int32_t)zero_point.value, (int32_t)quant_min.value, (int32_t)quant_max.value},
    };
    const pq_state *state = pq_state_of(module);
    pq_call_begin(&call, state, 1);
    const pq_status status = pq_gemm_s8s4_pack(&call.exec, &pack, &packed);
    if (pq_call_end(&call, status) == 0) {
        result = pq_wrap_weights(state, packed, n, (npy_intp)k.value, y_type);
    }
done:
    Py_XDECREF(w);
    Py_XDECREF(bias);
    Py_XDECREF(multiplier);
    Py_XDECREF(shift);
    Py_XDECREF(factor);
    return result;
}

static PyObject *derive_group_scale(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "derive_group_scale";
    static char *keywords[] = {"w", "bias", "x_scale", "group_size", "bits", "wanted", NULL};
    PyObject *w_object, *bias_object, *wanted_object = NULL, *result = NULL;
    PyArrayObject *w = NULL, *bias = NULL, *wanted = NULL, *w_scale = NULL, *factor = NULL;
    pq_real x_scale = {"x_scale", 0.0};
    pq_int group_size = PQ_SIZE("group_size", 0), bits = PQ_INT32("bits", 4);
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO&O&|O&O:derive_group_scale", keywords,
                                     &w_object, &bias_object, pq_to_real, &x_scale, pq_to_int,
                                     &group_size, pq_to_int, &bits, &wanted_object)) {
        return NULL;
    }
    if (!pq_take(op, "w", w_object, PQ_T_F32, 2, 0, &w) ||
        !pq_take(op, "bias", bias_object, PQ_T_F32, 1, PQ_OPTIONAL, &bias) ||
        !pq_take(op, "wanted", wanted_object, PQ_T_F32, 2, PQ_OPTIONAL, &wanted)) {
        goto done;
    }
    const npy_intp n = PyArray_DIM(w, 0), k = PyArray_DIM(w, 1);
    const size_t size = (size_t)group_size.value;
    const npy_intp dims[2] = {n, size > 0 ? (npy_intp)pq_s4_groups((size_t)k, size) : 0};
    if (!pq_check_size(op, "bias", bias, n) || !pq_check_size(op, "wanted", wanted, n * dims[1])) {
        goto done;
    }
    w_scale = (PyArrayObject *)PyArray_SimpleNew(1, dims, NPY_FLOAT32);
    factor = pq_new_array(2, dims, PQ_U8);
    if (w_scale == NULL || factor == NULL) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), 1);
    const pq_status status =
        pq_derive_group_scale(&call.exec, (size_t)n, (size_t)k, size, PyArray_DATA(w),
                              data_or_null(bias), data_or_null(wanted), (float)x_scale.value,
                              (int)bits.value, PyArray_DATA(w_scale), PyArray_DATA(factor));
    if (pq_call_end(&call, status) == 0) {
        result = PyTuple_Pack(2, (PyObject *)w_scale, (PyObject *)factor);
    }
done:
    Py_XDECREF(w);
    Py_XDECREF(bias);
    Py_XDECREF(wanted);
    Py_XDECREF(w_scale);
    Py_XDECREF(factor);
    return result;
}

static PyObject *derive_gemm_s8s4(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "derive_gemm_s8s4";
    static char *keywords[] = {"w",    "bias",       "w_scale",          "x_scale", "y_scale",
                               "bits", "group_size", "group_multiplier", NULL};
    PyObject *w_object, *bias_object, *w_scale_object, *factor_object = NULL, *result = NULL;
    PyArrayObject *w = NULL, *bias = NULL, *w_scale = NULL, *factor = NULL;
    PyArrayObject *w_q = NULL, *bias_q = NULL, *multiplier = NULL, *shift = NULL;
    pq_real x_scale = {"x_scale", 0.0}, y_scale = {"y_scale", 0.0};
    pq_int bits = PQ_INT32("bits", 4), group_size = PQ_SIZE("group_size", 0);
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO&O&|O&O&O:derive_gemm_s8s4", keywords,
                                     &w_object, &bias_object, &w_scale_object, pq_to_real, &x_scale,
                                     pq_to_real, &y_scale, pq_to_int, &bits, pq_to_int, &group_size,
                                     &factor_object)) {
        return NULL;
    }
    if (!pq_take(op, "w", w_object, PQ_T_F32, 2, 0, &w) ||
        !pq_take(op, "bias", bias_object, PQ_T_F32, 1, PQ_OPTIONAL, &bias) ||
        !pq_take(op, "w_scale", w_scale_object, PQ_T_F32, 1, 0, &w_scale)) {
        goto done;
    }
    const npy_intp n = PyArray_DIM(w, 0), k = PyArray_DIM(w, 1);
    if (!pq_check_size(op, "bias", bias, n) || !pq_check_size(op, "w_scale", w_scale, n) ||
        !take_multipliers(op, factor_object, n, k, group_size.value, &factor)) {
        goto done;
    }
    if ((factor == NULL) != (group_size.value == 0)) {
        PyErr_Format(PyExc_ValueError, "%s: expected group_multiplier exactly with a group_size",
                     op);
        goto done;
    }
    const npy_intp dims[2] = {n, (npy_intp)pq_s4_row_size((size_t)k)};
    w_q = pq_new_array(2, dims, PQ_U8);
    bias_q = pq_new_array(1, dims, PQ_S32);
    multiplier = pq_new_array(1, dims, PQ_S32);
    shift = pq_new_array(1, dims, PQ_U8);
    if (w_q == NULL || bias_q == NULL || multiplier == NULL || shift == NULL) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), 1);
    const pq_status status = pq_derive_gemm_s8s4(
        &call.exec, (size_t)n, (size_t)k, (size_t)group_size.value, PyArray_DATA(w),
        data_or_null(bias), PyArray_DATA(w_scale), data_or_null(factor), (int)bits.value,
        (float)x_scale.value, (float)y_scale.value, PyArray_DATA(w_q), PyArray_DATA(bias_q),
        PyArray_DATA(multiplier), PyArray_DATA(shift));
    if (pq_call_end(&call, status) == 0) {
        result = PyTuple_Pack(4, (PyObject *)w_q, (PyObject *)bias_q, (PyObject *)multiplier,
                              (PyObject *)shift);
    }
done:
    Py_XDECREF(w);
    Py_XDECREF(bias);
    Py_XDECREF(w_scale);
    Py_XDECREF(factor);
    Py_XDECREF(w_q);
    Py_XDECREF(bias_q);
    Py_XDECREF(multiplier);
    Py_XDECREF(shift);
    return result;
}

PyMethodDef pq_gemm_s8s4_methods[] = {
    PQ_KEYWORD_METHOD("pack_gemm_s8s4", pack_gemm_s8s4,
                      "pack_gemm_s8s4(w, k, bias=None, multiplier=None, shift=None, group_size=0, "
                      "group_multiplier=None, x_zero_point=0, zero_point=0, quant_min=-128, "
                      "quant_max=127, dtype='int8')\n--\n\n"
                      "GemmWeights of weights two to a byte (gemm_s8s4.h)."),
    PQ_KEYWORD_METHOD(
        "derive_group_scale", derive_group_scale,
        "derive_group_scale(w, bias, x_scale, group_size, bits=4, wanted=None)\n--\n\n"
        "(w_scale, group_multiplier)."),
    PQ_KEYWORD_METHOD("derive_gemm_s8s4", derive_gemm_s8s4,
                      "derive_gemm_s8s4(w, bias, w_scale, x_scale, y_scale, bits=4, group_size=0, "
                      "group_multiplier=None)\n--\n\n(w_q, bias_q, multiplier, shift), weights two "
                      "to a byte."),
    {NULL, NULL, 0, NULL},
};
