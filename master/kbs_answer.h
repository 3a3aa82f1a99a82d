/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/*
 * What a KBS answers (master/kbs.h). All of it is hostile: who answers may be another server, or one that
 * was taken over. Texts of the server are cut and cleaned before they go into an error.
 */
#define KBS_PROTOCOL     "0.4.0"
#define KBS_NONCE_LEN    32u                           /* bytes */
#define KBS_NONCE_DIGITS ((KBS_NONCE_LEN + 2) / 3 * 4) /* base64 with padding */
#define KBS_COOKIE_MAX   160u                          /* with the NUL */
#define KBS_REPORT_LEN   64u                           /* of a quote's report data */
#define KBS_RUNTIME_MAX  512u

struct kbs_hash;

struct kbs_challenge {
    char nonce[KBS_NONCE_DIGITS + 1]; /* as it came: base64 of KBS_NONCE_LEN bytes */
    const struct kbs_hash *hash;      /* which the server wants; SHA-384 when it says nothing */
};
/* FAILED_PRECONDITION unless it is a challenge of this protocol. */
MUST_USE bool kbs_read_challenge(const void *body, size_t len, struct kbs_challenge *out,
                                 struct error *err);

/* The report data that binds the quote to nonce and key: the hash over the runtime data in canonical form
 * (RFC 8785), with zeros to 64 bytes. jwk: in canonical form. */
MUST_USE bool kbs_report_data(const struct kbs_challenge *challenge, const char *jwk,
                              uint8_t out[static KBS_REPORT_LEN], struct error *err);

/* Takes "kbs-session-id=VALUE" out of a Set-Cookie header. header NULL: there was none, or several. */
MUST_USE bool kbs_read_cookie(const char *header, char out[static KBS_COOKIE_MAX],
                              struct error *err);

/* Whether the answer to the evidence says that it was accepted. The token in it is not needed: the session
 * knows it. */
MUST_USE bool kbs_read_acceptance(const void *body, size_t len, struct error *err);

/* Says what an answer with another status than 200 means, and returns false. UNAVAILABLE: it may change
 * by itself, or when somebody changes the KBS. ABORTED: the session is gone; begin again. FAILED_PRECONDITION:
 * this is no KBS of this protocol, or the wrong address. */
bool kbs_failed(long status, const void *body, size_t len, struct error *err);
