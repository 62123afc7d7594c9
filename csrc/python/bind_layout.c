/* copy, concat, gather. */
#include "binding.h"

#include "pyquant/layout.h"

/* Fills `values` from a sequence of at most `capacity` ints; the length, or -1 with an exception.
 */
static int read_ints(const char *op, const char *name, PyObject *object, int capacity,
                     long long low, long long *values) {
    PyObject *items = PySequence_Tuple(object);
    if (items == NULL) {
        return -1;
    }
    int count = -1;
    const Py_ssize_t size = PyTuple_GET_SIZE(items);
    if (size > capacity) {
        PyErr_Format(PyExc_ValueError, "%s: expected %s of at most %d ints, got %zd", op, name,
                     capacity, size);
        goto done;
    }
    for (Py_ssize_t i = 0; i < size; ++i) {
        pq_int item = {name, low, PTRDIFF_MAX, 0, false};
        if (!pq_to_int(PyTuple_GET_ITEM(items, i), &item)) {
            goto done;
        }
        values[i] = item.value;
    }
    count = (int)size;
done:
    Py_DECREF(items);
    return count;
}

static PyObject *copy(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "copy";
    static char *keywords[] = {"x", "shape", "strides", "offset", "out", "threads", NULL};
    PyObject *x_object, *shape_object, *strides_object, *out_object = NULL;
    PyArrayObject *x = NULL, *y = NULL;
    bool done = false;
    long long shape[PQ_MAX_DIMS], strides[PQ_MAX_DIMS];
    npy_intp dims[PQ_MAX_DIMS];
    pq_int offset = PQ_INT64("offset", 0), threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|O&OO&:copy", keywords, &x_object,
                                     &shape_object, &strides_object, pq_to_int, &offset,
                                     &out_object, pq_to_int, &threads)) {
        return NULL;
    }
    const int ndim = read_ints(op, "shape", shape_object, PQ_MAX_DIMS, 0, shape);
    if (ndim < 0) {
        return NULL;
    }
    const int given = read_ints(op, "strides", strides_object, PQ_MAX_DIMS, PTRDIFF_MIN, strides);
    if (given < 0) {
        return NULL;
    }
    if (given != ndim) {
        return PyErr_Format(PyExc_ValueError, "%s: expected %d strides, one for each axis, got %d",
                            op, ndim, given);
    }
    if (!pq_take(op, "x", x_object, PQ_T_INTEGER, -1, 0, &x)) {
        goto done;
    }
    pq_copy_args call_args = {
        .type = pq_array_type(x),
        .ndim = ndim,
        .offset = (ptrdiff_t)offset.value,
        .x = PyArray_DATA(x),
        .x_size = (size_t)PyArray_SIZE(x),
    };
    for (int i = 0; i < ndim; ++i) {
        dims[i] = (npy_intp)shape[i];
        call_args.dims[i] = (size_t)shape[i];
        call_args.strides[i] = (ptrdiff_t)strides[i];
    }
    /* Before the output is made: a shape that reads nothing real must not allocate terabytes. */
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status checked = pq_copy_check(&call.exec, &call_args);
    if (pq_call_end(&call, checked) < 0) {
        goto done;
    }
    if (!pq_take_output(op, out_object, ndim, dims, call_args.type, 0, &y) ||
        !pq_check_overlap(op, y, "x", x, false)) {
        goto done;
    }
    call_args.y = PyArray_DATA(y);
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status = pq_copy(&call.exec, &call_args);
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(x);
    if (!done) {
        Py_CLEAR(y);
    }
    return (PyObject *)y;
}

static PyObject *concat(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "concat";
    static char *keywords[] = {"arrays", "outer", "out", "threads", NULL};
    PyObject *arrays_object, *out_object = NULL, *items = NULL;
    PyArrayObject *x[PQ_MAX_CONCAT] = {NULL}, *y = NULL;
    bool done = false;
    pq_int outer = PQ_SIZE("outer", 0), threads = PQ_THREADS;
    npy_intp columns = 0;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO&|OO&:concat", keywords, &arrays_object,
                                     pq_to_int, &outer, &out_object, pq_to_int, &threads)) {
        return NULL;
    }
    items = PySequence_Tuple(arrays_object);
    if (items == NULL) {
        return NULL;
    }
    const Py_ssize_t count = PyTuple_GET_SIZE(items);
    if (count < 1 || count > PQ_MAX_CONCAT) {
        PyErr_Format(PyExc_ValueError, "%s: expected 1 to %d arrays, got %zd", op, PQ_MAX_CONCAT,
                     count);
        goto done;
    }
    pq_concat_args call_args = {.count = (int)count, .outer = (size_t)outer.value};
    for (Py_ssize_t i = 0; i < count; ++i) {
        if (!pq_take(op, "arrays", PyTuple_GET_ITEM(items, i), PQ_T_INTEGER, 2, 0, &x[i])) {
            goto done;
        }
        const npy_intp rows = PyArray_DIM(x[i], 0), inner = PyArray_DIM(x[i], 1);
        const pq_dtype type = pq_array_type(x[i]);
        if (i > 0 && type != call_args.type) {
            PyErr_Format(PyExc_TypeError, "%s: expected arrays of one dtype, got %s and %s", op,
                         pq_dtype_text(call_args.type), pq_dtype_text(type));
            goto done;
        }
        if (rows != 1 && rows != (npy_intp)outer.value) {
            PyErr_Format(PyExc_ValueError, "%s: expected arrays[%zd] of %zd rows or 1, got %zd", op,
                         i, (Py_ssize_t)outer.value, (Py_ssize_t)rows);
            goto done;
        }
        if (columns > NPY_MAX_INTP - inner) {
            PyErr_Format(PyExc_OverflowError, "%s: the rows of the result are too long", op);
            goto done;
        }
        columns += inner;
        call_args.type = type;
        call_args.inner[i] = (size_t)inner;
        call_args.outer_stride[i] = rows == (npy_intp)outer.value ? (ptrdiff_t)inner : 0;
        call_args.x[i] = PyArray_DATA(x[i]);
    }
    const npy_intp dims[2] = {(npy_intp)outer.value, columns};
    if (!pq_take_output(op, out_object, 2, dims, call_args.type, 0, &y)) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < count; ++i) {
        if (!pq_check_overlap(op, y, "arrays", x[i], false)) {
            goto done;
        }
    }
    call_args.y = PyArray_DATA(y);
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status = pq_concat(&call.exec, &call_args);
    done = pq_call_end(&call, status) == 0;
done:
    for (int i = 0; i < PQ_MAX_CONCAT; ++i) {
        Py_XDECREF(x[i]);
    }
    Py_DECREF(items);
    if (!done) {
        Py_CLEAR(y);
    }
    return (PyObject *)y;
}

static PyObject *gather(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "gather";
    static char *keywords[] = {"table", "index", "out", "threads", NULL};
    PyObject *table_object, *index_object, *out_object = NULL;
    PyArrayObject *table = NULL, *index = NULL, *y = NULL;
    bool done = false;
    pq_int threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OO&:gather", keywords, &table_object,
                                     &index_object, &out_object, pq_to_int, &threads)) {
        return NULL;
    }
    if (!pq_take(op, "table", table_object, PQ_T_INTEGER, 2, 0, &table) ||
        !pq_take(op, "index", index_object, PQ_T_S32, 1, 0, &index)) {
        goto done;
    }
    const npy_intp dims[2] = {PyArray_DIM(index, 0), PyArray_DIM(table, 1)};
    if (!pq_take_output(op, out_object, 2, dims, pq_array_type(table), 0, &y) ||
        !pq_check_overlap(op, y, "table", table, false) ||
        !pq_check_overlap(op, y, "index", index, false)) {
        goto done;
    }
    const pq_gather_args call_args = {
        .type = pq_array_type(table),
        .rows = (size_t)PyArray_DIM(table, 0),
        .inner = (size_t)dims[1],
        .count = (size_t)dims[0],
        .table = PyArray_DATA(table),
        .index = PyArray_DATA(index),
        .y = PyArray_DATA(y),
    };
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status = pq_gather(&call.exec, &call_args);
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(table);
    Py_XDECREF(index);
    if (!done) {
        Py_CLEAR(y);
    }
    return (PyObject *)y;
}

PyMethodDef pq_layout_methods[] = {
    PQ_KEYWORD_METHOD("copy", copy,
                      "copy(x, shape, strides, offset=0, out=None, threads=None)\n--\n\n"
                      "Strided gather of elements into a contiguous array (layout.h)."),
    PQ_KEYWORD_METHOD("concat", concat,
                      "concat(arrays, outer, out=None, threads=None)\n--\n\n"
                      "Rows side by side; an array of one row repeats (layout.h)."),
    PQ_KEYWORD_METHOD("gather", gather,
                      "gather(table, index, out=None, threads=None)\n--\n\n"
                      "Rows of a table by int32 index (layout.h)."),
    {NULL, NULL, 0, NULL},
};
