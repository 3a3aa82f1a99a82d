/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/attester.h"
#include "attest/binding.h"
#include "attest/broker_signature.h"
#include "attest/identity.h"
#include "base/hpke.h"
#include "base/option.h"
#include "keys/broker_client.h"

/*
 * One attestation. It proves to one broker what runs on this machine, that our TLS key belongs to
 * it, and who its owner is. On the way it checks that the broker holds the key that the TLS session
 * showed. See GetChallenge and Attest in proto/keybroker.proto.
 */
#define OWNER_TOKEN_MAX       (16u * 1024)
#define OWNER_CERTIFICATE_MAX (64u * 1024)

/* Writes the key that the server showed to out. UNAVAILABLE with the reason BrokerKeyMismatch when
 * the key is not among the pins, because another address may lead to the right broker. */
MUST_USE bool broker_pins_check(const struct broker_pins *pins, const char *certificate_pem,
                                uint8_t out[static KEY_SHA256_LEN], struct error *err);

/* The source of quotes. It behaves like workers_collect_evidence() in keys/evidence_request.h. */
struct evidence_source {
    MUST_USE bool (*collect)(void *cookie, const struct broker_route *route,
                             const struct binding *binding, uint64_t deadline_ms,
                             struct evidence *out,
                             uint8_t sealing_public_key[static HPKE_PUBLIC_LEN], struct error *err);
    void *cookie;
};

/* What all attestations of this process share. */
struct attestation {
    const struct identity *identity;
    struct evidence_source source;
    struct broker_pins pins;
    /* Files, read again for each attestation; NULL: there is none. The certificate is not sent when
     * its file is missing, or when it is for the key of an earlier process. */
    const char *owner_token, *owner_certificate;
};

struct attested {
    uint64_t expires_ms; /* clock_now_ms() scale */
    uint8_t broker_key_sha256[KEY_SHA256_LEN];
    char tenant[129], rule[129];
};

/*
 * Takes as long as the quote takes: a minute at most. Errors: DENIED with a word of attest/reason.h
 * when the broker refuses; UNAUTHENTICATED when the nonce was too old when the quote was ready;
 * UNAVAILABLE when a later attempt may work, with the reason CollateralMissing or QuoteUnavailable
 * when an attempt soon may work; FAILED_PRECONDITION for a file that is missing or too large, and
 * for a machine that cannot make quotes.
 */
MUST_USE bool attestation_run(const struct attestation *attestation,
                              const struct broker_route *route, struct attested *out,
                              struct error *err);
