/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/http.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/option.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECTIONS_MAX 16u
#define IDLE_SECONDS    10u
#define STACK_BYTES     ((size_t)128 * 1024)
/* Probes come often; the broker is asked no more than so. */
#define STATUS_VALID_MS 5000u

struct http {
    struct MHD_Daemon *daemon;
    const struct plugin *plugin;
    struct metrics *metrics;
    pthread_mutex_t lock; /* for the two below */
    uint64_t asked_ms;
    struct error status;
};

/* The second number of "size resident shared ...", in pages. */
static bool read_resident_pages(uint64_t *out)
{
    struct error ignored = ERROR_INIT;
    auto_free char *text = NULL;
    size_t len = 0;

    if (!file_read("/proc/self/statm", 256, &text, &len, &ignored))
        return false;
    char *rest = NULL;
    const char *resident = strtok_r(text, " ", &rest) ? strtok_r(NULL, " ", &rest) : NULL;
    return resident && parse_u64(resident, out);
}

static void print_rss(FILE *out)
{
    uint64_t pages = 0;

    if (!read_resident_pages(&pages))
        return;
    fprintf(out,
            "# HELP process_resident_memory_bytes Memory of tdvol-csi.\n"
            "# TYPE process_resident_memory_bytes gauge\n"
            "process_resident_memory_bytes %" PRIu64 "\n",
            pages * (uint64_t)sysconf(_SC_PAGESIZE));
}

static void print_health(const struct plugin *plugin, FILE *out)
{
    struct health_report report = { .volume_id = "" };

    (void)fputs("# HELP tdvol_volume_health What is wrong with a volume; status 1 degraded, "
                "2 inaccessible, 3 data loss.\n# TYPE tdvol_volume_health gauge\n",
                out);
    while (health_next(plugin->health, report.volume_id, &report))
        for (size_t i = 0; i < report.n; i++)
            fprintf(out, "tdvol_volume_health{volume_id=\"%s\",reason=\"%s\"} %d\n",
                    report.volume_id, report.entries[i].reason, (int)report.entries[i].status);
}

static void print_errors(const struct plugin *plugin, FILE *out)
{
    struct health_report report = { .volume_id = "" };

    (void)fputs("# HELP tdvol_integrity_errors_total Reads that failed their authentication.\n"
                "# TYPE tdvol_integrity_errors_total counter\n",
                out);
    while (health_next(plugin->health, report.volume_id, &report))
        fprintf(out, "tdvol_integrity_errors_total{volume_id=\"%s\"} %" PRIu64 "\n",
                report.volume_id, report.integrity_errors);
}

static void print_initialisation(const struct plugin *plugin, FILE *out)
{
    struct health_report report = { .volume_id = "" };

    (void)fputs("# HELP tdvol_initialisation_ratio How much of a volume is initialised, 0 to 1.\n"
                "# TYPE tdvol_initialisation_ratio gauge\n",
                out);
    while (health_next(plugin->health, report.volume_id, &report))
        fprintf(out, "tdvol_initialisation_ratio{volume_id=\"%s\"} %.4f\n", report.volume_id,
                report.initialised);
}

void http_print_metrics(const struct plugin *plugin, struct metrics *metrics, FILE *out)
{
    metrics_print(metrics, out);
    print_health(plugin, out);
    print_errors(plugin, out);
    print_initialisation(plugin, out);
    print_rss(out);
}

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned code, const char *type,
                             size_t len, const char *text)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(len, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);

    if (!response)
        return MHD_NO;
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    enum MHD_Result queued = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return queued;
}

static enum MHD_Result reply_text(struct MHD_Connection *connection, unsigned code,
                                  const char *text)
{
    return reply(connection, code, "text/plain; charset=utf-8", strlen(text), text);
}

static enum MHD_Result reply_metrics(struct http *http, struct MHD_Connection *connection)
{
    auto_free char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    if (!out)
        return MHD_NO;
    http_print_metrics(http->plugin, http->metrics, out);
    if (fclose(out) != 0)
        return MHD_NO;
    return reply(connection, MHD_HTTP_OK, "text/plain; version=0.0.4", len, text);
}

static bool is_healthy(struct http *http, struct error *err)
{
    return plugin_is_usable(http->plugin, err);
}

/* Ready to stage new volumes: the broker can be reached as well. */
static bool is_ready(struct http *http, struct error *err)
{
    if (!is_healthy(http, err))
        return false;
    pthread_mutex_lock(&http->lock);
    uint64_t now_ms = clock_now_ms();

    if (http->asked_ms == 0 || now_ms - http->asked_ms > STATUS_VALID_MS) {
        http->status = (struct error)ERROR_INIT;
        if (keys_status(&http->plugin->keys, "readyz", &http->status))
            http->status.code = ERROR_NONE;
        http->asked_ms = now_ms;
    }
    *err = http->status;
    pthread_mutex_unlock(&http->lock);
    return err->code == ERROR_NONE;
}

static enum MHD_Result handle(void *cookie, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version UNUSED,
                              const char *body UNUSED, size_t *body_len UNUSED, void **state UNUSED)
{
    static const struct page {
        const char *url;
        bool (*check)(struct http *http, struct error *err);
    } checks[] = { { "/healthz", is_healthy }, { "/readyz", is_ready } };
    struct http *http = cookie;
    struct error err = ERROR_INIT;

    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0)
        return reply_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET only\n");
    if (strcmp(url, "/metrics") == 0)
        return reply_metrics(http, connection);
    for (size_t i = 0; i < ARRAY_LEN(checks); i++)
        if (strcmp(url, checks[i].url) == 0)
            return checks[i].check(http, &err)
                       ? reply_text(connection, MHD_HTTP_OK, "ok\n")
                       : reply_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE, err.text);
    return reply_text(connection, MHD_HTTP_NOT_FOUND, "not found\n");
}

/* "127.0.0.1:9808", "[::1]:9808" */
static bool resolve(const char *address, struct addrinfo **out, struct error *err)
{
    const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                    .ai_socktype = SOCK_STREAM };
    auto_free char *host = strdup(address);
    char *colon = host ? strrchr(host, ':') : NULL;

    if (!host)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for --http");
    if (!colon || colon == host)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--http: \"%s\" is not HOST:PORT", address);
    *colon = '\0';
    char *name = host;
    if (host[0] == '[' && colon[-1] == ']') {
        colon[-1] = '\0';
        name++;
    }
    int rc = getaddrinfo(name, colon + 1, &hints, out);
    return rc == 0 ||
           error_set(err, ERROR_INVALID_ARGUMENT, "--http: %s: %s", address, gai_strerror(rc));
}

bool http_start(const char *address, const struct plugin *plugin, struct metrics *metrics,
                struct http **out, struct error *err)
{
    struct addrinfo *where = NULL;
    auto_free struct http *http = calloc(1, sizeof(*http));

    if (!http)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the HTTP server");
    if (!resolve(address, &where, err))
        return false;
    http->plugin = plugin;
    http->metrics = metrics;
    pthread_mutex_init(&http->lock, NULL);
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL;
    if (where->ai_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    http->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, handle, http, MHD_OPTION_SOCK_ADDR, where->ai_addr,
        MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)8192, MHD_OPTION_THREAD_STACK_SIZE, STACK_BYTES,
        MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
    freeaddrinfo(where);
    if (!http->daemon) {
        pthread_mutex_destroy(&http->lock);
        return error_set(err, ERROR_INTERNAL, "--http: cannot listen on %s", address);
    }
    *out = TAKE_PTR(http);
    return true;
}

void http_stop(struct http *http)
{
    if (!http)
        return;
    MHD_stop_daemon(http->daemon);
    pthread_mutex_destroy(&http->lock);
    free(http);
}
