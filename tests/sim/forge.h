/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tests/sim/sim.h"

/*
 * The parts behind sim.h, for tests that forge what Intel would never sign: certificates of any
 * shape, lists of any issuer, signatures by any key. As there, functions end the process when they
 * fail.
 */
void sim_die(const char *what) __attribute__((noreturn));
#define SIM_MUST(call) ((call) ? (void)0 : sim_die(#call))

struct sim_identity { /* a certificate and its key */
    X509 *cert;
    EVP_PKEY *key;
};

struct sim_pki {
    struct sim_identity root, pck_ca[2] /* by enum pck_ca */, tcb_signer;
    struct trust_root trust; /* in the root's DER */
};

struct sim_machine {
    struct sim_platform platform;
    struct sim_identity pck;
    EVP_PKEY *attestation_key;
    char *pck_pem; /* leaf, CA, root */
};

/* --- certificates --- */

enum sim_form { SIM_ROOT, SIM_PCK_CA, SIM_PCK_LEAF, SIM_TCB_SIGNER };

struct sim_cert { /* a certificate to be made; sim_cert_form() gives Intel's */
    const char *common_name;
    int64_t from, until;
    const char *basic_constraints, *key_usage; /* as openssl.cnf spells it; NULL: none */
    const char *crl_url;
    struct bytes_view sgx; /* value of the SGX extension */
    unsigned n_sgx;        /* how many times the certificate has it */
    bool unknown_critical; /* one more extension, under an unknown OID */
    const EVP_MD *digest;
    uint8_t serial[20];
};
struct sim_cert sim_cert_form(enum sim_form form, enum pck_ca ca);

/* issuer NULL: self-signed. Owned by the caller. */
X509 *sim_cert_make(const struct sim_cert *form, EVP_PKEY *key, const struct sim_identity *issuer);
EVP_PKEY *sim_key_new(void); /* P-256 */
/* One after the other, as text; owned by the caller. */
char *sim_pem(X509 *const *certs, size_t n);

/* --- the SGX extension --- */

#define SIM_SGX_MAX 1024
/* One change to the extension of a sim_platform. at names the member: {2 or 7, n} is member n of
 * TCB or configuration, {n, 0} is any other. Each other field that is zero changes nothing. */
struct sim_sgx_edit {
    uint8_t at[2];
    bool drop, twice;
    const uint8_t *value; /* a whole DER value instead of the right one */
    size_t value_len;
    const uint8_t *tail; /* behind the last member of the whole list */
    size_t tail_len;
};
/* edit may be NULL. Returns the length. */
size_t sim_sgx_extension(const struct sim_platform *platform, const struct sim_sgx_edit *edit,
                         uint8_t out[static SIM_SGX_MAX]);

/* --- revocation lists --- */

struct sim_list {
    const struct sim_identity *issuer;
    int64_t from, until; /* until 0: no next update */
    uint32_t number;     /* 0: no number */
    const uint8_t (*serials)[20];
    size_t n_serials;
    bool delta;            /* marked as a delta list */
    bool critical_entries; /* their reasons are marked critical */
    const char *scope;     /* an issuing distribution point, as openssl.cnf spells it; NULL: none */
    EVP_PKEY *other_key;   /* signs instead of the issuer's own; NULL: its own */
};
struct bytes_view sim_list_make(const struct sim_list *list, struct arena *arena);

/* --- signatures --- */

void sim_sign(EVP_PKEY *key, const void *bytes, size_t len, uint8_t out[static P256_SIGNATURE_LEN]);

/* {"name":object,"signature":"..."}, signed by key; *object and *signature_hex point into it. */
struct bytes_view sim_response(struct arena *arena, const char *name, const char *object,
                               EVP_PKEY *key, struct bytes_view *object_out,
                               struct bytes_view *signature_hex);
