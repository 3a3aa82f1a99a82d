/* SPDX-License-Identifier: Apache-2.0 */
/* Root, PCK CAs and TCB signer, kept in a folder between runs. */
#include "base/file.h"
#include "tests/sim/forge.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>

enum { PKI_FILE_MAX = 65536, MEMBERS = 4 };

/* Their order is the file's. */
static void members_of(struct sim_pki *pki, struct sim_identity *out[static MEMBERS])
{
    out[0] = &pki->root;
    out[1] = &pki->pck_ca[PCK_CA_PLATFORM];
    out[2] = &pki->pck_ca[PCK_CA_PROCESSOR];
    out[3] = &pki->tcb_signer;
}

static void make_member(struct sim_identity *out, enum sim_form form, enum pck_ca ca,
                        const struct sim_identity *issuer)
{
    const struct sim_cert wanted = sim_cert_form(form, ca);

    out->key = sim_key_new();
    out->cert = sim_cert_make(&wanted, out->key, issuer);
}

static struct sim_pki *allocate(void)
{
    struct sim_pki *pki = calloc(1, sizeof(*pki));

    SIM_MUST(pki);
    return pki;
}

static void pin_root(struct sim_pki *pki)
{
    struct error err = ERROR_INIT;

    SIM_MUST(cert_sha256(pki->root.cert, pki->trust.sha256, &err));
}

struct sim_pki *sim_pki_new(void)
{
    struct sim_pki *pki = allocate();

    make_member(&pki->root, SIM_ROOT, PCK_CA_PLATFORM, NULL);
    for (enum pck_ca ca = PCK_CA_PLATFORM; ca <= PCK_CA_PROCESSOR; ca++)
        make_member(&pki->pck_ca[ca], SIM_PCK_CA, ca, &pki->root);
    make_member(&pki->tcb_signer, SIM_TCB_SIGNER, PCK_CA_PLATFORM, &pki->root);
    pin_root(pki);
    return pki;
}

void sim_pki_free(struct sim_pki *pki)
{
    struct sim_identity *members[MEMBERS];

    if (!pki)
        return;
    members_of(pki, members);
    for (size_t i = 0; i < MEMBERS; i++) {
        X509_free(members[i]->cert);
        EVP_PKEY_free(members[i]->key);
    }
    free(pki);
}

const struct trust_root *sim_pki_root(const struct sim_pki *pki)
{
    return &pki->trust;
}

static void write_file(const char *dir, const char *name, mode_t mode, const void *bytes,
                       size_t len)
{
    auto_free char *path = NULL;
    struct error err = ERROR_INIT;

    SIM_MUST(asprintf(&path, "%s/%s", dir, name) > 0);
    if (!file_write(path, mode, bytes, len, &err))
        sim_die(err.text);
}

void sim_pki_save(const struct sim_pki *pki, const char *dir)
{
    struct sim_pki copy = *pki;
    struct sim_identity *members[MEMBERS];
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    unsigned char *der = NULL;

    members_of(&copy, members);
    for (size_t i = 0; i < MEMBERS; i++)
        SIM_MUST(PEM_write_bio_X509(bio, members[i]->cert) == 1 &&
                 PEM_write_bio_PKCS8PrivateKey(bio, members[i]->key, NULL, NULL, 0, NULL, NULL) ==
                     1);
    long len = BIO_get_mem_data(bio, &text);
    write_file(dir, "sim-pki.pem", 0600, text, (size_t)len);
    int der_len = i2d_X509(pki->root.cert, &der);
    SIM_MUST(der_len > 0);
    write_file(dir, "root.der", 0644, der, (size_t)der_len);
    OPENSSL_free(der);
    BIO_free_all(bio);
}

struct sim_pki *sim_pki_load(const char *dir)
{
    struct sim_pki *pki = allocate();
    struct sim_identity *members[MEMBERS];
    auto_free char *path = NULL, *text = NULL;
    struct error err = ERROR_INIT;
    size_t len = 0;

    SIM_MUST(asprintf(&path, "%s/sim-pki.pem", dir) > 0);
    if (!file_read(path, PKI_FILE_MAX, &text, &len, &err))
        sim_die(err.text);
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    members_of(pki, members);
    for (size_t i = 0; i < MEMBERS; i++) {
        members[i]->cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        members[i]->key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
        SIM_MUST(members[i]->cert && members[i]->key);
    }
    BIO_free_all(bio);
    pin_root(pki);
    return pki;
}
