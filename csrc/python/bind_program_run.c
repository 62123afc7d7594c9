/* Runs of a Program: the arrays of a call, run and trace. */
#include "bind_program.h"

#include <string.h>

static const char op[] = "program";

/* Where the attributes that size an attention's sub-sites stand (instructions.def). */
enum { ATTR_GROUPS = 0, ATTR_HEADS = 1, ATTR_Q_LEN = 3, ATTR_K_LEN = 4 };

/* Elements that value i holds at this batch size; false with OverflowError. */
static bool value_elements(const pq_program_object *self, int64_t i, size_t batch,
                           npy_intp *count) {
    const pq_value *value = &self->values[i];
    size_t product;
    if (!pq_mul_size(value->batched ? batch : 1, (size_t)value->size, &product) ||
        product > (size_t)(PTRDIFF_MAX / 8)) {
        PyErr_Format(PyExc_OverflowError, "%s: value %lld does not fit in memory at batch %zu", op,
                     (long long)i, batch);
        return false;
    }
    *count = (npy_intp)product;
    return true;
}

static PyArrayObject *new_value(const pq_program_object *self, int64_t i, size_t batch) {
    npy_intp count;
    if (!value_elements(self, i, batch, &count)) {
        return NULL;
    }
    const npy_intp dims[2] = {(npy_intp)batch, (npy_intp)self->values[i].size};
    const pq_dtype type = (pq_dtype)self->values[i].dtype;
    return self->values[i].batched ? pq_new_array(2, dims, type) : pq_new_array(1, &count, type);
}

void pq_release_run(pq_run_arrays *run) {
    Py_XDECREF(run->inputs);
    Py_XDECREF(run->outputs);
    pq_free(run->input_data);
    pq_free(run->output_data);
}

static bool take_value(const pq_program_object *self, const char *name, Py_ssize_t position,
                       int64_t i, PyObject *object, size_t batch, unsigned flags) {
    static const unsigned types[] = {0, PQ_T_S8, PQ_T_U8, PQ_T_S16, PQ_T_S32, PQ_T_S64};
    char text[40];
    npy_intp count;
    PyArrayObject *array = NULL;
    PyOS_snprintf(text, sizeof text, "%s[%zd]", name, position);
    const bool good = value_elements(self, i, batch, &count) &&
                      pq_take(op, text, object, types[self->values[i].dtype], -1, flags, &array) &&
                      pq_check_size(op, text, array, count);
    Py_XDECREF(array);
    return good;
}

bool pq_prepare_run(const pq_program_object *self, PyObject *inputs, PyObject *outputs,
                    pq_run_arrays *run) {
    run->inputs = PySequence_Tuple(inputs);
    if (run->inputs == NULL) {
        return false;
    }
    if (PyTuple_GET_SIZE(run->inputs) != self->input_count) {
        PyErr_Format(PyExc_ValueError, "%s: expected %zd inputs, got %zd", op,
                     (Py_ssize_t)self->input_count, PyTuple_GET_SIZE(run->inputs));
        return false;
    }
    run->input_data = pq_alloc(((size_t)self->input_count + 1) * sizeof *run->input_data);
    run->output_data = pq_alloc(((size_t)self->output_count + 1) * sizeof *run->output_data);
    if (run->input_data == NULL || run->output_data == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (npy_intp i = 0; i < self->input_count; ++i) {
        PyObject *item = PyTuple_GET_ITEM(run->inputs, i);
        if (!take_value(self, "inputs", i, self->inputs[i], item, run->batch, 0)) {
            return false;
        }
        run->input_data[i] = PyArray_DATA((PyArrayObject *)item);
    }
    const bool given = outputs != NULL && outputs != Py_None;
    run->outputs = given ? PySequence_Tuple(outputs) : PyTuple_New(self->output_count);
    if (run->outputs == NULL) {
        return false;
    }
    if (PyTuple_GET_SIZE(run->outputs) != self->output_count) {
        PyErr_Format(PyExc_ValueError, "%s: expected %zd outputs, got %zd", op,
                     (Py_ssize_t)self->output_count, PyTuple_GET_SIZE(run->outputs));
        return false;
    }
    for (npy_intp i = 0; i < self->output_count; ++i) {
        if (!given) {
            PyArrayObject *made = new_value(self, self->outputs[i], run->batch);
            if (made == NULL) {
                return false;
            }
            PyTuple_SET_ITEM(run->outputs, i, (PyObject *)made);
        }
        PyObject *item = PyTuple_GET_ITEM(run->outputs, i);
        if (!take_value(self, "outputs", i, self->outputs[i], item, run->batch, PQ_WRITABLE)) {
            return false;
        }
        PyArrayObject *array = (PyArrayObject *)item;
        for (npy_intp j = 0; given && j < self->input_count; ++j) {
            if (!pq_check_overlap(op, array, "inputs",
                                  (PyArrayObject *)PyTuple_GET_ITEM(run->inputs, j), false)) {
                return false;
            }
        }
        for (npy_intp j = 0; given && j < i; ++j) {
            if (!pq_check_overlap(op, array, "another output",
                                  (PyArrayObject *)PyTuple_GET_ITEM(run->outputs, j), false)) {
                return false;
            }
        }
        run->output_data[i] = PyArray_DATA(array);
    }
    return true;
}

PyObject *pq_bind_program_run(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"batch", "inputs", "outputs", "threads", NULL};
    pq_program_object *self = (pq_program_object *)object;
    PyObject *inputs, *outputs = NULL, *result = NULL;
    pq_run_arrays run = {.inputs = NULL};
    pq_int batch = PQ_SIZE("batch", 0), threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O|OO&:run", keywords, pq_to_int, &batch,
                                     &inputs, &outputs, pq_to_int, &threads)) {
        return NULL;
    }
    run.batch = (size_t)batch.value;
    if (!pq_prepare_run(self, inputs, outputs, &run)) {
        goto done;
    }
    pq_call_begin(&call, PyType_GetModuleState(Py_TYPE(object)), (int)threads.value);
    const pq_status status =
        pq_program_run(self->program, &call.exec, run.batch, run.input_data, run.output_data);
    if (pq_call_end(&call, status) == 0) {
        result = Py_NewRef(run.outputs);
    }
done:
    pq_release_run(&run);
    return result;
}

/* The arrays that receive an attention's sub-sites, as a tuple (score, p, l). */
static PyObject *new_trace(const pq_program_object *self, Py_ssize_t i, size_t batch,
                           pq_attention_trace *trace) {
    if (self->instructions[i].opcode != PQ_OP_ATTENTION) {
        return PyErr_Format(PyExc_ValueError,
                            "%s: expected attention[..] to name an attention, got "
                            "instruction %zd",
                            op, i);
    }
    const int64_t *attrs = self->instructions[i].attrs;
    const bool batched = self->values[self->instructions[i].output].batched != 0;
    const npy_intp dims[5] = {batched ? (npy_intp)batch : 1, (npy_intp)attrs[ATTR_GROUPS],
                              (npy_intp)attrs[ATTR_HEADS], (npy_intp)attrs[ATTR_Q_LEN],
                              (npy_intp)attrs[ATTR_K_LEN]};
    PyObject *score = PyArray_SimpleNew(5, dims, NPY_INT32);
    PyObject *p = score != NULL ? PyArray_SimpleNew(5, dims, NPY_UINT16) : NULL;
    PyObject *l = p != NULL ? PyArray_SimpleNew(4, dims, NPY_UINT32) : NULL;
    PyObject *result = l != NULL ? PyTuple_Pack(3, score, p, l) : NULL;
    if (result != NULL) {
        trace->score = PyArray_DATA((PyArrayObject *)score);
        trace->p = PyArray_DATA((PyArrayObject *)p);
        trace->l = PyArray_DATA((PyArrayObject *)l);
    }
    Py_XDECREF(score);
    Py_XDECREF(p);
    Py_XDECREF(l);
    return result;
}

/* Reads item `position` of `items` as an index below `count`; -1 with an exception. */
static Py_ssize_t read_index(PyObject *items, Py_ssize_t position, const char *name,
                             npy_intp count) {
    pq_int index = {name, 0, count - 1, 0, false};
    return pq_to_int(PyTuple_GET_ITEM(items, position), &index) ? (Py_ssize_t)index.value : -1;
}

PyObject *pq_bind_program_trace(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"batch", "inputs", "values", "attention", "threads", NULL};
    pq_program_object *self = (pq_program_object *)object;
    PyObject *inputs, *values, *attention, *value_items = NULL, *attention_items = NULL,
                                           *result = NULL;
    PyObject *value_arrays = NULL, *attention_arrays = NULL;
    void **value_data = NULL;
    pq_attention_trace *traces = NULL;
    pq_run_arrays run = {.inputs = NULL};
    pq_int batch = PQ_SIZE("batch", 0), threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&OOO|O&:trace", keywords, pq_to_int, &batch,
                                     &inputs, &values, &attention, pq_to_int, &threads)) {
        return NULL;
    }
    run.batch = (size_t)batch.value;
    if (!pq_prepare_run(self, inputs, NULL, &run)) {
        goto done;
    }
    value_items = PySequence_Tuple(values);
    attention_items = value_items != NULL ? PySequence_Tuple(attention) : NULL;
    value_arrays = attention_items != NULL ? PyTuple_New(PyTuple_GET_SIZE(value_items)) : NULL;
    attention_arrays = value_arrays != NULL ? PyTuple_New(PyTuple_GET_SIZE(attention_items)) : NULL;
    if (attention_arrays == NULL) {
        goto done;
    }
    const size_t value_bytes = ((size_t)self->value_count + 1) * sizeof *value_data;
    const size_t trace_bytes = ((size_t)self->instruction_count + 1) * sizeof *traces;
    value_data = pq_alloc(value_bytes);
    traces = pq_alloc(trace_bytes);
    if (value_data == NULL || traces == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    memset(value_data, 0, value_bytes);
    memset(traces, 0, trace_bytes);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value_items); ++i) {
        const Py_ssize_t index = read_index(value_items, i, "values[..]", self->value_count);
        if (index >= 0 && value_data[index] != NULL) {
            PyErr_Format(PyExc_ValueError, "%s: expected distinct values, got %zd twice", op,
                         index);
            goto done;
        }
        PyArrayObject *array = index < 0 ? NULL : new_value(self, index, run.batch);
        if (array == NULL) {
            goto done;
        }
        PyTuple_SET_ITEM(value_arrays, i, (PyObject *)array);
        value_data[index] = PyArray_DATA(array);
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(attention_items); ++i) {
        const Py_ssize_t index =
            read_index(attention_items, i, "attention[..]", self->instruction_count);
        if (index >= 0 && traces[index].score != NULL) {
            PyErr_Format(PyExc_ValueError, "%s: expected distinct attention, got %zd twice", op,
                         index);
            goto done;
        }
        PyObject *arrays = index < 0 ? NULL : new_trace(self, index, run.batch, &traces[index]);
        if (arrays == NULL) {
            goto done;
        }
        PyTuple_SET_ITEM(attention_arrays, i, arrays);
    }
    pq_call_begin(&call, PyType_GetModuleState(Py_TYPE(object)), (int)threads.value);
    const pq_status status = pq_program_trace(self->program, &call.exec, run.batch, run.input_data,
                                              run.output_data, value_data, traces);
    if (pq_call_end(&call, status) == 0) {
        result = PyTuple_Pack(3, run.outputs, value_arrays, attention_arrays);
    }
done:
    Py_XDECREF(value_items);
    Py_XDECREF(attention_items);
    Py_XDECREF(value_arrays);
    Py_XDECREF(attention_arrays);
    pq_free(value_data);
    pq_free(traces);
    pq_release_run(&run);
    return result;
}
