/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metrics.h"

#include "base/file.h"
#include "base/option.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const uint64_t bounds_ms[] = { 100,   250,   500,   1000,   2500,   5000,  10000,
                                      15000, 25000, 50000, 120000, 300000, 600000 };
static const char *const bound_names[] = { "0.1", "0.25", "0.5", "1",   "2.5", "5",  "10",
                                           "15",  "25",   "50",  "120", "300", "600" };

struct series {
    struct series *next;
    size_t family;
    enum error_code code;
    char method[48];
    uint64_t count, sum_ms;
    uint64_t buckets[ARRAY_LEN(bounds_ms)];
};

struct histograms {
    pthread_mutex_t lock;
    const struct histogram_family *families;
    size_t n;
    struct series *series;
};

bool histograms_new(const struct histogram_family *families, size_t n, struct histograms **out,
                    struct error *err)
{
    struct histograms *h = calloc(1, sizeof(*h));

    if (!h)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for metrics");
    pthread_mutex_init(&h->lock, NULL);
    h->families = families;
    h->n = n;
    *out = h;
    return true;
}

void histograms_free(struct histograms *h)
{
    if (!h)
        return;
    while (h->series) {
        struct series *series = h->series;

        h->series = series->next;
        free(series);
    }
    pthread_mutex_destroy(&h->lock);
    free(h);
}

static struct series *find_or_add(struct histograms *h, size_t family, const char *method,
                                  enum error_code code)
{
    for (struct series *s = h->series; s; s = s->next)
        if (s->family == family && s->code == code && strcmp(s->method, method) == 0)
            return s;
    struct series *series = calloc(1, sizeof(*series));
    if (!series)
        return NULL;
    series->family = family;
    series->code = code;
    (void)snprintf(series->method, sizeof(series->method), "%s", method);
    series->next = h->series;
    h->series = series;
    return series;
}

void histograms_observe(struct histograms *h, size_t family, const char *method,
                        enum error_code code, uint64_t elapsed_ms)
{
    pthread_mutex_lock(&h->lock);
    struct series *series = find_or_add(h, family, method, code);

    if (series) {
        series->count++;
        series->sum_ms += elapsed_ms;
        for (size_t i = 0; i < ARRAY_LEN(bounds_ms); i++)
            series->buckets[i] += elapsed_ms <= bounds_ms[i];
    }
    pthread_mutex_unlock(&h->lock);
}

static void print_series(const char *name, const struct series *s, FILE *out)
{
    char labels[128];

    (void)snprintf(labels, sizeof(labels), "method_name=\"%s\",grpc_status_code=\"%s\"", s->method,
                   error_code_name(s->code));
    for (size_t i = 0; i < ARRAY_LEN(bounds_ms); i++)
        fprintf(out, "%s_bucket{%s,le=\"%s\"} %" PRIu64 "\n", name, labels, bound_names[i],
                s->buckets[i]);
    fprintf(out, "%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", name, labels, s->count);
    fprintf(out, "%s_sum{%s} %" PRIu64 ".%03" PRIu64 "\n", name, labels, s->sum_ms / 1000,
            s->sum_ms % 1000);
    fprintf(out, "%s_count{%s} %" PRIu64 "\n", name, labels, s->count);
}

void histograms_print(struct histograms *h, FILE *out)
{
    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < h->n; i++) {
        const struct histogram_family *family = &h->families[i];

        fprintf(out, "# HELP %s %s, by method and status.\n# TYPE %s histogram\n", family->name,
                family->help, family->name);
        for (const struct series *s = h->series; s; s = s->next)
            if (s->family == i)
                print_series(family->name, s, out);
    }
    pthread_mutex_unlock(&h->lock);
}

struct counter {
    pthread_mutex_t lock;
    const char *name, *label, *help;
    size_t n;
    struct {
        char name[48];
        uint64_t count;
    } values[COUNTER_VALUES_MAX + 1];
};

bool counter_new(const char *name, const char *label, const char *help, struct counter **out,
                 struct error *err)
{
    struct counter *c = calloc(1, sizeof(*c));

    if (!c)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for metrics");
    pthread_mutex_init(&c->lock, NULL);
    c->name = name;
    c->label = label;
    c->help = help;
    *out = c;
    return true;
}

void counter_free(struct counter *c)
{
    if (!c)
        return;
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* A plain word needs no escapes in a label. */
static bool is_plain(const char *value)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/";

    return value[0] != '\0' && value[strspn(value, plain)] == '\0';
}

void counter_add(struct counter *c, const char *value)
{
    size_t i = 0;

    if (!is_plain(value))
        value = "Other";
    pthread_mutex_lock(&c->lock);
    while (i < c->n && strcmp(c->values[i].name, value) != 0)
        i++;
    if (i >= COUNTER_VALUES_MAX) {
        i = COUNTER_VALUES_MAX; /* the last place counts all other values */
        value = "Other";
    }
    if (i >= c->n) {
        (void)snprintf(c->values[i].name, sizeof(c->values[i].name), "%s", value);
        c->n = i + 1;
    }
    c->values[i].count++;
    pthread_mutex_unlock(&c->lock);
}

void counter_print(struct counter *c, FILE *out)
{
    pthread_mutex_lock(&c->lock);
    if (c->n > 0)
        fprintf(out, "# HELP %s %s.\n# TYPE %s counter\n", c->name, c->help, c->name);
    for (size_t i = 0; i < c->n; i++)
        fprintf(out, "%s{%s=\"%s\"} %" PRIu64 "\n", c->name, c->label, c->values[i].name,
                c->values[i].count);
    pthread_mutex_unlock(&c->lock);
}

/* Reads the second number of "size resident shared ...", in pages. */
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

void metrics_print_memory(FILE *out)
{
    uint64_t pages = 0;

    if (!read_resident_pages(&pages))
        return;
    fprintf(out,
            "# HELP process_resident_memory_bytes Memory of this process.\n"
            "# TYPE process_resident_memory_bytes gauge\n"
            "process_resident_memory_bytes %" PRIu64 "\n",
            pages * (uint64_t)sysconf(_SC_PAGESIZE));
}
