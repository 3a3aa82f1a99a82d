/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/call_metrics.h"

#include "base/clock.h"
#include "base/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const struct histogram_family families[METRICS_FAMILY_COUNT] = {
    [METRICS_RPC] = { "csi_plugin_operations_seconds", "CSI calls served" },
    [METRICS_BROKER] = { "tdvol_broker_request_seconds", "Calls to the key broker" },
    [METRICS_UPSTREAM] = { "tdvol_upstream_rpc_seconds", "Calls to the CSI driver below" },
};

struct session_gauge {
    struct session_gauge *next;
    uint64_t expires_ms;
    char address[];
};

struct metrics {
    struct histograms *calls;
    struct counter *results;
    pthread_mutex_t lock; /* guards what follows */
    struct session_gauge *sessions;
    int64_t until_s[METRICS_CERTIFICATE_COUNT]; /* 0: there is none */
};

bool metrics_new(struct metrics **out, struct error *err)
{
    struct metrics *metrics = calloc(1, sizeof(*metrics));

    if (!metrics)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for metrics");
    pthread_mutex_init(&metrics->lock, NULL);
    if (!histograms_new(families, ARRAY_LEN(families), &metrics->calls, err) ||
        !counter_new("tdvol_attestations_total", "result",
                     "Attestations to the key broker, by result", &metrics->results, err)) {
        metrics_free(metrics);
        return false;
    }
    *out = metrics;
    return true;
}

void metrics_free(struct metrics *metrics)
{
    if (!metrics)
        return;
    histograms_free(metrics->calls);
    counter_free(metrics->results);
    while (metrics->sessions) {
        struct session_gauge *session = metrics->sessions;

        metrics->sessions = session->next;
        free(session);
    }
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

void metrics_observe(struct metrics *metrics, enum metrics_family family, const char *method,
                     enum error_code code, uint64_t elapsed_ms)
{
    histograms_observe(metrics->calls, family, method, code, elapsed_ms);
}

void metrics_attested(struct metrics *metrics, const char *result)
{
    counter_add(metrics->results, result);
}

static struct session_gauge *find_or_add_session(struct metrics *metrics, const char *address)
{
    size_t len = strlen(address) + 1;

    for (struct session_gauge *s = metrics->sessions; s; s = s->next)
        if (strcmp(s->address, address) == 0)
            return s;
    struct session_gauge *session = calloc(1, sizeof(*session) + len);
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
    struct session_gauge *session = find_or_add_session(metrics, address);

    if (session)
        session->expires_ms = expires_ms;
    pthread_mutex_unlock(&metrics->lock);
}

static void print_sessions(struct metrics *metrics, FILE *out)
{
    uint64_t now_ms = clock_now_ms();

    pthread_mutex_lock(&metrics->lock);
    if (metrics->sessions)
        (void)fputs("# HELP tdvol_session_seconds Seconds until the attested session expires.\n"
                    "# TYPE tdvol_session_seconds gauge\n",
                    out);
    for (const struct session_gauge *s = metrics->sessions; s; s = s->next)
        fprintf(out, "tdvol_session_seconds{broker=\"%s\"} %" PRIu64 "\n", s->address,
                s->expires_ms > now_ms ? (s->expires_ms - now_ms) / 1000 : 0);
    pthread_mutex_unlock(&metrics->lock);
}

void metrics_certificate(struct metrics *metrics, enum metrics_certificate which, int64_t until_s)
{
    pthread_mutex_lock(&metrics->lock);
    metrics->until_s[which] = until_s;
    pthread_mutex_unlock(&metrics->lock);
}

static void print_certificates(struct metrics *metrics, FILE *out)
{
    static const char *const names[] = {
        [METRICS_BROKER_CA] = "broker-ca", [METRICS_CLIENT_CERT] = "client-cert"
    };

    (void)fputs("# HELP tdvol_certificate_expiry_timestamp_seconds When the certificate expires.\n"
                "# TYPE tdvol_certificate_expiry_timestamp_seconds gauge\n",
                out);
    pthread_mutex_lock(&metrics->lock);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (metrics->until_s[i] != 0)
            fprintf(out,
                    "tdvol_certificate_expiry_timestamp_seconds{certificate=\"%s\"} %" PRId64 "\n",
                    names[i], metrics->until_s[i]);
    pthread_mutex_unlock(&metrics->lock);
}

void metrics_print(struct metrics *metrics, FILE *out)
{
    histograms_print(metrics->calls, out);
    counter_print(metrics->results, out);
    print_sessions(metrics, out);
    print_certificates(metrics, out);
}
