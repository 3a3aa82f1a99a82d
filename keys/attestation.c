/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/attestation.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keybroker.pb-c.h"

enum {
    CHALLENGE_TIMEOUT_MS = 8000,
    ATTEST_TIMEOUT_MS = 20000, /* the broker verifies the quote and may fetch missing collateral */
    EVIDENCE_TIMEOUT_MS = 60000,
    ANSWER_BYTES_MAX = 256 * 1024,
    LIFE_MAX_MS = 7 * 24 * 3600 * 1000,
};
#define OPERATION "Attest" /* names the fault points */
#define TEE       "tdx"

typedef Tdvol__Keybroker__V1__GetChallengeResponse challenge_message;
typedef Tdvol__Keybroker__V1__AttestRequest attest_message;
typedef Tdvol__Keybroker__V1__AttestResponse attested_message;

/* --- the broker's key --- */

static bool mismatch(struct error *err, const uint8_t key[static KEY_SHA256_LEN], const char *what)
{
    char hex[2 * KEY_SHA256_LEN + 1];

    hex_encode(key, KEY_SHA256_LEN, hex);
    return error_set_reason(err, ERROR_UNAVAILABLE, "BrokerKeyMismatch",
                            "the server's TLS key %s is not %s", hex, what);
}

bool broker_pins_check(const struct broker_pins *pins, const char *certificate_pem,
                       uint8_t out[static KEY_SHA256_LEN], struct error *err)
{
    uint8_t key[KEY_SHA256_LEN];

    if (!certificate_pem)
        return error_set(err, ERROR_UNAVAILABLE, "the server showed no certificate");
    if (!key_sha256_of_certificate(certificate_pem, key, err))
        return error_wrap(err, "the server's certificate");
    if (!broker_pins_has(pins, key))
        return mismatch(err, key, "one of --broker-key-sha256");
    memcpy(out, key, sizeof(key));
    return true;
}

/* --- steps --- */

struct attest_exchange {
    const struct attestation *attestation;
    const struct broker_route *route;
    struct arena arena; /* of the answers */
    struct binding binding;
    uint64_t nonce_until_ms;
    char *token, *certificate;
    size_t token_len, certificate_len;
    struct evidence evidence;
    uint8_t sealing_public_key[HPKE_PUBLIC_LEN];
};

static void attempt_end(struct attest_exchange *a)
{
    if (a->token)
        bytes_wipe(a->token, a->token_len);
    free_at(&a->token);
    free_at(&a->certificate);
    evidence_free(&a->evidence);
    arena_wipe(&a->arena);
}
#define auto_attempt CLEANUP(attempt_end)

static bool ask(struct attest_exchange *a, const char *method, const ProtobufCMessage *request,
                uint64_t timeout_ms, struct client_reply *out, struct error *err)
{
    const struct client_question question = { &tdvol__keybroker__v1__key_broker__descriptor, method,
                                              request, timeout_ms };

    return a->route->ask(a->route->cookie, OPERATION, &question, &a->arena, out, err) ||
           error_wrap(err, "%s", method);
}

static bool read_token(struct attest_exchange *a, struct error *err)
{
    const char *path = a->attestation->owner_token;

    if (!path)
        return true;
    if (!file_read(path, OWNER_TOKEN_MAX, &a->token, &a->token_len, err))
        return error_wrap(err, "--owner-token");
    while (a->token_len > 0 && a->token[a->token_len - 1] == '\n')
        a->token_len--;
    return a->token_len > 0 ||
           error_set(err, ERROR_FAILED_PRECONDITION, "--owner-token: %s is empty", path);
}

/* The owner signs the certificate while this process runs, for the key of this process alone. So it
 * is usual after a start that the file is missing, or is for the key of an earlier process. */
static bool read_certificate(struct attest_exchange *a, struct error *err)
{
    const char *path = a->attestation->owner_certificate;
    uint8_t key[KEY_SHA256_LEN];
    struct error problem = ERROR_INIT;

    if (!path)
        return true;
    if (!file_read(path, OWNER_CERTIFICATE_MAX, &a->certificate, &a->certificate_len, &problem)) {
        if (problem.code == ERROR_NOT_FOUND)
            return true;
        *err = problem;
        return error_wrap(err, "--owner-certificate");
    }
    if (!key_sha256_of_certificate(a->certificate, key, err))
        return error_wrap(err, "--owner-certificate: %s", path);
    if (!bytes_are_equal(key, a->attestation->identity->key_sha256, KEY_SHA256_LEN)) {
        log_warning("the owner's certificate is for another key: sign the new --owner-request",
                    TEXT("path", path));
        free_at(&a->certificate);
        a->certificate_len = 0;
    }
    return true;
}

static bool check_challenge(const challenge_message *challenge, struct error *err)
{
    if (challenge->nonce.len != BINDING_LEN)
        return error_set(err, ERROR_INTERNAL, "the key broker's nonce has a wrong length");
    if (challenge->broker_key_sha256.len != BINDING_LEN)
        return error_set(err, ERROR_INTERNAL, "the key broker's key has a wrong length");
    return true;
}

/* The quote is bound to the broker's key in the TLS certificate. The key in the message only shows
 * whether a relay stands between this node and the broker. */
static bool take_challenge(struct attest_exchange *a, struct error *err)
{
    Tdvol__Keybroker__V1__GetChallengeRequest request;
    struct client_reply reply = { .message = NULL };
    struct binding *b = &a->binding;
    uint64_t asked_ms = clock_now_ms();

    tdvol__keybroker__v1__get_challenge_request__init(&request);
    if (!ask(a, "GetChallenge", &request.base, CHALLENGE_TIMEOUT_MS, &reply, err) ||
        !broker_pins_check(&a->attestation->pins, reply.certificate_pem, b->broker_key_sha256, err))
        return false;
    const challenge_message *challenge = (const void *)reply.message;
    if (!check_challenge(challenge, err))
        return false;
    if (!bytes_are_equal(challenge->broker_key_sha256.data, b->broker_key_sha256, BINDING_LEN))
        return mismatch(err, b->broker_key_sha256,
                        "the key broker's own: a relay in between terminates TLS");
    memcpy(b->nonce, challenge->nonce.data, BINDING_LEN);
    memcpy(b->client_key_sha256, a->attestation->identity->key_sha256, BINDING_LEN);
    uint64_t good_ms = challenge->remaining_ms;
    a->nonce_until_ms = asked_ms + (good_ms < EVIDENCE_TIMEOUT_MS ? good_ms : EVIDENCE_TIMEOUT_MS);
    return true;
}

static ProtobufCBinaryData bytes(const void *data, size_t len)
{
    return (ProtobufCBinaryData){ .len = len, .data = (uint8_t *)(uintptr_t)data };
}

static bool take_session(struct attest_exchange *a, struct attested *out, struct error *err)
{
    attest_message request;
    struct client_reply reply = { .message = NULL };
    char tee[] = TEE;
    uint8_t key[KEY_SHA256_LEN];
    uint64_t asked_ms = clock_now_ms();

    tdvol__keybroker__v1__attest_request__init(&request);
    request.nonce = bytes(a->binding.nonce, BINDING_LEN);
    request.tee = tee;
    request.quote = bytes(a->evidence.quote, a->evidence.quote_len);
    request.event_log = bytes(a->evidence.event_log, a->evidence.event_log_len);
    request.sealing_public_key = bytes(a->sealing_public_key, sizeof(a->sealing_public_key));
    request.owner_token = bytes(a->token, a->token_len);
    request.owner_certificate = bytes(a->certificate, a->certificate_len);
    if (!ask(a, "Attest", &request.base, ATTEST_TIMEOUT_MS, &reply, err) ||
        !broker_pins_check(&a->attestation->pins, reply.certificate_pem, key, err))
        return false;
    if (!bytes_are_equal(key, a->binding.broker_key_sha256, sizeof(key)))
        return mismatch(err, key, "the key of the server that gave the challenge");
    const attested_message *answer = (const void *)reply.message;
    if (answer->remaining_ms == 0 || answer->remaining_ms > LIFE_MAX_MS)
        return error_set(err, ERROR_INTERNAL, "the key broker's session has a wrong lifetime");
    *out = (struct attested){ .expires_ms = asked_ms + answer->remaining_ms };
    memcpy(out->broker_key_sha256, key, sizeof(key));
    (void)snprintf(out->tenant, sizeof(out->tenant), "%.128s", answer->tenant);
    (void)snprintf(out->rule, sizeof(out->rule), "%.128s", answer->rule);
    return true;
}

/* Restricts the code: the call that needs the session would read NOT_FOUND for a missing token file
 * as "no such volume". */
static bool confine(struct error *err)
{
    static const enum error_code codes[] = {
        ERROR_DENIED,  ERROR_UNAUTHENTICATED,    ERROR_UNAVAILABLE,         ERROR_DEADLINE_EXCEEDED,
        ERROR_ABORTED, ERROR_RESOURCE_EXHAUSTED, ERROR_FAILED_PRECONDITION, ERROR_INTERNAL,
    };

    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (err->code == codes[i])
            return false;
    err->code = ERROR_FAILED_PRECONDITION;
    return false;
}

bool attestation_run(const struct attestation *attestation, const struct broker_route *route,
                     struct attested *out, struct error *err)
{
    const struct evidence_source *source = &attestation->source;
    auto_attempt struct attest_exchange a = { .attestation = attestation, .route = route };

    arena_init(&a.arena, ANSWER_BYTES_MAX);
    return (read_token(&a, err) && read_certificate(&a, err) && take_challenge(&a, err) &&
            (source->collect(source->cookie, route, &a.binding, a.nonce_until_ms, &a.evidence,
                             a.sealing_public_key, err) ||
             error_wrap(err, "collect a quote")) &&
            take_session(&a, out, err)) ||
           confine(err);
}
