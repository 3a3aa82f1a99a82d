/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/address.h"
#include "broker/attested_session.h"
#include "broker/pki.h"
#include "proto/dispatch.h"

/*
 * Who calls: the claims that the TLS peer has proven. There are two sources of claims: the peer's
 * certificate, and the evidence that its key attested with. Each source is one row of ops in the
 * broker's list. A source leaves out what it cannot prove: the policy decides which claims it
 * needs.
 */
struct caller {
    struct principal who;                    /* points into the call's arena */
    const struct attested_session *attested; /* has who.tee; may be NULL */
    char lacks[512];                         /* why claims are missing, for people; may be "" */
};

/* One call, shared by all sources, so that the certificate is read only once. */
struct claim_query {
    const struct rpc_call *call;
    uint64_t now_ms;
    struct pki_client client; /* only claim_query_client uses it */
};
void claim_query_end(struct claim_query *query);
#define auto_claim_query CLEANUP(claim_query_end)

/* The certificate of the call's peer, read once. NULL and UNAUTHENTICATED when it is unreadable. */
const struct pki_client *claim_query_client(struct claim_query *query, struct error *err);

struct claim_source {
    /* UNAUTHENTICATED when the peer's certificate cannot be read. */
    MUST_USE bool (*gather)(void *state, struct claim_query *query, struct caller *out,
                            struct error *err);
};

struct claim_source_binding {
    const struct claim_source *source;
    void *state;
};

extern const struct claim_source claim_source_certificate; /* of a struct pki_trust */
extern const struct claim_source claim_source_evidence;    /* of a struct attested_sessions */

/* UNAUTHENTICATED for a peer without certificate, and for resumed TLS sessions. */
MUST_USE bool caller_check_peer(const struct rpc_peer *peer, struct error *err);

/* Also succeeds when the caller has proven nothing: see caller_check_known. */
MUST_USE bool caller_gather(const struct claim_source_binding *sources, size_t n,
                            struct claim_query *query, struct caller *out, struct error *err);

/* UNAUTHENTICATED with the reason NotAttested when the caller has proven nothing. */
MUST_USE bool caller_check_known(const struct caller *caller, struct error *err);

/* The peer's network. Rate limits count by network. */
#define CALLER_NETWORK_LEN ADDRESS_NETWORK_LEN
void caller_network(const struct rpc_peer *peer, char out[static CALLER_NETWORK_LEN]);
