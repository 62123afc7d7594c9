/* Program: the object, and the methods that bind_program.c lists and other files hold. */
#ifndef PYQUANT_PYTHON_BIND_PROGRAM_H
#define PYQUANT_PYTHON_BIND_PROGRAM_H

#include "binding.h"
#include "pyquant/program.h"

typedef struct pq_program_object {
    PyObject_HEAD pq_program *program; /* immutable: any number of threads may run it */
    pq_value *values;
    pq_instruction *instructions;
    int64_t *inputs, *outputs; /* value indices */
    npy_intp value_count, instruction_count, input_count, output_count;
} pq_program_object;

/* What a run borrows: arrays held by reference, and the pointers the core takes. */
typedef struct pq_run_arrays {
    PyObject *inputs, *outputs; /* tuples that own the arrays */
    const void **input_data;
    void **output_data;
    size_t batch;
} pq_run_arrays;

/* Fills all but `batch`, which is given; `outputs` may be NULL or None: new arrays. False with an
 * exception on failure. To be released in any case. */
bool pq_prepare_run(const pq_program_object *self, PyObject *inputs, PyObject *outputs,
                    pq_run_arrays *run);
void pq_release_run(pq_run_arrays *run);

PyObject *pq_bind_program_run(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *pq_bind_program_trace(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *pq_bind_program_steps(PyObject *object, PyObject *args);
PyObject *pq_bind_program_profile(PyObject *object, PyObject *args, PyObject *kwargs);

#endif
