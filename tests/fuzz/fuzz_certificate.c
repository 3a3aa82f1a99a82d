/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/collateral.h"
#include "tests/fuzz/authority.h"
#include "tests/fuzz/fuzz.h"

#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

/*
 * Certificate chains and revocation lists. The first byte says what the rest is: the signed part of
 * one certificate or list (authority.h), whose neighbours are good; or a PEM text. The product has
 * a fast check for a leaf below a CA that it knows. What that accepts, the whole check accepts.
 */

enum { LEAF, CA, ROOT_LIST, CA_LIST, SIGNER, TEXT, KINDS };
enum { PEM_MAX = 65536, GOOD_LEAF = 100, DAY_2026 = 1767225600 };

/* What is below the pinned root. */
struct scene {
    const struct sim_identity *root, *ca;
    struct cert_chain chain; /* leaf, CA, root */
    X509_CRL *root_crl, *ca_crl;
};

/* As the collateral's: parsed, complete, signed by its issuer. */
static bool use_list(struct bytes_view der, X509 *issuer, X509_CRL **out)
{
    struct validity dates = VALIDITY_ALWAYS;
    auto_crl X509_CRL *crl = NULL;
    struct error err = ERROR_INIT;
    uint64_t number = 0;

    if (!crl_parse(der.bytes, der.len, &crl, &err) || !crl_number(crl, &number, &err))
        return false;
    crl_narrow(crl, &dates);
    if (number > INT64_MAX || (validity_has(&dates, DAY_2026) && crl_issued(crl) > DAY_2026))
        abort();
    if (!crl_check_issued(crl, issuer, &err))
        return false;
    *out = TAKE_PTR(crl);
    return true;
}

static void read_leaf(const X509 *leaf)
{
    char name[CERT_COMMON_NAME_MAX + 1];
    struct pck_platform platform;
    struct error err = ERROR_INIT;
    uint8_t digest[32];

    cert_common_name(leaf, name);
    for (const char *c = name; *c; c++)
        if (*c <= ' ' || *c > '~')
            abort();
    (void)cert_issuer_role_of(leaf);
    if (!cert_sha256(leaf, digest, &err) || !cert_key_sha256(leaf, digest, &err))
        abort();
    if (cert_read_platform(leaf, &platform, &err) && platform.sgx_type > 2)
        abort();
}

/* The good parts are made once: signing and parsing them costs most of the time. Never freed. */
static const struct scene *good_scene(void)
{
    static struct scene s;
    auto_arena struct arena arena = { .limit = (size_t)1024 * 1024 };

    if (s.root)
        return &s;
    s.root = &authority_pki()->root;
    s.ca = &authority_pki()->pck_ca[PCK_CA_PLATFORM];
    s.chain = (struct cert_chain){ { authority_leaf(GOOD_LEAF), s.ca->cert, s.root->cert }, 3 };
    if (!use_list(authority_list(s.root, 1, &arena), s.root->cert, &s.root_crl) ||
        !use_list(authority_list(s.ca, 3, &arena), s.ca->cert, &s.ca_crl))
        abort();
    return &s;
}

static bool parse_certificate(struct bytes_view der, struct cert_chain *out)
{
    static char pem[PEM_MAX];
    struct error err = ERROR_INIT;

    pem[0] = '\0';
    authority_append_pem(der, pem, sizeof(pem));
    return cert_chain_parse(pem, strlen(pem), 1, out, &err);
}

/* A refusal has a reason, because callers count by it. */
static bool verified(bool ok, const struct error *err)
{
    if (!ok && (err->code != ERROR_DENIED || err->reason[0] == '\0'))
        abort();
    return ok;
}

static bool ca_is_good(const struct cert_chain *chain, const struct scene *s)
{
    X509 *ca = chain->certs[1], *root = chain->certs[2];
    const struct cert_chain upper = { .certs = { ca, root }, .n = 2 };
    const struct cert_trust trust = { .root = s->root->cert, .root_crl = s->root_crl };
    struct error err = ERROR_INIT;
    enum cert_role role = cert_role_of(ca);

    return (role == CERT_PCK_PLATFORM_CA || role == CERT_PCK_PROCESSOR_CA) &&
           verified(cert_chain_verify(&upper, &trust, &err), &err) &&
           verified(cert_check_ca(ca, root, &err), &err);
}

static bool is_revoked(const X509 *cert, X509_CRL *crl)
{
    const STACK_OF(X509_REVOKED) *entries = X509_CRL_get_REVOKED(crl);

    for (int i = 0; i < sk_X509_REVOKED_num(entries); i++)
        if (ASN1_INTEGER_cmp(X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(entries, i)),
                             X509_get0_serialNumber(cert)) == 0)
            return true;
    return false;
}

static void judge(const struct scene *s)
{
    const struct cert_chain *chain = &s->chain;
    const struct cert_trust trust = { .root = s->root->cert,
                                      .root_crl = s->root_crl,
                                      .ca_crl = s->ca_crl };
    struct validity dates = VALIDITY_ALWAYS;
    struct error err = ERROR_INIT;
    X509 *leaf = chain->certs[0], *ca = chain->certs[1];

    cert_chain_narrow(chain, &dates);
    read_leaf(leaf);
    bool issued = verified(cert_verify_issued(leaf, ca, s->ca_crl, &err), &err);
    bool whole = verified(cert_chain_verify(chain, &trust, &err), &err);
    if (issued && ca_is_good(chain, s) && !whole)
        abort();
    if (whole && (!verified(cert_chain_check_signed(chain, &err), &err) ||
                  is_revoked(leaf, s->ca_crl) || is_revoked(ca, s->root_crl)))
        abort();
}

/* The scene with one part exchanged. */
static void judge_part(int kind, struct bytes_view input)
{
    struct scene s = *good_scene();
    auto_arena struct arena arena = { .limit = (size_t)1024 * 1024 };
    auto_cert_chain struct cert_chain part = { .n = 0 };
    auto_crl X509_CRL *list = NULL;
    const struct sim_identity *issuer = kind == CA || kind == ROOT_LIST ? s.root : s.ca;
    const struct bytes_view sealed = authority_seal(input, issuer->key, &arena);

    if (kind == LEAF || kind == CA) {
        if (!parse_certificate(sealed, &part))
            return;
        s.chain.certs[kind == CA ? 1 : 0] = part.certs[0];
    } else {
        if (!use_list(sealed, issuer->cert, &list))
            return;
        *(kind == ROOT_LIST ? &s.root_crl : &s.ca_crl) = list;
    }
    judge(&s);
}

static void judge_signer(struct bytes_view input)
{
    const struct scene *s = good_scene();
    auto_arena struct arena arena = { .limit = (size_t)1024 * 1024 };
    auto_cert_chain struct cert_chain signer = { .n = 0 };
    const struct cert_trust trust = { .root = s->root->cert, .root_crl = s->root_crl };
    struct error err = ERROR_INIT;

    if (!parse_certificate(authority_seal(input, s->root->key, &arena), &signer))
        return;
    const struct cert_chain chain = { { signer.certs[0], s->root->cert }, 2 };
    if (cert_role_of(signer.certs[0]) == CERT_TCB_SIGNER &&
        verified(cert_chain_verify(&chain, &trust, &err), &err) &&
        verified(cert_check_signer(signer.certs[0], &err), &err) &&
        (X509_check_ca(signer.certs[0]) == 1 || is_revoked(signer.certs[0], s->root_crl)))
        abort();
}

/* An accepted chain has one spelling. */
static void check_printed(const struct cert_chain *chain, const char *pem, size_t len)
{
    char *printed = sim_pem(chain->certs, chain->n);
    size_t printed_len = strlen(printed);

    if (len < printed_len - 1 || len > printed_len + 1 ||
        memcmp(pem, printed, printed_len - 1) != 0)
        abort();
    free(printed);
}

static void read_text(const char *pem, size_t len)
{
    struct error err = ERROR_INIT;
    auto_cert_chain struct cert_chain first = { .n = 0 };
    auto_free char *terminated = text_of_bytes(pem, len);
    auto_x509 X509 *cert = NULL;
    size_t rest = 0;

    for (size_t n = 1; n <= CERT_CHAIN_MAX; n++) {
        auto_cert_chain struct cert_chain chain = { .n = 0 };

        if (!cert_chain_parse(pem, len, n, &chain, &err))
            continue;
        check_printed(&chain, pem, len);
        (void)!cert_chain_check_signed(&chain, &err);
    }
    if (cert_parse_first(pem, len, &first, &rest, &err) && (rest > len || first.n != 1))
        abort();
    if (!terminated)
        abort();
    if (cert_read(terminated, &cert, &err))
        read_leaf(cert);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len < 2 || len > 8192)
        return 0;
    const struct bytes_view rest = { bytes + 1, len - 1 };
    const int kind = bytes[0] % KINDS;

    if (kind == TEXT)
        read_text((const char *)rest.bytes, rest.len);
    else if (kind == SIGNER)
        judge_signer(rest);
    else
        judge_part(kind, rest);
    return 0;
}
