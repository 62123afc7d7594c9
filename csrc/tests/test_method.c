/* Text of methods: what is read, what is refused, and what is written again. */
#include "check.h"
#include "pyquant/method.h"

static char message[512];

static pq_status parse(pq_method_op op, const char *text, pq_method *method) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    message[0] = '\0';
    return pq_method_parse(&exec, op, text, method);
}

static void refused(pq_method_op op, const char *text, const char *part) {
    pq_method method = {.code = 77};
    CHECK(parse(op, text, &method) == PQ_ERR_VALUE);
    CHECK(strstr(message, part) != NULL);
    CHECK(method.code == 77);
}

/* Every row is found by its name, and its default text is its name. */
static void test_rows(void) {
    for (int op = 0; op < PQ_METHOD_OP_COUNT; op++) {
        const pq_method_list *list = pq_method_list_of((pq_method_op)op);
        CHECK(pq_method_op_find(list->op) == (pq_method_op)op);
        CHECK(list->count > 0);
        for (size_t i = 0; i < list->count; i++) {
            const pq_exec exec = pq_exec_serial(message, sizeof message);
            char text[PQ_METHOD_TEXT];
            pq_method method;
            CHECK(list->rows[i].name != NULL && list->rows[i].reference != NULL);
            CHECK(parse((pq_method_op)op, list->rows[i].name, &method) == PQ_OK);
            CHECK(method.code == (int32_t)i);
            CHECK(pq_method_check(&exec, (pq_method_op)op, &method) == PQ_OK);
            pq_method_format((pq_method_op)op, &method, text);
            CHECK(strcmp(text, list->rows[i].name) == 0);
        }
    }
    CHECK(pq_method_op_find("conv") == PQ_METHOD_OP_COUNT);
    CHECK(pq_method_list_of(PQ_METHOD_OP_COUNT) == NULL);
}

/* Whatever the parameter, both ends of its range are read, kept and written so that they are read
 * again; what lies beyond is refused. */
static void test_parameters(void) {
    for (int op = 0; op < PQ_METHOD_OP_COUNT; op++) {
        const pq_method_list *list = pq_method_list_of((pq_method_op)op);
        for (size_t i = 0; i < list->count; i++) {
            for (int p = 0; p < PQ_METHOD_PARAMETERS && list->rows[i].parameters[p].name; p++) {
                const pq_method_parameter *parameter = &list->rows[i].parameters[p];
                const double ends[2] = {parameter->low, parameter->high};
                const pq_exec exec = pq_exec_serial(message, sizeof message);
                CHECK(parameter->meaning != NULL);
                CHECK(parameter->low <= parameter->value && parameter->value <= parameter->high);
                for (int e = 0; e < 2; e++) {
                    pq_method method = pq_method_default((pq_method_op)op, (int32_t)i), again;
                    char text[PQ_METHOD_TEXT];
                    method.parameters[p] = ends[e];
                    CHECK(pq_method_check(&exec, (pq_method_op)op, &method) == PQ_OK);
                    pq_method_format((pq_method_op)op, &method, text);
                    CHECK(parse((pq_method_op)op, text, &again) == PQ_OK);
                    CHECK(again.code == method.code && again.parameters[p] == ends[e]);
                    method.parameters[p] = e == 0 ? parameter->low - 1.0 : parameter->high + 1.0;
                    CHECK(pq_method_check(&exec, (pq_method_op)op, &method) == PQ_ERR_VALUE);
                }
            }
        }
    }
}

static void test_refused(void) {
    refused(PQ_METHOD_SOFTMAX, "", "expected a method (table16, table8");
    refused(PQ_METHOD_SOFTMAX, "table32", "got 'table32'");
    refused(PQ_METHOD_SOFTMAX, "Table16", "expected a method (");
    refused(PQ_METHOD_SOFTMAX, "table16 x", "name(parameter=number");
    refused(PQ_METHOD_SOFTMAX, "table16()", "name(parameter=number");
    refused(PQ_METHOD_SOFTMAX, "table16(bits)", "name(parameter=number");
    refused(PQ_METHOD_SOFTMAX, "table16(bits=)", "name(parameter=number");
    refused(PQ_METHOD_SOFTMAX, "table16(bits=8", "got 'bits'");
    refused(PQ_METHOD_SOFTMAX, "table16(bits=1234567890123456)", "name(parameter=number");
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    CHECK(pq_method_check(&exec, PQ_METHOD_UNARY, &(pq_method){.code = -1}) == PQ_ERR_VALUE);
}

int main(void) {
    test_rows();
    test_parameters();
    test_refused();
    return check_finish("test_method");
}
