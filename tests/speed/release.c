/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/binding.h"
#include "attest/identity.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/hpke.h"
#include "base/option.h"
#include "proto/client.h"
#include "record/answer.h"
#include "record/encoding.h"
#include "record/layout.h"
#include "tests/sim/sim.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keybroker.pb-c.h"

/*
 * Attested sessions and key releases per second at one broker, for tests/bench:
 *
 *     release HOST:PORT CA-FILE PKI-DIR SECONDS
 *
 * The Trust Domain is the simulated default one, which makes its quotes at once. So session_s is the
 * time that the rest of a session takes, from the TLS handshake to the answer. Prints "session_s N", "releases_one_per_s N"
 * (one connection) and "releases_per_s N" (64 at a time).
 */
enum { SESSIONS = 15, CONNECTIONS = 64, CALL_MS = 30000, ARENA_BYTES = 1 << 20 };
#define DRIVER  "speed"
#define NODE    "node"
#define M(name) Tdvol__Keybroker__V1__##name

struct place {
    const char *address;
    char *ca;
    struct sim_machine *machine;
};

struct session {
    struct identity identity;
    struct hpke_key_pair sealing;
};

struct load {
    struct client *client;
    const struct session *session;
    char volume[32];
    uint64_t end_ms, calls;
    bool ok;
    struct error err;
};

static char *text(const char *constant)
{
    return (char *)(uintptr_t)constant;
}

static bool call(struct client *client, const char *method, const ProtobufCMessage *request,
                 struct arena *arena, ProtobufCMessage **out, struct error *err)
{
    return client_call(client, &tdvol__keybroker__v1__key_broker__descriptor, method, request,
                       CALL_MS, arena, out, err) ||
           error_wrap(err, "%s", method);
}

static bool connect_to(const struct place *place, const struct session *session,
                       struct client **out, struct error *err)
{
    const struct client_tls tls = { .ca_pem = place->ca,
                                    .certificate_pem = session->identity.certificate_pem,
                                    .private_key_pem = &session->identity.private_key_pem };

    return client_new(place->address, &tls, out, err);
}

/* --- sessions --- */

static bool quote_for(const struct place *place, const struct session *session,
                      const M(GetChallengeResponse) * challenge, uint8_t *out, size_t *out_len,
                      struct error *err)
{
    struct binding binding;
    struct sim_td td = sim_td_default;

    if (challenge->nonce.len != BINDING_LEN || challenge->broker_key_sha256.len != BINDING_LEN)
        return error_set(err, ERROR_INTERNAL, "the challenge has wrong lengths");
    memcpy(binding.nonce, challenge->nonce.data, BINDING_LEN);
    memcpy(binding.broker_key_sha256, challenge->broker_key_sha256.data, BINDING_LEN);
    memcpy(binding.client_key_sha256, session->identity.key_sha256, BINDING_LEN);
    if (!sha256(session->sealing.public_key, HPKE_PUBLIC_LEN, binding.sealing_key_sha256, err) ||
        !binding_report_data(&binding, td.report_data, err))
        return false;
    *out_len = sim_quote(place->machine, &td, &sim_quoting_default, out);
    return true;
}

static bool attest(const struct place *place, struct client *client, struct session *session,
                   struct error *err)
{
    auto_arena struct arena arena = { .limit = ARENA_BYTES };
    static uint8_t quote[QUOTE_LEN_MAX];
    M(GetChallengeRequest) ask = TDVOL__KEYBROKER__V1__GET_CHALLENGE_REQUEST__INIT;
    M(AttestRequest) request = TDVOL__KEYBROKER__V1__ATTEST_REQUEST__INIT;
    ProtobufCMessage *answer = NULL;
    size_t len = 0;

    if (!call(client, "GetChallenge", &ask.base, &arena, &answer, err))
        return false;
    const M(GetChallengeResponse) *challenge = (const void *)answer;
    if (!quote_for(place, session, challenge, quote, &len, err))
        return false;
    request.nonce = challenge->nonce;
    request.tee = text("tdx");
    request.quote = (ProtobufCBinaryData){ .len = len, .data = quote };
    request.sealing_public_key =
        (ProtobufCBinaryData){ .len = HPKE_PUBLIC_LEN, .data = session->sealing.public_key };
    return call(client, "Attest", &request.base, &arena, &answer, err);
}

static void session_end(struct session *session)
{
    identity_wipe(&session->identity);
    hpke_key_pair_wipe(&session->sealing);
}

static bool begin(const struct place *place, struct session *out, struct client **client,
                  struct error *err)
{
    return identity_new(NODE, &out->identity, err) && hpke_generate(&out->sealing, false, err) &&
           connect_to(place, out, client, err) && attest(place, *client, out, err);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Returns the median; *out is the last session, with its connection. */
static bool measure_sessions(const struct place *place, struct session *out, struct client **client,
                             struct error *err)
{
    double seconds[SESSIONS];

    for (size_t i = 0; i < SESSIONS; i++) {
        uint64_t start_ms = clock_now_ms();

        if (i > 0) {
            client_free(*client);
            session_end(out);
        }
        if (!begin(place, out, client, err))
            return false;
        seconds[i] = (double)(clock_now_ms() - start_ms) / 1000.0;
    }
    qsort(seconds, SESSIONS, sizeof(seconds[0]), compare);
    printf("session_s %.4f\n", seconds[SESSIONS / 2]);
    return true;
}

/* --- releases --- */

static bool create(struct client *client, const char *volume, struct error *err)
{
    auto_arena struct arena arena = { .limit = ARENA_BYTES };
    struct volume_spec spec = { .integrity = INTEGRITY_NONE,
                                .provisioning = PROVISIONING_THICK,
                                .workqueue = WORKQUEUE_AUTO,
                                .backing = BACKING_FILE };
    struct encoded encoded;
    M(CreateRecordRequest) request = TDVOL__KEYBROKER__V1__CREATE_RECORD_REQUEST__INIT;
    ProtobufCMessage *answer = NULL;

    (void)snprintf(spec.name, sizeof(spec.name), "%s", volume);
    (void)snprintf(spec.fs_type, sizeof(spec.fs_type), "ext4");
    if (!layout_plan(&spec, 1u << 30, err))
        return false;
    volume_spec_encode(&spec, &encoded);
    request.driver = text(DRIVER);
    request.volume_id = text(volume);
    request.spec = (ProtobufCBinaryData){ .len = encoded.len, .data = encoded.bytes };
    return call(client, "CreateRecord", &request.base, &arena, &answer, err);
}

static bool open_volume(const struct load *load, struct error *err)
{
    auto_arena struct arena arena = { .limit = ARENA_BYTES };
    M(OpenVolumeRequest) request = TDVOL__KEYBROKER__V1__OPEN_VOLUME_REQUEST__INIT;
    ProtobufCMessage *answer = NULL;
    uint8_t key[HPKE_PUBLIC_LEN], nonce[ANSWER_NONCE_LEN] = { 1 };

    memcpy(key, load->session->sealing.public_key, sizeof(key));
    request.driver = text(DRIVER);
    request.volume_id = text(load->volume);
    request.node = text(NODE);
    request.boot_id = text("boot");
    request.sealing_public_key = (ProtobufCBinaryData){ .len = sizeof(key), .data = key };
    request.nonce =
        (ProtobufCBinaryData){ .len = sizeof(nonce), .data = nonce }; /* a worker asks */
    return call(load->client, "OpenVolume", &request.base, &arena, &answer, err);
}

static void *run(void *cookie)
{
    struct load *load = cookie;

    load->ok = true;
    while (load->ok && clock_now_ms() < load->end_ms) {
        load->ok = open_volume(load, &load->err);
        load->calls++;
    }
    return NULL;
}

static bool prepare(const struct place *place, const struct session *session, struct load *load,
                    size_t i, struct error *err)
{
    *load = (struct load){ .session = session };
    (void)snprintf(load->volume, sizeof(load->volume), "volume-%zu", i);
    return connect_to(place, session, &load->client, err) &&
           create(load->client, load->volume, err) && open_volume(load, err);
}

static bool measure_releases(struct load *loads, size_t n, uint64_t seconds, const char *name,
                             struct error *err)
{
    pthread_t threads[CONNECTIONS];
    uint64_t start_ms = clock_now_ms(), calls = 0;

    for (size_t i = 0; i < n; i++) {
        loads[i].end_ms = start_ms + seconds * 1000;
        loads[i].calls = 0;
        if (pthread_create(&threads[i], NULL, run, &loads[i]) != 0)
            abort();
    }
    for (size_t i = 0; i < n; i++) {
        (void)pthread_join(threads[i], NULL);
        calls += loads[i].calls;
        if (!loads[i].ok) {
            *err = loads[i].err;
            return false;
        }
    }
    printf("%s %.1f\n", name, (double)calls * 1000.0 / (double)(clock_now_ms() - start_ms));
    return true;
}

static bool measure(struct place *place, uint64_t seconds, struct error *err)
{
    static struct load loads[CONNECTIONS];
    struct session session = { .sealing.private_key = SECRET_INIT };
    struct client *client = NULL;

    if (!measure_sessions(place, &session, &client, err))
        return false;
    for (size_t i = 0; i < CONNECTIONS; i++)
        if (!prepare(place, &session, &loads[i], i, err))
            return false;
    bool done = measure_releases(loads, 1, seconds, "releases_one_per_s", err) &&
                measure_releases(loads, CONNECTIONS, seconds, "releases_per_s", err);
    for (size_t i = 0; i < CONNECTIONS; i++)
        client_free(loads[i].client);
    client_free(client);
    session_end(&session);
    return done;
}

int main(int argc, char **argv)
{
    struct place place = { .ca = NULL };
    struct error err = ERROR_INIT;
    uint64_t seconds = 0;
    size_t len = 0;

    if (argc != 5 || !parse_u64(argv[4], &seconds) || seconds == 0) {
        (void)fputs("usage: release HOST:PORT CA-FILE PKI-DIR SECONDS\n", stderr);
        return 2;
    }
    place.address = argv[1];
    place.machine = sim_machine_kept(argv[3], &sim_platform_default);
    bool done =
        file_read(argv[2], 1u << 20, &place.ca, &len, &err) && measure(&place, seconds, &err);
    sim_machine_free(place.machine);
    free_at(&place.ca);
    if (!done)
        (void)fprintf(stderr, "release: %s\n", err.text);
    return done ? 0 : 1;
}
