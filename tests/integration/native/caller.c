/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/file.h"
#include "base/option.h"
#include "proto/client.h"
#include "proto/resolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keybroker.pb-c.h"

/*
 * A client of a broker that asks for its status again and again, as a plugin does, and prints one
 * line for each call: when it ended by CLOCK_MONOTONIC, how long it took, both in milliseconds, its
 * code and its text. --names has the addresses of the name, "ipv4:127.0.0.1:7443", one a line; it
 * is read at every look-up, which fails while the file is not there.
 */
struct caller_options {
    const char *address, *ca, *certificate, *key, *names;
    uint64_t timeout_ms, every_ms;
};

static const struct option table[] = {
    OPTION_TEXT_ROW("broker", struct caller_options, address, "HOST:PORT", "The broker.",
                    .required = true),
    OPTION_TEXT_ROW("broker-ca", struct caller_options, ca, "FILE", "Its CA.", .required = true),
    OPTION_TEXT_ROW("client-cert", struct caller_options, certificate, "FILE", "Ours.",
                    .required = true),
    OPTION_TEXT_ROW("client-key", struct caller_options, key, "FILE", "Ours.", .required = true),
    OPTION_TEXT_ROW("names", struct caller_options, names, "FILE",
                    "Addresses of HOST; default: the system looks HOST up."),
    OPTION_U64_ROW("timeout-ms", struct caller_options, timeout_ms, 1, 600000, "MS", "Of a call."),
    OPTION_U64_ROW("every-ms", struct caller_options, every_ms, 1, 600000, "MS",
                   "The pause between two calls."),
};

static bool read_names(void *cookie, const char *host, const char *port UNUSED,
                       struct address_list *out, struct error *err)
{
    auto_free char *text = NULL;
    char *rest = NULL;
    size_t len = 0;

    if (!file_read(cookie, 4096, &text, &len, err))
        return error_set(err, ERROR_UNAVAILABLE, "look up %s: try again", host);
    out->n = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (out->n < RESOLVE_ADDRESSES_MAX)
            (void)snprintf(out->items[out->n++], RESOLVE_ADDRESS_LEN, "%s", line);
    return true;
}

static bool open_client(const struct caller_options *o, const struct resolver *resolver,
                        struct client **out, struct error *err)
{
    auto_free char *ca = NULL, *certificate = NULL;
    auto_secret struct secret key = SECRET_INIT;
    size_t len = 0;

    if (!file_read(o->ca, 65536, &ca, &len, err) ||
        !file_read(o->certificate, 65536, &certificate, &len, err) ||
        !file_read_private(o->key, 65536, &key, err))
        return false;
    const struct client_tls tls = { ca, certificate, &key, NULL };
    return client_new_with(o->address, &tls, resolver, out, err);
}

static void ask(struct client *client, uint64_t timeout_ms)
{
    auto_arena struct arena arena = { .limit = 1u << 20 };
    Tdvol__Keybroker__V1__GetStatusRequest request = TDVOL__KEYBROKER__V1__GET_STATUS_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    struct error err = ERROR_INIT;
    uint64_t began_ms = clock_now_ms();

    (void)!client_call(client, &tdvol__keybroker__v1__key_broker__descriptor, "GetStatus",
                       &request.base, timeout_ms, &arena, &response, &err);
    uint64_t now_ms = clock_now_ms();
    printf("%llu %llu %s %s\n", (unsigned long long)now_ms, (unsigned long long)(now_ms - began_ms),
           err.code == ERROR_NONE ? "OK" : error_code_name(err.code), err.text);
}

int main(int argc, char **argv)
{
    struct caller_options options = { .timeout_ms = 8000, .every_ms = 50 };
    struct resolver resolver = resolver_system;
    struct client *client = NULL;
    struct error err = ERROR_INIT;

    if (!option_parse(table, ARRAY_LEN(table), &options, argc, argv, NULL, &err)) {
        fprintf(stderr, "caller: %s\n", err.text);
        return 2;
    }
    if (options.names)
        resolver = (struct resolver){ read_names, (void *)(uintptr_t)options.names };
    if (!open_client(&options, &resolver, &client, &err)) {
        fprintf(stderr, "caller: %s\n", err.text);
        return 1;
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    for (;;) {
        ask(client, options.timeout_ms);
        (void)usleep((useconds_t)options.every_ms * 1000);
    }
}
