/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "base/file.h"
#include "record/encoding.h"
#include "tests/fuzz/authority.h"
#include "tests/unit/record/sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Writes the corpora that are made by programs: write_seeds CORPUS, where CORPUS is tests/fuzz/corpus.
 * Run it again when certificates or records change their form.
 */

static const char *corpus;

static void write_seed(const char *name, uint8_t kind, struct bytes_view rest)
{
    auto_free char *path = NULL;
    auto_free uint8_t *bytes = malloc(rest.len + 1);
    struct error err = ERROR_INIT;

    SIM_MUST(bytes && asprintf(&path, "%s/%s", corpus, name) > 0);
    bytes[0] = kind;
    memcpy(bytes + 1, rest.bytes, rest.len);
    if (!file_write(path, 0644, bytes, rest.len + 1, &err))
        sim_die(err.text);
}

static void write_signed(const char *name, uint8_t kind, const X509 *cert)
{
    auto_arena struct arena arena = { .limit = (size_t)1024 * 1024 };

    write_seed(name, kind, authority_to_be_signed(authority_der(cert, &arena)));
}

static void write_text(const char *name, uint8_t kind, X509 *const *certs, size_t n)
{
    char *pem = sim_pem(certs, n);

    write_seed(name, kind, (struct bytes_view){ (const uint8_t *)pem, strlen(pem) });
    free(pem);
}

/* Certificates of another form, which only one check refuses. */
static void write_other_forms(void)
{
    static const struct {
        const char *name;
        uint8_t kind;
        enum sim_form form;
        const char *basic_constraints, *key_usage, *common_name;
    } rows[] = {
        { "leaf-no-usage", 0, SIM_PCK_LEAF, NULL, "critical,keyAgreement", NULL },
        { "leaf-is-ca", 0, SIM_PCK_LEAF, "critical,CA:TRUE", NULL, NULL },
        { "leaf-other-name", 0, SIM_PCK_LEAF, NULL, NULL, "node-1" },
        { "ca-signs-no-lists", 1, SIM_PCK_CA, NULL, "critical,keyCertSign", NULL },
        { "ca-signs-no-certificates", 1, SIM_PCK_CA, NULL, "critical,cRLSign", NULL },
        { "ca-is-none", 1, SIM_PCK_CA, "critical,CA:FALSE", NULL, NULL },
        { "signer-is-ca", 4, SIM_TCB_SIGNER, "critical,CA:TRUE", NULL, NULL },
        { "signer-no-usage", 4, SIM_TCB_SIGNER, NULL, "critical,keyAgreement", NULL },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct sim_pki *pki = authority_pki();
        struct sim_cert form = sim_cert_form(rows[i].form, PCK_CA_PLATFORM);
        const bool is_leaf = rows[i].kind == 0;
        EVP_PKEY *key = authority_key(is_leaf ? 100 : rows[i].kind == 1 ? 201 : 203);
        char name[64];

        for (size_t at = 0; at < sizeof(form.serial); at++)
            form.serial[at] = 0x41;
        if (rows[i].basic_constraints)
            form.basic_constraints = rows[i].basic_constraints;
        if (rows[i].key_usage)
            form.key_usage = rows[i].key_usage;
        if (rows[i].common_name)
            form.common_name = rows[i].common_name;
        X509 *cert = sim_cert_make(&form, key, is_leaf ? &pki->pck_ca[0] : &pki->root);
        (void)snprintf(name, sizeof(name), "certificate/%s", rows[i].name);
        write_signed(name, rows[i].kind, cert);
        X509_free(cert);
        EVP_PKEY_free(key);
    }
}

static void write_certificates(void)
{
    const struct sim_pki *pki = authority_pki();
    auto_arena struct arena arena = { .limit = (size_t)1024 * 1024 };
    X509 *leaf = authority_leaf(100), *revoked = authority_leaf(1);
    X509 *const chain[] = { leaf, pki->pck_ca[0].cert, pki->root.cert };

    write_signed("certificate/leaf", 0, leaf);
    write_signed("certificate/leaf-revoked", 0, revoked);
    write_signed("certificate/ca", 1, pki->pck_ca[0].cert);
    write_signed("certificate/other-ca", 1, pki->pck_ca[1].cert);
    write_seed("certificate/root-list", 2,
               authority_to_be_signed(authority_list(&pki->root, 2, &arena)));
    write_seed("certificate/empty-list", 2,
               authority_to_be_signed(authority_list(&pki->root, 0, &arena)));
    write_seed("certificate/ca-list", 3,
               authority_to_be_signed(authority_list(&pki->pck_ca[0], 3, &arena)));
    write_signed("certificate/signer", 4, pki->tcb_signer.cert);
    write_text("certificate/one", 5, chain, 1);
    write_text("certificate/three", 5, chain, 3);
    X509_free(leaf);
    X509_free(revoked);
}

static void write_owner(void)
{
    const struct sim_identity *owner = authority_owner();
    X509 *const chain[] = { owner[2].cert, owner[1].cert };
    X509 *const cas[] = { owner[0].cert, owner[1].cert };

    write_signed("owner_certificate/leaf", 0, owner[3].cert);
    write_signed("owner_certificate/low-leaf", 1, owner[2].cert);
    write_signed("owner_certificate/middle", 2, owner[1].cert);
    write_text("owner_certificate/chain", 3, chain, 2);
    write_text("owner_certificate/cas", 4, cas, 2);
}

/* The value of a header. */
static void write_header(const char *name, uint8_t kind, X509 *signer)
{
    X509 *const certs[] = { signer, authority_pki()->root.cert };
    char *pem = sim_pem(certs, ARRAY_LEN(certs)), *encoded = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&encoded, &len);

    SIM_MUST(out);
    for (const char *c = pem; *c; c++)
        (void)fprintf(out, strchr(" \n+/=", *c) ? "%%%02X" : "%c", (unsigned char)*c);
    SIM_MUST(fclose(out) == 0);
    write_seed(name, kind, (struct bytes_view){ (uint8_t *)encoded, len });
    free(encoded);
    free(pem);
}

static void write_pcs(void)
{
    const struct sim_pki *pki = authority_pki();
    auto_arena struct arena arena = { .limit = (size_t)1024 * 1024 };
    const struct bytes_view list = authority_list(&pki->root, 1, &arena);
    char *hex = arena_alloc(&arena, 2 * list.len + 1);

    SIM_MUST(hex);
    hex_encode(list.bytes, list.len, hex);
    write_header("pcs/tcb-chain", 0, pki->tcb_signer.cert);
    write_header("pcs/qe-chain", 1, pki->tcb_signer.cert);
    write_header("pcs/list-chain", 2, pki->pck_ca[0].cert);
    write_seed("pcs/list", 7, list);
    write_seed("pcs/list-in-hex", 7, (struct bytes_view){ (uint8_t *)hex, 2 * list.len });
}

static void write_encodings(void)
{
    static struct encoded encoded;
    const struct record record = sample_record();
    const struct record_change change = { .kind = RECORD_CHANGE_CLOSED,
                                          .attempt = 1,
                                          .header_digest = { 2 },
                                          .open_counter = 3,
                                          .is_closed = true,
                                          .has_clean_hash = true,
                                          .clean_hash = { 4 },
                                          .size_bytes = 5,
                                          .device_bytes = 6,
                                          .mapping_bytes = 1ull << 40 };

    record_encode(&record, &encoded);
    write_seed("encoding/record", 0, (struct bytes_view){ encoded.bytes, encoded.len });
    write_seed("encoding/record-struct", 0x80, (struct bytes_view){ encoded.bytes, encoded.len });
    volume_spec_encode(&record.spec, &encoded);
    write_seed("encoding/spec", 1, (struct bytes_view){ encoded.bytes, encoded.len });
    write_seed("encoding/spec-struct", 0x81, (struct bytes_view){ encoded.bytes, encoded.len });
    record_change_encode(&change, &encoded);
    write_seed("encoding/change", 2, (struct bytes_view){ encoded.bytes, encoded.len });
    write_seed("encoding/change-struct", 0x82, (struct bytes_view){ encoded.bytes, encoded.len });
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: %s CORPUS\n", argv[0]);
        return 2;
    }
    corpus = argv[1];
    write_certificates();
    write_other_forms();
    write_owner();
    write_pcs();
    write_encodings();
    return 0;
}
