/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/attester.h"
#include "attest/binding.h"
#include "attest/identity.h"
#include "base/hpke.h"
#include "base/option.h"
#include "keys/broker_client.h"

/*
 * One attestation: proves to one broker what runs here, behind our TLS key, and to whom it belongs.
 * Checks on the way that the broker is the one whose key the TLS session showed. See GetChallenge
 * and Attest in proto/keybroker.proto.
 */
#define OWNER_TOKEN_MAX       (16u * 1024)
#define OWNER_CERTIFICATE_MAX (64u * 1024)

/* Keys of the broker that are accepted; none at all: the CA decides alone. */
struct broker_pins {
    size_t n;
    uint8_t sha256[OPTION_LIST_MAX][KEY_SHA256_LEN];
};
/* Each is SHA-256 over the SubjectPublicKeyInfo, 64 hex digits. */
MUST_USE bool broker_pins_parse(const struct option_list *list, struct broker_pins *out,
                                struct error *err);
/* The key that the server showed, out; UNAVAILABLE with the reason BrokerKeyMismatch when it is not
 * among the pins: another address may lead to the right one. */
MUST_USE bool broker_pins_check(const struct broker_pins *pins, const char *certificate_pem,
                                uint8_t out[static KEY_SHA256_LEN], struct error *err);

/* Where quotes come from; as workers_collect_evidence() in keys/evidence_request.h. */
struct evidence_source {
    MUST_USE bool (*collect)(void *cookie, const struct binding *binding, uint64_t deadline_ms,
                             struct evidence *out,
                             uint8_t sealing_public_key[static HPKE_PUBLIC_LEN], struct error *err);
    void *cookie;
};

/* What all attestations of this process have in common. */
struct attestation {
    const struct identity *identity;
    struct evidence_source source;
    struct broker_pins pins;
    /* Files, read anew each time; NULL: there is none. The certificate's may be missing, or be for
     * a key that we no longer have: then it is not sent. */
    const char *owner_token, *owner_certificate;
};

struct attested {
    uint64_t expires_ms; /* clock_now_ms() scale */
    uint8_t broker_key_sha256[KEY_SHA256_LEN];
    char tenant[129], rule[129];
};

/*
 * Takes as long as a quote takes, a minute at most. Errors: DENIED with a word of attest/reason.h
 * when the broker refuses; UNAUTHENTICATED when the nonce was too old by then; UNAVAILABLE when it
 * may work later, with CollateralMissing or QuoteUnavailable when that is soon; FAILED_PRECONDITION
 * for files that are missing or too large, and a machine that cannot make quotes.
 */
MUST_USE bool attestation_run(const struct attestation *attestation,
                              const struct broker_route *route, struct attested *out,
                              struct error *err);
