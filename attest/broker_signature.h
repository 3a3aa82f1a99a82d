/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/identity.h"
#include "base/error.h"
#include "base/option.h"
#include "base/secret.h"

/*
 * Signatures by the broker's TLS key, for bytes that reach their reader through others. The reader
 * accepts the brokers that a TLS client would accept: by CA, name, dates, and pinned keys.
 */
#define BROKER_SIGNATURE_MAX    512  /* RSA of 4096 bits */
#define BROKER_CERTIFICATES_MAX 8192 /* bytes */
#define BROKER_CHAIN_MAX        4

struct broker_signature {
    uint32_t len; /* 0: there is none */
    uint8_t bytes[BROKER_SIGNATURE_MAX];
    uint32_t certificates_len;
    uint8_t certificates[BROKER_CERTIFICATES_MAX]; /* DER, the signer's first, then its issuers */
};

/* --- the broker's side --- */

/* A private key and the certificates that belong to it. It does not change, so whoever exchanges a
 * certificate exchanges the whole signer. */
struct broker_signer;

/* INVALID_ARGUMENT when the texts are not PEM, do not belong together, or have more certificates
 * than fit into a signature. */
MUST_USE bool broker_signer_new(const char *certificates_pem, const struct secret *private_key_pem,
                                struct broker_signer **out, struct error *err);
void broker_signer_free(struct broker_signer **signer);
/* SHA-256 of its key (SubjectPublicKeyInfo), KEY_SHA256_LEN bytes; good for as long as the signer. */
const uint8_t *broker_signer_key(const struct broker_signer *signer);
#define auto_broker_signer CLEANUP(broker_signer_free)

/* Thread-safe. */
MUST_USE bool broker_sign(const struct broker_signer *signer, const void *bytes, size_t len,
                          struct broker_signature *out, struct error *err);

/* --- the reader's side --- */

/* Keys of the broker that are accepted. With none, the CA alone decides. */
struct broker_pins {
    size_t n;
    uint8_t sha256[OPTION_LIST_MAX][KEY_SHA256_LEN];
};
/* Each is SHA-256 over the SubjectPublicKeyInfo, 64 hex digits. */
MUST_USE bool broker_pins_parse(const struct option_list *list, struct broker_pins *out,
                                struct error *err);
bool broker_pins_has(const struct broker_pins *pins, const uint8_t key[static KEY_SHA256_LEN]);

struct broker_trust {
    void *store;              /* of the CA's certificates; NULL: nobody is trusted */
    struct option_list names; /* host names or addresses; one must be the certificate's */
    struct broker_pins pins;
    int64_t at; /* seconds since 1970: certificates must be good then; 0: now */
};

/* Takes the CA certificates of a PEM text in place of those before. On failure those stay. */
MUST_USE bool broker_trust_read_ca(struct broker_trust *trust, const char *pem, struct error *err);
void broker_trust_free(struct broker_trust *trust);
#define auto_broker_trust CLEANUP(broker_trust_free)

/* DENIED with the reason BrokerSignature unless a broker that is trusted now signed the bytes. key: NULL,
 * or gets the SHA-256 of the signer's key. */
#define BROKER_SIGNATURE_REASON "BrokerSignature"
MUST_USE bool broker_signature_check(const struct broker_trust *trust,
                                     const struct broker_signature *signature, const void *bytes,
                                     size_t len, uint8_t *key, struct error *err);

/* Only which key it is: *key is the SHA-256 of the signer's key (SubjectPublicKeyInfo). DENIED as above
 * when the bytes are not signed by it. Whether the key is a broker's, the caller must know. */
MUST_USE bool broker_signature_signer(const struct broker_signature *signature, const void *bytes,
                                      size_t len, uint8_t key[static KEY_SHA256_LEN],
                                      struct error *err);
