/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/*
 * Why evidence was refused: one stable word for each way to fail, for audit lines, metrics, tests
 * and people. The words never change their meaning; new ones are added at the end.
 */
enum attest_reason {
    REASON_NONE,
    /* structure of the quote */
    REASON_QUOTE_TOO_SHORT,
    REASON_QUOTE_TOO_LONG,
    REASON_QUOTE_VERSION,
    REASON_QUOTE_KEY_TYPE,
    REASON_QUOTE_TEE_TYPE,
    REASON_QUOTE_VENDOR,
    REASON_QUOTE_BODY_TYPE,
    REASON_QUOTE_BODY_SIZE,
    REASON_QUOTE_LENGTHS,
    REASON_QUOTE_CERT_DATA_TYPE,
    REASON_QUOTE_NO_PCK_CHAIN,
    REASON_QUOTE_TRAILING_BYTES,
    /* certificates and revocation lists */
    REASON_PCK_CHAIN_MALFORMED,
    REASON_PCK_CHAIN_ORDER,
    REASON_PCK_ROOT_UNKNOWN,
    REASON_PCK_CHAIN_UNTRUSTED,
    REASON_PCK_CERT_EXPIRED,
    REASON_PCK_CERT_REVOKED,
    REASON_PCK_KEY_TYPE,
    REASON_PCK_EXTENSION,
    REASON_CRL_MALFORMED,
    REASON_CRL_ISSUER,
    REASON_CRL_UNTRUSTED,
    REASON_CRL_EXPIRED,
    /* TCB info and QE identity */
    REASON_COLLATERAL_MALFORMED,
    REASON_COLLATERAL_SIGNER,
    REASON_COLLATERAL_SIGNER_REVOKED,
    REASON_COLLATERAL_SIGNATURE,
    REASON_COLLATERAL_KIND,
    REASON_COLLATERAL_EXPIRED,
    REASON_COLLATERAL_NOT_YET_VALID,
    REASON_COLLATERAL_ROLLED_BACK,
    REASON_COLLATERAL_MIXED,
    REASON_FMSPC_MISMATCH,
    REASON_PCEID_MISMATCH,
    /* the quoting enclave and the quote's signatures */
    REASON_TDX_MODULE_UNKNOWN,
    REASON_TDX_MODULE_SIGNER,
    REASON_TDX_MODULE_ATTRIBUTES,
    REASON_QE_REPORT_SIGNATURE,
    REASON_QE_REPORT_DATA,
    REASON_QE_IDENTITY,
    REASON_QE_DEBUG,
    REASON_ATTESTATION_KEY,
    REASON_QUOTE_SIGNATURE,
    /* TCB evaluation */
    REASON_TCB_NOT_SUPPORTED,
    REASON_TCB_REVOKED,
    REASON_TCB_OUT_OF_DATE,
    REASON_TCB_CONFIGURATION_NEEDED,
    REASON_TCB_SW_HARDENING_NEEDED,
    REASON_TCB_RELAUNCH_ADVISED,
    /* what a strict verifier refuses in a TD */
    REASON_TD_DEBUG,
    REASON_TD_ATTRIBUTES,
    REASON_TD_XFAM,
    REASON_TD_SERVICE_TD,
    REASON_COUNT
};

/* "QuoteTooShort"; "" for REASON_NONE. */
const char *attest_reason_name(enum attest_reason reason);

/* Fills err with DENIED, the reason's word and the text; returns false. */
bool attest_refuse(struct error *err, enum attest_reason reason, const char *fmt, ...) PRINTF(3, 4);
