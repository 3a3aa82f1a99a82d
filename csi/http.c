/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/http.h"

#include "base/clock.h"
#include "base/http.h"
#include "base/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

/* Probes come often. The broker is asked at most once in this time. */
#define STATUS_VALID_MS 5000u

struct http {
    struct http_server *server;
    const struct plugin *plugin;
    struct metrics *metrics;
    pthread_mutex_t lock; /* guards the two below */
    uint64_t asked_ms;
    struct error status;
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
    return plugin_check_usable(http->plugin, err);
}

/* Ready to stage new volumes: the broker can be reached as well. */
static bool check_ready(struct http *http, struct error *err)
{
    if (!check_health(http, err))
        return false;
    pthread_mutex_lock(&http->lock);
    uint64_t now_ms = clock_now_ms();

    if (http->asked_ms == 0 || now_ms - http->asked_ms > STATUS_VALID_MS) {
        http->status = (struct error)ERROR_INIT;
        if (http->plugin->keys->ops->status(http->plugin->keys, "readyz", &http->status))
            http->status.code = ERROR_NONE;
        http->asked_ms = now_ms;
    }
    *err = http->status;
    pthread_mutex_unlock(&http->lock);
    return err->code == ERROR_NONE;
}

static unsigned print_check(bool holds, const struct error *err, FILE *out)
{
    (void)fputs(holds ? "ok\n" : err->text, out);
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
                struct http **out, struct error *err)
{
    auto_free struct http *http = calloc(1, sizeof(*http));

    if (!http)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the HTTP server");
    http->plugin = plugin;
    http->metrics = metrics;
    pthread_mutex_init(&http->lock, NULL);
    if (!http_server_start(address, pages, ARRAY_LEN(pages), http, &http->server, err)) {
        pthread_mutex_destroy(&http->lock);
        return error_wrap(err, "--http");
    }
    *out = TAKE_PTR(http);
    return true;
}

void http_stop(struct http *http)
{
    if (!http)
        return;
    http_server_stop(http->server);
    pthread_mutex_destroy(&http->lock);
    free(http);
}
