/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/json.h"

void json_free_at(json_t **json)
{
    json_decref(*json);
    *json = NULL;
}

static bool is_shallow(const char *text, size_t len)
{
    size_t depth = 0, deepest = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        const char c = text[i];

        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == '[' || c == '{'))
            depth++;
        else if (!in_string && depth > 0 && (c == ']' || c == '}'))
            depth--;
        deepest = depth > deepest ? depth : deepest;
    }
    return deepest <= JSON_NESTING_MAX;
}

bool json_read_object(const void *text, size_t len, json_t **out, struct error *err)
{
    json_error_t problem;

    if (!is_shallow(text, len))
        return error_set(err, ERROR_INVALID_ARGUMENT, "JSON is nested more than %d levels deep",
                         JSON_NESTING_MAX);
    auto_json json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &problem);
    if (!json)
        return error_set(err, ERROR_INVALID_ARGUMENT, "line %d: %s", problem.line, problem.text);
    if (!json_is_object(json))
        return error_set(err, ERROR_INVALID_ARGUMENT, "must be a JSON object");
    *out = TAKE_PTR(json);
    return true;
}
