/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/evidence_request.h"

#include "attest/statement.h"
#include "keys/broker_evidence.h"

#include <stdlib.h>
#include <string.h>

#define OPERATION  "Attest"
#define ARENA_MAX  (1u << 20)
#define GROW_BYTES (64u * 1024)

#define BROKER_EVIDENCE_MS 15000 /* the broker makes a quote, which takes seconds */

static bool too_long(struct error *err, const char *what, size_t max)
{
    return error_set(err, ERROR_INTERNAL, "the worker sent %s of more than %zu bytes", what, max);
}

/* The capacity is always the length rounded up, so it is not stored. */
static bool append(uint8_t **bytes, size_t *len, const struct block_data *data, struct error *err)
{
    size_t capacity = round_up_u64(*len, GROW_BYTES);

    if (*len + data->len > capacity) {
        uint8_t *grown = realloc(*bytes, capacity + GROW_BYTES);

        if (!grown)
            return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for evidence");
        *bytes = grown;
    }
    memcpy(*bytes + *len, data->bytes, data->len);
    *len += data->len;
    return true;
}

struct collecting {
    const struct broker_route *route;
    struct evidence evidence;
};

static void collecting_end(struct collecting *c)
{
    evidence_free(&c->evidence);
}

static bool take_data(void *cookie, const struct block_data *data, struct error *err)
{
    struct collecting *c = cookie;
    struct evidence *e = &c->evidence;
    bool is_quote = data->part == BLOCK_DATA_QUOTE;

    if (is_quote && e->quote_len + data->len > QUOTE_LEN_MAX)
        return too_long(err, "a quote", QUOTE_LEN_MAX);
    if (!is_quote && e->event_log_len + data->len > ATTESTER_EVENT_LOG_MAX)
        return too_long(err, "an event log", ATTESTER_EVENT_LOG_MAX);
    return is_quote ? append(&e->quote, &e->quote_len, data, err)
                    : append(&e->event_log, &e->event_log_len, data, err);
}

/* A worker that was killed at its deadline cannot say what it waited for. It waited for the kernel:
 * what the broker has to show, it waits for with a limit. */
static bool explain(struct error *err)
{
    /* Another address may lead to a broker that shows better. */
    if (strcmp(err->reason, BROKER_EVIDENCE_REASON) == 0)
        err->code = ERROR_UNAVAILABLE;
    if (err->code != ERROR_DEADLINE_EXCEEDED)
        return false;
    err->code = ERROR_UNAVAILABLE;
    error_wrap(err, "the kernel gave no quote in time");
    return error_reason(err, ATTESTER_REASON);
}

/* There is no session yet, so the question goes to the one broker that shall get the quote. */
static bool ask_broker(void *cookie, const struct relay *relay,
                       const uint8_t broker_key_sha256[static KEY_SHA256_LEN],
                       struct broker_evidence *out, struct error *err)
{
    const struct collecting *c = cookie;
    auto_arena struct arena arena = { .limit = BROKER_EVIDENCE_ANSWER_MAX };
    const Tdvol__Keybroker__V1__GetEvidenceRequest request =
        broker_evidence_request(relay, broker_key_sha256);
    const struct client_question question = { &tdvol__keybroker__v1__key_broker__descriptor,
                                              "GetEvidence", &request.base, BROKER_EVIDENCE_MS };
    struct client_reply reply = { .message = NULL };

    return c->route->ask(c->route->cookie, OPERATION, &question, &arena, &reply, err) &&
           broker_evidence_take((const void *)reply.message, out, err);
}

bool workers_collect_evidence(const struct workers *blocks, const struct broker_route *route,
                              const struct binding *binding, uint64_t deadline_ms,
                              struct evidence *out,
                              uint8_t sealing_public_key[static HPKE_PUBLIC_LEN], struct error *err)
{
    static const struct block_hooks hooks = { .data = take_data, .evidence = ask_broker };
    auto_arena struct arena arena = { .limit = ARENA_MAX };
    CLEANUP(collecting_end) struct collecting collecting = { .route = route };
    struct block_request *request = block_request_new(&arena, BLOCK_ATTEST, "");
    struct block_result *result = arena_alloc(&arena, sizeof(*result));
    const struct block_run run = {
        .operation = OPERATION, .request = request, .hooks = &hooks, .hook_cookie = &collecting
    };

    if (!request || !result)
        return arena_exhausted(err);
    request->deadline_ms = deadline_ms;
    memcpy(request->attest.nonce, binding->nonce, BINDING_LEN);
    memcpy(request->attest.client_key_sha256, binding->client_key_sha256, BINDING_LEN);
    memcpy(request->attest.broker_key_sha256, binding->broker_key_sha256, BINDING_LEN);
    if (!blocks->run(blocks->cookie, &run, result, err))
        return explain(err);
    if (!collecting.evidence.quote) /* the worker has checked what it sends */
        return error_set(err, ERROR_INTERNAL, "the worker sent no quote");
    memcpy(sealing_public_key, result->sealing_public_key, HPKE_PUBLIC_LEN);
    *out = collecting.evidence;
    collecting.evidence = (struct evidence){ .quote = NULL };
    return true;
}
