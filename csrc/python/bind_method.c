/* method_*: the registries of methods, and their text. */
#include "binding.h"

#include "pyquant/method.h"

/* The op called `name`; PQ_METHOD_OP_COUNT with ValueError where there is none. */
static pq_method_op find_op(const char *name) {
    const pq_method_op op = pq_method_op_find(name);
    if (op == PQ_METHOD_OP_COUNT) {
        PyErr_Format(PyExc_ValueError, "expected op to be softmax, unary or norm, got '%.100s'",
                     name);
    }
    return op;
}

static PyObject *parameters_of(const pq_method_row *row) {
    PyObject *list = PyList_New(0);
    for (int i = 0; list != NULL && i < PQ_METHOD_PARAMETERS; i++) {
        const pq_method_parameter *p = &row->parameters[i];
        if (p->name == NULL) {
            break;
        }
        PyObject *item = Py_BuildValue("sdddOs", p->name, p->value, p->low, p->high,
                                       p->whole ? Py_True : Py_False, p->meaning);
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *method_rows(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    if (!PyArg_ParseTuple(args, "s:method_rows", &name)) {
        return NULL;
    }
    const pq_method_op op = find_op(name);
    if (op == PQ_METHOD_OP_COUNT) {
        return NULL;
    }
    const pq_method_list *list = pq_method_list_of(op);
    PyObject *rows = PyList_New(0);
    for (size_t i = 0; rows != NULL && i < list->count; i++) {
        PyObject *parameters = parameters_of(&list->rows[i]);
        PyObject *item = parameters == NULL ? NULL
                                            : Py_BuildValue("ssN", list->rows[i].name,
                                                            list->rows[i].reference, parameters);
        if (item == NULL || PyList_Append(rows, item) < 0) {
            Py_CLEAR(rows);
        }
        Py_XDECREF(item);
    }
    return rows;
}

static PyObject *method_parse(PyObject *module, PyObject *args) {
    const char *name, *text;
    if (!PyArg_ParseTuple(args, "ss:method_parse", &name, &text)) {
        return NULL;
    }
    const pq_method_op op = find_op(name);
    if (op == PQ_METHOD_OP_COUNT) {
        return NULL;
    }
    pq_method method;
    pq_call call;
    pq_call_begin(&call, pq_state_of(module), 1);
    const pq_status status = pq_method_parse(&call.exec, op, text, &method);
    if (pq_call_end(&call, status) < 0) {
        return NULL;
    }
    char canonical[PQ_METHOD_TEXT];
    pq_method_format(op, &method, canonical);
    const double *const p = method.parameters;
    return Py_BuildValue("si(dddd)", canonical, (int)method.code, p[0], p[1], p[2], p[3]);
}

PyMethodDef pq_method_methods[] = {
    {"method_rows", method_rows, METH_VARARGS,
     "method_rows(op)\n--\n\n(name, reference, [(parameter, default, low, high, whole, meaning)]) of "
     "each method of softmax, unary or norm."},
    {"method_parse", method_parse, METH_VARARGS,
     "method_parse(op, text)\n--\n\n(canonical text, code, parameters)."},
    {NULL, NULL, 0, NULL},
};
