/* SPDX-License-Identifier: Apache-2.0 */
#include "base/http.h"

#include <microhttpd.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS_MAX 16u
#define IDLE_SECONDS    10u
#define STACK_BYTES     ((size_t)128 * 1024)
#define REQUEST_BYTES   ((size_t)8192)
#define TYPE_TEXT       "text/plain; charset=utf-8"

struct http_server {
    struct MHD_Daemon *daemon;
    const struct http_page *pages;
    size_t n;
    void *cookie;
};

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, const char *type,
                             size_t len, const char *text)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(len, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);

    if (!response)
        return MHD_NO;
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    enum MHD_Result queued = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return queued;
}

static enum MHD_Result reply_text(struct MHD_Connection *connection, unsigned status,
                                  const char *text)
{
    return reply(connection, status, TYPE_TEXT, strlen(text), text);
}

static enum MHD_Result reply_page(const struct http_server *server, const struct http_page *page,
                                  struct MHD_Connection *connection)
{
    auto_free char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    if (!out)
        return MHD_NO;
    unsigned status = page->print(server->cookie, out);
    if (fclose(out) != 0)
        return MHD_NO;
    return reply(connection, status, page->type ? page->type : TYPE_TEXT, len, text);
}

static enum MHD_Result handle(void *cookie, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version UNUSED,
                              const char *body UNUSED, size_t *body_len UNUSED, void **state UNUSED)
{
    const struct http_server *server = cookie;

    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0)
        return reply_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET only\n");
    for (size_t i = 0; i < server->n; i++)
        if (strcmp(url, server->pages[i].path) == 0)
            return reply_page(server, &server->pages[i], connection);
    return reply_text(connection, MHD_HTTP_NOT_FOUND, "not found\n");
}

static bool resolve(const char *address, struct addrinfo **out, struct error *err)
{
    const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                    .ai_socktype = SOCK_STREAM };
    auto_free char *host = strdup(address);
    char *colon = host ? strrchr(host, ':') : NULL;

    if (!host)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the HTTP server");
    if (!colon || colon == host)
        return error_set(err, ERROR_INVALID_ARGUMENT, "address \"%s\" is not HOST:PORT", address);
    *colon = '\0';
    char *name = host;
    if (host[0] == '[' && colon[-1] == ']') {
        colon[-1] = '\0';
        name++;
    }
    int rc = getaddrinfo(name, colon + 1, &hints, out);
    return rc == 0 || error_set(err, ERROR_INVALID_ARGUMENT, "%s: %s", address, gai_strerror(rc));
}

bool http_server_start(const char *address, const struct http_page *pages, size_t n, void *cookie,
                       struct http_server **out, struct error *err)
{
    struct addrinfo *where = NULL;
    auto_free struct http_server *server = calloc(1, sizeof(*server));

    if (!server)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the HTTP server");
    if (!resolve(address, &where, err))
        return false;
    server->pages = pages;
    server->n = n;
    server->cookie = cookie;
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL;
    if (where->ai_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    server->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, handle, server, MHD_OPTION_SOCK_ADDR, where->ai_addr,
        MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, REQUEST_BYTES, MHD_OPTION_THREAD_STACK_SIZE,
        STACK_BYTES, MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
    freeaddrinfo(where);
    if (!server->daemon)
        return error_set(err, ERROR_INTERNAL,
                         "cannot listen on %s: the port is taken, or it is no address of this "
                         "machine",
                         address);
    *out = TAKE_PTR(server);
    return true;
}

void http_server_stop(struct http_server *server)
{
    if (!server)
        return;
    MHD_stop_daemon(server->daemon);
    free(server);
}
