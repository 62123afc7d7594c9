/* softmax, and what attention shares with it. */
#include "binding.h"

#include "pyquant/softmax_rows.h"

bool pq_take_softmax_table(const char *op, PyObject *table, pq_softmax *softmax,
                           PyArrayObject **held) {
    if (pq_softmax_by_octaves(softmax->method)) {
        if (!pq_take(op, "table", table, PQ_T_S16, 1, 0, held) ||
            !pq_check_size(op, "table", *held, PQ_SOFTMAX_TABLE_SIZE)) {
            return false;
        }
        memcpy(softmax->table, PyArray_DATA(*held), sizeof softmax->table);
        return true;
    }
    if (!pq_take(op, "table", table, PQ_T_S32, 1, 0, held)) {
        return false;
    }
    if (PyArray_DIM(*held, 0) > PQ_SOFTMAX_ENTRIES_MAX) {
        PyErr_Format(PyExc_ValueError, "%s: expected a table of at most %d entries, got %zd", op,
                     PQ_SOFTMAX_ENTRIES_MAX, (Py_ssize_t)PyArray_DIM(*held, 0));
        return false;
    }
    softmax->entries = (uint32_t)PyArray_DIM(*held, 0);
    softmax->exponentials = PyArray_DATA(*held);
    return true;
}

PyArrayObject *pq_new_softmax_table(const pq_softmax *softmax) {
    const bool octaves = pq_softmax_by_octaves(softmax->method);
    const npy_intp size = octaves ? PQ_SOFTMAX_TABLE_SIZE : (npy_intp)softmax->entries;
    PyArrayObject *table = pq_new_array(1, &size, octaves ? PQ_S16 : PQ_S32);
    if (table != NULL && octaves) { /* at most 2 * 16383 */
        memcpy(PyArray_DATA(table), softmax->table, sizeof softmax->table);
    } else if (table != NULL) {
        memcpy(PyArray_DATA(table), softmax->exponentials,
               softmax->entries * sizeof *softmax->exponentials);
    }
    return table;
}

static PyObject *softmax(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "softmax";
    static char *keywords[] = {"x",          "table",         "method",     "delta_max",
                               "softmax_multiplier", "softmax_shift", "pmax", "multiplier",
                               "shift",      "softmax_bits",  "zero_point", "quant_min",
                               "quant_max",  "dtype",         "out",        "threads",
                               NULL};
    PyObject *x_object, *table_object, *out_object = NULL;
    PyArrayObject *x = NULL, *table = NULL, *y = NULL;
    bool done = false;
    pq_dtype y_type = PQ_S8;
    pq_int method = PQ_INT32("method", 0), delta_max = PQ_UINT32("delta_max");
    pq_int softmax_multiplier = PQ_UINT32("softmax_multiplier");
    pq_int softmax_shift = PQ_INT32("softmax_shift", 0), pmax = PQ_INT32("pmax", 0);
    pq_int multiplier = PQ_INT32("multiplier", 0), shift = PQ_SHIFT("shift", 0);
    pq_int softmax_bits = PQ_INT32("softmax_bits", 0), zero_point = PQ_INT32("zero_point", 0);
    pq_int quant_min = PQ_INT32("quant_min", -128), quant_max = PQ_INT32("quant_max", 127);
    pq_int threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "OOO&O&O&O&O&O&O&|O&O&O&O&O&OO&:softmax", keywords, &x_object,
            &table_object, pq_to_int, &method, pq_to_int, &delta_max, pq_to_int,
            &softmax_multiplier, pq_to_int, &softmax_shift, pq_to_int, &pmax, pq_to_int,
            &multiplier, pq_to_int, &shift, pq_to_int, &softmax_bits, pq_to_int, &zero_point,
            pq_to_int, &quant_min, pq_to_int, &quant_max, pq_to_edge_type, &y_type, &out_object,
            pq_to_int, &threads)) {
        return NULL;
    }
    pq_softmax constants = {.method = (pq_softmax_method)method.value,
                            .delta_max = (uint32_t)delta_max.value,
                            .multiplier = (uint32_t)softmax_multiplier.value,
                            .shift = (int32_t)softmax_shift.value,
                            .pmax = (int32_t)pmax.value,
                            .bits = (int32_t)softmax_bits.value};
    if (!pq_take(op, "x", x_object, PQ_T_EDGE, -1, 0, &x) ||
        !pq_take_softmax_table(op, table_object, &constants, &table)) {
        goto done;
    }
    const int ndim = PyArray_NDIM(x);
    if (ndim < 1) {
        PyErr_Format(PyExc_ValueError, "%s: expected x of at least 1 axis, got 0", op);
        goto done;
    }
    if (!pq_take_output(op, out_object, ndim, PyArray_DIMS(x), y_type, 0, &y) ||
        !pq_check_overlap(op, y, "x", x, true) ||
        !pq_check_overlap(op, y, "table", table, false)) {
        goto done;
    }
    const npy_intp n = PyArray_DIM(x, ndim - 1);
    const pq_softmax_rows_args call_args = {
        .rows = n > 0 ? (size_t)(PyArray_SIZE(x) / n) : 0,
        .n = (size_t)n,
        .x_type = pq_array_type(x),
        .y_type = y_type,
        .x = PyArray_DATA(x),
        .y = PyArray_DATA(y),
        .softmax = constants,
        .requant = {(int32_t)multiplier.value, (uint8_t)shift.value},
        .out = {(int32_t)zero_point.value, (int32_t)quant_min.value, (int32_t)quant_max.value},
    };
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status = pq_softmax_rows(&call.exec, &call_args);
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(x);
    Py_XDECREF(table);
    if (!done) {
        Py_CLEAR(y);
    }
    return (PyObject *)y;
}

PyMethodDef pq_softmax_rows_methods[] = {
    PQ_KEYWORD_METHOD("softmax", softmax,
                      "softmax(x, table, method, delta_max, softmax_multiplier, softmax_shift, "
                      "pmax, multiplier, shift, softmax_bits=0, zero_point=0, quant_min=-128, "
                      "quant_max=127, dtype='int8', out=None, threads=None)\n--\n\n"
                      "Softmax over the last axis (softmax_rows.h)."),
    {NULL, NULL, 0, NULL},
};
