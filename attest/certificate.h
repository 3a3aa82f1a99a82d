/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/quote.h"
#include "base/error.h"

#include <openssl/x509.h>
#include <stdint.h>

/*
 * X.509 for SGX and TDX, on top of OpenSSL's X509: PEM chains, Intel's PCK extension (OID
 * 1.2.840.113741.1.13.1), and path validation against one pinned root with both revocation lists.
 */
#define CERT_CHAIN_MAX       3
#define CERT_COMMON_NAME_MAX 128
#define FMSPC_LEN            6
#define PCEID_LEN            2
#define PLATFORM_ID_LEN      16

/* Passphrase callback for PEM_read_bio_*(); it always refuses. OpenSSL's own callback asks at the
 * terminal, or reads standard input, when the PEM says that it is encrypted. */
int cert_no_passphrase(char *buffer, int size, int rwflag, void *cookie);

/* Owns certificates: leaf first, root last. */
struct cert_chain {
    X509 *certs[CERT_CHAIN_MAX];
    size_t n;
};
void cert_chain_free(struct cert_chain *chain);
#define auto_cert_chain CLEANUP(cert_chain_free)

/* Parses only the first certificate; *rest is the offset in pem at which it ends. */
MUST_USE bool cert_parse_first(const char *pem, size_t len, struct cert_chain *out, size_t *rest,
                               struct error *err);

/* Parses exactly n PEM certificates, in the form that OpenSSL prints. Nothing may stand between
 * them, and at most one NUL after them. Refuses with PckChainMalformed. */
MUST_USE bool cert_chain_parse(const char *pem, size_t len, size_t n, struct cert_chain *out,
                               struct error *err);

/* Reads the first certificate of a text, ignores the rest. INVALID_ARGUMENT when there is none. */
MUST_USE bool cert_read(const char *pem, X509 **out, struct error *err);

/* SHA-256 over the whole DER. */
MUST_USE bool cert_sha256(const X509 *cert, uint8_t out[static 32], struct error *err);

/* SHA-256 over its SubjectPublicKeyInfo. */
MUST_USE bool cert_key_sha256(const X509 *cert, uint8_t out[static 32], struct error *err);

/* The subject's common name. It is "" when there is none or more than one, or when it is not 1 to
 * CERT_COMMON_NAME_MAX visible ASCII characters. No pattern and no rule matches "". */
void cert_common_name(const X509 *cert, char out[static CERT_COMMON_NAME_MAX + 1]);

enum cert_role {
    CERT_ROOT,
    CERT_PCK_PLATFORM_CA,
    CERT_PCK_PROCESSOR_CA,
    CERT_PCK_LEAF,
    CERT_TCB_SIGNER,
    CERT_OTHER
};

/* Compares common name and organisation exactly, because a PCK leaf and a TCB signer have the
 * same key usage. */
enum cert_role cert_role_of(const X509 *cert);
enum cert_role cert_issuer_role_of(const X509 *cert); /* the issuer's name is not verified */

/* What Intel certifies about a platform. */
struct pck_platform {
    uint8_t fmspc[FMSPC_LEN];
    uint8_t pceid[PCEID_LEN];
    uint8_t tcb_svn[TCB_SVN_LEN]; /* 16 component SVNs */
    uint16_t pce_svn;
    uint8_t sgx_type;     /* 0 standard, 1 scalable, 2 scalable with integrity */
    bool has_platform_id; /* platform CA only */
    uint8_t platform_id[PLATFORM_ID_LEN];
};
/* The parser that cert_read_platform uses; it reads the extension's DER value. */
MUST_USE bool pck_extension_parse(const uint8_t *der, size_t len, struct pck_platform *out,
                                  struct error *err);
MUST_USE bool cert_read_platform(const X509 *leaf, struct pck_platform *out, struct error *err);

/*
 * Verifies the path from chain->certs[0] to the root; the chain's last certificate must be the
 * root. Checks each certificate against the lists: the root signs root_crl, the leaf's issuer signs
 * ca_crl. ca_crl may be NULL for a chain of two. Checks signatures, roles of keys and revocation,
 * but not dates: struct validity is for dates, so that callers can cache this costly part. Refuses
 * with the reason that fits.
 */
struct cert_trust {
    X509 *root;
    X509_CRL *root_crl;
    X509_CRL *ca_crl;
};
MUST_USE bool cert_chain_verify(const struct cert_chain *chain, const struct cert_trust *trust,
                                struct error *err);

/* Checks that each certificate is signed by the next one, and the last one by itself. This is a
 * cheap first check, never a verdict: it does not check roles, revocation and dates. */
MUST_USE bool cert_chain_check_signed(const struct cert_chain *chain, struct error *err);

/* cert_chain_verify does not check what the first certificate of a path may do. These functions do,
 * for a PCK CA and for a TCB signer. */
MUST_USE bool cert_check_ca(X509 *ca, X509 *issuer, struct error *err);
MUST_USE bool cert_check_signer(X509 *signer, struct error *err);

/* Verifies one certificate below its issuer: signature, names, extensions, and that the issuer's
 * list does not revoke it. The caller has verified the issuer and its list before. */
MUST_USE bool cert_verify_issued(X509 *leaf, X509 *issuer, X509_CRL *crl, struct error *err);

/* Seconds since 1970; both ends are included. */
struct validity {
    int64_t from, until;
};
#define VALIDITY_ALWAYS      \
    {                        \
        INT64_MIN, INT64_MAX \
    }
/* Narrows v to the dates of all certificates, or of a list. An unreadable date makes v empty. */
void cert_chain_narrow(const struct cert_chain *chain, struct validity *v);
void crl_narrow(const X509_CRL *crl, struct validity *v);
static inline bool validity_has(const struct validity *v, int64_t now)
{
    return now >= v->from && now <= v->until;
}

/* Takes only DER, because a PEM list read as DER would be empty. The list must be complete, and
 * must have a number and a next update. */
MUST_USE bool crl_parse(const uint8_t *der, size_t len, X509_CRL **out, struct error *err);
/* Checks that the list is this issuer's: by name, by the issuer's key identifier if the list has one,
 * and by signature. cert_chain_verify checks the same of the lists that it gets. */
MUST_USE bool crl_check_issued(const X509_CRL *crl, X509 *issuer, struct error *err);
/* The list's own number, which never goes down. Fails when it is missing or is 2^63 or more. */
MUST_USE bool crl_number(const X509_CRL *crl, uint64_t *out, struct error *err);
int64_t crl_issued(const X509_CRL *crl); /* seconds since 1970; INT64_MAX when unreadable */
void crl_free_at(X509_CRL **crl);
#define auto_crl CLEANUP(crl_free_at)

/* Public keys and signatures over P-256 with SHA-256; raw r and s of 32 bytes each. */
MUST_USE bool p256_key_of(const X509 *cert, EVP_PKEY **out, struct error *err);
/* Refuses points that are not on the curve: AttestationKey. */
MUST_USE bool p256_key_from_point(const uint8_t point[static P256_POINT_LEN], EVP_PKEY **out,
                                  struct error *err);
bool p256_signature_is_valid(EVP_PKEY *key, const uint8_t signature[static P256_SIGNATURE_LEN],
                             const void *bytes, size_t len);
void pkey_free_at(EVP_PKEY **key);
#define auto_pkey CLEANUP(pkey_free_at)

/* Cleanup of the other OpenSSL objects that reading and checking a certificate needs. */
void bio_free_at(BIO **bio);
#define auto_bio CLEANUP(bio_free_at)
void x509_free_at(X509 **cert);
#define auto_x509 CLEANUP(x509_free_at)
void x509_store_free_at(X509_STORE **store);
#define auto_x509_store CLEANUP(x509_store_free_at)
void x509_context_free_at(X509_STORE_CTX **context);
#define auto_x509_context CLEANUP(x509_context_free_at)
