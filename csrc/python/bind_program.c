/* Program: a validated integer program, run on arrays. Shapes and scales are pyquant/engine's. */
#include "bind_program.h"

#include <string.h>

enum { VALUE_FIELDS = 4, INSTRUCTION_FIELDS = 1 + PQ_MAX_INPUTS + 1 + PQ_MAX_ATTRS };
_Static_assert(sizeof(pq_value) == VALUE_FIELDS * sizeof(int64_t), "a row of values");
_Static_assert(sizeof(pq_instruction) == INSTRUCTION_FIELDS * sizeof(int64_t),
               "a row of instructions");

static const char op[] = "program";

static void program_dealloc(PyObject *object) {
    pq_program_object *self = (pq_program_object *)object;
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
static bool copy_description(pq_program_object *self, PyArrayObject *values,
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
    pq_program_object *self = NULL;
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
    self = (pq_program_object *)type->tp_alloc(type, 0);
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

static PyObject *program_arena_size(PyObject *object, void *closure) {
    (void)closure;
    return PyLong_FromSize_t(pq_program_arena_size(((pq_program_object *)object)->program));
}

static PyObject *program_context_count(PyObject *object, void *closure) {
    (void)closure;
    return PyLong_FromSize_t(pq_program_context_count(((pq_program_object *)object)->program));
}

static PyMethodDef program_methods[] = {
    PQ_KEYWORD_METHOD(
        "run", pq_bind_program_run,
        "run(batch, inputs, outputs=None, threads=None)\n--\n\nA tuple of output arrays."),
    PQ_KEYWORD_METHOD(
        "trace", pq_bind_program_trace,
        "trace(batch, inputs, values, attention, threads=None)\n--\n\n"
        "(outputs, arrays of the values named, (score, p, l) of the attentions named)."),
    {"steps", pq_bind_program_steps, METH_VARARGS,
     "steps(batch)\n--\n\nRows (instruction, consumer, macs, bytes, constant_bytes) of a run."},
    PQ_KEYWORD_METHOD("profile", pq_bind_program_profile,
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
    .basicsize = sizeof(pq_program_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = program_slots,
};
