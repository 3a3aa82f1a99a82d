/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/broker_client.h"

#include "base/clock.h"
#include "csi/fault.h"
#include "proto/client.h"

#include <stdlib.h>
#include <string.h>

#include "keybroker.pb-c.h"

/* Below the 10 and 15 seconds that the sidecars give a controller call. */
#define CALL_TIMEOUT_MS 8000

struct broker_client {
    struct client *client;
    struct metrics *metrics;
    char address[];
};

bool broker_client_new(const struct broker_options *options, struct broker_client **out,
                       struct error *err)
{
    size_t len = strlen(options->address) + 1;
    auto_free struct broker_client *client = calloc(1, sizeof(*client) + len);
    const struct client_tls tls = {
        .ca_pem = options->ca_pem,
        .certificate_pem = options->certificate_pem,
        .private_key_pem = options->private_key_pem,
        .server_name = options->server_name,
    };

    if (!client)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the broker's client");
    memcpy(client->address, options->address, len);
    client->metrics = options->metrics;
    if (!client_new(options->address, &tls, &client->client, err))
        return error_wrap(err, "key broker %s", options->address);
    *out = TAKE_PTR(client);
    return true;
}

void broker_client_free(struct broker_client *client)
{
    if (!client)
        return;
    client_free(client->client);
    free(client);
}

/* Volume health, metrics and messages use the same words. */
static bool explain(const struct broker_client *client, const char *method, struct error *err)
{
    if (err->code == ERROR_UNAVAILABLE || err->code == ERROR_DEADLINE_EXCEEDED) {
        /* A retry is right in both cases, and DEADLINE_EXCEEDED would be taken for our own. */
        err->code = ERROR_UNAVAILABLE;
        error_reason(err, "BrokerUnreachable");
    } else if (err->code == ERROR_DENIED || err->code == ERROR_UNAUTHENTICATED) {
        error_reason(err, "KeyRefused");
    }
    return error_wrap(err, "key broker %s: %s", client->address, method);
}

static bool call(void *cookie, const char *operation, const char *method,
                 const ProtobufCMessage *request, struct arena *arena, ProtobufCMessage **response,
                 struct error *err)
{
    struct broker_client *client = cookie;
    uint64_t start_ms = clock_now_ms();

    fault_before(operation, method);
    bool done = client_call(client->client, &tdvol__keybroker__v1__key_broker__descriptor, method,
                            request, CALL_TIMEOUT_MS, arena, response, err);
    metrics_observe(client->metrics, METRICS_BROKER, method, done ? ERROR_NONE : err->code,
                    clock_now_ms() - start_ms);
    return done || explain(client, method, err);
}

struct broker broker_client_door(struct broker_client *client)
{
    return (struct broker){ .call = call, .cookie = client };
}
