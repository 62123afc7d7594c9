/* unary functions: their tables, by any method, and what the tables are made of. */
#include "binding.h"

#include "pyquant/derive_unary.h"

/* The function of that name, or PQ_UNARY_COUNT with ValueError. */
static pq_unary find_unary(const char *name) {
    for (int i = 0; i < PQ_UNARY_COUNT; ++i) {
        if (strcmp(pq_unary_name((pq_unary)i), name) == 0) {
            return (pq_unary)i;
        }
    }
    PyErr_Format(PyExc_ValueError, "expected function to be one of unary_names(), got '%.100s'",
                 name);
    return PQ_UNARY_COUNT;
}

/* The method of that text; false with ValueError. */
static bool parse_method(PyObject *module, const char *text, pq_method *method) {
    pq_call call;
    pq_call_begin(&call, pq_state_of(module), 1);
    return pq_call_end(&call, pq_method_parse(&call.exec, PQ_METHOD_UNARY, text, method)) == 0;
}

/* What derive_table and derive_unary take. */
typedef struct request {
    pq_unary function;
    pq_method method;
    pq_grid x, y;
} request;

static bool parse_request(PyObject *module, PyObject *args, PyObject *kwargs, const char *format,
                          request *r) {
    static char *keywords[] = {"function", "x", "y", "method", NULL};
    const char *name, *method = "table";
    r->x = (pq_grid){.name = "x"};
    r->y = (pq_grid){.name = "y"};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, keywords, &name, pq_to_grid, &r->x,
                                     pq_to_grid, &r->y, &method)) {
        return false;
    }
    r->function = find_unary(name);
    return r->function != PQ_UNARY_COUNT && parse_method(module, method, &r->method);
}

static PyObject *derive_table(PyObject *module, PyObject *args, PyObject *kwargs) {
    const npy_intp size = 256;
    request r;
    pq_call call;

    if (!parse_request(module, args, kwargs, "sO&O&|s:derive_table", &r)) {
        return NULL;
    }
    PyArrayObject *table = pq_new_array(1, &size, PQ_S8);
    if (table == NULL) {
        return NULL;
    }
    pq_call_begin(&call, pq_state_of(module), 1);
    const pq_status status = pq_derive_unary_table(&call.exec, r.function, &r.method, r.x.affine,
                                                   r.y.affine, PyArray_DATA(table));
    if (pq_call_end(&call, status) < 0) {
        Py_CLEAR(table);
    }
    return (PyObject *)table;
}

static PyObject *list_of(const int32_t *values, int32_t count) {
    PyObject *list = PyList_New(count);
    for (int32_t i = 0; list != NULL && i < count; i++) {
        PyObject *value = PyLong_FromLong(values[i]);
        if (value == NULL) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, i, value);
        }
    }
    return list;
}

/* The constants of a curve by the names of unary.h. */
static PyObject *curve_values(const pq_unary_constants *k) {
    switch (k->curve) {
    case PQ_CURVE_IBERT_ERF: {
        const pq_ibert_erf *of = &k->of.ibert_erf;
        return Py_BuildValue("{si si sL sL sL}", "up", (int)of->up, "n", (int)of->n, "b",
                             (long long)of->b, "c", (long long)of->c, "one", (long long)of->one);
    }
    case PQ_CURVE_POLY: {
        const pq_poly *of = &k->of.poly;
        return Py_BuildValue("{si si si sL sL sL}", "up", (int)of->up, "square", (int)of->square,
                             "n", (int)of->n, "b", (long long)of->b, "c", (long long)of->c, "one",
                             (long long)of->one);
    }
    case PQ_CURVE_IBERT_EXP: {
        const pq_ibert_exp *of = &k->of.ibert_exp;
        return Py_BuildValue("{si si si si sL sL sL}", "up", (int)of->up, "shift", (int)of->shift,
                             "clip", (int)of->clip, "bits", (int)of->bits, "unit",
                             (long long)of->unit, "b", (long long)of->b, "c", (long long)of->c);
    }
    case PQ_CURVE_IVIT_EXP: {
        const pq_ivit_exp *of = &k->of.ivit_exp;
        return Py_BuildValue("{si si si si si sL}", "up", (int)of->up, "shift", (int)of->shift,
                             "clip", (int)of->clip, "bits", (int)of->bits, "division",
                             (int)of->division, "unit", (long long)of->unit);
    }
    case PQ_CURVE_NNLUT: {
        const pq_nnlut *of = &k->of.nnlut;
        return Py_BuildValue("{sN sN sN}", "start", list_of(of->start, of->entries), "slope",
                             list_of(of->slope, of->entries), "intercept",
                             list_of(of->intercept, of->entries));
    }
    }
    Py_UNREACHABLE();
}

static PyObject *derive_unary(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char *const curves[] = {"ibert_erf", "ibert_exp", "ivit_exp", "poly", "nnlut"};
    static const char *const shapes[] = {"curve", "gate", "product", "odd"};
    request r;
    pq_call call;
    pq_unary_constants k;

    if (!parse_request(module, args, kwargs, "sO&O&s:derive_unary", &r)) {
        return NULL;
    }
    pq_call_begin(&call, pq_state_of(module), 1);
    const pq_status status =
        pq_derive_unary(&call.exec, r.function, &r.method, r.x.affine, r.y.affine, &k);
    if (pq_call_end(&call, status) < 0) {
        return NULL;
    }
    PyObject *values = curve_values(&k);
    return values == NULL ? NULL
                          : Py_BuildValue("ssNii", curves[k.curve], shapes[k.shape], values,
                                          (int)k.requant.multiplier, (int)k.requant.shift);
}

static PyObject *derive_table_values(PyObject *module, PyObject *args, PyObject *kwargs) {
    static const char op[] = "derive_table_values";
    static char *keywords[] = {"values", "y", NULL};
    const npy_intp size = 256;
    PyObject *values_object;
    PyArrayObject *values = NULL, *table = NULL;
    bool done = false;
    pq_grid y = {.name = "y"};
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO&:derive_table_values", keywords,
                                     &values_object, pq_to_grid, &y)) {
        return NULL;
    }
    if (!pq_take(op, "values", values_object, PQ_T_F64, 1, 0, &values) ||
        !pq_check_size(op, "values", values, size)) {
        goto done;
    }
    table = pq_new_array(1, &size, PQ_S8);
    if (table == NULL) {
        goto done;
    }
    pq_call_begin(&call, pq_state_of(module), 1);
    const pq_status status =
        pq_derive_table_values(&call.exec, PyArray_DATA(values), y.affine, PyArray_DATA(table));
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(values);
    if (!done) {
        Py_CLEAR(table);
    }
    return (PyObject *)table;
}

static PyObject *unary_names(PyObject *module, PyObject *args) {
    const char *text = "table";
    pq_method method;
    if (!PyArg_ParseTuple(args, "|s:unary_names", &text) || !parse_method(module, text, &method)) {
        return NULL;
    }
    PyObject *names = PyList_New(0);
    for (int i = 0; names != NULL && i < PQ_UNARY_COUNT; ++i) {
        if (!pq_unary_gives(method.code, (pq_unary)i)) {
            continue;
        }
        PyObject *name = PyUnicode_FromString(pq_unary_name((pq_unary)i));
        if (name == NULL || PyList_Append(names, name) < 0) {
            Py_CLEAR(names);
        }
        Py_XDECREF(name);
    }
    PyObject *fixed = names == NULL ? NULL : PyList_AsTuple(names);
    Py_XDECREF(names);
    return fixed;
}

static PyObject *unary_value(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    pq_real x = {"x", 0.0};
    if (!PyArg_ParseTuple(args, "sO&:unary_value", &name, pq_to_real, &x)) {
        return NULL;
    }
    const pq_unary function = find_unary(name);
    return function == PQ_UNARY_COUNT ? NULL
                                      : PyFloat_FromDouble(pq_unary_value(function, x.value));
}

PyMethodDef pq_unary_functions[] = {
    PQ_KEYWORD_METHOD("derive_table", derive_table,
                      "derive_table(function, x, y, method='table')\n--\n\n"
                      "int8 [256] of a named function."),
    PQ_KEYWORD_METHOD("derive_unary", derive_unary,
                      "derive_unary(function, x, y, method)\n--\n\n"
                      "(curve, shape, {constant: value}, multiplier, shift) of a method."),
    PQ_KEYWORD_METHOD("derive_table_values", derive_table_values,
                      "derive_table_values(values, y)\n--\n\nint8 [256] of 256 real values."),
    {"unary_names", unary_names, METH_VARARGS,
     "unary_names(method='table')\n--\n\nNames of the functions that a method gives."},
    {"unary_value", unary_value, METH_VARARGS,
     "unary_value(function, x)\n--\n\nA named function at x, in float64."},
    {NULL, NULL, 0, NULL},
};
