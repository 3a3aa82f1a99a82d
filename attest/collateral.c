/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/collateral.h"

#include "attest/reason.h"
#include "base/digest.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static atomic_uint_fast64_t generations = 1;

enum { COLLATERAL_MEMORY_MAX = 8 * 1024 * 1024 };

const struct trust_root trust_root_intel = {
    .sha256 = { 0x44, 0xa0, 0x19, 0x6b, 0x2b, 0x99, 0xf8, 0x89, 0xb8, 0xe1, 0x49,
                0xe9, 0x5b, 0x80, 0x7a, 0x35, 0x0e, 0x74, 0x24, 0x96, 0x43, 0x99,
                0xe8, 0x85, 0xa7, 0xcb, 0xb8, 0xcc, 0xfa, 0xb6, 0x74, 0xd3 },
};

void collateral_free(struct collateral *c)
{
    cert_chain_free(&c->tcb_signer);
    cert_chain_free(&c->qe_signer);
    cert_chain_free(&c->pck_ca);
    crl_free_at(&c->root_crl);
    crl_free_at(&c->pck_crl);
    X509_free(c->root);
    c->root = NULL;
    arena_wipe(&c->memory);
}

/* Loads the chain [signer, root]. The root must be the pinned one, and the signer Intel's for TCB
 * data. A PCK certificate has the same key usage, so only the name tells the two apart. */
static bool load_signer(struct bytes_view pem, const struct trust_root *root,
                        struct cert_chain *out, struct error *err)
{
    auto_cert_chain struct cert_chain chain = { .n = 0 };
    uint8_t digest[32];

    if (!cert_chain_parse((const char *)pem.bytes, pem.len, 2, &chain, err) ||
        !cert_sha256(chain.certs[1], digest, err))
        return false;
    if (memcmp(digest, root->sha256, sizeof(digest)) != 0)
        return attest_refuse(err, REASON_PCK_ROOT_UNKNOWN,
                             "collateral is not signed under the pinned root certificate");
    if (cert_role_of(chain.certs[0]) != CERT_TCB_SIGNER)
        return attest_refuse(err, REASON_COLLATERAL_SIGNER,
                             "collateral is not signed by a TCB signing certificate");
    if (X509_NAME_cmp(X509_get_issuer_name(chain.certs[0]), X509_get_subject_name(chain.certs[1])))
        return attest_refuse(err, REASON_COLLATERAL_SIGNER,
                             "the TCB signing certificate is not issued directly by the root");
    *out = chain;
    chain = (struct cert_chain){ .n = 0 };
    return true;
}

static bool check_signature(const struct cert_chain *signer, struct bytes_view object,
                            struct bytes_view hex, struct error *err)
{
    uint8_t signature[P256_SIGNATURE_LEN];
    char text[2 * P256_SIGNATURE_LEN + 1] = "";
    auto_pkey EVP_PKEY *key = NULL;

    while (hex.len > 0 && hex.bytes[hex.len - 1] == '\n')
        hex.len--;
    if (hex.len != sizeof(text) - 1)
        return attest_refuse(err, REASON_COLLATERAL_SIGNATURE,
                             "a collateral signature has %zu hex digits, not 128", hex.len);
    memcpy(text, hex.bytes, hex.len);
    if (!hex_decode(text, signature, sizeof(signature)))
        return attest_refuse(err, REASON_COLLATERAL_SIGNATURE, "a collateral signature is not hex");
    if (!p256_key_of(signer->certs[0], &key, err))
        return false;
    if (!p256_signature_is_valid(key, signature, object.bytes, object.len))
        return attest_refuse(err, REASON_COLLATERAL_SIGNATURE,
                             "the signature over the document is wrong");
    return true;
}

/* Checks the signer's path to the root: signatures, and the root's revocation list. */
static bool check_signer(const struct cert_chain *signer, const struct collateral *c,
                         struct error *err)
{
    const struct cert_trust trust = { .root = c->root, .root_crl = c->root_crl };

    if (cert_chain_verify(signer, &trust, err))
        return cert_check_signer(signer->certs[0], err);
    if (strcmp(err->reason, attest_reason_name(REASON_PCK_CERT_REVOKED)) == 0)
        (void)error_reason(err, attest_reason_name(REASON_COLLATERAL_SIGNER_REVOKED));
    return error_wrap(err, "TCB signer");
}

/* Loads the PCK CA. Checks its path to the root, and its signature over its list. */
static bool load_pck_ca(const struct collateral_source *source, struct collateral *c,
                        struct error *err)
{
    const struct bytes_view pem = source->pck_crl_chain;
    const struct cert_trust trust = { .root = c->root, .root_crl = c->root_crl };

    if (!cert_chain_parse((const char *)pem.bytes, pem.len, 2, &c->pck_ca, err))
        return false;
    enum cert_role role = cert_role_of(c->pck_ca.certs[0]);
    if (role != CERT_PCK_PLATFORM_CA && role != CERT_PCK_PROCESSOR_CA)
        return attest_refuse(err, REASON_CRL_ISSUER,
                             "the issuer of the PCK revocation list is no PCK CA");
    if (!cert_chain_verify(&c->pck_ca, &trust, err) ||
        !cert_check_ca(c->pck_ca.certs[0], c->pck_ca.certs[1], err))
        return error_wrap(err, "issuer of the PCK revocation list");
    if (!crl_check_issued(c->pck_crl, c->pck_ca.certs[0], err))
        return false;
    c->pck_ca_dates = (struct validity)VALIDITY_ALWAYS;
    cert_chain_narrow(&c->pck_ca, &c->pck_ca_dates);
    c->pck_ca_pem = (struct bytes_view){ arena_memdup(&c->memory, pem.bytes, pem.len), pem.len };
    return c->pck_ca_pem.bytes || arena_exhausted(err);
}

static bool load_lists(const struct collateral_source *source, struct collateral *c,
                       struct error *err)
{
    c->crls = c->signers = (struct validity)VALIDITY_ALWAYS;
    if (!crl_parse(source->root_ca_crl.bytes, source->root_ca_crl.len, &c->root_crl, err) ||
        !crl_parse(source->pck_crl.bytes, source->pck_crl.len, &c->pck_crl, err) ||
        !crl_number(c->root_crl, &c->root_crl_number, err) ||
        !crl_number(c->pck_crl, &c->pck_crl_number, err))
        return false;
    c->root_crl_issued = crl_issued(c->root_crl);
    c->pck_crl_issued = crl_issued(c->pck_crl);
    crl_narrow(c->root_crl, &c->crls);
    crl_narrow(c->pck_crl, &c->crls);
    cert_chain_narrow(&c->tcb_signer, &c->signers);
    cert_chain_narrow(&c->qe_signer, &c->signers);
    return check_signer(&c->tcb_signer, c, err) && check_signer(&c->qe_signer, c, err) &&
           load_pck_ca(source, c, err);
}

static bool load_signed(const struct collateral_source *source, const struct trust_root *root,
                        struct collateral *c, struct error *err)
{
    if (!load_signer(source->tcb_info_chain, root, &c->tcb_signer, err) ||
        !check_signature(&c->tcb_signer, source->tcb_info, source->tcb_info_signature_hex, err) ||
        !tcb_info_parse(source->tcb_info, &c->memory, &c->tcb, err))
        return error_wrap(err, "TCB info");
    if (!load_signer(source->qe_identity_chain, root, &c->qe_signer, err) ||
        !check_signature(&c->qe_signer, source->qe_identity, source->qe_identity_signature_hex,
                         err) ||
        !qe_identity_parse(source->qe_identity, &c->memory, &c->qe, err))
        return error_wrap(err, "QE identity");
    return true;
}

/* A length stands before each part, so that two different sets never give the same bytes. */
static bool hash_parts(const struct collateral_source *source, uint8_t out[static 32],
                       struct error *err)
{
    const struct bytes_view parts[] = { source->root_ca_crl, source->pck_crl, source->tcb_info,
                                        source->qe_identity };
    auto_sha256 struct sha256_stream stream = { NULL };

    if (!sha256_start(&stream, err))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        uint8_t len[8];

        for (size_t k = 0; k < sizeof(len); k++)
            len[k] = (uint8_t)((uint64_t)parts[i].len >> (56 - 8 * k));
        if (!sha256_add(&stream, len, sizeof(len), err) ||
            !sha256_add(&stream, parts[i].bytes, parts[i].len, err))
            return false;
    }
    return sha256_finish(&stream, out, err);
}

bool collateral_load(const struct collateral_source *source, const struct trust_root *root,
                     struct collateral *out, struct error *err)
{
    auto_collateral struct collateral c = { .root = NULL };

    arena_init(&c.memory, COLLATERAL_MEMORY_MAX);
    if (!load_signed(source, root, &c, err))
        return false;
    c.root = c.tcb_signer.certs[1];
    X509_up_ref(c.root);
    if (!load_lists(source, &c, err) || !hash_parts(source, c.sha256, err))
        return false;
    c.generation = atomic_fetch_add(&generations, 1);
    *out = c;
    c = (struct collateral){ .root = NULL };
    return true;
}

static bool in_dates(int64_t issue, int64_t next, int64_t now, const char *what, struct error *err)
{
    if (now < issue)
        return attest_refuse(err, REASON_COLLATERAL_NOT_YET_VALID,
                             "%s is not valid yet; check the clock", what);
    if (now > next)
        return attest_refuse(err, REASON_COLLATERAL_EXPIRED, "%s expired; fetch new collateral",
                             what);
    return true;
}

bool collateral_check_dates(const struct collateral *c, int64_t now, struct error *err)
{
    if (!in_dates(c->tcb.issue_date, c->tcb.next_update, now, "TCB info", err) ||
        !in_dates(c->qe.issue_date, c->qe.next_update, now, "QE identity", err) ||
        !in_dates(c->signers.from, c->signers.until, now, "the TCB signing certificate", err))
        return false;
    if (!validity_has(&c->crls, now))
        return attest_refuse(err, REASON_CRL_EXPIRED,
                             "a revocation list is out of date; fetch new collateral");
    if (c->tcb.evaluation_number != c->qe.evaluation_number)
        return attest_refuse(
            err, REASON_COLLATERAL_MIXED,
            "TCB info has evaluation number %u, QE identity has %u; fetch both again",
            c->tcb.evaluation_number, c->qe.evaluation_number);
    return true;
}

int64_t collateral_issued(const struct collateral *c)
{
    int64_t last = c->tcb.issue_date;

    if (c->qe.issue_date > last)
        last = c->qe.issue_date;
    return c->crls.from > last ? c->crls.from : last;
}

int64_t collateral_next_update(const struct collateral *c)
{
    const int64_t times[] = { c->tcb.next_update, c->qe.next_update, c->crls.until };
    int64_t first = c->signers.until;

    for (size_t i = 0; i < ARRAY_LEN(times); i++)
        if (times[i] < first)
            first = times[i];
    return first;
}

static bool starts_with(struct bytes_view v, const char *text)
{
    return v.bytes && v.len >= strlen(text) && memcmp(v.bytes, text, strlen(text)) == 0;
}

bool collateral_split_response(const char *name, struct bytes_view response,
                               struct bytes_view *object, struct bytes_view *signature_hex,
                               struct error *err)
{
    static const char middle[] = ",\"signature\":\"";
    const size_t middle_len = sizeof(middle) - 1, hex_len = 2 * P256_SIGNATURE_LEN;
    char head[64];

    while (response.len > 0 && response.bytes[response.len - 1] == '\n')
        response.len--;
    int head_len = snprintf(head, sizeof(head), "{\"%s\":", name);
    size_t frame = (size_t)head_len + middle_len + hex_len + 2;
    if (!starts_with(response, head) || response.len < frame ||
        memcmp(response.bytes + response.len - 2, "\"}", 2) != 0)
        return attest_refuse(err, REASON_COLLATERAL_MALFORMED,
                             "collateral must have the form {\"%s\":...,\"signature\":\"...\"}",
                             name);
    *object = (struct bytes_view){ response.bytes + head_len, response.len - frame };
    if (memcmp(object->bytes + object->len, middle, middle_len) != 0)
        return attest_refuse(err, REASON_COLLATERAL_MALFORMED,
                             "collateral does not end with a signature of %zu hex digits", hex_len);
    *signature_hex = (struct bytes_view){ object->bytes + object->len + middle_len, hex_len };
    return true;
}
