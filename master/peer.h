/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "master/key.h"

/*
 * The master key from another broker, a peer, which is open already. This broker runs in a TD and attests to the
 * peer like a node does; a rule of the peer's policy must allow "replicate". The peer is whoever has a
 * certificate of the CA for its name: its quote is not asked for.
 */
#define PEERS_MAX 8

struct peer_options {
    const char *addresses;   /* HOST:PORT, separated by commas */
    const char *ca_file;     /* PEM: the only CAs that may sign the peers' certificates */
    const char *server_name; /* in the peers' certificates; NULL: the host of each address */
    const char *owner_token; /* a file, read at each try; NULL: none is sent */
    const char *tsm_root, *event_log; /* as in attester_options */
};

/* INVALID_ARGUMENT names the option that is missing or wrong. */
MUST_USE bool peer_options_check(const struct peer_options *options, struct error *err);

/*
 * Asks the peers one after the other, until one gives the key. UNAVAILABLE: none does; the text says why, for
 * each. FAILED_PRECONDITION: this machine cannot make quotes. The file of the CA must be there.
 */
MUST_USE bool peer_fetch(const struct peer_options *options, struct secret *out, struct error *err);
