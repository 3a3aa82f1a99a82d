/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/*
 * A TDX quote, version 4 or 5 (Intel TDX DCAP Quoting Library API, appendix "Quote format"). The
 * parser checks only the structure, and strictly: lengths must add up exactly, and only zeros may
 * follow. Nothing is trusted yet.
 */
#define QUOTE_LEN_MAX      16384u
#define MEASUREMENT_LEN    48u
#define REPORT_DATA_LEN    64u
#define TCB_SVN_LEN        16u
#define QE_REPORT_LEN      384u
#define P256_POINT_LEN     64u /* x then y, big-endian */
#define P256_SIGNATURE_LEN 64u /* r then s, big-endian */

/* Bits of TD_ATTRIBUTES (Linux arch/x86/include/asm/shared/tdx.h). */
#define TD_ATTRIBUTE_DEBUG           (1ull << 0)
#define TD_ATTRIBUTE_LASS            (1ull << 27)
#define TD_ATTRIBUTE_SEPT_VE_DISABLE (1ull << 28)
#define TD_ATTRIBUTE_MIGRATABLE      (1ull << 29)
#define TD_ATTRIBUTE_PKS             (1ull << 30)

/* What the quote says about the TD. All pointers point into the quote's bytes. */
struct td_report {
    const uint8_t *tee_tcb_svn;
    const uint8_t *mrseam, *mrsignerseam;
    const uint8_t *seam_attributes; /* 8 bytes */
    uint64_t td_attributes, xfam;
    const uint8_t *mrtd, *mrconfigid, *mrowner, *mrownerconfig;
    const uint8_t *rtmr[4];
    const uint8_t *report_data;
    const uint8_t *tee_tcb_svn2; /* NULL in TD 1.0 reports */
    const uint8_t *mrservicetd;  /* NULL in TD 1.0 reports */
};

/* The quoting enclave's SGX report. */
struct qe_report {
    const uint8_t *bytes; /* all 384 */
    const uint8_t *miscselect, *attributes, *mrsigner, *report_data;
    uint16_t isv_prod_id, isv_svn;
};

struct quote {
    uint16_t version;
    uint16_t body_type; /* 2: TD report 1.0, 3: TD report 1.5 */
    const uint8_t *signed_bytes;
    size_t signed_len;
    struct td_report td;
    const uint8_t *signature;
    const uint8_t *attestation_key;
    struct qe_report qe;
    const uint8_t *qe_signature;
    const uint8_t *qe_auth_data;
    size_t qe_auth_len;
    const char *pck_chain_pem; /* not terminated */
    size_t pck_chain_len;
};

/* out points into bytes, which must outlive it. */
MUST_USE bool quote_parse(const uint8_t *bytes, size_t len, struct quote *out, struct error *err);

/* Hashes the quote without the zeros after it, so that a host cannot change the hash by appending
 * zeros. */
MUST_USE bool quote_sha256(const struct quote *quote, uint8_t out[static 32], struct error *err);
