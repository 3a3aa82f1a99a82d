/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/broker_client.h"

#include "base/clock.h"
#include "base/fault.h"

#include <stdlib.h>
#include <string.h>

enum { STUCK_MS = 60000 }; /* an attempt to connect ends after a few seconds */

struct broker_client {
    struct client *client;
    struct metrics *metrics;
    char address[];
};

bool broker_client_new(const struct broker_client_options *options, struct broker_client **out,
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
    if (!client_new_with(options->address, &tls, options->resolver, &client->client, err))
        return error_wrap(err, "key broker %s", options->address);
    *out = TAKE_PTR(client);
    return true;
}

bool broker_client_renew(struct broker_client *client, const struct client_tls *tls,
                         struct error *err)
{
    return client_set_tls(client->client, tls, err) ||
           error_wrap(err, "key broker %s", client->address);
}

bool broker_client_check(struct broker_client *client, struct error *err)
{
    return client_check(client->client, STUCK_MS, err);
}

void broker_client_free(struct broker_client *client)
{
    if (!client)
        return;
    client_free(client->client);
    free(client);
}

static bool ask(void *cookie, const char *operation, const struct client_question *question,
                struct arena *arena, struct client_reply *out, struct error *err)
{
    struct broker_client *client = cookie;
    uint64_t start_ms = clock_now_ms();

    FAULT_BEFORE(operation, question->method);
    bool done = client_ask(client->client, question, arena, out, err);
    metrics_observe(client->metrics, METRICS_BROKER, question->method,
                    done ? ERROR_NONE : err->code, clock_now_ms() - start_ms);
    return done;
}

struct broker_route broker_client_route(struct broker_client *client)
{
    return (struct broker_route){ .address = client->address, .ask = ask, .cookie = client };
}
