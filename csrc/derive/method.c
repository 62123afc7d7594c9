#include "pyquant/method.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "derive/method_lists.h"

enum { DIGITS_MAX = 15 }; /* of a number: below 2^53, hence exact before the point is set */

static const pq_method_list *const lists[PQ_METHOD_OP_COUNT] = {
    [PQ_METHOD_SOFTMAX] = &pq_softmax_methods,
    [PQ_METHOD_UNARY] = &pq_unary_methods,
    [PQ_METHOD_NORM] = &pq_norm_methods,
};

const pq_method_list *pq_method_list_of(pq_method_op op) {
    return (int)op >= 0 && op < PQ_METHOD_OP_COUNT ? lists[op] : NULL;
}

pq_method_op pq_method_op_find(const char *name) {
    for (int op = 0; op < PQ_METHOD_OP_COUNT; op++) {
        if (strcmp(lists[op]->op, name) == 0) {
            return (pq_method_op)op;
        }
    }
    return PQ_METHOD_OP_COUNT;
}

static size_t parameter_count(const pq_method_row *row) {
    size_t count = 0;
    while (count < PQ_METHOD_PARAMETERS && row->parameters[count].name != NULL) {
        count++;
    }
    return count;
}

pq_method pq_method_default(pq_method_op op, int32_t code) {
    const pq_method_row *row = &lists[op]->rows[code];
    pq_method method = {.code = code};
    for (size_t i = 0; i < parameter_count(row); i++) {
        method.parameters[i] = row->parameters[i].value;
    }
    return method;
}

/* ---- text ---- */

typedef struct words {
    const char *at;
} words;

static void skip_blanks(words *w) {
    w->at += strspn(w->at, " \t");
}

/* The next word of letters, digits and underscores; length 0 where there is none. */
static size_t take_word(words *w, const char **word) {
    skip_blanks(w);
    *word = w->at;
    const size_t length = strspn(w->at, "abcdefghijklmnopqrstuvwxyz0123456789_");
    w->at += length;
    return length;
}

static bool take_mark(words *w, char mark) {
    skip_blanks(w);
    if (*w->at != mark) {
        return false;
    }
    w->at++;
    return true;
}

/* Not strtod, which reads a comma or a point as the locale says. */
static bool take_number(words *w, double *value) {
    skip_blanks(w);
    const bool negative = *w->at == '-';
    const char *at = w->at + negative;
    double digits = 0.0, unit = 1.0;
    int count = 0;
    bool fraction = false;
    for (; (*at >= '0' && *at <= '9') || (*at == '.' && !fraction); at++) {
        if (*at == '.') {
            fraction = true;
            continue;
        }
        digits = digits * 10.0 + (*at - '0');
        unit = fraction ? unit * 10.0 : unit;
        if (++count > DIGITS_MAX) {
            return false;
        }
    }
    w->at = at;
    *value = (negative ? -digits : digits) / unit;
    return count > 0;
}

static bool same(const char *name, const char *word, size_t length) {
    return strlen(name) == length && memcmp(name, word, length) == 0;
}

/* "a, b, c" of the list's names, or of a row's parameters. */
static void join(char *text, size_t size, const pq_method_list *list, const pq_method_row *row) {
    const size_t count = row == NULL ? list->count : parameter_count(row);
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < count && used < size; i++) {
        const char *const name = row == NULL ? list->rows[i].name : row->parameters[i].name;
        const int more = snprintf(text + used, size - used, "%s%s", i == 0 ? "" : ", ", name);
        used += more < 0 ? size : (size_t)more;
    }
}

static pq_status fail_syntax(const pq_exec *exec, const pq_method_list *list, const char *text) {
    return pq_fail(exec, PQ_ERR_VALUE,
                   "%s: expected a method as name or name(parameter=number, ...), got '%.100s'",
                   list->op, text);
}

static pq_status check_parameter(const pq_exec *exec, const pq_method_list *list,
                                 const pq_method_row *row, size_t i, double value) {
    const pq_method_parameter *p = &row->parameters[i];
    if (!(value >= p->low && value <= p->high) || (p->whole && value != rint(value))) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected %s of %s %sin [%.15g, %.15g], got %.15g",
                       list->op, p->name, row->name, p->whole ? "an integer " : "", p->low, p->high,
                       value);
    }
    return PQ_OK;
}

/* The "parameter=number, ...)" behind the opening parenthesis. */
static pq_status parse_parameters(const pq_exec *exec, const pq_method_list *list, const char *text,
                                  words *w, pq_method *method) {
    const pq_method_row *row = &list->rows[method->code];
    const size_t count = parameter_count(row);
    unsigned seen = 0;
    do {
        const char *word;
        const size_t length = take_word(w, &word);
        double value;
        if (length == 0 || !take_mark(w, '=') || !take_number(w, &value)) {
            return fail_syntax(exec, list, text);
        }
        size_t i = 0;
        while (i < count && !same(row->parameters[i].name, word, length)) {
            i++;
        }
        if (i == count) {
            char names[256];
            join(names, sizeof names, list, row);
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: expected a parameter of %s (%s), got '%.*s'", list->op, row->name,
                           count == 0 ? "it has none" : names, (int)length, word);
        }
        if (seen & 1u << i) {
            return pq_fail(exec, PQ_ERR_VALUE, "%s method %s: %s is given twice in '%.100s'",
                           list->op, row->name, row->parameters[i].name, text);
        }
        seen |= 1u << i;
        const pq_status status = check_parameter(exec, list, row, i, value);
        if (status != PQ_OK) {
            return status;
        }
        method->parameters[i] = value;
    } while (take_mark(w, ','));
    return take_mark(w, ')') ? PQ_OK : fail_syntax(exec, list, text);
}

pq_status pq_method_parse(const pq_exec *exec, pq_method_op op, const char *text,
                          pq_method *method) {
    const pq_method_list *list = lists[op];
    words w = {text};
    const char *word;
    const size_t length = take_word(&w, &word);
    size_t code = 0;
    while (code < list->count && !same(list->rows[code].name, word, length)) {
        code++;
    }
    if (code == list->count) {
        char names[256];
        join(names, sizeof names, list, NULL);
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected a method (%s), got '%.100s'", list->op,
                       names, text);
    }
    pq_method found = pq_method_default(op, (int32_t)code);
    if (take_mark(&w, '(')) {
        const pq_status status = parse_parameters(exec, list, text, &w, &found);
        if (status != PQ_OK) {
            return status;
        }
    }
    skip_blanks(&w);
    if (*w.at != '\0') {
        return fail_syntax(exec, list, text);
    }
    *method = found;
    return PQ_OK;
}

pq_status pq_method_check(const pq_exec *exec, pq_method_op op, const pq_method *method) {
    const pq_method_list *list = lists[op];
    if (method->code < 0 || (size_t)method->code >= list->count) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected the code of a method in [0, %zu), got %d",
                       list->op, list->count, (int)method->code);
    }
    const pq_method_row *row = &list->rows[method->code];
    for (size_t i = 0; i < parameter_count(row); i++) {
        const pq_status status = check_parameter(exec, list, row, i, method->parameters[i]);
        if (status != PQ_OK) {
            return status;
        }
    }
    return PQ_OK;
}

/* A number as take_number reads it: no exponent, no locale. */
static size_t write_number(char *text, size_t size, double value) {
    const double size_of = fabs(value);
    double unit = 1.0;
    int places = 0;
    while (places < 9 && rint(size_of * unit) / unit != size_of) {
        unit *= 10.0;
        places++;
    }
    const long long digits = (long long)rint(size_of * unit), whole = (long long)unit;
    const char *const sign = value < 0.0 ? "-" : "";
    const int length = places == 0
                           ? snprintf(text, size, "%s%lld", sign, digits)
                           : snprintf(text, size, "%s%lld.%0*lld", sign, digits / whole, places,
                                      digits % whole);
    return length < 0 ? 0 : (size_t)length;
}

void pq_method_format(pq_method_op op, const pq_method *method, char text[PQ_METHOD_TEXT]) {
    const pq_method_row *row = &lists[op]->rows[method->code];
    size_t used = (size_t)snprintf(text, PQ_METHOD_TEXT, "%s", row->name);
    bool open = false;
    for (size_t i = 0; i < parameter_count(row); i++) {
        if (method->parameters[i] == row->parameters[i].value) {
            continue;
        }
        used += (size_t)snprintf(text + used, PQ_METHOD_TEXT - used, "%s%s=", open ? "," : "(",
                                 row->parameters[i].name);
        used += write_number(text + used, PQ_METHOD_TEXT - used, method->parameters[i]);
        open = true;
    }
    if (open) {
        (void)snprintf(text + used, PQ_METHOD_TEXT - used, ")");
    }
    assert(used < PQ_METHOD_TEXT - 1);
}
