/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/verify.h"

#include <stdint.h>

/*
 * What was verified about a caller, as plain data without pointers. A policy sees nothing else.
 * Each struct is filled completely or not at all.
 */
#define CLAIMS_ADVISORIES_MAX  ADVISORIES_MAX
#define CLAIMS_ADVISORY_MAX    31 /* bytes, without NUL */
#define CLAIMS_EVENTS_MAX      16 /* of RTMR3 */
#define CLAIMS_TEXT_MAX        255
#define CLAIMS_COMMON_NAME_MAX CERT_COMMON_NAME_MAX
#define CLAIMS_AUDIENCES_MAX   4

/* From a verified quote and, if one was sent, an event log that replays to its RTMRs. */
struct td_claims {
    uint8_t mrtd[MEASUREMENT_LEN], rtmr[4][MEASUREMENT_LEN];
    uint8_t mrconfigid[MEASUREMENT_LEN], mrowner[MEASUREMENT_LEN], mrownerconfig[MEASUREMENT_LEN];
    uint8_t mrseam[MEASUREMENT_LEN];
    bool has_service_td; /* MRSERVICETD of a TD 1.5 report is not zero */
    uint8_t mrservicetd[MEASUREMENT_LEN];
    uint64_t td_attributes, xfam;

    uint8_t fmspc[FMSPC_LEN];
    uint8_t sgx_type;
    bool has_platform_id;
    uint8_t platform_id[PLATFORM_ID_LEN];

    enum tcb_status tcb_status;
    int64_t tcb_date; /* seconds since 1970 */
    size_t n_advisories;
    char advisories[CLAIMS_ADVISORIES_MAX][CLAIMS_ADVISORY_MAX + 1];
    uint32_t tcb_evaluation_number, qe_evaluation_number;

    bool has_event_log;
    size_t n_events;
    uint8_t events[CLAIMS_EVENTS_MAX][MEASUREMENT_LEN]; /* digests extended into RTMR3, in order */
};

enum tee_kind {
    TEE_TDX = 1,
};

/* From the verified quote of any kind of TEE. */
struct tee_claims {
    enum tee_kind kind;
    uint8_t quote_sha256[32], collateral_sha256[32];
    int64_t collateral_until; /* seconds since 1970 */
    union {
        struct td_claims td; /* TEE_TDX */
    };
};

/* NULL when the TEE is of another kind. */
static inline const struct td_claims *tee_claims_td(const struct tee_claims *tee)
{
    return tee->kind == TEE_TDX ? &tee->td : NULL;
}

/* From a token that one of the policy's keys signed (policy/token.h). */
struct token_claims {
    char issuer[CLAIMS_TEXT_MAX + 1], subject[CLAIMS_TEXT_MAX + 1];
    char node[CLAIMS_TEXT_MAX + 1]; /* kubernetes.io/node/name; "" when it has none */
    size_t n_audiences;
    char audiences[CLAIMS_AUDIENCES_MAX][CLAIMS_TEXT_MAX + 1];
    uint8_t key_sha256[32];    /* over the key's SubjectPublicKeyInfo */
    int64_t not_before, until; /* seconds since 1970 */
};

/* From a certificate chain for the TLS client key, signed by one of the policy's CAs. */
struct owner_claims {
    char common_name[CLAIMS_COMMON_NAME_MAX + 1];
    uint8_t ca_sha256[32]; /* over the DER of the CA certificate in the policy */
    int64_t until;         /* seconds since 1970 */
};

/* From a TLS client certificate below the broker's own client CA. */
struct certificate_claims {
    char sha256[65]; /* lower-case hex, over the DER form */
    char common_name[CLAIMS_COMMON_NAME_MAX + 1];
};

/* A set of claims; a claim that was not proven is NULL. Owns nothing. */
struct principal {
    const struct certificate_claims *certificate;
    const struct tee_claims *tee;
    const struct token_claims *token; /* token and owner: only together with tee */
    const struct owner_claims *owner;
};

/* NULL unless the principal has proven to be a Trust Domain. */
static inline const struct td_claims *principal_td(const struct principal *who)
{
    return who->tee ? tee_claims_td(who->tee) : NULL;
}

/* Copies all claims into *out. event_log may be NULL; otherwise it must replay to the quote's RTMRs
 * (EventLogMalformed, EventLogMismatch). */
MUST_USE bool tee_claims_from_td(const struct verified_quote *verified,
                                 const struct collateral *collateral, const uint8_t *event_log,
                                 size_t event_log_len, struct tee_claims *out, struct error *err);

/* The strict default: TCB up to date, no debug mode, no service TD, no unusual attributes. */
MUST_USE bool td_claims_check_acceptable(const struct td_claims *td, struct error *err);
