/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/option.h"
#include "blockd/client.h"
#include "keys/broker_client.h"
#include "keys/call_metrics.h"

/*
 * From the command line to the door to the key broker. Without a certificate of ours the key is
 * made here, lives in memory only, and is attested; with one, the certificate speaks for us.
 */
struct connection;

struct connection_options {
    const struct option_list *brokers;    /* each HOST:PORT, or several with commas between */
    const char *server_name;              /* in their certificates; NULL: the address */
    const char *ca;                       /* file */
    const struct option_list *pins;       /* see broker_pins_parse() */
    const char *client_cert, *client_key; /* files; NULL: attested */
    /* Attested only, see struct attestation; owner_request is written here and now. */
    const char *owner_token, *owner_certificate, *owner_request;
    size_t waiting_max;           /* calls that may wait for a session at a time */
    const char *common_name;      /* of the certificate request, for people */
    const struct workers *blocks; /* makes quotes; may be filled in later, before the start */
};

/* INVALID_ARGUMENT for combinations that make no sense; before files are touched. */
MUST_USE bool connection_check(const struct connection_options *options, struct error *err);

/* Reads the files, makes the key: what wants the rights of the start, and no thread yet. */
MUST_USE bool connection_new(const struct connection_options *options, struct connection **out,
                             struct error *err);
/* Makes the channels; does not connect yet. Before the other functions. */
MUST_USE bool connection_open(struct connection *connection, struct metrics *metrics,
                              struct error *err);
struct broker_transport connection_transport(struct connection *connection);
MUST_USE bool connection_start(struct connection *connection, struct error *err);
/* No attestation from then on: calls use the sessions that are there, and none waits. The second
 * waits for one that is under way. NULL is allowed. */
void connection_end(struct connection *connection);
void connection_stop(struct connection *connection);
void connection_free(struct connection *connection); /* NULL allowed */
