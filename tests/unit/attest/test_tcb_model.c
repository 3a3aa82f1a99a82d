/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/collateral.h"
#include "base/file.h"
#include "tests/unit/test.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/*
 * Compares the whole evaluation, from the documents' text to the verdict, with the cases of
 * tcb_model.py. Their file is the program's argument.
 */
static const char *model_path;

enum { MODEL_MAX = 64 * 1024 * 1024, DOCUMENT_MEMORY_MAX = 1024 * 1024 };

/* The documents of one scenario, parsed as if they came from Intel. */
struct documents {
    struct arena memory;
    struct tcb_info info;
    struct qe_identity qe;
};

static struct bytes_view printed(const json_t *document, char **owned)
{
    *owned = json_dumps(document, JSON_COMPACT);
    assert_non_null(*owned);
    return (struct bytes_view){ (const uint8_t *)*owned, strlen(*owned) };
}

static void parse_documents(const json_t *scenario, struct documents *out)
{
    auto_free char *info = NULL, *qe = NULL;
    struct error err = ERROR_INIT;

    arena_init(&out->memory, DOCUMENT_MEMORY_MAX);
    assert_ok(tcb_info_parse(printed(json_object_get(scenario, "tcbInfo"), &info), &out->memory,
                             &out->info, &err));
    assert_ok(qe_identity_parse(printed(json_object_get(scenario, "enclaveIdentity"), &qe),
                                &out->memory, &out->qe, &err));
}

static bool read_svns(const json_t *list, uint8_t out[TCB_SVN_LEN])
{
    if (!json_is_array(list))
        return false;
    assert_int_equal(json_array_size(list), TCB_SVN_LEN);
    for (size_t i = 0; i < TCB_SVN_LEN; i++)
        out[i] = (uint8_t)json_integer_value(json_array_get(list, i));
    return true;
}

static uint16_t read_number(const json_t *object, const char *key)
{
    return (uint16_t)json_integer_value(json_object_get(object, key));
}

static bool has_advisory(const struct advisories *advisories, const char *id)
{
    for (size_t i = 0; i < advisories->n; i++)
        if (strcmp(advisories->ids[i], id) == 0)
            return true;
    return false;
}

static bool agrees(const struct tcb_verdict *verdict, const json_t *expected)
{
    const json_t *advisories = json_object_get(expected, "advisories");

    if (strcmp(tcb_status_name(verdict->status),
               json_string_value(json_object_get(expected, "status"))) != 0)
        return false;
    if (verdict->status == TCB_NOT_SUPPORTED)
        return true;
    if (verdict->date != json_integer_value(json_object_get(expected, "date")) ||
        verdict->advisories.n != json_array_size(advisories))
        return false;
    for (size_t i = 0; i < json_array_size(advisories); i++)
        if (!has_advisory(&verdict->advisories, json_string_value(json_array_get(advisories, i))))
            return false;
    return true;
}

static void judge_case(const struct documents *documents, const json_t *item)
{
    struct pck_platform platform = { .pce_svn = read_number(item, "pcesvn") };
    uint8_t svn[TCB_SVN_LEN], svn2[TCB_SVN_LEN];
    bool is_15 = read_svns(json_object_get(item, "svn2"), svn2);
    struct tcb_verdict verdict;

    assert_true(read_svns(json_object_get(item, "sgx"), platform.tcb_svn));
    assert_true(read_svns(json_object_get(item, "svn"), svn));
    tcb_evaluate(&documents->info, &documents->qe, &platform, svn, is_15 ? svn2 : NULL,
                 read_number(item, "isvsvn"), &verdict);
    if (!agrees(&verdict, json_object_get(item, "expected"))) {
        auto_free char *text = json_dumps(item, JSON_COMPACT);

        fail_msg("%s, date %lld, %zu advisories: %s", tcb_status_name(verdict.status),
                 (long long)verdict.date, verdict.advisories.n, text);
    }
}

static void every_case_agrees_with_the_model(void **state)
{
    struct error err = ERROR_INIT;
    auto_free char *text = NULL;
    size_t len = 0, cases = 0;

    (void)state;
    assert_ok(file_read(model_path, MODEL_MAX, &text, &len, &err));
    json_t *scenarios = json_loadb(text, len, 0, NULL);
    assert_true(json_is_array(scenarios));
    for (size_t i = 0; i < json_array_size(scenarios); i++) {
        const json_t *scenario = json_array_get(scenarios, i);
        const json_t *list = json_object_get(scenario, "cases");
        struct documents documents;

        parse_documents(scenario, &documents);
        for (size_t j = 0; j < json_array_size(list); j++, cases++)
            judge_case(&documents, json_array_get(list, j));
        arena_wipe(&documents.memory);
    }
    json_decref(scenarios);
    assert_true(cases > 10000);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_agrees_with_the_model),
    };

    if (argc != 2)
        return 2;
    model_path = argv[1];
    return RUN_TESTS(tests);
}
