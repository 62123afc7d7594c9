#include "pyquant/status.h"

const char *pq_status_name(pq_status status) {
    switch (status) {
    case PQ_OK: return "ok";
    case PQ_ERR_VALUE: return "value";
    case PQ_ERR_OVERFLOW: return "overflow";
    case PQ_ERR_NAN: return "nan";
    case PQ_ERR_INDEX: return "index";
    case PQ_ERR_NOMEM: return "nomem";
    case PQ_ERR_INTERRUPTED: return "interrupted";
    case PQ_ERR_PROGRAM: return "program";
    case PQ_ERR_UNSUPPORTED: return "unsupported";
    }
    return "unknown";
}
