/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/attested_session.h"
#include "broker/pki.h"
#include "proto/address.h"
#include "proto/dispatch.h"

/*
 * Who calls: the set of claims that are proven of the other end of a TLS session. A source of
 * claims (its certificate; what its key attested) is one row of ops in the broker's list. What a
 * source cannot prove it leaves out: it is the policy that wants one claim or the other.
 */
struct caller {
    struct principal who;                    /* leads into the call's arena */
    const struct attested_session *attested; /* what who.tee belongs to; or NULL */
    char lacks[512];                         /* why there are no claims, for people; may be "" */
};

/* One call, for all who ask about its peer: what one has read the others need not read again. */
struct claim_query {
    const struct rpc_call *call;
    uint64_t now_ms;
    struct pki_client client; /* by claim_query_client alone */
};
void claim_query_end(struct claim_query *query);
#define auto_claim_query CLEANUP(claim_query_end)

/* The certificate of the call's peer, read once. NULL, UNAUTHENTICATED, when that is not possible. */
const struct pki_client *claim_query_client(struct claim_query *query, struct error *err);

struct claim_source {
    /* UNAUTHENTICATED when what the peer shows cannot even be read. */
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

/* May leave a caller of whom nothing is proven. */
MUST_USE bool caller_gather(const struct claim_source_binding *sources, size_t n,
                            struct claim_query *query, struct caller *out, struct error *err);

/* UNAUTHENTICATED with the reason NotAttested when nothing is proven. */
MUST_USE bool caller_check_known(const struct caller *caller, struct error *err);

/* Whom a rate counts. */
#define CALLER_NETWORK_LEN ADDRESS_NETWORK_LEN
void caller_network(const struct rpc_peer *peer, char out[static CALLER_NETWORK_LEN]);
