/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/secret.h"

/* A small CA for "tdvolctl broker init": ECDSA P-256, X.509 version 3. */

struct certificate_pair {
    char *certificate_pem; /* owned */
    struct secret private_key_pem;
};
void certificate_pair_done(struct certificate_pair *pair);
#define auto_certificate_pair CLEANUP(certificate_pair_done)

struct authority;
MUST_USE bool authority_new(const char *common_name, int days, struct authority **out,
                            struct error *err);
void authority_free(struct authority **authority);
#define auto_authority CLEANUP(authority_free)

/* The CA's own certificate and key. */
MUST_USE bool authority_export(const struct authority *authority, struct certificate_pair *out,
                               struct error *err);

struct certificate_request {
    const char *common_name;
    bool is_server;           /* otherwise a client */
    const char *const *names; /* of a server: DNS names and IP addresses */
    size_t n_names;
    int days;
};

/* Makes a key and signs a certificate for it. INVALID_ARGUMENT when one of names is not valid. */
MUST_USE bool authority_issue(const struct authority *authority,
                              const struct certificate_request *request,
                              struct certificate_pair *out, struct error *err);
