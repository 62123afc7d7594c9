/* Converters from Python objects to what the entry points take. */
#include "binding.h"

/* By kind and size: int64 has two NumPy type numbers on some platforms. */
static unsigned element_type(PyArrayObject *array) {
    const npy_intp size = PyArray_ITEMSIZE(array);
    switch (PyArray_DESCR(array)->kind) {
    case 'b': return PQ_T_U8;
    case 'u': return size == 1 ? PQ_T_U8 : 0;
    case 'i':
        return size == 1   ? PQ_T_S8
               : size == 2 ? PQ_T_S16
               : size == 4 ? PQ_T_S32
               : size == 8 ? PQ_T_S64
                           : 0;
    case 'f': return size == 4 ? PQ_T_F32 : size == 8 ? PQ_T_F64 : 0;
    default: return 0;
    }
}

pq_dtype pq_array_type(PyArrayObject *array) {
    switch (element_type(array)) {
    case PQ_T_S8: return PQ_S8;
    case PQ_T_S16: return PQ_S16;
    case PQ_T_S32: return PQ_S32;
    case PQ_T_S64: return PQ_S64;
    default: return PQ_U8;
    }
}

int pq_numpy_type(pq_dtype type) {
    switch (type) {
    case PQ_S8: return NPY_INT8;
    case PQ_U8: return NPY_UINT8;
    case PQ_S16: return NPY_INT16;
    case PQ_S32: return NPY_INT32;
    case PQ_S64: return NPY_INT64;
    }
    return NPY_NOTYPE;
}

const char *pq_dtype_text(pq_dtype type) {
    switch (type) {
    case PQ_S8: return "int8";
    case PQ_U8: return "uint8";
    case PQ_S16: return "int16";
    case PQ_S32: return "int32";
    case PQ_S64: return "int64";
    }
    return "?";
}

static void raise_dtype(const char *op, const char *name, unsigned types, PyArrayObject *array) {
    static const char *const texts[] = {"int8",  "uint8",   "int16",  "int32",
                                        "int64", "float32", "float64"};
    char expected[80] = "";
    size_t used = 0;
    for (unsigned i = 0; i < 7; ++i) {
        if (types & (1u << i)) {
            const int more = PyOS_snprintf(expected + used, sizeof expected - used, "%s%s",
                                           used ? " or " : "", texts[i]);
            used += more > 0 ? (size_t)more : 0;
        }
    }
    PyErr_Format(PyExc_TypeError, "%s: expected %s of dtype %s, got %R", op, name, expected,
                 (PyObject *)PyArray_DESCR(array));
}

bool pq_take(const char *op, const char *name, PyObject *object, unsigned types, int ndim,
             unsigned flags, PyArrayObject **array) {
    *array = NULL;
    if (object == NULL || object == Py_None) {
        if (flags & PQ_OPTIONAL) {
            return true;
        }
        PyErr_Format(PyExc_TypeError, "%s: expected %s to be a NumPy array, got None", op, name);
        return false;
    }
    if (!PyArray_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s: expected %s to be a NumPy array, got %.100s", op, name,
                     Py_TYPE(object)->tp_name);
        return false;
    }
    PyArrayObject *given = (PyArrayObject *)object;
    if (!(element_type(given) & types)) {
        raise_dtype(op, name, types, given);
        return false;
    }
    if (!PyArray_ISNOTSWAPPED(given)) {
        PyErr_Format(PyExc_TypeError, "%s: expected %s in native byte order, got %R", op, name,
                     (PyObject *)PyArray_DESCR(given));
        return false;
    }
    if (ndim >= 0 && PyArray_NDIM(given) != ndim) {
        PyErr_Format(PyExc_ValueError, "%s: expected %s of %d axes, got %d", op, name, ndim,
                     PyArray_NDIM(given));
        return false;
    }
    if (!PyArray_ISALIGNED(given)) {
        PyErr_Format(PyExc_ValueError,
                     "%s: expected %s aligned to its elements, got a misaligned array", op, name);
        return false;
    }
    if (flags & PQ_STRIDED) {
        for (int axis = 0; axis < PyArray_NDIM(given); ++axis) {
            if (PyArray_STRIDE(given, axis) % PyArray_ITEMSIZE(given) != 0) {
                PyErr_Format(
                    PyExc_ValueError,
                    "%s: expected %s with strides of whole elements, got %zd bytes on axis %d", op,
                    name, (Py_ssize_t)PyArray_STRIDE(given, axis), axis);
                return false;
            }
        }
    } else if (!PyArray_IS_C_CONTIGUOUS(given)) {
        PyErr_Format(PyExc_ValueError, "%s: expected %s C-contiguous, got other strides", op, name);
        return false;
    }
    if ((flags & PQ_WRITABLE) && !PyArray_ISWRITEABLE(given)) {
        PyErr_Format(PyExc_ValueError, "%s: expected %s to be writable, got a read-only array", op,
                     name);
        return false;
    }
    Py_INCREF(object);
    *array = given;
    return true;
}

PyArrayObject *pq_new_array(int ndim, const npy_intp *dims, pq_dtype type) {
    return (PyArrayObject *)PyArray_SimpleNew(ndim, dims, pq_numpy_type(type));
}

bool pq_take_output(const char *op, PyObject *out, int ndim, const npy_intp *dims, pq_dtype type,
                    unsigned flags, PyArrayObject **array) {
    if (out == NULL || out == Py_None) {
        *array = pq_new_array(ndim, dims, type);
        return *array != NULL;
    }
    unsigned types = 0;
    switch (type) {
    case PQ_S8: types = PQ_T_S8; break;
    case PQ_U8: types = PQ_T_U8; break;
    case PQ_S16: types = PQ_T_S16; break;
    case PQ_S32: types = PQ_T_S32; break;
    case PQ_S64: types = PQ_T_S64; break;
    }
    if (!pq_take(op, "out", out, types, ndim, flags | PQ_WRITABLE, array)) {
        return false;
    }
    for (int axis = 0; axis < ndim; ++axis) {
        if (PyArray_DIM(*array, axis) != dims[axis]) {
            PyErr_Format(PyExc_ValueError, "%s: expected out of size %zd on axis %d, got %zd", op,
                         (Py_ssize_t)dims[axis], axis, (Py_ssize_t)PyArray_DIM(*array, axis));
            Py_CLEAR(*array);
            return false;
        }
    }
    return true;
}

/* The bytes an array can touch, as [low, high); empty for an array of no elements. */
static void byte_range(PyArrayObject *array, uintptr_t *low, uintptr_t *high) {
    *low = *high = (uintptr_t)PyArray_DATA(array);
    if (PyArray_SIZE(array) == 0) {
        return;
    }
    *high += (uintptr_t)PyArray_ITEMSIZE(array);
    for (int axis = 0; axis < PyArray_NDIM(array); ++axis) {
        const npy_intp reach = (PyArray_DIM(array, axis) - 1) * PyArray_STRIDE(array, axis);
        if (reach < 0) {
            *low -= (uintptr_t)-reach;
        } else {
            *high += (uintptr_t)reach;
        }
    }
}

bool pq_check_overlap(const char *op, PyArrayObject *out, const char *name, PyArrayObject *in,
                      bool same_allowed) {
    if (in == NULL) {
        return true;
    }
    uintptr_t out_low, out_high, in_low, in_high;
    byte_range(out, &out_low, &out_high);
    byte_range(in, &in_low, &in_high);
    const bool empty = out_low == out_high || in_low == in_high;
    if (empty || out_high <= in_low || in_high <= out_low) {
        return true;
    }
    if (same_allowed && out_low == in_low && out_high == in_high &&
        PyArray_ITEMSIZE(out) == PyArray_ITEMSIZE(in)) {
        return true;
    }
    PyErr_Format(PyExc_ValueError, "%s: expected out not to overlap %s, got shared memory", op,
                 name);
    return false;
}

bool pq_check_size(const char *op, const char *name, PyArrayObject *array, npy_intp size) {
    if (array == NULL || PyArray_SIZE(array) == size) {
        return true;
    }
    PyErr_Format(PyExc_ValueError, "%s: expected %s of %zd elements, got %zd", op, name,
                 (Py_ssize_t)size, (Py_ssize_t)PyArray_SIZE(array));
    return false;
}

bool pq_axis_layout(const char *op, PyArrayObject *array, long long axis, size_t *channels,
                    size_t *inner) {
    *channels = *inner = 1;
    if (axis == PQ_NO_AXIS) {
        return true;
    }
    const int ndim = PyArray_NDIM(array);
    if (axis < -ndim || axis >= ndim) {
        PyErr_Format(PyExc_ValueError, "%s: expected %d <= axis < %d, got %lld", op, -ndim, ndim,
                     axis);
        return false;
    }
    const int at = (int)(axis < 0 ? axis + ndim : axis);
    *channels = (size_t)PyArray_DIM(array, at);
    for (int i = at + 1; i < ndim; ++i) {
        *inner *= (size_t)PyArray_DIM(array, i);
    }
    return true;
}
