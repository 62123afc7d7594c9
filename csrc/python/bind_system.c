/* The machine, the kernel list, the instruction table, and test hooks. */
#include "binding.h"

#include "pyquant/cpu.h"
#include "pyquant/program.h"

static PyObject *isa_names(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    PyObject *names = PyTuple_New(PQ_ISA_COUNT);
    for (int i = 0; names != NULL && i < PQ_ISA_COUNT; ++i) {
        PyObject *name = PyUnicode_FromString(pq_isa_name((pq_isa)i));
        if (name == NULL) {
            Py_CLEAR(names);
        } else {
            PyTuple_SET_ITEM(names, i, name);
        }
    }
    return names;
}

static PyObject *isa_active(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyUnicode_FromString(pq_isa_name(pq_isa_active()));
}

static PyObject *isa_limit(PyObject *module, PyObject *args) {
    const char *name = NULL;
    if (!PyArg_ParseTuple(args, "|z:isa_limit", &name)) {
        return NULL;
    }
    const pq_status status = pq_isa_limit(name);
    if (status == PQ_ERR_VALUE) {
        return PyErr_Format(
            PyExc_ValueError,
            "isa_limit: expected ref, avx2, avx512, avx512vnni, neon or neondot, got "
            "'%.50s'",
            name);
    }
    if (status == PQ_ERR_UNSUPPORTED) {
        return PyErr_Format(PyExc_NotImplementedError,
                            "isa_limit: this machine or build has no '%.50s'; its best is '%s'",
                            name, pq_isa_name(pq_isa_active()));
    }
    if (status != PQ_OK) {
        pq_raise(pq_state_of(module), status, NULL);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *features_tuple(uint32_t features) {
    static const struct {
        uint32_t bit;
        const char *name;
    } rows[] = {{PQ_CPU_AVX2, "avx2"},     {PQ_CPU_FMA, "fma"},
                {PQ_CPU_AVX512, "avx512"}, {PQ_CPU_AVX512VNNI, "avx512vnni"},
                {PQ_CPU_NEON, "neon"},     {PQ_CPU_DOTPROD, "dotprod"}};
    PyObject *list = PyList_New(0), *result = NULL;
    if (list == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        if (features & rows[i].bit) {
            PyObject *name = PyUnicode_FromString(rows[i].name);
            const int failed = name == NULL ? -1 : PyList_Append(list, name);
            Py_XDECREF(name);
            if (failed < 0) {
                goto done;
            }
        }
    }
    result = PyList_AsTuple(list);
done:
    Py_DECREF(list);
    return result;
}

static PyObject *cpu_features(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return features_tuple(pq_cpu_features());
}

static PyObject *kernels(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    const int count = pq_kernel_rows(NULL, 0);
    PyObject *list = NULL;
    pq_kernel_row *rows = PyMem_New(pq_kernel_row, (size_t)count);
    if (rows == NULL) {
        return PyErr_NoMemory();
    }
    pq_kernel_rows(rows, count);
    list = PyList_New(0);
    for (int i = 0; list != NULL && i < count; ++i) {
        PyObject *row =
            Py_BuildValue("ssNO", rows[i].op, pq_isa_name(rows[i].isa),
                          features_tuple(rows[i].needs), rows[i].eligible ? Py_True : Py_False);
        const int failed = row == NULL ? -1 : PyList_Append(list, row);
        Py_XDECREF(row);
        if (failed < 0) {
            Py_CLEAR(list);
        }
    }
    PyMem_Free(rows);
    return list;
}

static PyObject *instructions(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
#define PQ_INSTRUCTION(NAME, name, min_inputs, max_inputs, attrs) \
    {#name, min_inputs, max_inputs, attrs},
    static const struct {
        const char *name;
        int min_inputs, max_inputs;
        const char *attrs;
    } rows[] = {
#include "pyquant/instructions.def"
    };
#undef PQ_INSTRUCTION
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < sizeof rows / sizeof rows[0]; ++i) {
        PyObject *row = Py_BuildValue("siis", rows[i].name, rows[i].min_inputs, rows[i].max_inputs,
                                      rows[i].attrs);
        const int failed = row == NULL ? -1 : PyList_Append(list, row);
        Py_XDECREF(row);
        if (failed < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static PyObject *num_threads(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromLong(pq_exec_openmp(0, NULL, 0).num_threads);
}

static PyObject *alloc_fail_after(PyObject *module, PyObject *args) {
    (void)module;
    long calls;
    if (!PyArg_ParseTuple(args, "l:_alloc_fail_after", &calls)) {
        return NULL;
    }
    pq_alloc_fail_after(calls);
    Py_RETURN_NONE;
}

static PyObject *alloc_live(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromLong(pq_alloc_live());
}

PyMethodDef pq_system_methods[] = {
    {"isa_names", isa_names, METH_NOARGS,
     "isa_names()\n--\n\nEvery instruction set, slow to fast."},
    {"isa_active", isa_active, METH_NOARGS,
     "isa_active()\n--\n\nThe best that is present and allowed."},
    {"isa_limit", isa_limit, METH_VARARGS,
     "isa_limit(name=None)\n--\n\nLimit weights packed from now on to an instruction set; None "
     "lifts it."},
    {"cpu_features", cpu_features, METH_NOARGS, "cpu_features()\n--\n\nWhat this machine has."},
    {"kernels", kernels, METH_NOARGS,
     "kernels()\n--\n\nRows (op, isa, needs, eligible) of the kernel list."},
    {"instructions", instructions, METH_NOARGS,
     "instructions()\n--\n\nRows (name, min_inputs, max_inputs, attribute names) by opcode."},
    {"num_threads", num_threads, METH_NOARGS, "num_threads()\n--\n\nThreads that None means."},
    {"_alloc_fail_after", alloc_fail_after, METH_VARARGS,
     "_alloc_fail_after(calls)\n--\n\nTest hook of exec.h."},
    {"_alloc_live", alloc_live, METH_NOARGS, "_alloc_live()\n--\n\nTest hook of exec.h."},
    {NULL, NULL, 0, NULL},
};
