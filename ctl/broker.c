/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/broker.h"

#include "base/file.h"
#include "ctl/command.h"
#include "ctl/message.h"

#include <stdlib.h>

#define PEM_BYTES_MAX ((size_t)256 * 1024)
#define ARENA_BYTES   ((size_t)64 * 1024 * 1024)
#define CALL_MS       20000

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

static bool connect_to(const struct broker_options *o, struct client **out, struct error *err)
{
    auto_free char *ca = NULL, *certificate = NULL;
    auto_secret struct secret key = SECRET_INIT;
    size_t len = 0;

    if (!file_read(o->ca, PEM_BYTES_MAX, &ca, &len, err) ||
        !file_read(o->certificate, PEM_BYTES_MAX, &certificate, &len, err) ||
        !file_read_private(o->key, PEM_BYTES_MAX, &key, err))
        return false;

    const struct client_tls tls = { .ca_pem = ca,
                                    .certificate_pem = certificate,
                                    .private_key_pem = &key,
                                    .server_name = o->server_name };

    return client_new(o->address, &tls, out, err);
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
    bool ok = option_parse(c->options, c->n_options, &options, argc, argv, &options.rest, &err) &&
              (options.rest.n == c->n_arguments ||
               error_set(&err, ERROR_INVALID_ARGUMENT, "this command takes %zu arguments, not %zu",
                         c->n_arguments, options.rest.n)) &&
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
