/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/broker.h"
#include "proto/door.h"

/*
 * The broker's certificate and private key, and the CA of its clients. The files are read again when
 * they change. New connections then get the new certificate; open ones keep what they have. The new
 * CA counts for every call from then on. When the new files are not good, the old ones stay in use.
 */
struct certificate_files {
    const char *certificate, *private_key, *client_ca; /* paths; outlive the certificates */
};

struct certificates;

/* Reads and checks the files. Sets the broker's key_sha256 and certificate; source, which is one of
 * the broker's, gets the CA. broker and source outlive the certificates. */
MUST_USE bool certificates_new(const struct certificate_files *files, struct broker *broker,
                               struct claim_source_binding *source, struct certificates **out,
                               struct error *err);
void certificates_free(struct certificates **certificates);

/* For door_listen. */
struct server_tls certificates_tls(const struct certificates *certificates);

#define CERTIFICATES_CHECK_S 10

/* Reads the files again if they have changed since the last try, and warns once a day when the
 * certificate expires within seven days. From one thread. What goes wrong is logged. */
void certificates_check(struct certificates *certificates, struct door *door);
