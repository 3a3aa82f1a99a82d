/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "proto/dispatch.h"

#include <stddef.h>

/*
 * Who calls: a set of verified claims. The policy sees nothing else. A source of claims (the TLS
 * certificate today; evidence and tokens later) is one row of ops in the broker's list.
 */

#define PRINCIPAL_CLAIMS_MAX 8
#define PRINCIPAL_VALUE_MAX  128 /* bytes, without NUL */

#define CLAIM_CERTIFICATE_SHA256 "certificate.sha256" /* lower-case hex, over the DER form */
#define CLAIM_CERTIFICATE_CN     "certificate.cn"     /* the subject's common name */

struct claim {
    const char *name; /* one of the above */
    char value[PRINCIPAL_VALUE_MAX + 1];
};

struct principal {
    size_t n;
    struct claim claims[PRINCIPAL_CLAIMS_MAX];
};

struct claim_source {
    const char *name;
    /* Adds what it can prove. UNAUTHENTICATED when what the peer shows is not good. */
    MUST_USE bool (*gather)(const void *state, const struct rpc_peer *peer, struct principal *out,
                            struct error *err);
};

struct claim_source_binding {
    const struct claim_source *source;
    const void *state;
};

/* state is a struct pki_trust. */
extern const struct claim_source claim_source_certificate;

MUST_USE bool principal_gather(const struct claim_source_binding *sources, size_t n,
                               const struct rpc_peer *peer, struct principal *out,
                               struct error *err);

/* An empty value adds nothing. */
MUST_USE bool principal_add(struct principal *p, const char *name, const char *value,
                            struct error *err);
const char *principal_claim(const struct principal *p, const char *name); /* NULL: has none */
bool principal_claim_is_known(const char *name);
