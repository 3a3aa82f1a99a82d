/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/broker_set.h"

#include "base/clock.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "keybroker.pb-c.h"

enum {
    /* Less than the 10 and 15 seconds that the sidecars give a controller call. */
    CALL_TIMEOUT_MS = 8000,
    /* Covers the wait for a session: a quote takes up to half a minute, and kubelet waits for two
     * minutes. */
    PATIENCE_MS = 30000,
};

struct broker_set {
    struct broker_set_options options;
    atomic_size_t in_use;
};

bool broker_set_new(const struct broker_set_options *options, struct broker_set **out,
                    struct error *err)
{
    struct broker_set *set = calloc(1, sizeof(*set));

    if (!set)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the broker's addresses");
    set->options = *options;
    atomic_init(&set->in_use, 0);
    *out = set;
    return true;
}

void broker_set_free(struct broker_set *set)
{
    free(set);
}

/* One call as it goes from address to address. */
struct trial {
    struct broker_set *set;
    const char *operation;
    struct client_question question;
    struct arena *arena;
    uint64_t until_ms;
};

static bool ask(struct trial *t, size_t i, struct client_reply *out, struct error *err)
{
    const struct broker_route *route = &t->set->options.routes[i];
    uint64_t now_ms = clock_now_ms();
    uint64_t left_ms = t->until_ms > now_ms ? t->until_ms - now_ms : 0;

    /* The session may have come at the last moment: the call still gets a second for a try. */
    t->question.timeout_ms = left_ms > CALL_TIMEOUT_MS ? CALL_TIMEOUT_MS : left_ms + 1000;
    return route->ask(route->cookie, t->operation, &t->question, t->arena, out, err);
}

static bool ask_with_certificate(struct trial *t, size_t i, struct client_reply *out,
                                 struct error *err)
{
    const struct broker_pins *pins = &t->set->options.pins;
    uint8_t key[KEY_SHA256_LEN];

    return ask(t, i, out, err) &&
           (pins->n == 0 || broker_pins_check(pins, out->certificate_pem, key, err));
}

/* A broker with another key than the one that we attested to may be a broker that the operator does
 * not trust. Its answer is not used. */
static bool ask_in_session(struct trial *t, size_t i, const struct session *session,
                           struct client_reply *out, struct error *err)
{
    const struct broker_pins *pins = &t->set->options.pins;
    uint8_t key[KEY_SHA256_LEN];

    if (!ask(t, i, out, err) || !broker_pins_check(pins, out->certificate_pem, key, err))
        return false;
    return bytes_are_equal(key, session->broker_key_sha256, sizeof(key)) ||
           error_set(err, ERROR_UNAUTHENTICATED, "the server has another key than before");
}

/* Attests again, once, when the broker says that the session is over. */
static bool ask_attested(struct trial *t, size_t i, uint64_t session_until_ms,
                         struct client_reply *out, struct error *err)
{
    struct sessions *sessions = t->set->options.sessions;
    struct session session;

    for (unsigned round = 0; round < 2; round++) {
        if (!sessions_get(sessions, i, session_until_ms, &session, err))
            return false;
        if (ask_in_session(t, i, &session, out, err))
            return true;
        if (err->code != ERROR_UNAUTHENTICATED)
            return false;
        sessions_lost(sessions, i, session.number, err);
    }
    return false;
}

/* Volume health, metrics and messages use the same reasons. The broker's own reason stays in the
 * text. */
static bool explain(const struct broker_route *route, const char *method, struct error *err)
{
    if (err->reason[0] != '\0' && !strstr(err->text, err->reason))
        error_wrap(err, "%s", err->reason);
    if (err->code == ERROR_UNAVAILABLE || err->code == ERROR_DEADLINE_EXCEEDED) {
        /* A retry is right in both cases. The caller would read DEADLINE_EXCEEDED as the end of its
         * own deadline. */
        err->code = ERROR_UNAVAILABLE;
        error_reason(err, "BrokerUnreachable");
    } else if (err->code == ERROR_DENIED || err->code == ERROR_UNAUTHENTICATED) {
        error_reason(err, "KeyRefused");
    }
    return error_wrap(err, "key broker %s: %s", route->address, method);
}

/* A replica whose clock is wrong takes good certificates for expired ones. */
static bool is_elsewhere_better(const struct error *err)
{
    return err->code == ERROR_UNAVAILABLE || err->code == ERROR_DEADLINE_EXCEEDED ||
           err->code == ERROR_UNAUTHENTICATED;
}

static bool try_each(struct trial *t, bool is_patient, struct client_reply *out, struct error *err)
{
    struct broker_set *set = t->set;
    size_t n = set->options.n, first = atomic_load(&set->in_use);
    struct error refusal = ERROR_INIT; /* says more than that the others cannot be reached */

    for (size_t k = 0; k < n; k++) {
        size_t i = (first + k) % n;
        uint64_t now_ms = clock_now_ms();
        uint64_t left_ms = is_patient && t->until_ms > now_ms ? t->until_ms - now_ms : 0;
        bool done = set->options.sessions ? ask_attested(t, i, now_ms + left_ms / (n - k), out, err)
                                          : ask_with_certificate(t, i, out, err);

        if (done) {
            atomic_store(&set->in_use, i);
            return true;
        }
        bool is_final = !is_elsewhere_better(err);
        (void)explain(&set->options.routes[i], t->question.method, err);
        if (is_final)
            return false;
        if (err->code == ERROR_UNAUTHENTICATED)
            refusal = *err;
        if (clock_now_ms() >= t->until_ms)
            break;
    }
    if (refusal.code != ERROR_NONE)
        *err = refusal;
    return false;
}

static bool call(void *cookie, const char *operation, const char *method,
                 const ProtobufCMessage *request, struct arena *arena, ProtobufCMessage **response,
                 struct error *err)
{
    /* Probes and volume health ask for the status as it is now: they do not wait for a session. */
    bool is_patient = strcmp(method, "GetStatus") != 0;
    struct trial t = {
        .set = cookie,
        .operation = operation,
        .question = { &tdvol__keybroker__v1__key_broker__descriptor, method, request, 0 },
        .arena = arena,
        .until_ms = clock_now_ms() + (is_patient ? PATIENCE_MS : CALL_TIMEOUT_MS),
    };
    struct client_reply reply = { .message = NULL };

    if (!try_each(&t, is_patient, &reply, err))
        return false;
    *response = reply.message;
    return true;
}

struct broker_transport broker_set_transport(struct broker_set *set)
{
    return (struct broker_transport){ .call = call, .cookie = set };
}
