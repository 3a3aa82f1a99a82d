/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/metrics.h"

#include "base/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Those of the CSI sidecars, so that dashboards fit. */
static const uint64_t bounds_ms[] = { 100,   250,   500,   1000,   2500,   5000,  10000,
                                      15000, 25000, 50000, 120000, 300000, 600000 };
static const char *const bound_names[] = { "0.1", "0.25", "0.5", "1",   "2.5", "5",  "10",
                                           "15",  "25",   "50",  "120", "300", "600" };

static const struct family {
    const char *name, *help;
} families[METRICS_FAMILY_COUNT] = {
    [METRICS_RPC] = { "csi_plugin_operations_seconds", "CSI calls served" },
    [METRICS_BROKER] = { "tdvol_broker_request_seconds", "Calls to the key broker" },
};

struct series {
    struct series *next;
    enum metrics_family family;
    enum error_code code;
    char method[48];
    uint64_t count, sum_ms;
    uint64_t buckets[ARRAY_LEN(bounds_ms)];
};

#define RESULTS_MAX 100 /* twice the words of attest/reason.h, and some */

struct result {
    struct result *next;
    uint64_t count;
    char name[32];
};

struct session {
    struct session *next;
    uint64_t expires_ms;
    char address[];
};

struct metrics {
    pthread_mutex_t lock;
    struct series *series;
    struct result *results;
    size_t n_results;
    struct session *sessions;
};

bool metrics_new(struct metrics **out, struct error *err)
{
    struct metrics *metrics = calloc(1, sizeof(*metrics));

    if (!metrics)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for metrics");
    pthread_mutex_init(&metrics->lock, NULL);
    *out = metrics;
    return true;
}

void metrics_free(struct metrics *metrics)
{
    if (!metrics)
        return;
    while (metrics->series) {
        struct series *series = metrics->series;

        metrics->series = series->next;
        free(series);
    }
    while (metrics->results) {
        struct result *result = metrics->results;

        metrics->results = result->next;
        free(result);
    }
    while (metrics->sessions) {
        struct session *session = metrics->sessions;

        metrics->sessions = session->next;
        free(session);
    }
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

/* Methods come from tables of ours, so that their number is bounded. */
static struct series *find_or_add(struct metrics *metrics, enum metrics_family family,
                                  const char *method, enum error_code code)
{
    for (struct series *s = metrics->series; s; s = s->next)
        if (s->family == family && s->code == code && strcmp(s->method, method) == 0)
            return s;
    struct series *series = calloc(1, sizeof(*series));
    if (!series)
        return NULL;
    series->family = family;
    series->code = code;
    (void)snprintf(series->method, sizeof(series->method), "%s", method);
    series->next = metrics->series;
    metrics->series = series;
    return series;
}

void metrics_observe(struct metrics *metrics, enum metrics_family family, const char *method,
                     enum error_code code, uint64_t elapsed_ms)
{
    pthread_mutex_lock(&metrics->lock);
    struct series *series = find_or_add(metrics, family, method, code);

    if (series) {
        series->count++;
        series->sum_ms += elapsed_ms;
        for (size_t i = 0; i < ARRAY_LEN(bounds_ms); i++)
            series->buckets[i] += elapsed_ms <= bounds_ms[i];
    }
    pthread_mutex_unlock(&metrics->lock);
}

static struct result *find_or_add_result(struct metrics *metrics, const char *name)
{
    for (struct result *r = metrics->results; r; r = r->next)
        if (strcmp(r->name, name) == 0)
            return r;
    if (metrics->n_results >= RESULTS_MAX) /* "Other", which came last */
        return metrics->results;
    if (metrics->n_results == RESULTS_MAX - 1)
        name = "Other";
    struct result *result = calloc(1, sizeof(*result));
    if (!result)
        return NULL;
    (void)snprintf(result->name, sizeof(result->name), "%s", name);
    result->next = metrics->results;
    metrics->results = result;
    metrics->n_results++;
    return result;
}

void metrics_attested(struct metrics *metrics, const char *result)
{
    pthread_mutex_lock(&metrics->lock);
    struct result *found = find_or_add_result(metrics, result);

    if (found)
        found->count++;
    pthread_mutex_unlock(&metrics->lock);
}

static struct session *find_or_add_session(struct metrics *metrics, const char *address)
{
    size_t len = strlen(address) + 1;

    for (struct session *s = metrics->sessions; s; s = s->next)
        if (strcmp(s->address, address) == 0)
            return s;
    struct session *session = calloc(1, sizeof(*session) + len);
    if (!session)
        return NULL;
    memcpy(session->address, address, len);
    session->next = metrics->sessions;
    metrics->sessions = session;
    return session;
}

void metrics_session(struct metrics *metrics, const char *address, uint64_t expires_ms)
{
    pthread_mutex_lock(&metrics->lock);
    struct session *session = find_or_add_session(metrics, address);

    if (session)
        session->expires_ms = expires_ms;
    pthread_mutex_unlock(&metrics->lock);
}

static void print_attestations(const struct metrics *metrics, FILE *out)
{
    uint64_t now_ms = clock_now_ms();

    if (!metrics->results)
        return;
    (void)fputs("# HELP tdvol_attestations_total Attestations towards the key broker, by result.\n"
                "# TYPE tdvol_attestations_total counter\n",
                out);
    for (const struct result *r = metrics->results; r; r = r->next)
        fprintf(out, "tdvol_attestations_total{result=\"%s\"} %" PRIu64 "\n", r->name, r->count);
    (void)fputs("# HELP tdvol_session_seconds For how long the attested session is still good.\n"
                "# TYPE tdvol_session_seconds gauge\n",
                out);
    for (const struct session *s = metrics->sessions; s; s = s->next)
        fprintf(out, "tdvol_session_seconds{broker=\"%s\"} %" PRIu64 "\n", s->address,
                s->expires_ms > now_ms ? (s->expires_ms - now_ms) / 1000 : 0);
}

static void print_series(const struct series *s, FILE *out)
{
    const struct family *family = &families[s->family];
    char labels[128];

    (void)snprintf(labels, sizeof(labels), "method_name=\"%s\",grpc_status_code=\"%s\"", s->method,
                   error_code_name(s->code));
    for (size_t i = 0; i < ARRAY_LEN(bounds_ms); i++)
        fprintf(out, "%s_bucket{%s,le=\"%s\"} %" PRIu64 "\n", family->name, labels, bound_names[i],
                s->buckets[i]);
    fprintf(out, "%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", family->name, labels, s->count);
    fprintf(out, "%s_sum{%s} %" PRIu64 ".%03" PRIu64 "\n", family->name, labels, s->sum_ms / 1000,
            s->sum_ms % 1000);
    fprintf(out, "%s_count{%s} %" PRIu64 "\n", family->name, labels, s->count);
}

void metrics_print(struct metrics *metrics, FILE *out)
{
    pthread_mutex_lock(&metrics->lock);
    for (size_t i = 0; i < METRICS_FAMILY_COUNT; i++) {
        fprintf(out, "# HELP %s %s, by method and status.\n# TYPE %s histogram\n", families[i].name,
                families[i].help, families[i].name);
        for (const struct series *s = metrics->series; s; s = s->next)
            if (s->family == (enum metrics_family)i)
                print_series(s, out);
    }
    print_attestations(metrics, out);
    pthread_mutex_unlock(&metrics->lock);
}
