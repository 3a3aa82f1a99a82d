/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/audit_heads.h"

#include "attest/json.h"
#include "attest/statement.h"
#include "base/clock.h"
#include "base/file.h"
#include "ctl/command.h"
#include "proto/decode.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

#define HEADS_FILE_MAX ((size_t)1024 * 1024)
#define HEADS_MAX      1024
#define ARENA_BYTES    ((size_t)4 * 1024 * 1024)

static void client_close(struct client **client)
{
    if (*client)
        client_free(*client);
}
#define auto_client CLEANUP(client_close)

void audit_heads_free(struct audit_heads *heads)
{
    free_at(&heads->heads);
    heads->n = 0;
}

static bool add(struct audit_heads *heads, const struct audit_known_head *head, struct error *err)
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

/* --- from a broker --- */

static bool decode(const ProtobufCBinaryData *bytes, struct arena *arena, const M(Statement) * *out,
                   struct error *err)
{
    static const struct rpc_limits limits = { .message_bytes = 1u << 20,
                                              .string_bytes = 256,
                                              .map_bytes = 0 };
    ProtobufCMessage *message = NULL;

    if (!rpc_decode(&tdvol__keybroker__v1__statement__descriptor, &limits,
                    (struct rpc_bytes){ bytes->data, bytes->len }, arena, &message, err))
        return error_wrap(err, "the broker's statement");
    *out = (const void *)message;
    return true;
}

static bool ask(struct client *client, struct arena *arena, const M(Statement) * *out,
                struct error *err)
{
    M(GetStatementRequest) request = TDVOL__KEYBROKER__V1__GET_STATEMENT_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    uint8_t nonce[STATEMENT_NONCE_LEN];

    request.nonce = (ProtobufCBinaryData){ sizeof(nonce), nonce };
    if (!random_bytes(nonce, sizeof(nonce), err) ||
        !broker_call(client, "GetStatement", &request.base, arena, &message, err))
        return false;
    const M(GetStatementResponse) *response = (const void *)message;

    return decode(&response->statement, arena, out, err);
}

static bool add_asked(struct audit_heads *heads, const M(AuditHead) * asked, struct error *err)
{
    struct audit_known_head head = { .seq = asked->seq };

    if (strlen(asked->replica) > AUDIT_REPLICA_MAX || asked->chain.len != AUDIT_CHAIN_ID_LEN ||
        asked->hash.len != SHA256_LEN)
        return error_set(err, ERROR_INTERNAL, "the broker's statement has a head of another form");
    (void)snprintf(head.replica, sizeof(head.replica), "%s", asked->replica);
    memcpy(head.id, asked->chain.data, AUDIT_CHAIN_ID_LEN);
    hex_encode(asked->hash.data, SHA256_LEN, head.hash);
    return add(heads, &head, err);
}

bool audit_heads_ask(struct broker_options *options, struct audit_heads *heads, struct error *err)
{
    auto_client struct client *client = NULL;
    auto_arena struct arena arena = { .limit = ARENA_BYTES };
    const M(Statement) *statement = NULL;

    if (!broker_connect(options, &client, err) || !ask(client, &arena, &statement, err))
        return false;
    for (size_t i = 0; i < statement->n_heads; i++)
        if (!add_asked(heads, statement->heads[i], err))
            return false;
    return true;
}

/* --- from a file --- */

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
        if (!add(heads, &head, err))
            return false;
    }
    return true;
}

/* --- "audit heads" --- */

static bool print(const M(Statement) * statement, struct error *err)
{
    auto_json json_t *list = json_array();
    char now[CLOCK_TEXT_LEN];

    clock_text(statement->time_ms, now);
    for (size_t i = 0; i < statement->n_heads; i++) {
        auto_audit_heads struct audit_heads one = { .n = 0 };
        char chain[2 * AUDIT_CHAIN_ID_LEN + 1];

        if (!add_asked(&one, statement->heads[i], err))
            return false;
        hex_encode(one.heads->id, AUDIT_CHAIN_ID_LEN, chain);
        if (json_array_append_new(list, json_pack("{ss, ss, sI, ss}", "replica", one.heads->replica,
                                                  "chain", chain, "seq", (json_int_t)one.heads->seq,
                                                  "hash", one.heads->hash)) != 0)
            return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    }
    auto_json json_t *out =
        json_pack("{ss, ss, ss, sO}", "time", now, "version", statement->version, "policy_sha256",
                  statement->policy_hash, "heads", list);

    return (out && json_dumpf(out, stdout, JSON_INDENT(2)) == 0 && puts("") >= 0 &&
            fflush(stdout) == 0) ||
           error_set(err, ERROR_INTERNAL, "the heads cannot be printed");
}

static bool heads(const struct broker_options *options, struct client *client, struct arena *arena,
                  struct error *err)
{
    const M(Statement) *statement = NULL;

    (void)options;
    return ask(client, arena, &statement, err) && print(statement, err);
}

static const struct option options_table[] = { BROKER_ROWS };

int command_audit_heads(int argc, char *const *argv)
{
    static const struct broker_command command = {
        .name = "audit heads",
        .usage = "[OPTIONS] >FILE\n\n"
                 "Prints where the audit logs of a broker's replicas end, as JSON. Keep the output "
                 "where\nnobody who may write to the logs can: \"audit verify --heads FILE\" then "
                 "finds lines that\nwere changed, or left out, before that moment. Needs the "
                 "permission audit or admin.",
        .options = options_table,
        .n_options = ARRAY_LEN(options_table),
        .run = heads,
    };

    return broker_command_run(&command, argc, argv);
}
