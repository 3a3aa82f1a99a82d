/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/principal.h"

#include "broker/pki.h"

#include <string.h>

static const char *const claim_names[] = { CLAIM_CERTIFICATE_SHA256, CLAIM_CERTIFICATE_CN };

bool principal_claim_is_known(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(claim_names); i++)
        if (strcmp(claim_names[i], name) == 0)
            return true;
    return false;
}

bool principal_add(struct principal *p, const char *name, const char *value, struct error *err)
{
    size_t len = strlen(value);

    if (len == 0)
        return true;
    if (p->n == PRINCIPAL_CLAIMS_MAX || len > PRINCIPAL_VALUE_MAX)
        return error_set(err, ERROR_UNAUTHENTICATED, "too many or too long claims");
    p->claims[p->n].name = name;
    memcpy(p->claims[p->n].value, value, len + 1);
    p->n++;
    return true;
}

const char *principal_claim(const struct principal *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->claims[i].name, name) == 0)
            return p->claims[i].value;
    return NULL;
}

bool principal_gather(const struct claim_source_binding *sources, size_t n,
                      const struct rpc_peer *peer, struct principal *out, struct error *err)
{
    struct principal p = { .n = 0 };

    /* A resumed session would skip the proof that the peer has the certificate's key. */
    if (peer->session_reused)
        return error_set(err, ERROR_UNAUTHENTICATED, "resumed TLS sessions are refused");
    for (size_t i = 0; i < n; i++)
        if (!sources[i].source->gather(sources[i].state, peer, &p, err))
            return false;
    *out = p;
    return true;
}

static bool gather_certificate(const void *state, const struct rpc_peer *peer,
                               struct principal *out, struct error *err)
{
    struct pki_certificate certificate;

    if (!peer->certificate_pem)
        return error_set(err, ERROR_UNAUTHENTICATED, "no client certificate");
    return pki_verify_client(state, peer->certificate_pem, &certificate, err) &&
           principal_add(out, CLAIM_CERTIFICATE_SHA256, certificate.sha256, err) &&
           principal_add(out, CLAIM_CERTIFICATE_CN, certificate.common_name, err);
}

const struct claim_source claim_source_certificate = {
    .name = "certificate",
    .gather = gather_certificate,
};
