/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_heads.h"

#include "base/file.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADS_FILE_MAX ((size_t)1024 * 1024)
#define HEADS_MAX      1024

static void json_free(json_t **json)
{
    json_decref(*json);
}
#define auto_json CLEANUP(json_free)

void audit_heads_free(struct audit_heads *heads)
{
    free_at(&heads->heads);
    heads->n = 0;
}

bool audit_heads_add(struct audit_heads *heads, const struct audit_known_head *head,
                     struct error *err)
{
    if (heads->n >= HEADS_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "more than %d heads", HEADS_MAX);
    struct audit_known_head *more = realloc(heads->heads, (heads->n + 1) * sizeof(*more));

    if (!more)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    heads->heads = more;
    more[heads->n++] = *head;
    return true;
}

static bool read_one(const json_t *item, struct audit_known_head *out)
{
    const char *replica = json_string_value(json_object_get(item, "replica"));
    const char *chain = json_string_value(json_object_get(item, "chain"));
    const char *hash = json_string_value(json_object_get(item, "hash"));
    json_int_t seq = json_integer_value(json_object_get(item, "seq"));
    uint8_t digest[SHA256_LEN];

    if (!replica || !chain || !hash || strlen(replica) > AUDIT_REPLICA_MAX || seq <= 0 ||
        !hex_decode(chain, out->id, AUDIT_CHAIN_ID_LEN) || !hex_decode(hash, digest, SHA256_LEN))
        return false;
    (void)snprintf(out->replica, sizeof(out->replica), "%s", replica);
    hex_encode(digest, SHA256_LEN, out->hash);
    out->seq = (uint64_t)seq;
    return true;
}

bool audit_heads_read(const char *path, struct audit_heads *heads, struct error *err)
{
    auto_free char *text = NULL;
    size_t len = 0, i = 0;
    json_t *item = NULL;

    if (!file_read(path, HEADS_FILE_MAX, &text, &len, err))
        return false;
    auto_json json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    json_t *list = json_object_get(root, "heads");

    if (!json_is_array(list) || json_array_size(list) == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "%s: no heads of audit logs: make the file with \"tdvolctl audit heads\"",
                         path);
    json_array_foreach(list, i, item)
    {
        struct audit_known_head head = { .seq = 0 };

        if (!read_one(item, &head))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "%s: head number %zu has no replica, chain, seq or hash", path, i + 1);
        if (!audit_heads_add(heads, &head, err))
            return false;
    }
    return true;
}
