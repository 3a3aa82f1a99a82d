/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/channel.h"

#include "proto/exchange.h"
#include "proto/grpc_runtime.h"

#include <ctype.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <string.h>

enum {
    URI_BYTES = 512,
    METADATA_BYTES = 64 * 1024, /* other plugins send long status messages */
    ATTEMPT_MS = 10000,         /* link.c gives up earlier */
    EXPLAIN_MS = 1000,
};

bool channel_credentials_new(const struct client_tls *tls, grpc_channel_credentials **out,
                             struct error *err)
{
    auto_secret struct secret key = SECRET_INIT; /* with the NUL that gRPC wants */

    if (!tls) {
        *out = grpc_insecure_credentials_create();
        return true;
    }
    if (!secret_alloc(&key, tls->private_key_pem->len + 1, err))
        return false;
    memcpy(key.bytes, tls->private_key_pem->bytes, tls->private_key_pem->len);

    grpc_ssl_pem_key_cert_pair pair = { (const char *)key.bytes, tls->certificate_pem };
    grpc_channel_credentials *credentials =
        grpc_ssl_credentials_create(tls->ca_pem, &pair, NULL, NULL);
    if (!credentials)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the CA, the certificate or the key is not usable");
    *out = credentials;
    return true;
}

/* Characters with a meaning in URIs are escaped in the path. */
static bool write_uri(const char *uri, char out[static URI_BYTES])
{
    size_t len = 0;

    for (const char *c = uri; *c; c++) {
        bool is_plain = isalnum((unsigned char)*c) || strchr("/:.-_~[]", *c);
        size_t room = URI_BYTES - len;
        int n = snprintf(out + len, room, is_plain ? "%c" : "%%%02X", (unsigned char)*c);

        if (n < 0 || (size_t)n >= room)
            return false;
        len += (size_t)n;
    }
    return true;
}

grpc_channel *channel_connect(const struct channel_options *options)
{
    char uri[URI_BYTES] = "";
    /* The name check takes the override before the authority. */
    const char *name = options->server_name ? options->server_name : options->authority;
    grpc_arg args[] = {
        grpc_runtime_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, EXCHANGE_ANSWER_BYTES),
        grpc_runtime_int(GRPC_ARG_MAX_METADATA_SIZE, METADATA_BYTES),
        grpc_runtime_int(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, ATTEMPT_MS),
        grpc_runtime_int(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, ATTEMPT_MS),
        grpc_runtime_int(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, ATTEMPT_MS),
        grpc_runtime_int(GRPC_ARG_KEEPALIVE_TIME_MS, 30000),
        grpc_runtime_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000),
        /* the environment must not choose our peers */
        grpc_runtime_int(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
        /* each channel has a connection of its own */
        grpc_runtime_int(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
        grpc_runtime_int(GRPC_ARG_ENABLE_CHANNELZ, 0),
        grpc_runtime_int(GRPC_ARG_MAX_CHANNEL_TRACE_EVENT_MEMORY_PER_NODE, 0),
        grpc_runtime_text(options->server_name ? GRPC_SSL_TARGET_NAME_OVERRIDE_ARG
                                               : GRPC_ARG_DEFAULT_AUTHORITY,
                          name),
    };
    const grpc_channel_args all = { name ? ARRAY_LEN(args) : ARRAY_LEN(args) - 1, args };

    if (!write_uri(options->uri, uri))
        return NULL;
    grpc_channel *channel = grpc_channel_create(uri, options->credentials, &all);

    if (!channel)
        return NULL;
    if (!grpc_channel_support_connectivity_watcher(channel)) { /* it can only fail */
        grpc_channel_destroy(channel);
        return NULL;
    }
    (void)grpc_channel_check_connectivity_state(channel, 1);
    return channel;
}

void channel_explain(grpc_channel *channel, struct error *err)
{
    auto_exchange struct exchange x = exchange_begin(NULL);
    gpr_timespec deadline =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(EXPLAIN_MS, GPR_TIMESPAN));

    exchange_call(&x, channel, "/", deadline);
    if (exchange_run(&x) && x.status != GRPC_STATUS_OK)
        exchange_explain(&x, "connect", err);
    else
        error_set(err, ERROR_UNAVAILABLE, "the connection failed");
    err->code = ERROR_UNAVAILABLE;
}
