/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "base/option.h"
#include "proto/client.h"

#include <stdio.h>

#include "keybroker.pb-c.h"

/* What the commands that talk to a broker share: options, connection, output. */

struct broker_options {
    const char *address, *ca, *certificate, *key, *server_name, *driver;
    const char *key_file; /* of broker unseal */
    bool json, yes;
    bool deleted;   /* of volume list */
    bool now;       /* of volume delete */
    bool all;       /* of volume rotate and volume adopt */
    uint64_t up_to; /* likewise; 0: any */
    struct {        /* of volume adopt */
        const char *like, *name, *size, *fs_type, *key_file, *disk_size;
        bool blank, block, no_attach, restored;
        int kind, integrity, sector_size;
    } adopt;
    struct { /* of audit verify */
        struct option_list heads, keys;
        bool hashes_only, allow_restarts, complete;
    } audit;
    struct { /* of verify make */
        const char *nonce, *policy, *collateral;
        bool no_quote;
    } verify;
    struct option_list rest;
};

/* Rows for a table over struct broker_options. */
#define BROKER_ROWS                                                                       \
    OPTION_TEXT_ROW("broker", struct broker_options, address, "HOST:PORT",                \
                    "Address of the broker, or of several, separated by commas: the "     \
                    "first that answers is used; default: $TDVOL_BROKER."),               \
        OPTION_TEXT_ROW("broker-ca", struct broker_options, ca, "FILE",                   \
                        "CA certificate of the broker, PEM; default: $TDVOL_BROKER_CA."), \
        OPTION_TEXT_ROW("client-cert", struct broker_options, certificate, "FILE",        \
                        "Your certificate, PEM; default: $TDVOL_CLIENT_CERT."),           \
        OPTION_TEXT_ROW("client-key", struct broker_options, key, "FILE",                 \
                        "Its private key, PEM, mode 0600; default: $TDVOL_CLIENT_KEY."),  \
        OPTION_TEXT_ROW("broker-name", struct broker_options, server_name, "NAME",        \
                        "Name in the broker's certificate, when it is not the HOST."),    \
        OPTION_BOOL_ROW("json", struct broker_options, json, "Print JSON.")

/* One command: its usage and what it does when connected. */
struct broker_command {
    const char *name;  /* "volume show" */
    const char *usage; /* for --help: arguments and text */
    const struct option *options;
    size_t n_options;
    size_t n_arguments; /* positional; none with --all */
    MUST_USE bool (*run)(const struct broker_options *options, struct client *client,
                         struct arena *arena, struct error *err);
};
/* For commands that need no broker, or not always: takes what is not on the command line from the
 * environment, and connects. *client: the caller frees it. */
MUST_USE bool broker_connect(struct broker_options *options, struct client **client,
                             struct error *err);

int broker_command_run(const struct broker_command *command, int argc, char *const *argv);

MUST_USE bool broker_call(struct client *client, const char *method,
                          const ProtobufCMessage *request, struct arena *arena,
                          ProtobufCMessage **response, struct error *err);

/* Prints any message as JSON. */
MUST_USE bool broker_print_json(const ProtobufCMessage *message, struct error *err);
