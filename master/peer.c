/* SPDX-License-Identifier: Apache-2.0 */
#include "master/peer.h"

#include "attest/attester.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "base/option.h"
#include "keys/attestation.h"
#include "master/replica.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "keybroker.pb-c.h"

#define ADDRESS_MAX  256u
#define CA_MAX       ((size_t)256 * 1024)
#define ANSWER_MAX   ((size_t)64 * 1024)
#define QUOTE_MS     15000u
#define REPLICATE_MS 8000u
#define WHY_LEN      160 /* of one peer, in the text about all */

/* One round. The keys die with it, so that an answer to an earlier round opens nothing. */
struct peer_round {
    const struct peer_options *options;
    struct identity identity;
    struct hpke_key_pair sealing;
    char *ca;
    bool has_no_quote; /* and will not have one: the other peers need not be asked */
};

static void round_end(struct peer_round *round)
{
    identity_wipe(&round->identity);
    hpke_key_pair_wipe(&round->sealing);
    free_at(&round->ca);
}
#define auto_round CLEANUP(round_end)

static void client_free_at(struct client **client)
{
    client_free(*client);
}

/* --- addresses --- */

static bool is_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    uint64_t port = 0;

    for (const char *c = text; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr(".:-_[]", *c))
            return false;
    return colon && colon != text && parse_u64(colon + 1, &port) && port > 0 && port < 65536;
}

/* Takes the next address. False at the end of the list. */
static bool next_address(const char **rest, char out[static ADDRESS_MAX])
{
    size_t len = strcspn(*rest, ",");

    if (**rest == '\0')
        return false;
    (void)snprintf(out, ADDRESS_MAX, "%.*s", (int)len, *rest);
    *rest += len + ((*rest)[len] == ',');
    return true;
}

bool peer_options_check(const struct peer_options *options, struct error *err)
{
    const char *rest = options->addresses;
    char address[ADDRESS_MAX];
    size_t n = 0;

    for (; next_address(&rest, address); n++)
        if (!is_address(address))
            return error_set(err, ERROR_INVALID_ARGUMENT, "peer: \"%s\" is not HOST:PORT", address);
    if (n == 0 || n > PEERS_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "peer: give 1 to %d addresses, not %zu",
                         PEERS_MAX, n);
    return options->ca_file || error_set(err, ERROR_INVALID_ARGUMENT, "peer: needs --peer-ca");
}

/* --- evidence --- */

static bool collect(void *cookie, const struct broker_route *route UNUSED,
                    const struct binding *binding, uint64_t deadline_ms, struct evidence *out,
                    uint8_t sealing_public_key[static HPKE_PUBLIC_LEN], struct error *err)
{
    struct peer_round *round = cookie;
    const uint64_t own_ms = clock_now_ms() + QUOTE_MS;
    const struct attester_options options = { .tsm_root = round->options->tsm_root,
                                              .event_log = round->options->event_log,
                                              .deadline_ms =
                                                  deadline_ms < own_ms ? deadline_ms : own_ms };
    struct binding whole = *binding;
    uint8_t report_data[REPORT_DATA_LEN];

    if (!sha256(round->sealing.public_key, HPKE_PUBLIC_LEN, whole.sealing_key_sha256, err) ||
        !binding_report_data(&whole, report_data, err))
        return false;
    attester_tdx.sweep(&options);
    if (!attester_tdx.collect(&options, report_data, out, err)) {
        round->has_no_quote = err->code == ERROR_FAILED_PRECONDITION;
        return false;
    }
    memcpy(sealing_public_key, round->sealing.public_key, HPKE_PUBLIC_LEN);
    return true;
}

/* --- one peer --- */

static bool ask_peer(void *cookie, const char *operation, const struct client_question *question,
                     struct arena *arena, struct client_reply *out, struct error *err)
{
    (void)operation;
    return client_ask(cookie, question, arena, out, err);
}

static bool check_same_peer(const struct client_reply *reply, const struct attested *attested,
                            struct error *err)
{
    uint8_t key[KEY_SHA256_LEN];

    if (!reply->certificate_pem)
        return error_set(err, ERROR_UNAVAILABLE, "the server showed no certificate");
    if (!key_sha256_of_certificate(reply->certificate_pem, key, err))
        return error_wrap(err, "the server's certificate");
    return bytes_are_equal(key, attested->broker_key_sha256, sizeof(key)) ||
           error_set(err, ERROR_UNAVAILABLE, "another server answered than the one attested to");
}

static bool take_key(struct peer_round *round, struct client *client,
                     const struct attested *attested, struct secret *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = ANSWER_MAX };
    struct replica_binding binding;
    struct client_reply reply = { .message = NULL };
    Tdvol__Keybroker__V1__ReplicateRequest request;

    memcpy(binding.broker_key_sha256, attested->broker_key_sha256, KEY_SHA256_LEN);
    if (!random_bytes(binding.nonce, sizeof(binding.nonce), err))
        return false;
    tdvol__keybroker__v1__replicate_request__init(&request);
    request.nonce = (ProtobufCBinaryData){ sizeof(binding.nonce), binding.nonce };
    request.sealing_public_key =
        (ProtobufCBinaryData){ HPKE_PUBLIC_LEN, round->sealing.public_key };
    const struct client_question question = { &tdvol__keybroker__v1__key_broker__descriptor,
                                              "Replicate", &request.base, REPLICATE_MS };
    if (!client_ask(client, &question, &arena, &reply, err) ||
        !check_same_peer(&reply, attested, err))
        return error_wrap(err, "Replicate");
    const Tdvol__Keybroker__V1__ReplicateResponse *answer = (const void *)reply.message;
    return replica_open(&round->sealing, &binding, answer->sealed_key.data, answer->sealed_key.len,
                        out, err);
}

static bool ask_one(struct peer_round *round, const char *address, struct secret *out,
                    struct error *err)
{
    const struct client_tls tls = { .ca_pem = round->ca,
                                    .certificate_pem = round->identity.certificate_pem,
                                    .private_key_pem = &round->identity.private_key_pem,
                                    .server_name = round->options->server_name };
    const struct attestation attestation = { .identity = &round->identity,
                                             .source = { collect, round },
                                             .owner_token = round->options->owner_token };
    CLEANUP(client_free_at) struct client *client = NULL;
    struct attested attested;

    if (!client_new(address, &tls, &client, err))
        return false;
    const struct broker_route route = { address, ask_peer, client };
    return attestation_run(&attestation, &route, &attested, err) &&
           take_key(round, client, &attested, out, err);
}

/* --- all of them --- */

static bool prepare(struct peer_round *round, struct error *err)
{
    size_t len = 0;

    return (file_read(round->options->ca_file, CA_MAX, &round->ca, &len, err) ||
            error_wrap(err, "--peer-ca")) &&
           identity_new("tdvol-broker", &round->identity, err) &&
           hpke_generate(&round->sealing, false, err);
}

bool peer_fetch(const struct peer_options *options, struct secret *out, struct error *err)
{
    auto_round struct peer_round round = { .options = options };
    const char *rest = options->addresses;
    char address[ADDRESS_MAX], all[sizeof(err->text)] = "";
    size_t len = 0;

    if (!prepare(&round, err))
        return false;
    while (next_address(&rest, address)) {
        struct error why = ERROR_INIT;

        if (ask_one(&round, address, out, &why)) {
            log_info("a peer gave the master key", TEXT("peer", address));
            return true;
        }
        log_warning("a peer gave no master key", TEXT("peer", address), ERROR_FIELDS(&why));
        if (round.has_no_quote) {
            *err = why;
            return false;
        }
        if (len < sizeof(all))
            len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s: %.*s%s%s",
                                    len > 0 ? "; " : "", address, WHY_LEN, why.text,
                                    why.reason[0] ? ", " : "", why.reason);
    }
    return error_set(err, ERROR_UNAVAILABLE, "it waits for a peer with the master key: %s", all);
}
