/* GemmWeights and gemm. */
#include "binding.h"

#include "pyquant/gemm.h"

typedef struct weights_object {
    PyObject_HEAD pq_gemm_weights *packed; /* immutable: any number of threads may use it */
    npy_intp n, k;
    pq_dtype y_type;
} weights_object;

static void weights_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    pq_gemm_weights_free(((weights_object *)self)->packed);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *weights_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static const char op[] = "gemm";
    static char *keywords[] = {"w",          "bias",      "multiplier", "shift", "x_zero_point",
                               "zero_point", "quant_min", "quant_max",  "dtype", "chains",
                               NULL};
    PyObject *w_object, *bias_object = NULL, *multiplier_object = NULL, *shift_object = NULL;
    PyArrayObject *w = NULL, *bias = NULL, *multiplier = NULL, *shift = NULL;
    weights_object *self = NULL;
    bool done = false;
    pq_int x_zero_point = PQ_INT32("x_zero_point", 0), zero_point = PQ_INT32("zero_point", 0);
    pq_int quant_min = PQ_INT32("quant_min", -128), quant_max = PQ_INT32("quant_max", 127);
    pq_dtype y_type = PQ_S8;
    int chains = 0;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "O|OOOO&O&O&O&O&$p:GemmWeights", keywords, &w_object, &bias_object,
            &multiplier_object, &shift_object, pq_to_int, &x_zero_point, pq_to_int, &zero_point,
            pq_to_int, &quant_min, pq_to_int, &quant_max, pq_to_gemm_type, &y_type, &chains)) {
        return NULL;
    }
    const unsigned requant = y_type == PQ_S32 ? PQ_OPTIONAL : 0;
    if (!pq_take(op, "w", w_object, PQ_T_S8, 2, 0, &w) ||
        !pq_take(op, "bias", bias_object, PQ_T_S32, 1, PQ_OPTIONAL, &bias) ||
        !pq_take(op, "multiplier", multiplier_object, PQ_T_S32, 1, requant, &multiplier) ||
        !pq_take(op, "shift", shift_object, PQ_T_U8, 1, requant, &shift)) {
        goto done;
    }
    const npy_intp n = PyArray_DIM(w, 0);
    if (!pq_check_size(op, "bias", bias, n) || !pq_check_size(op, "multiplier", multiplier, n) ||
        !pq_check_size(op, "shift", shift, n)) {
        goto done;
    }
    self = (weights_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        goto done;
    }
    self->n = n;
    self->k = PyArray_DIM(w, 1);
    self->y_type = y_type;
    const pq_gemm_pack_args pack = {
        .n = (size_t)n,
        .k = (size_t)self->k,
        .w = PyArray_DATA(w),
        .bias = bias != NULL ? PyArray_DATA(bias) : NULL,
        .multiplier = multiplier != NULL ? PyArray_DATA(multiplier) : NULL,
        .shift = shift != NULL ? PyArray_DATA(shift) : NULL,
        .x_zero_point = (int32_t)x_zero_point.value,
        .y_type = y_type,
        .out = {(int32_t)zero_point.value, (int32_t)quant_min.value, (int32_t)quant_max.value},
    };
    pq_call_begin(&call, PyType_GetModuleState(type), 1);
    const pq_status status = chains ? pq_gemm_s8s8_pack_chains(&call.exec, &pack, &self->packed)
                                    : pq_gemm_s8s8_pack(&call.exec, &pack, &self->packed);
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(w);
    Py_XDECREF(bias);
    Py_XDECREF(multiplier);
    Py_XDECREF(shift);
    if (!done) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyObject *pq_wrap_weights(const pq_state *state, struct pq_gemm_weights *packed, npy_intp n,
                          npy_intp k, pq_dtype y_type) {
    PyTypeObject *type = state->weights_type;
    weights_object *self = (weights_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        pq_gemm_weights_free(packed);
        return NULL;
    }
    self->packed = packed;
    self->n = n;
    self->k = k;
    self->y_type = y_type;
    return (PyObject *)self;
}

static PyObject *weights_shape(PyObject *self, void *closure) {
    (void)closure;
    const weights_object *weights = (weights_object *)self;
    return Py_BuildValue("nn", (Py_ssize_t)weights->n, (Py_ssize_t)weights->k);
}

static PyObject *weights_dtype(PyObject *self, void *closure) {
    (void)closure;
    return PyUnicode_FromString(pq_dtype_text(((weights_object *)self)->y_type));
}

static PyObject *weights_kernel(PyObject *self, void *closure) {
    (void)closure;
    const pq_kernel_row row = pq_gemm_weights_kernel(((weights_object *)self)->packed);
    return Py_BuildValue("ss", row.op, pq_isa_name(row.isa));
}

static PyGetSetDef weights_getset[] = {
    {"shape", weights_shape, NULL, "(n, k) of the weight.", NULL},
    {"dtype", weights_dtype, NULL, "Name of the output's dtype.", NULL},
    {"kernel", weights_kernel, NULL, "(op, isa) of the kernel they were packed for.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot weights_slots[] = {
    {Py_tp_doc, "Weights of gemm, checked and packed for one kernel of this machine."},
    {Py_tp_new, weights_new},
    {Py_tp_dealloc, weights_dealloc},
    {Py_tp_getset, weights_getset},
    {0, NULL},
};

PyType_Spec pq_weights_spec = {
    .name = "pyquant._C.GemmWeights",
    .basicsize = sizeof(weights_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = weights_slots,
};

/* Rows may lie apart, elements may not. */
static bool check_rows(const char *op, const char *name, PyArrayObject *array, npy_intp *pitch) {
    const npy_intp rows = PyArray_DIM(array, 0), columns = PyArray_DIM(array, 1);
    const npy_intp size = PyArray_ITEMSIZE(array);
    *pitch = columns;
    if (rows == 0 || columns == 0) {
        return true;
    }
    const bool dense = columns == 1 || PyArray_STRIDE(array, 1) == size;
    const npy_intp stride = PyArray_STRIDE(array, 0) / size;
    if (!dense || (rows > 1 && stride < columns)) {
        PyErr_Format(PyExc_ValueError,
                     "%s: expected %s with contiguous rows, got strides (%zd, %zd) bytes", op, name,
                     (Py_ssize_t)PyArray_STRIDE(array, 0), (Py_ssize_t)PyArray_STRIDE(array, 1));
        return false;
    }
    *pitch = rows > 1 ? stride : columns;
    return true;
}

static PyObject *gemm(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "gemm";
    static char *keywords[] = {"x", "weights", "out", "threads", NULL};
    const pq_state *state = pq_state_of(module);
    PyObject *x_object, *weights_arg, *out_object = NULL;
    PyArrayObject *x = NULL, *y = NULL;
    bool done = false;
    npy_intp ldx, ldy;
    pq_int threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!|OO&:gemm", keywords, &x_object,
                                     state->weights_type, &weights_arg, &out_object, pq_to_int,
                                     &threads)) {
        return NULL;
    }
    const weights_object *weights = (weights_object *)Py_NewRef(weights_arg);
    if (!pq_take(op, "x", x_object, PQ_T_S8, 2, PQ_STRIDED, &x)) {
        goto done;
    }
    if (PyArray_DIM(x, 1) != weights->k) {
        PyErr_Format(PyExc_ValueError, "%s: expected x of shape (m, %zd), got (%zd, %zd)", op,
                     (Py_ssize_t)weights->k, (Py_ssize_t)PyArray_DIM(x, 0),
                     (Py_ssize_t)PyArray_DIM(x, 1));
        goto done;
    }
    const npy_intp dims[2] = {PyArray_DIM(x, 0), weights->n};
    if (!pq_take_output(op, out_object, 2, dims, weights->y_type, PQ_STRIDED, &y) ||
        !check_rows(op, "x", x, &ldx) || !check_rows(op, "out", y, &ldy) ||
        !pq_check_overlap(op, y, "x", x, false)) {
        goto done;
    }
    pq_call_begin(&call, state, (int)threads.value);
    const pq_status status = pq_gemm_s8s8(&call.exec, (size_t)dims[0], PyArray_DATA(x), (size_t)ldx,
                                          weights->packed, PyArray_DATA(y), (size_t)ldy);
    done = pq_call_end(&call, status) == 0;
done:
    Py_DECREF((PyObject *)weights);
    Py_XDECREF(x);
    if (!done) {
        Py_CLEAR(y);
    }
    return (PyObject *)y;
}

PyMethodDef pq_gemm_methods[] = {
    PQ_KEYWORD_METHOD("gemm", gemm,
                      "gemm(x, weights, out=None, threads=None)\n--\n\n"
                      "s8 rows times packed weights, requantized per column (gemm.h)."),
    {NULL, NULL, 0, NULL},
};
