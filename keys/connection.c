/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/connection.h"

#include "base/file.h"
#include "keys/broker_set.h"
#include "keys/evidence_request.h"
#include "keys/renewal.h"
#include "proto/resolve.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ADDRESSES_MAX = OPTION_LIST_MAX,
    COMMON_NAME_MAX = 64,
};

struct connection {
    const struct workers *blocks;
    const char *server_name;
    size_t waiting_max;
    bool is_attested;
    const struct resolver *resolver;
    struct credential_files files;
    struct credentials credentials; /* until gRPC has its own copies */
    uint64_t renewal_ms;
    struct renewal *renewal;
    struct metrics *metrics;
    struct broker_transport inner; /* without what renewal_explain() adds */
    struct attestation attestation;
    struct identity identity;

    char *texts[OPTION_LIST_MAX]; /* copies of the --broker values; addresses point into them */
    const char *addresses[ADDRESSES_MAX];
    size_t n;
    char *hosts[ADDRESSES_MAX];
    struct option_list server_names;
    struct broker_client *clients[ADDRESSES_MAX];
    struct broker_route routes[ADDRESSES_MAX];
    struct sessions *sessions; /* NULL: our certificate authenticates us */
    struct broker_set *set;
};

/* --- options --- */

static bool require_neither(const char *value, const char *name, const char *with,
                            struct error *err)
{
    return !value || error_set(err, ERROR_INVALID_ARGUMENT, "--%s makes no sense %s", name, with);
}

bool connection_check(const struct connection_options *o, struct error *err)
{
    static const char with[] = "with --client-cert: it is for attested nodes only";

    if (o->brokers->n == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--broker is missing");
    if (!o->client_cert != !o->client_key)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "give --client-cert and --client-key together, or neither");
    if (!o->client_cert)
        return true;
    return require_neither(o->owner_token, "owner-token", with, err) &&
           require_neither(o->owner_certificate, "owner-certificate", with, err) &&
           require_neither(o->owner_request, "owner-request", with, err);
}

/* Addresses appear in metrics and messages, so they hold no quotes and no control characters. */
static bool is_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    uint64_t port = 0;

    for (const char *c = text; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr(".:-_[]", *c))
            return false;
    return colon && colon != text && parse_u64(colon + 1, &port) && port > 0 && port < 65536;
}

static bool add_addresses(struct connection *c, char *text, struct error *err)
{
    char *rest = NULL;

    for (char *part = strtok_r(text, ",", &rest); part; part = strtok_r(NULL, ",", &rest)) {
        if (!is_address(part))
            return error_set(err, ERROR_INVALID_ARGUMENT, "--broker: \"%s\" is not HOST:PORT",
                             part);
        for (size_t i = 0; i < c->n; i++)
            if (strcmp(c->addresses[i], part) == 0)
                return error_set(err, ERROR_INVALID_ARGUMENT, "--broker: %s is given twice", part);
        if (c->n == ADDRESSES_MAX)
            return error_set(err, ERROR_INVALID_ARGUMENT, "--broker: more than %d addresses",
                             ADDRESSES_MAX);
        c->addresses[c->n++] = part;
    }
    return true;
}

static bool read_addresses(struct connection *c, const struct option_list *list, struct error *err)
{
    for (size_t i = 0; i < list->n; i++) {
        c->texts[i] = strdup(list->items[i]);
        if (!c->texts[i])
            return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for --broker");
        if (!add_addresses(c, c->texts[i], err))
            return false;
    }
    return c->n > 0 || error_set(err, ERROR_INVALID_ARGUMENT, "--broker names no address");
}

/* "host:port" or "[address]:port", which add_addresses() has checked. */
static char *host_of(const char *address)
{
    bool has_brackets = address[0] == '[';
    const char *start = address + has_brackets, *end = strrchr(address, ':') - has_brackets;

    return end > start ? strndup(start, (size_t)(end - start)) : strdup("");
}

static bool find_server_names(struct connection *c, struct error *err)
{
    if (c->server_name)
        c->server_names.items[c->server_names.n++] = c->server_name;
    for (size_t i = 0; !c->server_name && i < c->n; i++) {
        c->hosts[i] = host_of(c->addresses[i]);
        if (!c->hosts[i])
            return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for --broker");
        c->server_names.items[c->server_names.n++] = c->hosts[i];
    }
    return true;
}

const struct option_list *connection_server_names(const struct connection *connection)
{
    return &connection->server_names;
}

/* --- channels --- */

static struct client_tls client_tls(const struct connection *c, const struct credentials *from)
{
    return (struct client_tls){
        .ca_pem = from->ca,
        .certificate_pem = c->is_attested ? c->identity.certificate_pem : from->certificate,
        .private_key_pem = c->is_attested ? &c->identity.private_key_pem : &from->key,
        .server_name = c->server_name,
    };
}

static bool make_routes(struct connection *c, struct metrics *metrics, struct error *err)
{
    const struct client_tls tls = client_tls(c, &c->credentials);

    for (size_t i = 0; i < c->n; i++) {
        const struct broker_client_options options = {
            .address = c->addresses[i],
            .server_name = tls.server_name,
            .ca_pem = tls.ca_pem,
            .certificate_pem = tls.certificate_pem,
            .private_key_pem = tls.private_key_pem,
            .resolver = c->resolver,
            .metrics = metrics,
        };

        if (!broker_client_new(&options, &c->clients[i], err))
            return false;
        c->routes[i] = broker_client_route(c->clients[i]);
    }
    return true;
}

static bool use_credentials(void *cookie, const struct credentials *credentials, struct error *err)
{
    struct connection *c = cookie;
    const struct client_tls tls = client_tls(c, credentials);

    for (size_t i = 0; i < c->n; i++)
        if (!broker_client_renew(c->clients[i], &tls, err))
            return false;
    return true;
}

static bool start_renewal(struct connection *c, struct metrics *metrics, struct error *err)
{
    const struct renewal_options options = {
        .files = c->files,
        .interval_ms = c->renewal_ms,
        .metrics = metrics,
        .use = use_credentials,
        .cookie = c,
    };

    return renewal_start(&options, &c->credentials, &c->renewal, err);
}

/* --- attestation --- */

static bool collect(void *cookie, const struct broker_route *route, const struct binding *binding,
                    uint64_t deadline_ms, struct evidence *out,
                    uint8_t sealing_public_key[static HPKE_PUBLIC_LEN], struct error *err)
{
    const struct connection *c = cookie;

    return workers_collect_evidence(c->blocks, route, binding, deadline_ms, out, sealing_public_key,
                                    err);
}

static bool make_identity(struct connection *c, const struct connection_options *o,
                          struct error *err)
{
    char name[COMMON_NAME_MAX + 1];

    (void)snprintf(name, sizeof(name), "%.*s", COMMON_NAME_MAX, o->common_name);
    if (!identity_new(name, &c->identity, err))
        return error_wrap(err, "make a key for attestation");
    return !o->owner_request ||
           file_write(o->owner_request, 0644, c->identity.request_pem,
                      strlen(c->identity.request_pem), err) ||
           error_wrap(err, "--owner-request");
}

static bool make_sessions(struct connection *c, struct metrics *metrics, struct error *err)
{
    const struct session_options options = {
        .attestation = &c->attestation,
        .routes = c->routes,
        .n = c->n,
        .pace = &session_pace_default,
        .waiting_max = c->waiting_max,
        .metrics = metrics,
    };

    return sessions_new(&options, &c->sessions, err);
}

/* --- life --- */

static bool fill(struct connection *c, const struct connection_options *o, struct error *err)
{
    c->blocks = o->blocks;
    c->server_name = o->server_name;
    c->waiting_max = o->waiting_max;
    c->is_attested = !o->client_cert;
    c->resolver = o->resolver ? o->resolver : &resolver_system;
    c->files = (struct credential_files){ o->ca, o->client_cert, o->client_key, o->uid, o->gid };
    c->renewal_ms = o->renewal_ms ? o->renewal_ms : RENEWAL_INTERVAL_MS;
    c->attestation.identity = &c->identity;
    c->attestation.source = (struct evidence_source){ .collect = collect, .cookie = c };
    c->attestation.owner_token = o->owner_token;
    c->attestation.owner_certificate = o->owner_certificate;
    if (!broker_pins_parse(o->pins, &c->attestation.pins, err))
        return error_wrap(err, "--broker-key-sha256");
    return read_addresses(c, o->brokers, err) && find_server_names(c, err) &&
           credentials_read(&c->files, &c->credentials, err) &&
           (!c->is_attested || make_identity(c, o, err));
}

bool connection_new(const struct connection_options *options, struct connection **out,
                    struct error *err)
{
    struct connection *c = calloc(1, sizeof(*c));

    if (!c)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the broker's connection");
    if (!connection_check(options, err) || !fill(c, options, err)) {
        connection_free(c);
        return false;
    }
    *out = c;
    return true;
}

bool connection_open(struct connection *c, struct metrics *metrics, struct error *err)
{
    bool is_made = make_routes(c, metrics, err);

    secret_wipe(&c->credentials.key);
    if (!is_made || (c->is_attested && !make_sessions(c, metrics, err)))
        return false;
    c->metrics = metrics;
    const struct broker_set_options options = {
        .routes = c->routes, .n = c->n, .sessions = c->sessions, .pins = c->attestation.pins
    };
    if (!broker_set_new(&options, &c->set, err))
        return false;
    c->inner = broker_set_transport(c->set);
    return true;
}

static bool call(void *cookie, const char *operation, const char *method,
                 const ProtobufCMessage *request, struct arena *arena, ProtobufCMessage **response,
                 struct error *err)
{
    struct connection *c = cookie;

    if (c->inner.call(c->inner.cookie, operation, method, request, arena, response, err))
        return true;
    if (c->renewal)
        renewal_explain(c->renewal, err);
    return false;
}

struct broker_transport connection_transport(struct connection *connection)
{
    return (struct broker_transport){ .call = call, .cookie = connection };
}

bool connection_check_alive(const struct connection *c, struct error *err)
{
    for (size_t i = 0; i < c->n; i++)
        if (!broker_client_check(c->clients[i], err))
            return error_wrap(err, "key broker %s", c->addresses[i]);
    return true;
}

bool connection_start(struct connection *c, struct error *err)
{
    return start_renewal(c, c->metrics, err) && (!c->sessions || sessions_start(c->sessions, err));
}

void connection_end(struct connection *c)
{
    if (c && c->sessions)
        sessions_end(c->sessions);
}

void connection_stop(struct connection *c)
{
    if (c && c->sessions)
        sessions_stop(c->sessions);
}

void connection_free(struct connection *c)
{
    if (!c)
        return;
    renewal_stop(c->renewal);
    broker_set_free(c->set);
    sessions_free(c->sessions);
    for (size_t i = 0; i < ARRAY_LEN(c->clients); i++)
        broker_client_free(c->clients[i]);
    for (size_t i = 0; i < ARRAY_LEN(c->texts); i++)
        free_at(&c->texts[i]);
    for (size_t i = 0; i < ARRAY_LEN(c->hosts); i++)
        free_at(&c->hosts[i]);
    credentials_wipe(&c->credentials);
    identity_wipe(&c->identity);
    free(c);
}
