/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "keys/attestation.h"

#include <pthread.h>

#include "keybroker.pb-c.h"

/*
 * Brokers at several addresses and a Trust Domain, in memory, as a node sees them. Each site keeps
 * one session, answers calls only within that session, and fails as a test says. Each site has its
 * own lock, so many threads may call.
 */
struct site_fault {
    const char *method; /* "": any; NULL: none */
    enum error_code code;
    const char *reason, *text;
    unsigned times; /* number of calls in a row that fail */
};

struct site {
    struct identity key; /* whose certificate it shows */
    pthread_mutex_t lock;
    struct site_fault fault;
    const char *shown_pem;              /* NULL: the certificate of key */
    const char *attest_pem, *calls_pem; /* the same, for Attest alone and the calls after it */
    bool shows_nothing;
    /* Changes an answer, which lies in the arena. */
    void (*distort)(struct site *site, struct arena *arena, const char *method,
                    ProtobufCMessage *answer);
    uint64_t life_ms, nonce_ms;
    unsigned attest_ms; /* how long a verification takes */

    bool has_session;
    uint8_t nonce;
    unsigned n_challenges, n_attests, n_calls; /* also those that failed */
    unsigned n_at_once, most_at_once;          /* attestations */
    char token[64];                            /* of the last one, and what follows */
    size_t token_len, certificate_len, event_log_len;
    uint8_t sealing_key;
};

void site_make(struct site *site); /* gives each its own key */
void site_free(struct site *site);
struct broker_route site_route(struct site *site, const char *address);

void site_fail(struct site *site, struct site_fault fault);
void site_forget(struct site *site);                          /* drops its session, as a restart */
unsigned site_count(struct site *site, const unsigned *what); /* one of the counters above */

/* The node. */
struct domain {
    struct identity identity;
    pthread_mutex_t lock;
    struct site_fault fault; /* of collecting; method is not read */
    unsigned quote_ms;
    unsigned n_quotes, n_at_once, most_at_once;
};
void domain_make(struct domain *domain);
void domain_free(struct domain *domain);
struct attestation domain_attestation(struct domain *domain);
