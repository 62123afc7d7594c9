/* Where the time of a Program goes: what its steps do, and how long each takes. */
#include "bind_program.h"

/* What a run does, step by step: rows (instruction, consumer, macs, bytes, constant_bytes). */
PyObject *pq_bind_program_steps(PyObject *object, PyObject *args) {
    const pq_program_object *self = (pq_program_object *)object;
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
PyObject *pq_bind_program_profile(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"batch", "inputs", "threads", NULL};
    pq_program_object *self = (pq_program_object *)object;
    PyObject *inputs, *result = NULL;
    uint64_t *nanoseconds = NULL;
    pq_run_arrays run = {.inputs = NULL};
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
    if (!pq_prepare_run(self, inputs, NULL, &run)) {
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
    pq_release_run(&run);
    return result;
}
