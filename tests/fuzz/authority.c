/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/authority.h"

#include "base/digest.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FROM_2020 = 1577836800, UNTIL_2049 = 2493072000 };

static void give_serial(struct sim_cert *form, uint8_t number)
{
    for (size_t i = 0; i < sizeof(form->serial); i++)
        form->serial[i] = 0;
    form->serial[0] = 0x40;
    form->serial[sizeof(form->serial) - 1] = number;
}

EVP_PKEY *authority_key(uint8_t number)
{
    /* SEC 1: ECPrivateKey, version 1, 32 bytes, P-256. OpenSSL computes the public key. */
    uint8_t der[51] = { 0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20 };
    static const uint8_t p256[] = { 0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86,
                                    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07 };
    const uint8_t *at = der;
    struct error err = ERROR_INIT;

    SIM_MUST(sha256(&number, 1, der + 7, &err));
    der[7] &= 0x7f; /* below the order of the group */
    memcpy(der + 39, p256, sizeof(p256));
    EVP_PKEY *key = d2i_PrivateKey(EVP_PKEY_EC, NULL, &at, sizeof(der));
    SIM_MUST(key);
    return key;
}

static void make_member(struct sim_identity *out, uint8_t number, enum sim_form kind,
                        enum pck_ca ca, const struct sim_identity *issuer)
{
    struct sim_cert form = sim_cert_form(kind, ca);

    give_serial(&form, number);
    out->key = authority_key(number);
    out->cert = sim_cert_make(&form, out->key, issuer);
}

const struct sim_pki *authority_pki(void)
{
    static struct sim_pki pki;
    struct error err = ERROR_INIT;

    if (pki.root.cert)
        return &pki;
    make_member(&pki.root, 200, SIM_ROOT, PCK_CA_PLATFORM, NULL);
    make_member(&pki.pck_ca[PCK_CA_PLATFORM], 201, SIM_PCK_CA, PCK_CA_PLATFORM, &pki.root);
    make_member(&pki.pck_ca[PCK_CA_PROCESSOR], 202, SIM_PCK_CA, PCK_CA_PROCESSOR, &pki.root);
    make_member(&pki.tcb_signer, 203, SIM_TCB_SIGNER, PCK_CA_PLATFORM, &pki.root);
    SIM_MUST(cert_sha256(pki.root.cert, pki.trust.sha256, &err));
    return &pki;
}

X509 *authority_leaf(uint8_t number)
{
    struct sim_cert form = sim_cert_form(SIM_PCK_LEAF, PCK_CA_PLATFORM);
    uint8_t sgx[SIM_SGX_MAX];
    EVP_PKEY *key = authority_key(number);

    give_serial(&form, number);
    form.sgx = (struct bytes_view){ sgx, sim_sgx_extension(&sim_platform_default, NULL, sgx) };
    form.n_sgx = 1;
    X509 *leaf = sim_cert_make(&form, key, &authority_pki()->pck_ca[PCK_CA_PLATFORM]);
    EVP_PKEY_free(key);
    return leaf;
}

struct bytes_view authority_list(const struct sim_identity *issuer, unsigned n_revoked,
                                 struct arena *arena)
{
    uint8_t serials[8][20] = { { 0 } };
    const struct sim_list list = { .issuer = issuer,
                                   .from = FROM_2020,
                                   .until = UNTIL_2049,
                                   .number = 7,
                                   .serials = serials,
                                   .n_serials = n_revoked };

    SIM_MUST(n_revoked <= ARRAY_LEN(serials));
    for (unsigned i = 0; i < n_revoked; i++) {
        serials[i][0] = 0x40;
        serials[i][19] = (uint8_t)(i + 1);
    }
    return sim_list_make(&list, arena);
}

const struct sim_identity *authority_owner(void)
{
    static struct sim_identity owner[4];
    static const struct {
        const char *name;
        bool is_ca;
        int issuer; /* -1: itself */
    } members[] = { { "Owner CA", true, -1 },
                    { "Owner CA 2", true, 0 },
                    { "node-1", false, 1 },
                    { "node-2", false, 0 } };

    for (size_t i = owner[0].cert ? ARRAY_LEN(owner) : 0; i < ARRAY_LEN(owner); i++) {
        struct sim_cert form =
            sim_cert_form(members[i].is_ca ? SIM_PCK_CA : SIM_PCK_LEAF, PCK_CA_PLATFORM);

        give_serial(&form, (uint8_t)i);
        form.common_name = members[i].name;
        form.basic_constraints = members[i].is_ca ? "critical,CA:TRUE" : form.basic_constraints;
        form.crl_url = NULL;
        form.from = FROM_2020;
        form.until = UNTIL_2049;
        owner[i].key = authority_key((uint8_t)(210 + i));
        owner[i].cert = sim_cert_make(&form, owner[i].key,
                                      members[i].issuer < 0 ? NULL : &owner[members[i].issuer]);
    }
    return owner;
}

/* Writes tag and length; returns how many bytes. */
static size_t put_head(uint8_t tag, size_t len, uint8_t out[static 4])
{
    out[0] = tag;
    if (len < 0x80) {
        out[1] = (uint8_t)len;
        return 2;
    }
    if (len < 0x100) {
        out[1] = 0x81;
        out[2] = (uint8_t)len;
        return 3;
    }
    SIM_MUST(len < 0x10000);
    out[1] = 0x82;
    out[2] = (uint8_t)(len >> 8);
    out[3] = (uint8_t)len;
    return 4;
}

struct bytes_view authority_seal(struct bytes_view to_be_signed, EVP_PKEY *key, struct arena *arena)
{
    static const uint8_t algorithm[] = { 0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
                                         0x48, 0xce, 0x3d, 0x04, 0x03, 0x02 };
    uint8_t signature[128], head[4], bits[4];
    size_t signature_len = sizeof(signature);
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    SIM_MUST(context && EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
             EVP_DigestSign(context, signature, &signature_len, to_be_signed.bytes,
                            to_be_signed.len) == 1);
    EVP_MD_CTX_free(context);
    size_t bits_len = put_head(0x03, signature_len + 1, bits);
    size_t len = to_be_signed.len + sizeof(algorithm) + bits_len + 1 + signature_len;
    size_t head_len = put_head(0x30, len, head);
    uint8_t *out = arena_alloc(arena, head_len + len), *at = out;
    SIM_MUST(out);
    const struct bytes_view parts[] = { { head, head_len },
                                        to_be_signed,
                                        { algorithm, sizeof(algorithm) },
                                        { bits, bits_len },
                                        { (const uint8_t *)"", 1 }, /* no unused bits */
                                        { signature, signature_len } };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (parts[i].len > 0)
            memcpy(at, parts[i].bytes, parts[i].len);
        at += parts[i].len;
    }
    return (struct bytes_view){ out, head_len + len };
}

void authority_append_pem(struct bytes_view der, char *text, size_t size)
{
    size_t used = strlen(text);

    SIM_MUST(used + der.len * 3 / 2 + 128 < size);
    used += (size_t)snprintf(text + used, size - used, "-----BEGIN CERTIFICATE-----\n");
    for (size_t at = 0; at < der.len; at += 48) {
        size_t n = der.len - at < 48 ? der.len - at : 48;

        used += (size_t)EVP_EncodeBlock((uint8_t *)text + used, der.bytes + at, (int)n);
        text[used++] = '\n';
    }
    (void)snprintf(text + used, size - used, "-----END CERTIFICATE-----\n");
}

struct bytes_view authority_der(const X509 *cert, struct arena *arena)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);

    SIM_MUST(len > 0);
    const struct bytes_view out = { arena_memdup(arena, der, (size_t)len), (size_t)len };
    SIM_MUST(out.bytes);
    OPENSSL_free(der);
    return out;
}

struct bytes_view authority_to_be_signed(struct bytes_view der)
{
    const unsigned char *at = der.bytes;
    long len = 0;
    int tag = 0, class = 0;

    SIM_MUST((ASN1_get_object(&at, &len, &tag, &class, (long)der.len) & 0x80) == 0);
    const unsigned char *start = at;
    SIM_MUST((ASN1_get_object(&at, &len, &tag, &class, len) & 0x80) == 0);
    return (struct bytes_view){ start, (size_t)(at - start) + (size_t)len };
}
