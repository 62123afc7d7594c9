/* What this machine can do at most: `engine.profile` sets it beside its times. */
#include "binding.h"

#include "pyquant/probe.h"

static PyObject *probe_multiply_add(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"threads", NULL};
    pq_int threads = PQ_THREADS;
    pq_probe_rate rate;
    pq_isa isa;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&:probe_multiply_add", keywords, pq_to_int,
                                     &threads)) {
        return NULL;
    }
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status = pq_probe_multiply_add(&call.exec, &isa, &rate);
    if (pq_call_end(&call, status) < 0) {
        return NULL;
    }
    return Py_BuildValue("sKK", pq_isa_name(isa), (unsigned long long)rate.work,
                         (unsigned long long)rate.nanoseconds);
}

static PyObject *probe_read(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"bytes", "threads", NULL};
    pq_int bytes = PQ_SIZE("bytes", 0), threads = PQ_THREADS;
    pq_probe_rate rate;
    pq_call call;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|O&:probe_read", keywords, pq_to_int, &bytes,
                                     pq_to_int, &threads)) {
        return NULL;
    }
    pq_call_begin(&call, pq_state_of(module), (int)threads.value);
    const pq_status status = pq_probe_read(&call.exec, (size_t)bytes.value, &rate);
    if (pq_call_end(&call, status) < 0) {
        return NULL;
    }
    return Py_BuildValue("KK", (unsigned long long)rate.work, (unsigned long long)rate.nanoseconds);
}

PyMethodDef pq_probe_methods[] = {
    PQ_KEYWORD_METHOD("probe_multiply_add", probe_multiply_add,
                      "probe_multiply_add(threads=None)\n--\n\n(isa, multiply-adds, nanoseconds)."),
    PQ_KEYWORD_METHOD("probe_read", probe_read,
                      "probe_read(bytes, threads=None)\n--\n\n(bytes read, nanoseconds)."),
    {NULL, NULL, 0, NULL},
};
