/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/option.h"
#include "blockd/client.h"
#include "keys/broker_client.h"
#include "keys/call_metrics.h"

/*
 * The connection to the key broker, made from the options of the command line. With --client-cert,
 * that certificate authenticates us. Without it, we make a TLS key, which lives in memory only, and
 * attest it. The files of --broker-ca, --client-cert and --client-key are read again when they
 * change.
 */
struct connection;

struct connection_options {
    const struct option_list *brokers;    /* each HOST:PORT, or several separated by commas */
    const char *server_name;              /* in the brokers' certificates; NULL: the address */
    const char *ca;                       /* file */
    const struct option_list *pins;       /* see broker_pins_parse() */
    const char *client_cert, *client_key; /* files; NULL: attested */
    uid_t uid;                            /* who we will be; reads the files again */
    gid_t gid;
    uint64_t renewal_ms;             /* how often it looks at the files; 0: RENEWAL_INTERVAL_MS */
    const struct resolver *resolver; /* of names; NULL: the system's */
    /* For attested nodes only, see struct attestation. connection_new() writes owner_request. */
    const char *owner_token, *owner_certificate, *owner_request;
    size_t waiting_max;           /* calls that may wait for a session at the same time */
    const char *common_name;      /* of the certificate request, for human readers */
    const struct workers *blocks; /* makes quotes; filled in before connection_start() */
};

/* INVALID_ARGUMENT for combinations that make no sense. Touches no file. */
MUST_USE bool connection_check(const struct connection_options *options, struct error *err);

/* Reads the files and makes the key. Call it before the process gives up its rights and before it
 * starts threads. */
MUST_USE bool connection_new(const struct connection_options *options, struct connection **out,
                             struct error *err);
/* Names of which the broker's certificate must have one: the server's name, or the hosts of the
 * addresses. Good for as long as the connection. */
const struct option_list *connection_server_names(const struct connection *connection);
/* Makes the channels but does not connect yet. Call it before the functions below. */
MUST_USE bool connection_open(struct connection *connection, struct metrics *metrics,
                              struct error *err);
struct broker_transport connection_transport(struct connection *connection);
/* FAILED_PRECONDITION when no call will ever succeed, whatever the broker does: only a new process can help. */
MUST_USE bool connection_check_alive(const struct connection *connection, struct error *err);
MUST_USE bool connection_start(struct connection *connection, struct error *err);
/* Both let no new attestation start: from then on calls use the existing sessions and do not wait.
 * connection_stop() also waits for an attestation that is under way. NULL is allowed. */
void connection_end(struct connection *connection);
void connection_stop(struct connection *connection);
void connection_free(struct connection *connection); /* NULL allowed */
