/* Converters of single values; each error names its argument. */
#include "binding.h"

/* bool is refused although it is an int in Python: here it is a slip. */
int pq_to_int(PyObject *object, void *value) {
    pq_int *arg = value;
    if (object == Py_None && arg->none_keeps) {
        return 1;
    }
    if (PyBool_Check(object) || !PyIndex_Check(object)) {
        PyErr_Format(PyExc_TypeError, "expected %s to be an int, got %.100s", arg->name,
                     Py_TYPE(object)->tp_name);
        return 0;
    }
    PyObject *number = PyNumber_Index(object);
    if (number == NULL) {
        return 0;
    }
    int overflow = 0;
    const long long given = PyLong_AsLongLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    if (given == -1 && overflow == 0 && PyErr_Occurred()) {
        return 0;
    }
    if (overflow != 0 || given < arg->low || given > arg->high) {
        PyErr_Format(PyExc_ValueError, "expected %lld <= %s <= %lld, got %R", arg->low, arg->name,
                     arg->high, object);
        return 0;
    }
    arg->value = given;
    return 1;
}

int pq_to_real(PyObject *object, void *value) {
    pq_real *arg = value;
    const double given = PyFloat_AsDouble(object);
    if (given == -1.0 && PyErr_Occurred()) {
        PyErr_Format(PyExc_TypeError, "expected %s to be a real number, got %.100s", arg->name,
                     Py_TYPE(object)->tp_name);
        return 0;
    }
    arg->value = given;
    return 1;
}

int pq_to_grid(PyObject *object, void *value) {
    pq_grid *arg = value;
    if (!PyTuple_Check(object) || PyTuple_GET_SIZE(object) != 4) {
        PyErr_Format(PyExc_TypeError,
                     "expected %s to be (scale, zero_point, quant_min, quant_max), got %R",
                     arg->name, object);
        return 0;
    }
    pq_real scale = {"scale", 0.0};
    pq_int limits[3] = {PQ_INT32("zero_point", 0), PQ_INT32("quant_min", 0),
                        PQ_INT32("quant_max", 0)};
    if (!pq_to_real(PyTuple_GET_ITEM(object, 0), &scale)) {
        return 0;
    }
    for (int i = 0; i < 3; ++i) {
        if (!pq_to_int(PyTuple_GET_ITEM(object, i + 1), &limits[i])) {
            return 0;
        }
    }
    arg->affine = (pq_affine){(float)scale.value, (int32_t)limits[0].value,
                              (int32_t)limits[1].value, (int32_t)limits[2].value};
    return 1;
}

static int to_dtype(PyObject *object, bool s32_allowed, pq_dtype *type) {
    PyArray_Descr *descr = NULL;
    if (!PyArray_DescrConverter(object, &descr)) {
        return 0;
    }
    const int number = PyArray_ISNBO(descr->byteorder) ? descr->type_num : NPY_NOTYPE;
    Py_DECREF(descr);
    if (number == NPY_INT8 || number == NPY_INT16) {
        *type = number == NPY_INT8 ? PQ_S8 : PQ_S16;
        return 1;
    }
    if (number == NPY_INT32 && s32_allowed) {
        *type = PQ_S32;
        return 1;
    }
    PyErr_Format(PyExc_TypeError, "expected dtype to be int8%s int16%s, got %R",
                 s32_allowed ? "," : " or", s32_allowed ? " or int32" : "", object);
    return 0;
}

int pq_to_edge_type(PyObject *object, void *type) {
    return to_dtype(object, false, type);
}

int pq_to_gemm_type(PyObject *object, void *type) {
    return to_dtype(object, true, type);
}
