/* Calling an entry point: the GIL, Ctrl-C, and what a status becomes in Python. */
#include "binding.h"

#include <time.h>

/* Taking the GIL costs up to a switch interval (5 ms) when another thread runs Python code, so it
 * is not taken at every range. With ranges under 10 ms, Ctrl-C is answered well within 50 ms. */
#define POLL_INTERVAL_NS INT64_C(10000000)

static int64_t now_ns(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) {
        return 0;
    }
    return (int64_t)now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* 1, 0, or -1 with an exception. Signals are handled by the main thread alone. */
static int on_main_thread(const pq_state *state) {
    int answer = -1;
    PyObject *ident = NULL;
    PyObject *main_thread = PyObject_CallNoArgs(state->main_thread);
    if (main_thread == NULL) {
        goto done;
    }
    ident = PyObject_GetAttrString(main_thread, "ident");
    if (ident == NULL) {
        goto done;
    }
    answer = PyLong_AsUnsignedLongMask(ident) == PyThread_get_thread_ident();
done:
    Py_XDECREF(ident);
    Py_XDECREF(main_thread);
    return answer;
}

/* pq_exec.poll: on the calling thread, without the GIL. A handler's exception stays set in this
 * thread's state until pq_call_end finds it. */
static bool poll_signals(void *arg) {
    pq_call *call = arg;
    if (now_ns() < call->next_poll) {
        return false;
    }
    bool stop;
    PyEval_RestoreThread(call->thread);
    const int on_main = on_main_thread(call->state);
    if (on_main == 0) {
        call->next_poll = INT64_MAX;
        stop = false;
    } else {
        stop = on_main < 0 || PyErr_CheckSignals() < 0;
        call->next_poll = now_ns() + POLL_INTERVAL_NS;
    }
    call->thread = PyEval_SaveThread();
    return stop;
}

void pq_call_begin(pq_call *call, const pq_state *state, int threads) {
    call->message[0] = '\0';
    call->state = state;
    call->next_poll = now_ns() + POLL_INTERVAL_NS;
    call->exec = pq_exec_openmp(threads, call->message, sizeof call->message);
    call->exec.poll = poll_signals;
    call->exec.poll_arg = call;
    call->thread = PyEval_SaveThread();
}

int pq_call_end(pq_call *call, pq_status status) {
    PyEval_RestoreThread(call->thread);
    if (PyErr_Occurred()) { /* raised by a signal handler, perhaps after the last range */
        return -1;
    }
    return status == PQ_OK ? 0 : pq_raise(call->state, status, call->message);
}

static PyObject *exception_of(const pq_state *state, pq_status status) {
    switch (status) {
    case PQ_OK: return PyExc_SystemError;
    case PQ_ERR_VALUE: return PyExc_ValueError;
    case PQ_ERR_OVERFLOW: return PyExc_OverflowError;
    case PQ_ERR_NAN: return PyExc_ValueError;
    case PQ_ERR_INDEX: return PyExc_IndexError;
    case PQ_ERR_NOMEM: return PyExc_MemoryError;
    case PQ_ERR_INTERRUPTED: return PyExc_KeyboardInterrupt;
    case PQ_ERR_PROGRAM: return state->program_error;
    case PQ_ERR_UNSUPPORTED: return PyExc_NotImplementedError;
    }
    return PyExc_SystemError;
}

int pq_raise(const pq_state *state, pq_status status, const char *message) {
    const bool silent = message == NULL || message[0] == '\0';
    PyErr_SetString(exception_of(state, status), silent ? pq_status_name(status) : message);
    return -1;
}
