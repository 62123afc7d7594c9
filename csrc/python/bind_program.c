/* Program: a validated integer program, run on arrays. Shapes and scales are pyquant/engine's. */
#include "binding.h"

#include <string.h>

#include "pyquant/program.h"

enum { VALUE_FIELDS = 4, INSTRUCTION_FIELDS = 1 + PQ_MAX_INPUTS + 1 + PQ_MAX_ATTRS };
_Static_assert(sizeof(pq_value) == VALUE_FIELDS * sizeof(int64_t), "a row of values");
_Static_assert(sizeof(pq_instruction) == INSTRUCTION_FIELDS * sizeof(int64_t),
               "a row of instructions");

static const char op[] = "program";

/* Where the attributes that size an attention's sub-sites stand (instructions.def). */
enum { ATTR_GROUPS = 0, ATTR_HEADS = 1, ATTR_Q_LEN = 3, ATTR_K_LEN = 4 };

typedef struct program_object {
    PyObject_HEAD pq_program *program; /* immutable: any number of threads may run it */
    pq_value *values;
    pq_instruction *instructions;
    int64_t *inputs, *outputs; /* value indices */
    npy_intp value_count, instruction_count, input_count, output_count;
} program_object;

static void program_dealloc(PyObject *object) {
    program_object *self = (program_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    pq_program_free(self->program);
    pq_free(self->values);
    pq_free(self->instructions);
    pq_free(self->inputs);
    pq_free(self->outputs);
    type->tp_free(object);
    Py_DECREF(type);
}

/* A copy of `count` rows of int64; also for 0 rows a block that is not NULL. */
static void *copy_rows(PyArrayObject *array, size_t row_size) {
    const size_t size = (size_t)PyArray_DIM(array, 0) * row_size;
    void *block = pq_alloc(size > 0 ? size : 1);
    if (block == NULL) {
        PyErr_NoMemory();
    } else if (size > 0) {
        memcpy(block, PyArray_DATA(array), size);
    }
    return block;
}

static bool check_columns(const char *name, PyArrayObject *array, npy_intp columns) {
    if (PyArray_DIM(array, 1) == columns) {
        return true;
    }
    PyErr_Format(PyExc_ValueError, "%s: expected %s of %zd columns, got %zd", op, name,
                 (Py_ssize_t)columns, (Py_ssize_t)PyArray_DIM(array, 1));
    return false;
}

/* Everything of `self` but the program itself. */
static bool copy_description(program_object *self, PyArrayObject *values,
                             PyArrayObject *instructions, PyArrayObject *outputs) {
    self->value_count = PyArray_DIM(values, 0);
    self->instruction_count = PyArray_DIM(instructions, 0);
    self->output_count = PyArray_DIM(outputs, 0);
    self->values = copy_rows(values, sizeof(pq_value));
    if (self->values == NULL) {
        return false;
    }
    self->instructions = copy_rows(instructions, sizeof(pq_instruction));
    if (self->instructions == NULL) {
        return false;
    }
    self->outputs = copy_rows(outputs, sizeof(int64_t));
    if (self->outputs == NULL) {
        return false;
    }
    self->inputs = pq_alloc(((size_t)self->value_count + 1) * sizeof(int64_t));
    if (self->inputs == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (npy_intp i = 0; i < self->value_count; ++i) {
        if (self->values[i].kind == PQ_VALUE_INPUT) {
            self->inputs[self->input_count++] = i;
        }
    }
    return true;
}

static PyObject *program_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"values", "instructions", "constants", "outputs", NULL};
    PyObject *values_object, *instructions_object, *constants_object, *outputs_object,
        *items = NULL;
    PyArrayObject *values = NULL, *instructions = NULL, *outputs = NULL, *constant = NULL;
    const void **constants = NULL;
    size_t *constant_sizes = NULL;
    program_object *self = NULL;
    bool done = false;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO:Program", keywords, &values_object,
                                     &instructions_object, &constants_object, &outputs_object)) {
        return NULL;
    }
    items = PySequence_Tuple(constants_object);
    if (items == NULL || !pq_take(op, "values", values_object, PQ_T_S64, 2, 0, &values) ||
        !check_columns("values", values, VALUE_FIELDS) ||
        !pq_take(op, "instructions", instructions_object, PQ_T_S64, 2, 0, &instructions) ||
        !check_columns("instructions", instructions, INSTRUCTION_FIELDS) ||
        !pq_take(op, "outputs", outputs_object, PQ_T_S64, 1, 0, &outputs)) {
        goto done;
    }
    if (PyTuple_GET_SIZE(items) != PyArray_DIM(values, 0)) {
        PyErr_Format(PyExc_ValueError,
                     "%s: expected constants for %zd values (None if not const), got %zd", op,
                     (Py_ssize_t)PyArray_DIM(values, 0), PyTuple_GET_SIZE(items));
        goto done;
    }
    self = (program_object *)type->tp_alloc(type, 0);
    if (self == NULL || !copy_description(self, values, instructions, outputs)) {
        goto done;
    }
    constants = pq_alloc(((size_t)self->value_count + 1) * sizeof *constants);
    constant_sizes = pq_alloc(((size_t)self->value_count + 1) * sizeof *constant_sizes);
    if (constants == NULL || constant_sizes == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (npy_intp i = 0; i < self->value_count; ++i) {
        constants[i] = NULL;
        constant_sizes[i] = 0;
        if (!pq_take(op, "constants", PyTuple_GET_ITEM(items, i), PQ_T_INTEGER, -1, PQ_OPTIONAL,
                     &constant)) {
            goto done;
        }
        if (constant == NULL) {
            continue;
        }
        const int64_t expected = self->values[i].dtype;
        if (self->values[i].kind == PQ_VALUE_CONST &&
            (int64_t)pq_array_type(constant) != expected) {
            PyErr_Format(PyExc_TypeError,
                         "%s: expected constants[%zd] of the dtype of its value, got %R", op,
                         (Py_ssize_t)i, (PyObject *)PyArray_DESCR(constant));
            goto done;
        }
        constants[i] = PyArray_DATA(constant);
        constant_sizes[i] = (size_t)PyArray_NBYTES(constant);
        Py_CLEAR(constant); /* `items` keeps it alive */
    }
    const pq_program_desc desc = {
        .value_count = (size_t)self->value_count,
        .values = self->values,
        .constants = constants,
        .constant_sizes = constant_sizes,
        .instruction_count = (size_t)self->instruction_count,
        .instructions = self->instructions,
        .output_count = (size_t)self->output_count,
        .outputs = self->outputs,
    };
    pq_call_begin(&call, PyType_GetModuleState(type), 1);
    const pq_status status = pq_program_create(&call.exec, &desc, &self->program);
    done = pq_call_end(&call, status) == 0;
done:
    Py_XDECREF(items);
    Py_XDECREF(values);
    Py_XDECREF(instructions);
    Py_XDECREF(outputs);
    Py_XDECREF(constant);
    pq_free(constants);
    pq_free(constant_sizes);
    if (!done) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* Elements that value i holds at this batch size; false with OverflowError. */
static bool value_elements(const program_object *self, int64_t i, size_t batch, npy_intp *count) {
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

static PyArrayObject *new_value(const program_object *self, int64_t i, size_t batch) {
    npy_intp count;
    if (!value_elements(self, i, batch, &count)) {
        return NULL;
    }
    const npy_intp dims[2] = {(npy_intp)batch, (npy_intp)self->values[i].size};
    const pq_dtype type = (pq_dtype)self->values[i].dtype;
    return self->values[i].batched ? pq_new_array(2, dims, type) : pq_new_array(1, &count, type);
}

/* What a run borrows: arrays held by reference, and the pointers the core takes. */
typedef struct run_arrays {
    PyObject *inputs, *outputs; /* tuples that own the arrays */
    const void **input_data;
    void **output_data;
    size_t batch;
} run_arrays;

static void release_run(run_arrays *run) {
    Py_XDECREF(run->inputs);
    Py_XDECREF(run->outputs);
    pq_free(run->input_data);
    pq_free(run->output_data);
}

static bool take_value(const program_object *self, const char *name, Py_ssize_t position, int64_t i,
                       PyObject *object, size_t batch, unsigned flags) {
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

static bool prepare_run(const program_object *self, PyObject *inputs, PyObject *outputs,
                        run_arrays *run) {
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

static PyObject *program_run(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"batch", "inputs", "outputs", "threads", NULL};
    program_object *self = (program_object *)object;
    PyObject *inputs, *outputs = NULL, *result = NULL;
    run_arrays run = {.inputs = NULL};
    pq_int batch = PQ_SIZE("batch", 0), threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O|OO&:run", keywords, pq_to_int, &batch,
                                     &inputs, &outputs, pq_to_int, &threads)) {
        return NULL;
    }
    run.batch = (size_t)batch.value;
    if (!prepare_run(self, inputs, outputs, &run)) {
        goto done;
    }
    pq_call_begin(&call, PyType_GetModuleState(Py_TYPE(object)), (int)threads.value);
    const pq_status status =
        pq_program_run(self->program, &call.exec, run.batch, run.input_data, run.output_data);
    if (pq_call_end(&call, status) == 0) {
        result = Py_NewRef(run.outputs);
    }
done:
    release_run(&run);
    return result;
}

/* The arrays that receive an attention's sub-sites, as a tuple (score, p, l). */
static PyObject *new_trace(const program_object *self, Py_ssize_t i, size_t batch,
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

static PyObject *program_trace(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"batch", "inputs", "values", "attention", "threads", NULL};
    program_object *self = (program_object *)object;
    PyObject *inputs, *values, *attention, *value_items = NULL, *attention_items = NULL,
                                           *result = NULL;
    PyObject *value_arrays = NULL, *attention_arrays = NULL;
    void **value_data = NULL;
    pq_attention_trace *traces = NULL;
    run_arrays run = {.inputs = NULL};
    pq_int batch = PQ_SIZE("batch", 0), threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&OOO|O&:trace", keywords, pq_to_int, &batch,
                                     &inputs, &values, &attention, pq_to_int, &threads)) {
        return NULL;
    }
    run.batch = (size_t)batch.value;
    if (!prepare_run(self, inputs, NULL, &run)) {
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
    release_run(&run);
    return result;
}

/* What a run does, step by step: rows (instruction, consumer, macs, bytes, constant_bytes). */
static PyObject *program_steps(PyObject *object, PyObject *args) {
    const program_object *self = (program_object *)object;
    pq_int batch = PQ_SIZE("batch", 0);
    PyObject *result = NULL;

    if (!PyArg_ParseTuple(args, "O&:steps", pq_to_int, &batch)) {
        return NULL;
    }
    const size_t count = pq_program_step_count(self->program);
    pq_program_step *steps = pq_alloc((count + 1) * sizeof *steps);
    if (steps == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    pq_program_steps(self->program, (size_t)batch.value, steps);
    result = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; result != NULL && i < count; ++i) {
        PyObject *row =
            Py_BuildValue("nnKKK", (Py_ssize_t)steps[i].instruction, (Py_ssize_t)steps[i].consumer,
                          (unsigned long long)steps[i].macs, (unsigned long long)steps[i].bytes,
                          (unsigned long long)steps[i].constant_bytes);
        if (row == NULL) {
            Py_CLEAR(result);
        } else {
            PyList_SET_ITEM(result, (Py_ssize_t)i, row);
        }
    }
done:
    pq_free(steps);
    return result;
}

/* A run; nanoseconds of each step. */
static PyObject *program_profile(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"batch", "inputs", "threads", NULL};
    program_object *self = (program_object *)object;
    PyObject *inputs, *result = NULL;
    uint64_t *nanoseconds = NULL;
    run_arrays run = {.inputs = NULL};
    pq_int batch = PQ_SIZE("batch", 0), threads = PQ_THREADS;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O|O&:profile", keywords, pq_to_int, &batch,
                                     &inputs, pq_to_int, &threads)) {
        return NULL;
    }
    run.batch = (size_t)batch.value;
    const size_t count = pq_program_step_count(self->program);
    nanoseconds = pq_alloc((count + 1) * sizeof *nanoseconds);
    if (nanoseconds == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    if (!prepare_run(self, inputs, NULL, &run)) {
        goto done;
    }
    pq_call_begin(&call, PyType_GetModuleState(Py_TYPE(object)), (int)threads.value);
    const pq_status status = pq_program_profile(self->program, &call.exec, run.batch,
                                                run.input_data, run.output_data, nanoseconds);
    if (pq_call_end(&call, status) == 0) {
        result = PyTuple_New((Py_ssize_t)count);
    }
    for (size_t i = 0; result != NULL && i < count; ++i) {
        PyObject *number = PyLong_FromUnsignedLongLong(nanoseconds[i]);
        if (number == NULL) {
            Py_CLEAR(result);
        } else {
            PyTuple_SET_ITEM(result, (Py_ssize_t)i, number);
        }
    }
done:
    pq_free(nanoseconds);
    release_run(&run);
    return result;
}

static PyObject *program_arena_size(PyObject *object, void *closure) {
    (void)closure;
    return PyLong_FromSize_t(pq_program_arena_size(((program_object *)object)->program));
}

static PyObject *program_context_count(PyObject *object, void *closure) {
    (void)closure;
    return PyLong_FromSize_t(pq_program_context_count(((program_object *)object)->program));
}

static PyMethodDef program_methods[] = {
    PQ_KEYWORD_METHOD(
        "run", program_run,
        "run(batch, inputs, outputs=None, threads=None)\n--\n\nA tuple of output arrays."),
    PQ_KEYWORD_METHOD(
        "trace", program_trace,
        "trace(batch, inputs, values, attention, threads=None)\n--\n\n"
        "(outputs, arrays of the values named, (score, p, l) of the attentions named)."),
    {"steps", program_steps, METH_VARARGS,
     "steps(batch)\n--\n\nRows (instruction, consumer, macs, bytes, constant_bytes) of a run."},
    PQ_KEYWORD_METHOD("profile", program_profile,
                      "profile(batch, inputs, threads=None)\n--\n\nRun; nanoseconds of each step."),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef program_getset[] = {
    {"arena_size", program_arena_size, NULL, "Bytes of working memory a sample.", NULL},
    {"context_count", program_context_count, NULL, "Working memories made so far.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot program_slots[] = {
    {Py_tp_doc,
     "Program(values, instructions, constants, outputs): int64 rows as in program.h, validated."},
    {Py_tp_new, program_new},
    {Py_tp_dealloc, program_dealloc},
    {Py_tp_methods, program_methods},
    {Py_tp_getset, program_getset},
    {0, NULL},
};

PyType_Spec pq_program_spec = {
    .name = "pyquant._C.Program",
    .basicsize = sizeof(program_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = program_slots,
};
