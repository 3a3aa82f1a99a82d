/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/http.h"

#include "base/checkup.h"
#include "base/http.h"
#include "base/metrics.h"

#include <inttypes.h>
#include <stdlib.h>

/* How often the broker is asked, and how long it may take. No probe waits for it. */
#define BROKER_PERIOD_MS   5000u
#define BROKER_RETRY_MS    2000u
#define BROKER_PATIENCE_MS 3000u

struct http {
    struct http_server *server;
    const struct plugin *plugin;
    struct metrics *metrics;
    struct own_sockets *sockets; /* NULL: not looked at */
    struct checkup *broker;
};

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

void http_print_metrics(const struct plugin *plugin, struct metrics *metrics, FILE *out)
{
    metrics_print(metrics, out);
    print_health(plugin, out);
    print_errors(plugin, out);
    metrics_print_memory(out);
}

static bool check_health(struct http *http, struct error *err)
{
    return plugin_check_usable(http->plugin, err) &&
           (!http->sockets || own_sockets_hold(http->sockets, err));
}

/* Ready to stage new volumes: the broker can be reached as well. */
static bool check_ready(struct http *http, struct error *err)
{
    return check_health(http, err) && checkup_holds(http->broker, err);
}

static bool ask_broker(void *cookie, struct error *err)
{
    struct http *http = cookie;

    return http->plugin->keys->ops->status(http->plugin->keys, "readyz", err);
}

static unsigned print_check(bool holds, const struct error *err, FILE *out)
{
    fprintf(out, "%s\n", holds ? "ok" : err->text);
    return holds ? HTTP_OK : HTTP_UNAVAILABLE;
}

static unsigned print_healthz(void *cookie, FILE *out)
{
    struct error err = ERROR_INIT;

    return print_check(check_health(cookie, &err), &err, out);
}

static unsigned print_readyz(void *cookie, FILE *out)
{
    struct error err = ERROR_INIT;

    return print_check(check_ready(cookie, &err), &err, out);
}

static unsigned print_metrics(void *cookie, FILE *out)
{
    struct http *http = cookie;

    http_print_metrics(http->plugin, http->metrics, out);
    return HTTP_OK;
}

static const struct http_page pages[] = {
    { "/healthz", NULL, false, print_healthz },
    { "/readyz", NULL, false, print_readyz },
    { "/metrics", HTTP_TYPE_METRICS, true, print_metrics },
};

bool http_start(const char *address, const struct plugin *plugin, struct metrics *metrics,
                struct own_sockets *sockets, struct http **out, struct error *err)
{
    struct http *http = calloc(1, sizeof(*http));

    if (!http)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the HTTP server");
    http->plugin = plugin;
    http->metrics = metrics;
    http->sockets = sockets;
    const struct checkup_options broker = { .thread = "readyz",
                                            .subject = "the key broker",
                                            .period_ms = BROKER_PERIOD_MS,
                                            .retry_ms = BROKER_RETRY_MS,
                                            .patience_ms = BROKER_PATIENCE_MS,
                                            .check = ask_broker,
                                            .cookie = http };

    if (!checkup_start(&broker, &http->broker, err) ||
        !http_server_start(address, pages, ARRAY_LEN(pages), http, &http->server, err)) {
        http_stop(http);
        return error_wrap(err, "--http");
    }
    *out = http;
    return true;
}

void http_stop(struct http *http)
{
    if (!http)
        return;
    http_server_stop(http->server);
    checkup_stop(http->broker);
    free(http);
}
