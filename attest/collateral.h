/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/tcb.h"
#include "base/arena.h"

/*
 * What Intel publishes to verify quotes (PCS API version 4): revocation lists, TCB info, QE
 * identity and the chains of their signers. Signatures are checked once, when collateral is loaded,
 * over the bytes as received. Dates are checked again whenever a quote is verified.
 */
struct bytes_view {
    const uint8_t *bytes;
    size_t len;
};

/* As received; nothing is trusted. tcb_info and qe_identity are only the signed objects. */
struct collateral_source {
    struct bytes_view root_ca_crl, pck_crl, pck_crl_chain;
    struct bytes_view tcb_info, tcb_info_signature_hex, tcb_info_chain;
    struct bytes_view qe_identity, qe_identity_signature_hex, qe_identity_chain;
};

/* The pinned root certificate, by the SHA-256 of its whole DER. */
struct trust_root {
    uint8_t sha256[32];
};
extern const struct trust_root trust_root_intel; /* Intel SGX Root CA, 2018 to 2049 */

struct collateral {
    struct arena memory;
    uint64_t generation; /* this process gives each load a new one */
    uint8_t sha256[32];  /* over what Intel signed: both lists, TCB info, QE identity */
    X509 *root;
    X509_CRL *root_crl, *pck_crl;
    uint64_t root_crl_number, pck_crl_number;
    int64_t root_crl_issued, pck_crl_issued; /* because lists keep their number for years */
    struct cert_chain tcb_signer, qe_signer;
    struct cert_chain pck_ca; /* the issuer of pck_crl, and the root */
    struct bytes_view pck_ca_pem;
    struct validity crls, signers, pck_ca_dates;
    struct tcb_info tcb;
    struct qe_identity qe;
};

/* Checks structure, signer roles, chains, revocation and signatures; leaves dates to
 * collateral_check_dates. Refuses with the reason that fits. */
MUST_USE bool collateral_load(const struct collateral_source *source, const struct trust_root *root,
                              struct collateral *out, struct error *err);
void collateral_free(struct collateral *c);
#define auto_collateral CLEANUP(collateral_free)

/* Checks that lists, signers, TCB info and QE identity are valid at now and of one TCB recovery. */
MUST_USE bool collateral_check_dates(const struct collateral *c, int64_t now, struct error *err);

/* When Intel made the newest part; seconds since 1970. */
int64_t collateral_issued(const struct collateral *c);

/* When the first part expires; seconds since 1970. */
int64_t collateral_next_update(const struct collateral *c);

/* Reads a folder with root_ca_crl.der, pck_crl.der, pck_crl_issuer_chain.pem, tcb_info.json and
 * tcb_info.sig.hex (or tcb_info_response.json), tcb_info_issuer_chain.pem, and the same files for
 * qe_identity. */
MUST_USE bool collateral_load_folder(const char *path, const struct trust_root *root,
                                     struct collateral *out, struct error *err);

/* Splits {"NAME":{...},"signature":"hex"} without parsing it, because the signature covers the
 * bytes as received. */
MUST_USE bool collateral_split_response(const char *name, struct bytes_view response,
                                        struct bytes_view *object, struct bytes_view *signature_hex,
                                        struct error *err);

/* The parsers of both documents; fuzz targets call them directly. Strings are kept in the arena. */
MUST_USE bool tcb_info_parse(struct bytes_view json, struct arena *arena, struct tcb_info *out,
                             struct error *err);
MUST_USE bool qe_identity_parse(struct bytes_view json, struct arena *arena,
                                struct qe_identity *out, struct error *err);
