/* attention, attention_trace, attention_online64. */
#include "binding.h"

#include "pyquant/attention_online.h"

enum { AXES = 5 }; /* batch, groups, heads, tokens, and head_dim or keys */

typedef struct operands {
    PyArrayObject *q, *k, *v, *table, *keep, *mask_add, *y;
} operands;

static void release(operands *held) {
    Py_CLEAR(held->q);
    Py_CLEAR(held->k);
    Py_CLEAR(held->v);
    Py_CLEAR(held->table);
    Py_CLEAR(held->keep);
    Py_CLEAR(held->mask_add);
    Py_CLEAR(held->y);
}

/* Strides in elements; an axis of size 1 or 0 has none, whatever NumPy says. */
static ptrdiff_t stride_of(PyArrayObject *array, int axis) {
    return PyArray_DIM(array, axis) > 1 ? PyArray_STRIDE(array, axis) / PyArray_ITEMSIZE(array) : 0;
}

static pq_strides strides_of(PyArrayObject *array) {
    return (pq_strides){stride_of(array, 0), stride_of(array, 1), stride_of(array, 2),
                        stride_of(array, 3)};
}

static bool check_last_axis(const char *op, const char *name, PyArrayObject *array) {
    if (PyArray_DIM(array, 4) <= 1 || PyArray_STRIDE(array, 4) == PyArray_ITEMSIZE(array) ||
        PyArray_SIZE(array) == 0) {
        return true;
    }
    PyErr_Format(PyExc_ValueError,
                 "%s: expected %s contiguous along its last axis, got a stride of %zd", op, name,
                 (Py_ssize_t)PyArray_STRIDE(array, 4));
    return false;
}

static bool check_shape(const char *op, const char *name, PyArrayObject *array,
                        const npy_intp *dims, bool broadcast) {
    if (array == NULL) {
        return true;
    }
    for (int axis = 0; axis < AXES; ++axis) {
        const npy_intp size = PyArray_DIM(array, axis);
        if (size != dims[axis] && !(broadcast && size == 1)) {
            PyErr_Format(PyExc_ValueError, "%s: expected %s of size %zd on axis %d, got %zd", op,
                         name, (Py_ssize_t)dims[axis], axis, (Py_ssize_t)size);
            return false;
        }
    }
    return true;
}

/* No two elements of an output may share memory: every axis steps over all smaller ones. */
static bool check_distinct(const char *op, PyArrayObject *y) {
    ptrdiff_t stride[AXES], reach = 1;
    npy_intp size[AXES];
    int axes = 0;
    for (int axis = 0; axis < AXES; ++axis) {
        if (PyArray_DIM(y, axis) == 0) {
            return true;
        }
        if (PyArray_DIM(y, axis) > 1) { /* insertion by stride */
            int at = axes++;
            for (; at > 0 && stride[at - 1] > stride_of(y, axis); --at) {
                stride[at] = stride[at - 1];
                size[at] = size[at - 1];
            }
            stride[at] = stride_of(y, axis);
            size[at] = PyArray_DIM(y, axis);
        }
    }
    for (int i = 0; i < axes; ++i) {
        if (stride[i] < reach) {
            PyErr_Format(PyExc_ValueError,
                         "%s: expected out without shared elements, got stride %zd", op,
                         (Py_ssize_t)stride[i]);
            return false;
        }
        reach = stride[i] * (size[i] - 1) + reach;
    }
    return true;
}

static bool parse(PyObject *args, PyObject *kwargs, bool traced, operands *held,
                  pq_attention_args *attention, int *thread_count) {
    static const char op[] = "attention";
    static char *keywords[] = {"q",
                               "k",
                               "v",
                               "table",
                               "method",
                               "delta_max",
                               "softmax_multiplier",
                               "softmax_shift",
                               "pmax",
                               "multiplier",
                               "shift",
                               "q_zero_point",
                               "k_zero_point",
                               "v_zero_point",
                               "zero_point",
                               "quant_min",
                               "quant_max",
                               "keep",
                               "mask_add",
                               "causal",
                               "out",
                               "threads",
                               "softmax_bits",
                               NULL};
    PyObject *q, *k, *v, *table, *keep = NULL, *mask_add = NULL, *out = NULL;
    int causal = 0;
    pq_int method = PQ_INT32("method", 0), delta_max = PQ_UINT32("delta_max");
    pq_int softmax_multiplier = PQ_UINT32("softmax_multiplier");
    pq_int softmax_shift = PQ_INT32("softmax_shift", 0), pmax = PQ_INT32("pmax", 0);
    pq_int multiplier = PQ_INT32("multiplier", 0), shift = PQ_SHIFT("shift", 0);
    pq_int q_zero_point = PQ_INT32("q_zero_point", 0), k_zero_point = PQ_INT32("k_zero_point", 0);
    pq_int v_zero_point = PQ_INT32("v_zero_point", 0), zero_point = PQ_INT32("zero_point", 0);
    pq_int quant_min = PQ_INT32("quant_min", -128), quant_max = PQ_INT32("quant_max", 127);
    pq_int threads = PQ_THREADS, softmax_bits = PQ_INT32("softmax_bits", 0);

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "OOOOO&O&O&O&O&O&O&|O&O&O&O&O&O&OOpOO&O&:attention", keywords, &q, &k, &v,
            &table, pq_to_int, &method, pq_to_int, &delta_max, pq_to_int, &softmax_multiplier,
            pq_to_int, &softmax_shift, pq_to_int, &pmax, pq_to_int, &multiplier, pq_to_int, &shift,
            pq_to_int, &q_zero_point, pq_to_int, &k_zero_point, pq_to_int, &v_zero_point, pq_to_int,
            &zero_point, pq_to_int, &quant_min, pq_to_int, &quant_max, &keep, &mask_add, &causal,
            &out, pq_to_int, &threads, pq_to_int, &softmax_bits)) {
        return false;
    }
    pq_softmax softmax = {.method = (pq_softmax_method)method.value,
                          .delta_max = (uint32_t)delta_max.value,
                          .multiplier = (uint32_t)softmax_multiplier.value,
                          .shift = (int32_t)softmax_shift.value,
                          .pmax = (int32_t)pmax.value,
                          .bits = (int32_t)softmax_bits.value};
    if (!pq_take(op, "q", q, PQ_T_S8, AXES, PQ_STRIDED, &held->q) ||
        !pq_take(op, "k", k, PQ_T_S8, AXES, PQ_STRIDED, &held->k) ||
        !pq_take(op, "v", v, PQ_T_S8, AXES, PQ_STRIDED, &held->v) ||
        !pq_take_softmax_table(op, table, &softmax, &held->table) ||
        !pq_take(op, "keep", keep, PQ_T_U8, AXES, PQ_STRIDED | PQ_OPTIONAL, &held->keep) ||
        !pq_take(op, "mask_add", mask_add, PQ_T_S32, AXES, PQ_STRIDED | PQ_OPTIONAL,
                 &held->mask_add)) {
        return false;
    }
    const npy_intp *dims = PyArray_DIMS(held->q);
    const npy_intp kv_heads = PyArray_DIM(held->k, 2), k_len = PyArray_DIM(held->k, 3);
    const npy_intp kv_dims[AXES] = {dims[0], dims[1], kv_heads, k_len, dims[4]};
    const npy_intp score_dims[AXES] = {dims[0], dims[1], dims[2], dims[3], k_len};
    if (!check_shape(op, "k", held->k, kv_dims, false) ||
        !check_shape(op, "v", held->v, kv_dims, false) ||
        !check_shape(op, "keep", held->keep, score_dims, true) ||
        !check_shape(op, "mask_add", held->mask_add, score_dims, true) ||
        !check_last_axis(op, "q", held->q) || !check_last_axis(op, "k", held->k) ||
        !check_last_axis(op, "v", held->v)) {
        return false;
    }
    if (!pq_take_output(op, traced ? NULL : out, AXES, dims, PQ_S8, PQ_STRIDED, &held->y) ||
        !check_last_axis(op, "out", held->y) || !check_distinct(op, held->y) ||
        !pq_check_overlap(op, held->y, "q", held->q, false) ||
        !pq_check_overlap(op, held->y, "k", held->k, false) ||
        !pq_check_overlap(op, held->y, "v", held->v, false) ||
        !pq_check_overlap(op, held->y, "table", held->table, false) ||
        !pq_check_overlap(op, held->y, "keep", held->keep, false) ||
        !pq_check_overlap(op, held->y, "mask_add", held->mask_add, false)) {
        return false;
    }
    *attention = (pq_attention_args){
        .batch = (size_t)dims[0],
        .groups = (size_t)dims[1],
        .heads = (size_t)dims[2],
        .kv_heads = (size_t)kv_heads,
        .q_len = (size_t)dims[3],
        .k_len = (size_t)k_len,
        .head_dim = (size_t)dims[4],
        .q = PyArray_DATA(held->q),
        .k = PyArray_DATA(held->k),
        .v = PyArray_DATA(held->v),
        .q_strides = strides_of(held->q),
        .k_strides = strides_of(held->k),
        .v_strides = strides_of(held->v),
        .q_zero_point = (int32_t)q_zero_point.value,
        .k_zero_point = (int32_t)k_zero_point.value,
        .v_zero_point = (int32_t)v_zero_point.value,
        .causal = causal != 0,
        .softmax = softmax,
        .requant = {(int32_t)multiplier.value, (uint8_t)shift.value},
        .out = {(int32_t)zero_point.value, (int32_t)quant_min.value, (int32_t)quant_max.value},
        .y = PyArray_DATA(held->y),
        .y_strides = strides_of(held->y),
    };
    for (int axis = 0; axis < AXES; ++axis) {
        if (held->keep != NULL) {
            attention->keep = PyArray_DATA(held->keep);
            attention->keep_strides[axis] = stride_of(held->keep, axis);
        }
        if (held->mask_add != NULL) {
            attention->mask_add = PyArray_DATA(held->mask_add);
            attention->mask_strides[axis] = stride_of(held->mask_add, axis);
        }
    }
    *thread_count = (int)threads.value;
    return true;
}

typedef pq_status entry_fn(const pq_exec *exec, const pq_attention_args *args);

static PyObject *run(PyObject *module, PyObject *args, PyObject *kwargs, entry_fn *entry) {
    operands held = {.q = NULL};
    pq_attention_args call_args;
    int threads;
    PyObject *result = NULL;
    pq_call call;

    if (!parse(args, kwargs, false, &held, &call_args, &threads)) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), threads);
    const pq_status status = entry(&call.exec, &call_args);
    if (pq_call_end(&call, status) == 0) {
        result = Py_NewRef((PyObject *)held.y);
    }
done:
    release(&held);
    return result;
}

static PyObject *attention(PyObject *module, PyObject *args, PyObject *kwargs) {
    return run(module, args, kwargs, pq_attention_s8);
}

static PyObject *attention_online64(PyObject *module, PyObject *args, PyObject *kwargs) {
    return run(module, args, kwargs, pq_attention_online64_s8);
}

static PyObject *attention_trace(PyObject *module, PyObject *args, PyObject *kwargs) {
    operands held = {.q = NULL};
    pq_attention_args call_args;
    PyArrayObject *score = NULL, *p = NULL, *l = NULL;
    int threads;
    PyObject *result = NULL;
    pq_call call;

    if (!parse(args, kwargs, true, &held, &call_args, &threads)) {
        goto done;
    }
    npy_intp dims[AXES];
    for (int axis = 0; axis < 4; ++axis) {
        dims[axis] = PyArray_DIM(held.q, axis);
    }
    dims[4] = PyArray_DIM(held.k, 3);
    score = (PyArrayObject *)PyArray_SimpleNew(AXES, dims, NPY_INT32);
    p = (PyArrayObject *)PyArray_SimpleNew(AXES, dims, NPY_UINT16);
    l = (PyArrayObject *)PyArray_SimpleNew(4, dims, NPY_UINT32);
    if (score == NULL || p == NULL || l == NULL) {
        goto done;
    }
    const pq_attention_trace trace = {PyArray_DATA(score), PyArray_DATA(p), PyArray_DATA(l)};
    pq_call_begin(&call, pq_state_of(module), threads);
    const pq_status status = pq_attention_s8_trace(&call.exec, &call_args, &trace);
    if (pq_call_end(&call, status) == 0) {
        result =
            PyTuple_Pack(4, (PyObject *)held.y, (PyObject *)score, (PyObject *)p, (PyObject *)l);
    }
done:
    Py_XDECREF(score);
    Py_XDECREF(p);
    Py_XDECREF(l);
    release(&held);
    return result;
}

#define SIGNATURE \
    "(q, k, v, table, method, delta_max, softmax_multiplier, softmax_shift, pmax, multiplier, " \
    "shift, q_zero_point=0, k_zero_point=0, v_zero_point=0, zero_point=0, quant_min=-128, " \
    "quant_max=127, keep=None, mask_add=None, causal=False, out=None, threads=None, " \
    "softmax_bits=0)\n--\n\n"

PyMethodDef pq_attention_methods[] = {
    PQ_KEYWORD_METHOD("attention", attention,
                      "attention" SIGNATURE
                      "Integer attention over [batch, groups, heads, tokens, d] (attention.h)."),
    PQ_KEYWORD_METHOD("attention_online64", attention_online64,
                      "attention_online64" SIGNATURE
                      "The online form, keys in blocks of 64 (attention_online.h)."),
    PQ_KEYWORD_METHOD("attention_trace", attention_trace,
                      "attention_trace" SIGNATURE
                      "The same on the reference kernel; returns (y, score, p, l)."),
    {NULL, NULL, 0, NULL},
};
