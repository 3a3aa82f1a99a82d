/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/collateral_set.h"

#include <stdint.h>

/*
 * A TDX platform in software, for tests and demonstrations: a PKI that looks like Intel's but has a
 * root of its own, platforms with PCK certificates, quotes over any TD report, and the collateral to
 * verify them. All signatures are real: the product runs the same code, only its trusted root
 * differs. Functions end the process when they fail.
 */

/* Root, both PCK CAs and the TCB signer, with new keys each time. */
struct sim_pki;
struct sim_pki *sim_pki_new(void);
/* Written to and read from DIR: sim-pki.pem (keys too), root.der (for --test-root). */
struct sim_pki *sim_pki_load(const char *dir);
void sim_pki_save(const struct sim_pki *pki, const char *dir);
void sim_pki_free(struct sim_pki *pki);
const struct trust_root *sim_pki_root(const struct sim_pki *pki);

/* One machine, and what its PCK certificate says. */
struct sim_platform {
    uint8_t fmspc[FMSPC_LEN];
    uint8_t pceid[PCEID_LEN];
    uint8_t tcb_svn[TCB_SVN_LEN];
    uint16_t pce_svn;
    uint8_t sgx_type;
    enum pck_ca ca;
    uint8_t platform_id[PLATFORM_ID_LEN]; /* platform CA only */
};
extern const struct sim_platform sim_platform_default; /* up to date by sim_tcb_default */

/* The content of the quote, unchecked. The default is a TD without debug in a version 4 quote. */
struct sim_td {
    uint16_t version;   /* 4 or 5 */
    uint16_t body_type; /* version 5: 2 or 3 (4: TD 1.5 Ex, always refused) */
    uint8_t tee_tcb_svn[TCB_SVN_LEN], tee_tcb_svn2[TCB_SVN_LEN];
    uint8_t mrseam[MEASUREMENT_LEN], mrsignerseam[MEASUREMENT_LEN], seam_attributes[8];
    uint64_t td_attributes, xfam;
    uint8_t mrtd[MEASUREMENT_LEN], mrconfigid[MEASUREMENT_LEN], mrowner[MEASUREMENT_LEN];
    uint8_t mrownerconfig[MEASUREMENT_LEN], rtmr[4][MEASUREMENT_LEN];
    uint8_t report_data[REPORT_DATA_LEN];
    uint8_t mrservicetd[MEASUREMENT_LEN];
};
extern const struct sim_td sim_td_default;

/* The quoting enclave, and the faults that a signed quote can have. */
struct sim_quoting {
    uint16_t isv_svn, isv_prod_id;
    uint8_t mrsigner[32], attributes[16], miscselect[4];
    uint8_t auth_data[1024];
    size_t auth_len;
    bool report_data_tail; /* QE report_data[32..63] not zero */
    size_t trailing_zeros; /* appended to the quote */
    bool chain_nul;        /* one NUL behind the PEM chain */
    const char *pck_pem;   /* another chain than the platform's own; NULL: its own */
    EVP_PKEY *pck_key;     /* and the key that signs the QE report; NULL: the platform's own */
};
extern const struct sim_quoting sim_quoting_default;

struct sim_machine; /* a platform with its PCK key and certificate */
struct sim_machine *sim_machine_new(const struct sim_pki *pki, const struct sim_platform *platform);
/* This platform's machine from DIR, where its PKI is; made if there is none yet. */
struct sim_machine *sim_machine_kept(const char *dir, const struct sim_platform *platform);
void sim_machine_free(struct sim_machine *machine);

/* Serial numbers, for revoking; role is one of the four in a sim_pki. */
void sim_machine_serial(const struct sim_machine *machine, uint8_t out[static 20]);
void sim_pki_serial(const struct sim_pki *pki, enum cert_role role, uint8_t out[static 20]);

/* Returns the length; out has QUOTE_LEN_MAX bytes. */
size_t sim_quote(const struct sim_machine *machine, const struct sim_td *td,
                 const struct sim_quoting *quoting, uint8_t *out);

/* One TCB level that the simulated Intel publishes. */
struct sim_level {
    uint8_t sgx[TCB_SVN_LEN], tdx[TCB_SVN_LEN];
    uint16_t pce_svn;
    uint16_t isv_svn;          /* of modules and QE */
    const char *date, *status; /* as printed: "2025-05-14T00:00:00Z", "UpToDate" */
    const char *advisories[8]; /* ended by NULL */
};
struct sim_module {
    const char *id; /* "TDX_01"; the unversioned one has no levels, and is always there */
    const struct sim_level *levels;
    size_t n_levels;
};
struct sim_tcb {
    uint8_t fmspc[FMSPC_LEN], pceid[PCEID_LEN];
    enum pck_ca ca;
    int64_t issued, next_update; /* of TCB info and QE identity; seconds since 1970 */
    int64_t crl_issued, crl_next_update;
    uint32_t crl_number;
    uint32_t tcb_evaluation_number, qe_evaluation_number;
    const struct sim_level *levels, *qe_levels;
    size_t n_levels, n_qe_levels;
    const struct sim_module *modules; /* none: the member is left out */
    size_t n_modules;
    const uint8_t (*revoked_serials)[20]; /* PCK certificates and CAs, by serial number */
    size_t n_revoked;
};
/* Valid from an hour ago for 30 days. */
struct sim_tcb sim_tcb_default(void);

/* Signs both documents and lists. Members of out->source may be changed before they are loaded. */
void sim_collateral(const struct sim_pki *pki, const struct sim_tcb *tcb,
                    struct collateral_set *out);
