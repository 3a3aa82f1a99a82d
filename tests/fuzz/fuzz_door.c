/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/door_session.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "csi.pb-c.h"

/*
 * The bytes that a client sends after the TLS handshake. The first byte says how many arrive at a
 * time, and whether HTTP/2's preface comes in front. Calls are answered when some have gathered.
 * Everything that was handed out must come back, and nothing may be counted that is not there.
 */

enum { CALLS_MAX = 8, ARRIVE_MAX = 4096 };

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0";
static const struct rpc_limits limits = { 65536, 128, 4096 };

struct host {
    struct door_session *session;
    struct door_call *waiting[CALLS_MAX];
    size_t n_waiting, n_calls; /* calls: that exist */
};

static void end_call(struct host *host, struct door_call *call)
{
    host->n_calls--;
    door_call_free(call);
}

static bool submit(void *cookie, struct door_call *call)
{
    struct host *host = cookie;

    if (!call->method || call->request_bytes > 65536 || !memchr(call->path, 0, sizeof(call->path)))
        abort();
    host->n_calls++;
    if (host->n_waiting == CALLS_MAX)
        return false;
    host->waiting[host->n_waiting++] = call;
    return true;
}

static void abandon(void *cookie, struct door_call *call)
{
    struct host *host = cookie;

    for (size_t i = 0; i < host->n_waiting; i++) {
        if (host->waiting[i] != call)
            continue;
        host->waiting[i] = host->waiting[--host->n_waiting];
        end_call(host, call);
        return;
    }
    abort();
}

static void release(void *cookie, struct door_call *call)
{
    end_call(cookie, call);
}

static void turned_away(void *cookie, const char *why)
{
    (void)cookie, (void)why;
}

static void wake(void *cookie)
{
    (void)cookie;
}

static void answer_all(struct host *host)
{
    static const struct server_options options = { .limits = { 65536, 128, 4096 } };

    while (host->n_waiting > 0) {
        struct door_call *call = host->waiting[--host->n_waiting];

        door_call_run(call, &options);
        door_session_answer(call);
    }
}

static void send_all(struct host *host)
{
    const uint8_t *bytes = NULL;

    while (door_session_give(host->session, &bytes) > 0) {
    }
}

static bool nothing(void *service, struct rpc_call *call, const ProtobufCMessage *request,
                    ProtobufCMessage *response, struct error *err)
{
    (void)service, (void)call, (void)request, (void)response, (void)err;
    return true;
}

static void feed(struct host *host, const uint8_t *bytes, size_t len, size_t step)
{
    for (size_t at = 0; at < len; at += step) {
        size_t n = len - at < step ? len - at : step;
        bool goes_on = door_session_take(host->session, bytes + at, n);

        if (host->n_waiting == CALLS_MAX || at % 64 == 0)
            answer_all(host);
        send_all(host);
        if (!goes_on)
            return;
    }
}

static struct door_session_host host_of(struct host *cookie, const struct server_binding *binding,
                                        struct networks *networks, struct door_peer **peer)
{
    struct door_session_host host = { .cookie = cookie,
                                      .bindings = binding,
                                      .n_bindings = 1,
                                      .limits = &limits,
                                      .networks = networks,
                                      .submit = submit,
                                      .abandon = abandon,
                                      .release = release,
                                      .turned_away = turned_away,
                                      .wake = wake };
    struct error err = ERROR_INIT;
    char *pem = NULL;

    networks_init(networks);
    if (!network_enter(networks, "192.0.2.1", &host.network, &err) ||
        !door_peer_new(&pem, false, "192.0.2.1", peer, &err))
        abort();
    host.peer = *peer;
    return host;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const struct rpc_method methods[] = { { "NodeGetInfo", nothing, 0, 0 },
                                                 { "NodeStageVolume", nothing, RPC_SECRET, 0 } };
    static const struct rpc_service service = { &csi__v1__node__descriptor, methods, 2 };
    static const struct server_binding binding = { &service, NULL };
    struct host host = { .n_calls = 0 };
    struct networks networks;
    struct door_peer *peer = NULL;
    struct error err = ERROR_INIT;

    if (len == 0)
        return 0;
    size_t step = 1 + (size_t)(bytes[0] & 0x7F) * (ARRIVE_MAX / 128);
    const struct door_session_host session_host = host_of(&host, &binding, &networks, &peer);

    if (!door_session_new(&session_host, &host.session, &err))
        abort();
    if (bytes[0] & 0x80)
        feed(&host, (const uint8_t *)preface, sizeof(preface) - 1, sizeof(preface) - 1);
    feed(&host, bytes + 1, len - 1, step);
    if (door_session_check_time(host.session, clock_now_ms() + INTAKE_MS))
        answer_all(&host);
    send_all(&host);
    door_session_free(host.session);
    if (host.n_calls != 0 || host.n_waiting != 0 || networks.n_unfinished != 0 ||
        networks.bytes != 0)
        abort();
    network_leave(&networks, session_host.network);
    door_peer_release(peer);
    return 0;
}
