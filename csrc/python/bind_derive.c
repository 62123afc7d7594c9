/* derive_*: from scales and float weights to integer constants. */
#include "binding.h"

#include "pyquant/derive.h"

static PyObject *derive_dyadic(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"real", NULL};
    pq_real real = {"real", 0.0};
    pq_dyadic dyadic;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&:derive_dyadic", keywords, pq_to_real,
                                     &real)) {
        return NULL;
    }
    pq_call_begin(&call, pq_state_of(module), 1);
    const pq_status status = pq_derive_dyadic(&call.exec, real.value, &dyadic);
    if (pq_call_end(&call, status) < 0) {
        return NULL;
    }
    return Py_BuildValue("ii", (int)dyadic.multiplier, (int)dyadic.shift);
}

static PyObject *derive_weight_scale(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "derive_weight_scale";
    static char *keywords[] = {"w", "bias", "x_scale", "bits", NULL};
    PyObject *w_object, *bias_object;
    PyArrayObject *w = NULL, *bias = NULL, *w_scale = NULL;
    bool done = false;
    pq_real x_scale = {"x_scale", 0.0};
    pq_int bits = PQ_INT32("bits", 8);
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO&|O&:derive_weight_scale", keywords,
                                     &w_object, &bias_object, pq_to_real, &x_scale, pq_to_int,
                                     &bits)) {
        return NULL;
    }
    if (!pq_take(op, "w", w_object, PQ_T_F32, 2, 0, &w) ||
        !pq_take(op, "bias", bias_object, PQ_T_F32, 1, PQ_OPTIONAL, &bias) ||
        !pq_check_size(op, "bias", bias, PyArray_DIM(w, 0))) {
        goto done;
    }
    w_scale = (PyArrayObject *)PyArray_SimpleNew(1, PyArray_DIMS(w), NPY_FLOAT32);
    if (w_scale == NULL) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), 1);
    const pq_status status =
        pq_derive_weight_scale(&call.exec, (size_t)PyArray_DIM(w, 0), (size_t)PyArray_DIM(w, 1),
                               PyArray_DATA(w), bias != NULL ? PyArray_DATA(bias) : NULL,
                               (float)x_scale.value, (int)bits.value, PyArray_DATA(w_scale));
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(w);
    Py_XDECREF(bias);
    if (!done) {
        Py_CLEAR(w_scale);
    }
    return (PyObject *)w_scale;
}

static PyObject *derive_gemm(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "derive_gemm";
    static char *keywords[] = {"w", "bias", "w_scale", "x_scale", "y_scale", "bits", NULL};
    PyObject *w_object, *bias_object, *w_scale_object, *result = NULL;
    PyArrayObject *w = NULL, *bias = NULL, *w_scale = NULL;
    PyArrayObject *w_q = NULL, *bias_q = NULL, *multiplier = NULL, *shift = NULL;
    pq_real x_scale = {"x_scale", 0.0}, y_scale = {"y_scale", 0.0};
    pq_int bits = PQ_INT32("bits", 8);
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO&O&|O&:derive_gemm", keywords, &w_object,
                                     &bias_object, &w_scale_object, pq_to_real, &x_scale,
                                     pq_to_real, &y_scale, pq_to_int, &bits)) {
        return NULL;
    }
    if (!pq_take(op, "w", w_object, PQ_T_F32, 2, 0, &w) ||
        !pq_take(op, "bias", bias_object, PQ_T_F32, 1, PQ_OPTIONAL, &bias) ||
        !pq_take(op, "w_scale", w_scale_object, PQ_T_F32, 1, 0, &w_scale)) {
        goto done;
    }
    const npy_intp *dims = PyArray_DIMS(w);
    if (!pq_check_size(op, "bias", bias, dims[0]) ||
        !pq_check_size(op, "w_scale", w_scale, dims[0])) {
        goto done;
    }
    w_q = pq_new_array(2, dims, PQ_S8);
    bias_q = pq_new_array(1, dims, PQ_S32);
    multiplier = pq_new_array(1, dims, PQ_S32);
    shift = pq_new_array(1, dims, PQ_U8);
    if (w_q == NULL || bias_q == NULL || multiplier == NULL || shift == NULL) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), 1);
    const pq_status status = pq_derive_gemm(
        &call.exec, (size_t)dims[0], (size_t)dims[1], PyArray_DATA(w),
        bias != NULL ? PyArray_DATA(bias) : NULL, PyArray_DATA(w_scale), (int)bits.value,
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
    Py_XDECREF(w_q);
    Py_XDECREF(bias_q);
    Py_XDECREF(multiplier);
    Py_XDECREF(shift);
    return result;
}

static PyObject *derive_attention(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"method",        "q",        "k",    "v",        "y",
                               "softmax_scale", "head_dim", "keys", "has_mask", NULL};
    const char *text;
    pq_grid q = {.name = "q"}, k = {.name = "k"}, v = {.name = "v"}, y = {.name = "y"};
    pq_real softmax_scale = {"softmax_scale", 0.0};
    pq_int head_dim = PQ_SIZE("head_dim", 0), keys = PQ_SIZE("keys", 0);
    int has_mask = 0;
    int32_t exponentials[PQ_SOFTMAX_ENTRIES_MAX];
    pq_method method;
    pq_softmax softmax;
    pq_dyadic requant;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sO&O&O&O&O&O&O&|p:derive_attention", keywords,
                                     &text, pq_to_grid, &q, pq_to_grid, &k, pq_to_grid, &v,
                                     pq_to_grid, &y, pq_to_real, &softmax_scale, pq_to_int,
                                     &head_dim, pq_to_int, &keys, &has_mask)) {
        return NULL;
    }
    pq_call_begin(&call, pq_state_of(module), 1);
    pq_status status = pq_method_parse(&call.exec, PQ_METHOD_SOFTMAX, text, &method);
    if (status == PQ_OK) {
        status = pq_derive_attention(&call.exec, &method, q.affine, k.affine, v.affine, y.affine,
                                     softmax_scale.value, (size_t)head_dim.value,
                                     (size_t)keys.value, has_mask != 0, exponentials, &softmax,
                                     &requant);
    }
    if (pq_call_end(&call, status) < 0) {
        return NULL;
    }
    PyArrayObject *table = pq_new_softmax_table(&softmax);
    if (table == NULL) {
        return NULL;
    }
    return Py_BuildValue("NIIiiiii", (PyObject *)table, softmax.delta_max, softmax.multiplier,
                         (int)softmax.shift, (int)softmax.pmax, (int)softmax.bits,
                         (int)requant.multiplier, (int)requant.shift);
}

static PyObject *derive_softmax(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"method", "x", "y", "n", NULL};
    const char *text;
    pq_grid x = {.name = "x"}, y = {.name = "y"};
    pq_int n = PQ_SIZE("n", 0);
    int32_t exponentials[PQ_SOFTMAX_ENTRIES_MAX];
    pq_method method;
    pq_softmax softmax;
    pq_dyadic requant;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sO&O&O&:derive_softmax", keywords, &text,
                                     pq_to_grid, &x, pq_to_grid, &y, pq_to_int, &n)) {
        return NULL;
    }
    pq_call_begin(&call, pq_state_of(module), 1);
    pq_status status = pq_method_parse(&call.exec, PQ_METHOD_SOFTMAX, text, &method);
    if (status == PQ_OK) {
        status = pq_derive_softmax_rows(&call.exec, &method, x.affine, y.affine, (size_t)n.value,
                                        exponentials, &softmax, &requant);
    }
    if (pq_call_end(&call, status) < 0) {
        return NULL;
    }
    PyArrayObject *table = pq_new_softmax_table(&softmax);
    if (table == NULL) {
        return NULL;
    }
    return Py_BuildValue("NIIiiiii", (PyObject *)table, softmax.delta_max, softmax.multiplier,
                         (int)softmax.shift, (int)softmax.pmax, (int)softmax.bits,
                         (int)requant.multiplier, (int)requant.shift);
}

static PyObject *derive_mask(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "derive_mask";
    static char *keywords[] = {"mask", "q_scale", "k_scale", "softmax_scale", NULL};
    PyObject *mask_object, *result = NULL;
    PyArrayObject *mask = NULL, *mask_add = NULL, *keep = NULL;
    pq_real q_scale = {"q_scale", 0.0}, k_scale = {"k_scale", 0.0}, scale = {"softmax_scale", 0.0};
    bool any_add = false, any_excluded = false;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO&O&O&:derive_mask", keywords, &mask_object,
                                     pq_to_real, &q_scale, pq_to_real, &k_scale, pq_to_real,
                                     &scale)) {
        return NULL;
    }
    if (!pq_take(op, "mask", mask_object, PQ_T_F32, -1, 0, &mask)) {
        goto done;
    }
    mask_add = pq_new_array(PyArray_NDIM(mask), PyArray_DIMS(mask), PQ_S32);
    keep = pq_new_array(PyArray_NDIM(mask), PyArray_DIMS(mask), PQ_U8);
    if (mask_add == NULL || keep == NULL) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), 1);
    const pq_status status =
        pq_derive_mask(&call.exec, (size_t)PyArray_SIZE(mask), PyArray_DATA(mask),
                       (float)q_scale.value, (float)k_scale.value, scale.value,
                       PyArray_DATA(mask_add), PyArray_DATA(keep), &any_add, &any_excluded);
    if (pq_call_end(&call, status) == 0) {
        result = PyTuple_Pack(4, (PyObject *)mask_add, (PyObject *)keep,
                              any_add ? Py_True : Py_False, any_excluded ? Py_True : Py_False);
    }
done:
    Py_XDECREF(mask);
    Py_XDECREF(mask_add);
    Py_XDECREF(keep);
    return result;
}

static PyObject *derive_layernorm(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "derive_layernorm";
    static char *keywords[] = {"channels", "gamma", "beta", "epsilon", "x_scale", "y_scale", NULL};
    PyObject *gamma_object, *beta_object, *result = NULL;
    PyArrayObject *gamma = NULL, *beta = NULL, *gain = NULL, *offset = NULL;
    pq_int channels = PQ_SIZE("channels", 0);
    pq_real epsilon = {"epsilon", 0.0}, x_scale = {"x_scale", 0.0}, y_scale = {"y_scale", 0.0};
    uint64_t epsilon_q = 0;
    int32_t shift = 0;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&OOO&O&O&:derive_layernorm", keywords,
                                     pq_to_int, &channels, &gamma_object, &beta_object, pq_to_real,
                                     &epsilon, pq_to_real, &x_scale, pq_to_real, &y_scale)) {
        return NULL;
    }
    const npy_intp size = (npy_intp)channels.value;
    if (!pq_take(op, "gamma", gamma_object, PQ_T_F32, 1, PQ_OPTIONAL, &gamma) ||
        !pq_check_size(op, "gamma", gamma, size) ||
        !pq_take(op, "beta", beta_object, PQ_T_F32, 1, PQ_OPTIONAL, &beta) ||
        !pq_check_size(op, "beta", beta, size)) {
        goto done;
    }
    if (size > INT16_MAX) { /* the rule of layernorm.h; here it also bounds the allocation */
        PyErr_Format(PyExc_ValueError, "%s: expected 1 <= channels <= 32767, got %zd", op,
                     (Py_ssize_t)size);
        goto done;
    }
    gain = pq_new_array(1, &size, PQ_S32);
    offset = pq_new_array(1, &size, PQ_S64);
    if (gain == NULL || offset == NULL) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), 1);
    const pq_status status = pq_derive_layernorm(
        &call.exec, (size_t)size, gamma != NULL ? PyArray_DATA(gamma) : NULL,
        beta != NULL ? PyArray_DATA(beta) : NULL, epsilon.value, (float)x_scale.value,
        (float)y_scale.value, &epsilon_q, PyArray_DATA(gain), PyArray_DATA(offset), &shift);
    if (pq_call_end(&call, status) == 0) {
        result = Py_BuildValue("KOOi", (unsigned long long)epsilon_q, (PyObject *)gain,
                               (PyObject *)offset, (int)shift);
    }
done:
    Py_XDECREF(gamma);
    Py_XDECREF(beta);
    Py_XDECREF(gain);
    Py_XDECREF(offset);
    return result;
}

static PyObject *derive_add(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"a_scale", "b_scale", "y_scale", NULL};
    pq_real a_scale = {"a_scale", 0.0}, b_scale = {"b_scale", 0.0}, y_scale = {"y_scale", 0.0};
    int32_t a_multiplier, b_multiplier, shift;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&O&:derive_add", keywords, pq_to_real,
                                     &a_scale, pq_to_real, &b_scale, pq_to_real, &y_scale)) {
        return NULL;
    }
    pq_call_begin(&call, pq_state_of(module), 1);
    const pq_status status =
        pq_derive_add(&call.exec, (float)a_scale.value, (float)b_scale.value, (float)y_scale.value,
                      &a_multiplier, &b_multiplier, &shift);
    if (pq_call_end(&call, status) < 0) {
        return NULL;
    }
    return Py_BuildValue("iii", (int)a_multiplier, (int)b_multiplier, (int)shift);
}

PyMethodDef pq_derive_methods[] = {
    PQ_KEYWORD_METHOD("derive_dyadic", derive_dyadic,
                      "derive_dyadic(real)\n--\n\n(multiplier, shift) of a positive real."),
    PQ_KEYWORD_METHOD("derive_weight_scale", derive_weight_scale,
                      "derive_weight_scale(w, bias, x_scale, bits=8)\n--\n\nOne scale a row of w."),
    PQ_KEYWORD_METHOD("derive_gemm", derive_gemm,
                      "derive_gemm(w, bias, w_scale, x_scale, y_scale, bits=8)\n--\n\n"
                      "(w_q, bias_q, multiplier, shift)."),
    PQ_KEYWORD_METHOD(
        "derive_attention", derive_attention,
        "derive_attention(method, q, k, v, y, softmax_scale, head_dim, keys, "
        "has_mask=False)\n--\n\n(table, delta_max, softmax_multiplier, softmax_shift, "
        "pmax, softmax_bits, multiplier, shift); q, k, v, y are (scale, zero_point, quant_min, "
        "quant_max)."),
    PQ_KEYWORD_METHOD("derive_softmax", derive_softmax,
                      "derive_softmax(method, x, y, n)\n--\n\nAs derive_attention, over rows of "
                      "at most n elements; x, y are (scale, zero_point, quant_min, quant_max)."),
    PQ_KEYWORD_METHOD("derive_mask", derive_mask,
                      "derive_mask(mask, q_scale, k_scale, softmax_scale)\n--\n\n"
                      "(mask_add, keep, any_add, any_excluded)."),
    PQ_KEYWORD_METHOD("derive_layernorm", derive_layernorm,
                      "derive_layernorm(channels, gamma, beta, epsilon, x_scale, y_scale)\n--\n\n"
                      "(epsilon, gain, offset, shift)."),
    PQ_KEYWORD_METHOD("derive_add", derive_add,
                      "derive_add(a_scale, b_scale, y_scale)\n--\n\n"
                      "(a_multiplier, b_multiplier, shift)."),
    {NULL, NULL, 0, NULL},
};
