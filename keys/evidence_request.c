/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/evidence_request.h"

#include <stdlib.h>
#include <string.h>

#define OPERATION  "Attest"
#define ARENA_MAX  (1u << 20)
#define GROW_BYTES (64u * 1024)

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

static bool take_data(void *cookie, const struct block_data *data, struct error *err)
{
    struct evidence *e = cookie;
    bool is_quote = data->part == BLOCK_DATA_QUOTE;

    if (is_quote && e->quote_len + data->len > QUOTE_LEN_MAX)
        return too_long(err, "a quote", QUOTE_LEN_MAX);
    if (!is_quote && e->event_log_len + data->len > ATTESTER_EVENT_LOG_MAX)
        return too_long(err, "an event log", ATTESTER_EVENT_LOG_MAX);
    return is_quote ? append(&e->quote, &e->quote_len, data, err)
                    : append(&e->event_log, &e->event_log_len, data, err);
}

/* A worker that was killed at its deadline cannot say what it waited for. It waited for the kernel:
 * a worker never talks to the broker. */
static bool explain(struct error *err)
{
    if (err->code != ERROR_DEADLINE_EXCEEDED)
        return false;
    err->code = ERROR_UNAVAILABLE;
    error_wrap(err, "the kernel gave no quote in time");
    return error_reason(err, ATTESTER_REASON);
}

bool workers_collect_evidence(const struct workers *blocks, const struct binding *binding,
                              uint64_t deadline_ms, struct evidence *out,
                              uint8_t sealing_public_key[static HPKE_PUBLIC_LEN], struct error *err)
{
    static const struct block_hooks hooks = { .data = take_data };
    auto_arena struct arena arena = { .limit = ARENA_MAX };
    auto_evidence struct evidence evidence = { .quote = NULL };
    struct block_request *request = block_request_new(&arena, BLOCK_ATTEST, "");
    struct block_result *result = arena_alloc(&arena, sizeof(*result));
    const struct block_run run = {
        .operation = OPERATION, .request = request, .hooks = &hooks, .hook_cookie = &evidence
    };

    if (!request || !result)
        return arena_exhausted(err);
    request->deadline_ms = deadline_ms;
    memcpy(request->attest.nonce, binding->nonce, BINDING_LEN);
    memcpy(request->attest.client_key_sha256, binding->client_key_sha256, BINDING_LEN);
    memcpy(request->attest.broker_key_sha256, binding->broker_key_sha256, BINDING_LEN);
    if (!blocks->run(blocks->cookie, &run, result, err))
        return explain(err);
    if (!evidence.quote) /* the worker has checked what it sends */
        return error_set(err, ERROR_INTERNAL, "the worker sent no quote");
    memcpy(sealing_public_key, result->sealing_public_key, HPKE_PUBLIC_LEN);
    *out = evidence;
    evidence = (struct evidence){ .quote = NULL };
    return true;
}
