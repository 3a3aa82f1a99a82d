/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/statement.h"

#include "audit/audit_head.h"
#include "broker/handlers.h"
#include "store/keyring.h"

#include <string.h>
#include <tdvol_config.h>

#define HEADS_MAX 256 /* more replicas than any store has */

struct gathering {
    struct arena *arena;
    M(Statement) statement;
    M(AuditHead) * heads[HEADS_MAX];
    struct error err;
};

/* False ends the walk: err says why. */
static bool add_head(void *cookie, const char *replica, const struct audit_chain *head)
{
    struct gathering *g = cookie;
    M(AuditHead) *out = arena_alloc(g->arena, sizeof(*out));
    uint8_t *hash = arena_alloc(g->arena, SHA256_LEN);

    if (g->statement.n_heads == HEADS_MAX)
        return error_set(&g->err, ERROR_RESOURCE_EXHAUSTED, "the store has more than %d replicas",
                         HEADS_MAX);
    if (!out || !hash)
        return arena_exhausted(&g->err);
    *out = (M(AuditHead))TDVOL__KEYBROKER__V1__AUDIT_HEAD__INIT;
    out->replica = arena_strdup(g->arena, replica);
    out->chain.data = arena_memdup(g->arena, head->id, AUDIT_CHAIN_ID_LEN);
    out->chain.len = AUDIT_CHAIN_ID_LEN;
    if (!out->replica || !out->chain.data)
        return arena_exhausted(&g->err);
    if (!hex_decode(head->hash, hash, SHA256_LEN))
        return error_set(&g->err, ERROR_INTERNAL, "the last hash is not hex");
    out->hash = (ProtobufCBinaryData){ SHA256_LEN, hash };
    out->seq = head->seq;
    g->heads[g->statement.n_heads++] = out;
    return true;
}

static bool gather(struct judged_call *s, struct gathering *g, struct error *err)
{
    static char version[] = TDVOL_VERSION;
    const struct audit_head_visitor visitor = { .visit = add_head, .cookie = g };
    const struct policy *policy = s->broker->policy;
    auto_secret struct secret key = SECRET_INIT;
    M(Statement) *out = &g->statement;

    *out = (M(Statement))TDVOL__KEYBROKER__V1__STATEMENT__INIT;
    out->time_ms = s->now_ms;
    out->version = version;
    out->policy_hash = arena_strdup(g->arena, policy_hash(policy));
    out->policy_revision = arena_strdup(g->arena, policy_revision(policy));
    out->replica = arena_strdup(g->arena, s->broker->replica ? s->broker->replica : "");
    out->heads = g->heads;
    if (!out->policy_hash || !out->policy_revision || !out->replica)
        return arena_exhausted(err);
    if (!keyring_audit_head_key(s->broker->keyring, &key, err) ||
        !audit_heads_each(s->broker->store, &key, &visitor, err))
        return false;
    *err = g->err;
    return err->code == ERROR_NONE;
}

static bool give(struct arena *arena, const uint8_t *bytes, size_t len, ProtobufCBinaryData *out,
                 struct error *err)
{
    out->len = len;
    out->data = arena_memdup(arena, bytes, len);
    return out->data || arena_exhausted(err);
}

static bool sign(struct judged_call *s, const uint8_t *nonce, M(GetStatementResponse) * response,
                 struct error *err)
{
    struct broker_signature *signature = arena_alloc(s->call->arena, sizeof(*signature));
    uint8_t bytes[STATEMENT_SIGNED_LEN];

    if (!signature)
        return arena_exhausted(err);
    if (!s->broker->signer)
        return error_set(err, ERROR_INTERNAL, "this broker has no key to sign answers with");
    return statement_signed(nonce, response->statement.data, response->statement.len, bytes, err) &&
           broker_sign(s->broker->signer, bytes, sizeof(bytes), signature, err) &&
           give(s->call->arena, signature->bytes, signature->len, &response->signature, err) &&
           give(s->call->arena, signature->certificates, signature->certificates_len,
                &response->certificates, err);
}

bool get_statement(struct judged_call *s, struct rpc_call *call,
                   const M(GetStatementRequest) * request, M(GetStatementResponse) * response,
                   struct error *err)
{
    struct gathering *g = arena_alloc(call->arena, sizeof(*g));

    if (!g)
        return arena_exhausted(err);
    g->arena = call->arena;
    if (request->nonce.len != STATEMENT_NONCE_LEN)
        return error_set(err, ERROR_INVALID_ARGUMENT, "nonce must have %d bytes",
                         STATEMENT_NONCE_LEN);
    if (!gather(s, g, err))
        return false;
    response->statement.len = protobuf_c_message_get_packed_size(&g->statement.base);
    response->statement.data = arena_alloc(call->arena, response->statement.len);
    if (!response->statement.data)
        return arena_exhausted(err);
    (void)protobuf_c_message_pack(&g->statement.base, response->statement.data);
    return sign(s, request->nonce.data, response, err);
}
