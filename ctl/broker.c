/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/broker.h"

#include "base/file.h"
#include "ctl/command.h"
#include "ctl/message.h"

#include <stdlib.h>
#include <string.h>

#define PEM_BYTES_MAX ((size_t)256 * 1024)
#define ARENA_BYTES   ((size_t)64 * 1024 * 1024)
#define CALL_MS       20000
#define STATUS_MS     5000 /* while there are others to ask */

static void client_close(struct client **client)
{
    if (*client)
        client_free(*client);
}
#define auto_client CLEANUP(client_close)

/* Takes options that are not on the command line from the environment. */
static bool fill_in(struct broker_options *o, struct error *err)
{
    const struct {
        const char **field, *flag, *variable;
    } sources[] = {
        { &o->address, "--broker", "TDVOL_BROKER" },
        { &o->ca, "--broker-ca", "TDVOL_BROKER_CA" },
        { &o->certificate, "--client-cert", "TDVOL_CLIENT_CERT" },
        { &o->key, "--client-key", "TDVOL_CLIENT_KEY" },
    };

    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        if (!*sources[i].field)
            *sources[i].field = getenv(sources[i].variable); /* NOLINT(concurrency-mt-unsafe) */
        if (!*sources[i].field)
            return error_set(err, ERROR_INVALID_ARGUMENT, "%s is missing: give it, or set $%s",
                             sources[i].flag, sources[i].variable);
    }
    return true;
}

/* FAILED_PRECONDITION: it is sealed, and only says who it is. */
static bool check_open(struct client *client, struct error *err)
{
    static const Tdvol__Keybroker__V1__GetStatusRequest request =
        TDVOL__KEYBROKER__V1__GET_STATUS_REQUEST__INIT;
    auto_arena struct arena arena = { .limit = ARENA_BYTES };
    ProtobufCMessage *message = NULL;

    if (!client_call(client, &tdvol__keybroker__v1__key_broker__descriptor, "GetStatus",
                     &request.base, STATUS_MS, &arena, &message, err))
        return false;
    const Tdvol__Keybroker__V1__GetStatusResponse *r = (const void *)message;

    return r->state == TDVOL__KEYBROKER__V1__BROKER_STATE__BROKER_STATE_OPEN ||
           error_set(err, ERROR_FAILED_PRECONDITION, "the broker is sealed");
}

static bool is_elsewhere_better(const struct error *err)
{
    return err->code == ERROR_UNAVAILABLE || err->code == ERROR_DEADLINE_EXCEEDED ||
           err->code == ERROR_FAILED_PRECONDITION;
}

/* Of several brokers, the first that answers and is open; if none is, the last one. A command does not
 * change the broker on its way: it may have printed something. */
static bool choose(char *addresses, const struct client_tls *tls, struct client **out,
                   struct error *err)
{
    char *rest = NULL, *address = strtok_r(addresses, ",", &rest);

    if (!address)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--broker names no address");
    while (address) {
        auto_client struct client *client = NULL;
        char *next = strtok_r(NULL, ",", &rest);

        if (!client_new(address, tls, &client, err))
            return false;
        if (!next || check_open(client, err) || !is_elsewhere_better(err)) {
            *err = (struct error)ERROR_INIT;
            *out = TAKE_PTR(client);
            return true;
        }
        fprintf(stderr, "tdvolctl: %s: %s: the next broker is asked\n", address, err->text);
        address = next;
    }
    return false;
}

static bool connect_to(const struct broker_options *o, struct client **out, struct error *err)
{
    auto_free char *addresses = strdup(o->address);
    auto_free char *ca = NULL, *certificate = NULL;
    auto_secret struct secret key = SECRET_INIT;
    size_t len = 0;

    if (!addresses)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    if (!file_read(o->ca, PEM_BYTES_MAX, &ca, &len, err) ||
        !file_read(o->certificate, PEM_BYTES_MAX, &certificate, &len, err) ||
        !file_read_private(o->key, PEM_BYTES_MAX, &key, err))
        return false;

    const struct client_tls tls = { .ca_pem = ca,
                                    .certificate_pem = certificate,
                                    .private_key_pem = &key,
                                    .server_name = o->server_name };

    return choose(addresses, &tls, out, err);
}

bool broker_connect(struct broker_options *options, struct client **client, struct error *err)
{
    return fill_in(options, err) && connect_to(options, client, err);
}

static void print_usage(const struct broker_command *c)
{
    printf("Usage: tdvolctl %s %s\n\nOptions:\n", c->name, c->usage);
    option_print_help(c->options, c->n_options);
}

static bool run(const struct broker_command *c, const struct broker_options *options,
                struct error *err)
{
    auto_client struct client *client = NULL;
    auto_arena struct arena arena = { .limit = ARENA_BYTES };

    return connect_to(options, &client, err) && c->run(options, client, &arena, err);
}

int broker_command_run(const struct broker_command *c, int argc, char *const *argv)
{
    struct broker_options options = { .json = false };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_usage(c);
        return COMMAND_DONE;
    }
    bool ok = option_parse(c->options, c->n_options, &options, argc, argv, &options.rest, &err);
    size_t wanted = options.all ? 0 : c->n_arguments;
    ok = ok &&
         (options.rest.n == wanted ||
          error_set(&err, ERROR_INVALID_ARGUMENT, "this command takes %zu arguments, not %zu",
                    wanted, options.rest.n)) &&
         fill_in(&options, &err);

    if (!ok) {
        fprintf(stderr, "tdvolctl %s: %s (see --help)\n", c->name, err.text);
        return COMMAND_USAGE;
    }
    if (run(c, &options, &err))
        return COMMAND_DONE;
    fprintf(stderr, "tdvolctl %s: %s: %s\n", c->name, error_code_name(err.code), err.text);
    return COMMAND_FAILED;
}

bool broker_call(struct client *client, const char *method, const ProtobufCMessage *request,
                 struct arena *arena, ProtobufCMessage **response, struct error *err)
{
    return client_call(client, &tdvol__keybroker__v1__key_broker__descriptor, method, request,
                       CALL_MS, arena, response, err);
}

bool broker_print_json(const ProtobufCMessage *message, struct error *err)
{
    json_t *json = message_to_json(message);
    bool ok = json && json_dumpf(json, stdout, JSON_INDENT(2)) == 0 && puts("") >= 0;

    json_decref(json);
    return ok || error_set(err, ERROR_INTERNAL, "the answer cannot be printed");
}
