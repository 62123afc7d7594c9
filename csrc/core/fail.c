#include <stdarg.h>
#include <stdio.h>

#include "pyquant/exec.h"

pq_status pq_fail(const pq_exec *exec, pq_status status, const char *format, ...) {
    if (exec->message != NULL && exec->message_size > 0) {
        va_list args;
        va_start(args, format);
        if (vsnprintf(exec->message, exec->message_size, format, args) < 0) {
            exec->message[0] = '\0';
        }
        va_end(args);
    }
    return status;
}
