/* SPDX-License-Identifier: Apache-2.0 */
/* The small pieces that a policy is made of: texts, names, patterns, hex, dates. */
#include "base/clock.h"
#include "base/digest.h"
#include "base/reader.h"
#include "policy/policy_rule.h"

#include <ctype.h>
#include <string.h>

bool policy_check_keys(const json_t *json, const char *const *known, struct error *err)
{
    const char *key;
    json_t *value;

    if (!json_is_object(json))
        return error_set(err, ERROR_INVALID_ARGUMENT, "must be an object");
    /* jansson's iteration wants a non-const object, but does not change it */
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        const char *const *k = known;

        while (*k && strcmp(*k, key) != 0)
            k++;
        if (!*k)
            return error_set(err, ERROR_INVALID_ARGUMENT, "unknown key \"%s\"", key);
    }
    return true;
}

bool policy_take_text(struct arena *arena, const json_t *json, const char *key, const char **out,
                      struct error *err)
{
    const char *text = json_string_value(json);

    if (!text || text[0] == '\0')
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s must be a non-empty string", key);
    *out = arena_strdup(arena, text);
    if (*out)
        return true;
    arena_exhausted(err);
    return false;
}

bool policy_take_name(struct arena *arena, const json_t *json, const char *key, const char **out,
                      struct error *err)
{
    if (!policy_take_text(arena, json, key, out, err))
        return false;
    if (strlen(*out) > POLICY_NAME_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is longer than %d bytes", key,
                         POLICY_NAME_MAX);
    for (const char *c = *out; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._-", *c))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "%s may have only letters, digits, '.', '_' and '-'", key);
    return true;
}

bool policy_take_patterns(struct arena *arena, const json_t *json, const char *key,
                          struct patterns *out, struct error *err)
{
    size_t n = json_array_size(json);

    if (n == 0 || n > POLICY_PATTERNS_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s must be a list of 1 to %d patterns", key,
                         POLICY_PATTERNS_MAX);
    out->items = arena_alloc(arena, n * sizeof(*out->items));
    if (!out->items)
        return arena_exhausted(err);
    for (size_t i = 0; i < n; i++)
        if (!policy_take_text(arena, json_array_get(json, i), key, &out->items[i], err))
            return false;
    out->n = n;
    return true;
}

bool policy_check_identity_pattern(const char *key, const char *pattern, struct error *err)
{
    if (strpbrk(pattern, "[]\\"))
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s: only * and ? are allowed in \"%s\"", key,
                         pattern);
    for (const char *c = pattern; *c; c++)
        if (isalnum((unsigned char)*c))
            return true;
    return error_set(err, ERROR_INVALID_ARGUMENT,
                     "%s: \"%s\" would match every caller: add a letter or digit", key, pattern);
}

static bool is_lower_hex(const char *text, size_t len, uint8_t *out)
{
    return text && !strpbrk(text, "ABCDEF") && hex_decode(text, out, len);
}

static bool check_count(size_t n, const char *key, struct error *err)
{
    return (n > 0 && n <= POLICY_VALUES_MAX) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "%s must be a list of 1 to %d values", key,
                     POLICY_VALUES_MAX);
}

bool policy_take_values(struct arena *arena, const json_t *json, const char *key, size_t len,
                        struct values *out, struct error *err)
{
    size_t n = json_array_size(json);

    if (!json)
        return true;
    if (!check_count(n, key, err))
        return false;
    uint8_t *bytes = arena_alloc(arena, n * len);
    if (!bytes)
        return arena_exhausted(err);
    for (size_t i = 0; i < n; i++)
        if (!is_lower_hex(json_string_value(json_array_get(json, i)), len, bytes + i * len))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "%s: value %zu must be %zu lower-case hex digits", key, i + 1,
                             2 * len);
    *out = (struct values){ .n = n, .len = len, .bytes = bytes };
    return true;
}

static bool parse_mask(const char *text, uint64_t *out)
{
    char digits[17] = "0000000000000000";
    uint8_t bytes[8];

    if (!text || strncmp(text, "0x", 2) != 0)
        return false;
    size_t len = strlen(text + 2);
    if (len == 0 || len > 16)
        return false;
    memcpy(digits + 16 - len, text + 2, len);
    if (!is_lower_hex(digits, sizeof(bytes), bytes))
        return false;
    *out = big_endian(bytes, sizeof(bytes));
    return true;
}

bool policy_take_mask(const json_t *json, const char *key, uint64_t *out, struct error *err)
{
    return !json || parse_mask(json_string_value(json), out) ||
           error_set(err, ERROR_INVALID_ARGUMENT,
                     "%s must be a string of 0x and 1 to 16 lower-case hex digits", key);
}

bool policy_take_masks(struct arena *arena, const json_t *json, const char *key,
                       struct numbers *out, struct error *err)
{
    size_t n = json_array_size(json);

    if (!json)
        return true;
    if (!check_count(n, key, err))
        return false;
    uint64_t *items = arena_alloc(arena, n * sizeof(*items));
    if (!items)
        return arena_exhausted(err);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(json, i);

        if (!policy_take_mask(item, key, &items[i], err))
            return false;
    }
    *out = (struct numbers){ .n = n, .items = items };
    return true;
}

bool policy_take_date(const json_t *json, const char *key, int64_t *out, struct error *err)
{
    return !json || clock_parse(json_string_value(json), out) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "%s must be a date like 2027-03-01T00:00:00Z",
                     key);
}

bool policy_take_number(const json_t *json, const char *key, uint64_t max, uint64_t *out,
                        struct error *err)
{
    if (!json)
        return true;
    if (!json_is_integer(json) || json_integer_value(json) < 0 ||
        (uint64_t)json_integer_value(json) > max)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s must be a whole number from 0 to %llu",
                         key, (unsigned long long)max);
    *out = (uint64_t)json_integer_value(json);
    return true;
}

bool policy_take_bool(const json_t *json, const char *key, bool *out, struct error *err)
{
    if (!json)
        return true;
    if (!json_is_boolean(json))
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s must be true or false", key);
    *out = json_is_true(json);
    return true;
}

bool values_have(const struct values *values, const uint8_t *bytes)
{
    for (size_t i = 0; i < values->n; i++)
        if (memcmp(values->bytes + i * values->len, bytes, values->len) == 0)
            return true;
    return false;
}

bool values_pin(const struct values *values)
{
    static const uint8_t zeros[MEASUREMENT_LEN];

    return values->n > 0 && !values_have(values, zeros);
}

static bool has_tenant(const struct policy *policy, const char *tenant)
{
    for (size_t i = 0; i < policy->n_rules; i++)
        if (strcmp(policy->rules[i].tenant, tenant) == 0)
            return true;
    return false;
}

static bool read_tenant(struct policy *policy, const char *tenant, const char **out,
                        struct error *err)
{
    if (!has_tenant(policy, tenant))
        return error_set(err, ERROR_INVALID_ARGUMENT, "no rule has this tenant");
    *out = arena_strdup(&policy->arena, tenant);
    return *out || arena_exhausted(err);
}

bool policy_read_tenants(struct policy *policy, const json_t *json, size_t rule_bytes,
                         bool (*take)(struct policy *policy, void *rule, const char *tenant,
                                      const json_t *json, struct error *err),
                         void **rules, size_t *n, struct error *err)
{
    size_t size = json_object_size(json);
    const char *tenant, *copy = NULL;
    json_t *value;

    if (size == 0 || size > POLICY_RULES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "must be an object with 1 to %d tenants",
                         POLICY_RULES_MAX);
    uint8_t *made = arena_alloc(&policy->arena, size * rule_bytes);
    if (!made)
        return arena_exhausted(err);
    *n = 0;
    json_object_foreach((json_t *)(uintptr_t)json, tenant, value)
    {
        if (!read_tenant(policy, tenant, &copy, err) ||
            !take(policy, made + *n * rule_bytes, copy, value, err))
            return error_wrap(err, "%.*s", POLICY_NAME_MAX, tenant);
        (*n)++;
    }
    *rules = made;
    return true;
}
