/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/caller.h"

#include "attest/reason.h"

#include <stdio.h>

bool caller_check_peer(const struct rpc_peer *peer, struct error *err)
{
    /* In a resumed session the peer does not prove that it has the certificate's key. */
    if (peer->session_reused)
        return error_set(err, ERROR_UNAUTHENTICATED, "resumed TLS sessions are refused");
    return peer->certificate_pem ||
           error_set(err, ERROR_UNAUTHENTICATED, "the client sent no certificate");
}

bool caller_gather(const struct claim_source_binding *sources, size_t n, struct claim_query *query,
                   struct caller *out, struct error *err)
{
    *out = (struct caller){ .lacks = "" };
    if (!caller_check_peer(query->call->peer, err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!sources[i].source->gather(sources[i].state, query, out, err))
            return false;
    return true;
}

void claim_query_end(struct claim_query *query)
{
    pki_client_free(&query->client);
}

const struct pki_client *claim_query_client(struct claim_query *query, struct error *err)
{
    if (!query->client.certificate &&
        !pki_client_read(query->call->peer->certificate_pem, &query->client, err))
        return NULL;
    return &query->client;
}

bool caller_check_known(const struct caller *caller, struct error *err)
{
    if (caller->who.certificate || caller->who.tee)
        return true;
    return error_set_reason(err, ERROR_UNAUTHENTICATED, attest_reason_name(REASON_NOT_ATTESTED),
                            "attest first%s%s", caller->lacks[0] ? ": " : "", caller->lacks);
}

void caller_network(const struct rpc_peer *peer, char out[static CALLER_NETWORK_LEN])
{
    address_network(peer->address ? peer->address : "", out);
}

static void lack(struct caller *caller, const char *why)
{
    (void)snprintf(caller->lacks, sizeof(caller->lacks), "%s", why);
}

/* A TD signs the certificate of its own key itself. Such a certificate proves nothing. */
static bool gather_certificate(void *state, struct claim_query *query, struct caller *out,
                               struct error *err)
{
    struct certificate_claims *claims = arena_alloc(query->call->arena, sizeof(*claims));
    const struct pki_client *client = claim_query_client(query, err);

    if (!client)
        return false;
    if (!claims)
        return arena_exhausted(err);
    if (pki_verify_client(state, client, claims, err)) {
        out->who.certificate = claims;
        return true;
    }
    if (err->code != ERROR_UNAUTHENTICATED)
        return false;
    lack(out, err->text);
    *err = (struct error)ERROR_INIT;
    return true;
}

const struct claim_source claim_source_certificate = {
    .gather = gather_certificate,
};

static bool gather_evidence(void *state, struct claim_query *query, struct caller *out,
                            struct error *err)
{
    struct attested_session *a = arena_alloc(query->call->arena, sizeof(*a));
    const struct pki_client *client = claim_query_client(query, err);

    if (!client)
        return false;
    if (!a)
        return arena_exhausted(err);
    enum attested_session_state found =
        attested_sessions_find(state, client->key_sha256, query->now_ms, a);

    if (found == ATTESTED_SESSION_EXPIRED)
        lack(out, "the session has expired");
    if (found != ATTESTED_SESSION_GOOD)
        return true;
    out->attested = a;
    out->who.tee = &a->tee;
    out->who.token = a->has_token ? &a->token : NULL;
    out->who.owner = a->has_owner ? &a->owner : NULL;
    return true;
}

const struct claim_source claim_source_evidence = {
    .gather = gather_evidence,
};
