/* pyquant._C: the module. */
#define PQ_IMPORT_ARRAY
#include "binding.h"

#include <stdlib.h>

#include "pyquant/attention.h"
#include "pyquant/cpu.h"
#include "pyquant/layout.h"
#include "pyquant/observe.h"
#include "pyquant/program.h"

/* A limit that cannot be honoured stops the import: a benchmark or a bit-exactness check on another
 * kernel than the one asked for would be worse than none. */
static int read_environment(void) {
    const char *name = getenv("PYQUANT_ISA");
    if (name == NULL || name[0] == '\0') {
        return 0;
    }
    const pq_status status = pq_isa_limit(name);
    if (status == PQ_OK) {
        return 0;
    }
    if (status == PQ_ERR_UNSUPPORTED) {
        PyErr_Format(PyExc_NotImplementedError,
                     "PYQUANT_ISA: this machine or build has no '%.50s'; its best is '%s'", name,
                     pq_isa_name(pq_isa_active()));
    } else {
        PyErr_Format(
            PyExc_ValueError,
            "PYQUANT_ISA: expected ref, avx2, avx512, avx512vnni, neon or neondot, got '%.50s'",
            name);
    }
    return -1;
}

static int add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type) {
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *type == NULL ? -1 : PyModule_AddType(module, *type);
}

static int add_constants(PyObject *module) {
    static const struct {
        const char *name;
        long value;
    } rows[] = {
        {"HISTOGRAM_BINS", PQ_HISTOGRAM_BINS}, {"HISTOGRAM_EMPTY", PQ_HISTOGRAM_EMPTY},
        {"MASK_ADD_LIMIT", PQ_MASK_ADD_LIMIT}, {"MAX_ATTRS", PQ_MAX_ATTRS},
        {"MAX_CONCAT", PQ_MAX_CONCAT},         {"MAX_DIMS", PQ_MAX_DIMS},
        {"MAX_INPUTS", PQ_MAX_INPUTS},         {"MAX_VALUES", PQ_MAX_VALUES},
        {"METRICS_STATE", PQ_METRICS_STATE},   {"SOFTMAX_TABLE_SIZE", PQ_SOFTMAX_TABLE_SIZE}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        if (PyModule_AddIntConstant(module, rows[i].name, rows[i].value) < 0) {
            return -1;
        }
    }
    return 0;
}

static int module_exec(PyObject *module) {
    PyMethodDef *const parts[] = {
        pq_gemm_methods,        pq_gemm_s8s4_methods, pq_attention_methods,    pq_layernorm_methods,
        pq_elementwise_methods, pq_layout_methods,    pq_quantize_methods,     pq_observe_methods,
        pq_derive_methods,      pq_unary_functions,   pq_method_methods,       pq_system_methods,
        pq_probe_methods,       pq_metrics_methods,   pq_softmax_rows_methods, pq_levels_methods,
        pq_fake_methods};
    pq_state *state = pq_state_of(module);
    if (PyArray_ImportNumPyAPI() < 0 || read_environment() < 0) {
        return -1;
    }
    PyObject *threading = PyImport_ImportModule("threading");
    if (threading == NULL) {
        return -1;
    }
    state->main_thread = PyObject_GetAttrString(threading, "main_thread");
    Py_DECREF(threading);
    if (state->main_thread == NULL) {
        return -1;
    }
    state->program_error = PyErr_NewExceptionWithDoc(
        "pyquant.ProgramError",
        "A program or its file is malformed; the message names the place and the rule.",
        PyExc_ValueError, NULL);
    if (state->program_error == NULL ||
        PyModule_AddObjectRef(module, "ProgramError", state->program_error) < 0 ||
        add_type(module, &pq_weights_spec, &state->weights_type) < 0 ||
        add_type(module, &pq_program_spec, &state->program_type) < 0 || add_constants(module) < 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; ++i) {
        if (PyModule_AddFunctions(module, parts[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    pq_state *state = pq_state_of(module);
    Py_VISIT(state->program_error);
    Py_VISIT(state->main_thread);
    Py_VISIT(state->weights_type);
    Py_VISIT(state->program_type);
    return 0;
}

static int module_clear(PyObject *module) {
    pq_state *state = pq_state_of(module);
    Py_CLEAR(state->program_error);
    Py_CLEAR(state->main_thread);
    Py_CLEAR(state->weights_type);
    Py_CLEAR(state->program_type);
    return 0;
}

static void module_free(void *module) {
    (void)module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static PyModuleDef module_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "pyquant._C",
    .m_doc = "The integer kernels, the constants behind them, and programs, on NumPy arrays.",
    .m_size = sizeof(pq_state),
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__C(void);
PyMODINIT_FUNC PyInit__C(void) {
    return PyModuleDef_Init(&module_def);
}
