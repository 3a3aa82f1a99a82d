/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/owner_certificate.h"
#include "tests/fuzz/authority.h"
#include "tests/fuzz/fuzz.h"

#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

/*
 * An owner's certificate below a CA that a policy pins. The first byte says what the rest is: the
 * signed part of the leaf, of the leaf below an intermediate CA, or of that intermediate CA
 * (authority.h); the text of a chain; or the text of the CAs in a policy.
 */

enum { LEAF, LOW_LEAF, MIDDLE, TEXT, CAS, KINDS };
enum { PEM_MAX = 65536, NOW = 1767225600, CAS_MAX = 4 };

static bool verify(const char *pem, size_t len, struct owner_claims *out, struct error *err)
{
    const struct sim_identity *owner = authority_owner();
    X509 *const cas[] = { authority_pki()->root.cert, owner[0].cert };
    auto_x509 X509 *leaf = NULL;
    auto_free char *text = text_of_bytes(pem, len);
    uint8_t key[32] = { 0 };

    if (!text)
        abort();
    /* the key of the session is that of the leaf, when there is one */
    if (cert_read(text, &leaf, err) && !cert_key_sha256(leaf, key, err))
        abort();
    *err = (struct error)ERROR_INIT;
    bool ok = owner_certificate_verify(cas, ARRAY_LEN(cas), pem, len, key, NOW, out, err);
    if (ok && (!leaf || X509_check_ca(leaf) != 0))
        abort();
    key[0] ^= 1;
    struct owner_claims other;
    struct error why = ERROR_INIT;
    if (owner_certificate_verify(cas, ARRAY_LEN(cas), pem, len, key, NOW, &other, &why))
        abort();
    return ok;
}

static void check_claims(const struct owner_claims *claims)
{
    uint8_t pinned[32];
    struct error err = ERROR_INIT;

    if (!cert_sha256(authority_owner()[0].cert, pinned, &err) ||
        memcmp(claims->ca_sha256, pinned, sizeof(pinned)) != 0 || claims->until < NOW)
        abort();
    if (strnlen(claims->common_name, sizeof(claims->common_name)) == sizeof(claims->common_name))
        abort();
    for (const char *c = claims->common_name; *c; c++)
        if (*c <= ' ' || *c > '~')
            abort();
}

static void judge(const char *pem, size_t len)
{
    struct owner_claims claims;
    struct error err = ERROR_INIT;

    if (verify(pem, len, &claims, &err))
        check_claims(&claims);
    else if (err.code != ERROR_DENIED || strcmp(err.reason, "OwnerCertificate") != 0)
        abort();
}

static void certificate(int kind, struct bytes_view input)
{
    static char pem[PEM_MAX];
    const struct sim_identity *owner = authority_owner();
    auto_arena struct arena arena = { .limit = (size_t)1024 * 1024 };
    const struct bytes_view sealed =
        authority_seal(input, owner[kind == LOW_LEAF ? 1 : 0].key, &arena);

    pem[0] = '\0';
    authority_append_pem(kind == MIDDLE ? authority_der(owner[2].cert, &arena) : sealed, pem,
                         sizeof(pem));
    if (kind != LEAF)
        authority_append_pem(kind == MIDDLE ? sealed : authority_der(owner[1].cert, &arena), pem,
                             sizeof(pem));
    judge(pem, strlen(pem));
}

static void cas(const char *pem, size_t len)
{
    X509 *found[CAS_MAX] = { NULL };
    struct error err = ERROR_INIT;
    size_t n = 0;

    if (!owner_cas_parse(pem, len, found, CAS_MAX, &n, &err)) {
        if (err.code != ERROR_INVALID_ARGUMENT)
            abort();
        return;
    }
    if (n == 0 || n > CAS_MAX)
        abort();
    for (size_t i = 0; i < n; i++) {
        if (X509_check_ca(found[i]) != 1)
            abort();
        X509_free(found[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len < 2 || len > 8192)
        return 0;
    const struct bytes_view rest = { bytes + 1, len - 1 };
    const int kind = bytes[0] % KINDS;

    if (kind == TEXT)
        judge((const char *)rest.bytes, rest.len);
    else if (kind == CAS)
        cas((const char *)rest.bytes, rest.len);
    else
        certificate(kind, rest);
    return 0;
}
