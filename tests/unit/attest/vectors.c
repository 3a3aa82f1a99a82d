/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/attest/vectors.h"

#include "base/file.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *vectors_path(const char *below)
{
    static char path[512];
    const char *root = getenv("TDVOL_VECTORS");
    const char *source = getenv("TDVOL_SOURCE_ROOT");

    if (root)
        (void)snprintf(path, sizeof(path), "%s/%s", root, below);
    else
        (void)snprintf(path, sizeof(path), "%s/../shared/vectors/%s", source ? source : ".", below);
    return access(path, R_OK) == 0 ? path : NULL;
}

char *vector_file(const char *below, size_t *len)
{
    const char *path = vectors_path(below);
    struct error err = ERROR_INIT;
    char *bytes = NULL;

    if (!path || !file_read(path, 1024 * 1024, &bytes, len, &err))
        fail_msg("%s: %s", below, err.text);
    return bytes;
}

static void read_expected(const char *name, struct vector_set *out)
{
    char below[256];
    size_t len = 0;

    (void)snprintf(below, sizeof(below), "quotes/%s/expected.json", name);
    char *text = vector_file(below, &len);
    json_t *json = json_loadb(text, len, 0, NULL);
    const char *status = json_string_value(json_object_get(json, "tcb_status"));
    const char *policy = json_string_value(json_object_get(json, "default_policy"));
    const json_t *numbers = json_object_get(json, "tcb_evaluation_data_number");
    assert_true(status && policy);
    out->check_time = json_integer_value(json_object_get(json, "check_time"));
    (void)snprintf(out->tcb_status, sizeof(out->tcb_status), "%s", status);
    out->is_accepted = strcmp(policy, "accept") == 0;
    out->evaluation_number = (uint32_t)json_integer_value(json_array_get(numbers, 0));
    json_decref(json);
    free(text);
}

void vector_set_load(const char *name, struct vector_set *out)
{
    struct error err = ERROR_INIT;
    char below[256];

    *out = (struct vector_set){ .quote = NULL };
    read_expected(name, out);
    (void)snprintf(below, sizeof(below), "quotes/%s/quote.bin", name);
    out->quote = vector_file(below, &out->quote_len);
    (void)snprintf(below, sizeof(below), "quotes/%s", name);
    if (!collateral_load_folder(vectors_path(below), &trust_root_intel, &out->collateral, &err))
        fail_msg("%s: %s", name, err.text);
}

void vector_set_free(struct vector_set *set)
{
    collateral_free(&set->collateral);
    free(set->quote);
    set->quote = NULL;
}
