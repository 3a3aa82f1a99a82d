/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/record/broker_end.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(x)                             \
    do {                                    \
        if (!(x)) {                         \
            (void)fprintf(stderr, #x "\n"); \
            abort();                        \
        }                                   \
    } while (0)

struct pair {
    X509 *certificate;
    EVP_PKEY *key;
};

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    MUST(extension && X509_add_ext(certificate, extension, -1));
    X509_EXTENSION_free(extension);
}

static EVP_PKEY *make_key(const char *type)
{
    if (!type)
        return EVP_EC_gen("P-256");
    return strcmp(type, "RSA") == 0 ? EVP_RSA_gen(2048) : EVP_PKEY_Q_keygen(NULL, NULL, type);
}

/* kind NULL: a CA. */
static struct pair issue(const char *name, const struct broker_end_certificate *kind,
                         const struct pair *issuer)
{
    static long serial;
    struct pair out = { X509_new(), make_key(kind ? kind->key_type : NULL) };
    X509_NAME *subject = X509_get_subject_name(out.certificate);
    bool has_dates = kind && (kind->from_s != 0 || kind->until_s != 0);
    const EVP_PKEY *signer = issuer ? issuer->key : out.key;

    MUST(out.certificate && out.key && X509_set_version(out.certificate, 2) &&
         ASN1_INTEGER_set(X509_get_serialNumber(out.certificate), ++serial));
    MUST(X509_gmtime_adj(X509_getm_notBefore(out.certificate), has_dates ? kind->from_s : -3600));
    MUST(X509_gmtime_adj(X509_getm_notAfter(out.certificate), has_dates ? kind->until_s : 3600));
    MUST(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0));
    MUST(X509_set_issuer_name(out.certificate,
                              issuer ? X509_get_subject_name(issuer->certificate) : subject) &&
         X509_set_pubkey(out.certificate, out.key));
    if (!kind)
        add_extension(out.certificate, NID_basic_constraints, "critical,CA:TRUE");
    if (kind && kind->names)
        add_extension(out.certificate, NID_subject_alt_name, kind->names);
    if (kind && kind->usage)
        add_extension(out.certificate, NID_ext_key_usage, kind->usage);
    MUST(X509_sign(out.certificate, issuer ? issuer->key : out.key,
                   EVP_PKEY_get_base_id(signer) == EVP_PKEY_ED25519 ? NULL : EVP_sha256()));
    return out;
}

static void pair_free(struct pair *pair)
{
    X509_free(pair->certificate);
    EVP_PKEY_free(pair->key);
}

static char *text_of(BIO *bio)
{
    char *bytes = NULL;
    long len = BIO_get_mem_data(bio, &bytes);
    char *text = text_of_bytes(bytes, (size_t)len);

    MUST(text);
    BIO_free(bio);
    return text;
}

static char *pem_of(X509 *first, X509 *second)
{
    BIO *bio = BIO_new(BIO_s_mem());

    MUST(bio && PEM_write_bio_X509(bio, first) && (!second || PEM_write_bio_X509(bio, second)));
    return text_of(bio);
}

static void take_key(EVP_PKEY *key, struct secret *out)
{
    struct error err = ERROR_INIT;
    BIO *bio = BIO_new(BIO_s_mem());

    MUST(bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL));
    char *text = text_of(bio);

    MUST(secret_alloc(out, strlen(text), &err));
    memcpy(out->bytes, text, out->len);
    free(text);
}

void broker_end_make(struct broker_end *out, const struct broker_end_certificate *kind)
{
    static const struct broker_end_certificate usual = { .names = "DNS:localhost,IP:127.0.0.1",
                                                         .usage = "serverAuth" };
    struct error err = ERROR_INIT;
    struct pair middle = { NULL, NULL };
    struct pair ca = issue("CA of a test", NULL, NULL);

    if (!kind)
        kind = &usual;
    if (kind->has_intermediate)
        middle = issue("between", NULL, &ca);
    struct pair server = issue(kind->common_name ? kind->common_name : "broker", kind,
                               kind->has_intermediate ? &middle : &ca);

    *out =
        (struct broker_end){ .ca_pem = pem_of(ca.certificate, NULL),
                             .certificates_pem = pem_of(server.certificate, middle.certificate) };
    take_key(server.key, &out->key_pem);
    MUST(broker_signer_new(out->certificates_pem, &out->key_pem, &out->signer, &err));
    pair_free(&ca);
    pair_free(&middle);
    pair_free(&server);
}

void broker_end_free(struct broker_end *end)
{
    free_at(&end->ca_pem);
    free_at(&end->certificates_pem);
    secret_wipe(&end->key_pem);
    broker_signer_free(&end->signer);
}

struct answer_question broker_end_question(enum answer_kind kind, const uint8_t *nonce,
                                           const void *subject, size_t subject_len)
{
    struct answer_question question = { .kind = kind };
    struct error err = ERROR_INIT;

    memcpy(question.nonce, nonce, ANSWER_NONCE_LEN);
    MUST(!subject || sha256(subject, subject_len, question.subject, &err));
    return question;
}

void broker_end_sign(const struct broker_end *end, const struct answer_question *question,
                     const struct encoded *record, const struct sealed_secret *secret,
                     struct broker_signature *out)
{
    static _Thread_local struct answer_bytes bytes;
    struct error err = ERROR_INIT;

    answer_encode(question, record->bytes, record->len, secret, &bytes);
    MUST(broker_sign(end->signer, bytes.bytes, bytes.len, out, &err));
}

bool broker_end_accepts(const uint8_t secret[static VOLUME_SECRET_LEN], const struct record *record,
                        uint64_t expected_version, const struct record_change *change,
                        const uint8_t *proof, struct error *err)
{
    auto_secret struct secret plain = SECRET_INIT;
    uint8_t key[CLOSE_KEY_LEN], expected[PROOF_LEN];
    enum proof_kind needed = proof_needed(record, change);

    if (needed == PROOF_NONE)
        return true;
    MUST(secret_alloc(&plain, VOLUME_SECRET_LEN, err));
    memcpy(plain.bytes, secret, VOLUME_SECRET_LEN);
    if (needed == PROOF_SECRET)
        MUST(proof_by_secret(&plain, record, expected_version, change, expected, err));
    else
        MUST(close_key_derive(&plain, record, key, err) &&
             proof_by_close_key(key, change, expected, err));
    return (proof && bytes_are_equal(expected, proof, PROOF_LEN)) ||
           error_set_reason(err, ERROR_DENIED, "ChangeProof",
                            "the broker's policy does not allow "
                            "this");
}
