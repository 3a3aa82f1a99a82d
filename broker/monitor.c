/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/monitor.h"

#include "attest/reason.h"
#include "base/checkup.h"
#include "base/digest.h"
#include "base/http.h"
#include "base/metrics.h"
#include "broker/rewrap.h"
#include "broker/service.h"
#include "erasure/sweep.h"
#include "store/keyring.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define METHOD_ATTEST    "/tdvol.keybroker.v1.KeyBroker/Attest"
#define VERDICT_ACCEPTED "Accepted"
#define PERIOD_MS        5000u /* of the checks that may have to wait */
#define RETRY_MS         2000u
#define STORE_WAIT_MS    3000u
#define LISTENER_WAIT_MS 10000u  /* above what a check of the listener takes */
#define OTHER            "Other" /* for words that only a client uses */

enum { FAMILY_CALLS };
static const struct histogram_family families[] = {
    [FAMILY_CALLS] = { "tdvol_keybroker_operations_seconds", "Calls served by the key broker" },
};

struct monitor {
    struct monitor_options options;
    struct histograms *calls;
    struct counter *verdicts, *turned_away;
    struct checkup *store, *listener; /* NULL: not in the background */
    struct http_server *server;
};

bool monitor_new(const struct monitor_options *options, struct monitor **out, struct error *err)
{
    struct monitor *m = calloc(1, sizeof(*m));

    if (!m)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "metrics: out of memory");
    m->options = *options;
    if (!histograms_new(families, ARRAY_LEN(families), &m->calls, err) ||
        !counter_new("tdvol_attest_verdicts_total", "reason",
                     "Results of Attest: " VERDICT_ACCEPTED ", or the reason of the refusal",
                     &m->verdicts, err) ||
        !counter_new("tdvol_door_turned_away_total", "why",
                     "Connections and requests that were refused before they were calls",
                     &m->turned_away, err)) {
        monitor_free(m);
        return false;
    }
    *out = m;
    return true;
}

void monitor_free(struct monitor *m)
{
    if (!m)
        return;
    http_server_stop(m->server);
    checkup_stop(m->listener);
    checkup_stop(m->store);
    histograms_free(m->calls);
    counter_free(m->verdicts);
    counter_free(m->turned_away);
    free(m);
}

/* Only words of the table become labels. */
static const char *verdict_of(const struct error *err)
{
    if (err->code == ERROR_NONE)
        return VERDICT_ACCEPTED;
    for (int reason = REASON_NONE + 1; reason < REASON_COUNT; reason++) {
        const char *name = attest_reason_name((enum attest_reason)reason);

        if (strcmp(err->reason, name) == 0)
            return name;
    }
    return OTHER;
}

void monitor_observe(struct monitor *m, const struct rpc_call *call, const struct error *err,
                     uint64_t elapsed_ms)
{
    const struct rpc_method *method = rpc_service_find(&broker_service, call->method);
    const char *name = method ? method->name : OTHER;

    histograms_observe(m->calls, FAMILY_CALLS, name, err->code, elapsed_ms);
    if (strcmp(call->method, METHOD_ATTEST) == 0)
        counter_add(m->verdicts, verdict_of(err));
}

/* --- ready? --- */

struct tally {
    int64_t now;
    size_t n, expired;
};

static void count_entry(void *cookie, const struct collaterals_entry *entry)
{
    struct tally *tally = cookie;

    if (entry->next_update == 0)
        return;
    tally->n++;
    tally->expired += tally->now > entry->next_update;
}

static bool check_collateral(struct monitor *m, struct error *err)
{
    struct tally tally = { .now = (int64_t)(m->options.broker->now_ms() / 1000) };

    if (!m->options.collaterals)
        return true;
    collaterals_visit(m->options.collaterals, count_entry, &tally);
    return tally.n == 0 || tally.expired < tally.n ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "all collateral is expired: no quote can be verified");
}

/* Reads a record that never exists: NOT_FOUND shows that the store works. */
static bool ask_store(void *cookie, struct error *err)
{
    const struct broker *broker = cookie;
    static const struct store_name nobody = { "", "", "" };

    if (!broker_is_open(broker)) /* the store is locked; its answer would be told after that */
        return true;
    struct record *record = malloc(sizeof(*record));
    struct error answer = ERROR_INIT;

    if (!record)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: out of memory");
    bool works = broker->store->ops->get(broker->store, &nobody, record, &answer) ||
                 answer.code == ERROR_NOT_FOUND;

    free(record);
    if (!works)
        *err = answer;
    return works;
}

static bool check_store(struct monitor *m, struct error *err)
{
    return m->store ? checkup_holds(m->store, err)
                    : ask_store((void *)(uintptr_t)m->options.broker, err);
}

static bool check_certificate(const struct broker *broker, struct error *err)
{
    int64_t until = atomic_load(&broker->certificate_until);

    return until == 0 || (int64_t)(broker->now_ms() / 1000) <= until ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "the broker's certificate is expired: replace it");
}

static bool check_listening(const struct monitor *m, struct error *err)
{
    return !m->options.is_listening || atomic_load(m->options.is_listening) ||
           error_set(err, ERROR_UNAVAILABLE, "the broker starts: it does not listen yet");
}

bool monitor_check_ready(struct monitor *m, struct error *err)
{
    struct broker *broker = m->options.broker;

    return broker_check_open(broker, err) && check_listening(m, err) &&
           keyring_check(broker->keyring, err) && check_store(m, err) &&
           (!broker->audit || audit_check_room(broker->audit, err)) &&
           check_certificate(broker, err) && check_collateral(m, err);
}

/* --- pages --- */

static void print_number(const char *name, const char *type, const char *help, uint64_t value,
                         FILE *out)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, type, name,
            value);
}

/* One family of numbers about each platform's collateral. */
void monitor_turned_away(struct monitor *m, const char *why)
{
    counter_add(m->turned_away, why);
}

struct gauge {
    const char *name, *help;
    int64_t (*value)(const struct collaterals_entry *entry);
};

static int64_t issued_of(const struct collaterals_entry *entry)
{
    return entry->issued;
}

static int64_t next_update_of(const struct collaterals_entry *entry)
{
    return entry->next_update;
}

static int64_t fetched_of(const struct collaterals_entry *entry)
{
    return entry->fetched;
}

static int64_t evaluation_of(const struct collaterals_entry *entry)
{
    return entry->evaluation_number;
}

static int64_t failed_of(const struct collaterals_entry *entry)
{
    return entry->problem[0] != '\0';
}

static const struct gauge gauges[] = {
    { "tdvol_collateral_issued_timestamp_seconds", "When a platform's collateral was issued.",
      issued_of },
    { "tdvol_collateral_next_update_timestamp_seconds",
      "When a platform's collateral expires. Later quotes of that platform are refused.",
      next_update_of },
    { "tdvol_collateral_fetched_timestamp_seconds", "When its source was last read successfully.",
      fetched_of },
    { "tdvol_collateral_evaluation_number", "The TCB evaluation number of a platform's collateral.",
      evaluation_of },
    { "tdvol_collateral_refresh_failed", "1 when the last refresh failed.", failed_of },
};

struct gauge_page {
    const struct gauge *gauge;
    FILE *out;
};

static void print_entry(void *cookie, const struct collaterals_entry *entry)
{
    const struct gauge_page *page = cookie;
    char fmspc[2 * FMSPC_LEN + 1];

    if (entry->next_update == 0)
        return;
    hex_encode(entry->fmspc, FMSPC_LEN, fmspc);
    fprintf(page->out, "%s{fmspc=\"%s\",ca=\"%s\"} %" PRId64 "\n", page->gauge->name, fmspc,
            pck_ca_name(entry->ca), page->gauge->value(entry));
}

static void print_collateral(struct collaterals *collaterals, FILE *out)
{
    for (size_t i = 0; i < ARRAY_LEN(gauges); i++) {
        struct gauge_page page = { &gauges[i], out };

        fprintf(out, "# HELP %s %s\n# TYPE %s gauge\n", gauges[i].name, gauges[i].help,
                gauges[i].name);
        collaterals_visit(collaterals, print_entry, &page);
    }
}

static void print_store(const struct broker *broker, FILE *out)
{
    print_number("tdvol_store_refused_total", "counter",
                 "How often a record or key was refused that the broker did not write.",
                 atomic_load(&broker->store->refused), out);
    print_number("tdvol_store_changed", "gauge",
                 "1 when the store did not hold what the broker had left in it, at its start.",
                 broker->check.is_changed || broker->check.damaged > 0, out);
}

static void print_keys(const struct broker *broker, FILE *out)
{
    struct rewrap_state work = { .records = 0 };
    struct keyring_state ring;

    keyring_state(broker->keyring, &ring);
    if (broker->rewrap)
        rewrap_state(broker->rewrap, &work);
    print_number("tdvol_wrapping_generation", "gauge",
                 "Number of the key that secrets are wrapped with.", ring.generation, out);
    print_number("tdvol_wrapping_anew", "gauge",
                 "1 while secrets may be wrapped with the key of the generation before.",
                 ring.has_former, out);
    print_number("tdvol_wrapping_records", "gauge",
                 "Records that this broker has looked at since it began to wrap secrets anew.",
                 ring.has_former ? work.records : 0, out);
    print_number("tdvol_wrapping_failed", "gauge",
                 "1 when wrapping secrets anew has failed; it is tried again.",
                 work.problem.code != ERROR_NONE, out);
    print_number(
        "tdvol_old_master_key", "gauge",
        "1 while the master key is being changed, and the former one opens the store, too.",
        ring.has_old_master, out);
}

static void print_retained(const struct broker *broker, FILE *out)
{
    struct sweep_state state = { .waiting = 0 };

    if (broker->sweep)
        sweep_state(broker->sweep, &state);
    print_number("tdvol_retained_records", "gauge",
                 "Deleted volumes and snapshots whose keys are kept.", state.waiting, out);
    print_number("tdvol_retained_oldest_timestamp_seconds", "gauge",
                 "When the one of them was deleted that waits longest; 0: none waits.",
                 state.oldest_ms / 1000, out);
    print_number("tdvol_retained_failed", "gauge",
                 "1 when kept keys could not be looked at, or destroyed; it is tried again.",
                 state.problem.code != ERROR_NONE, out);
}

static void print_audit(const struct broker *broker, FILE *out)
{
    struct audit *audit = broker->audit;
    char trouble[AUDIT_TROUBLE_LEN];

    audit_trouble(audit, trouble);
    print_number("tdvol_audit_lines_total", "counter", "Lines of the audit log.",
                 audit_lines(audit), out);
    print_number("tdvol_audit_broken", "gauge",
                 "1 when the audit log was not what the broker had written, when it was opened.",
                 trouble[0] != '\0', out);
    print_number("tdvol_audit_unwritten_refusals_total", "counter",
                 "Refusals without an audit line, because their client is refused too often.",
                 atomic_load(&broker->unwritten), out);
}

void monitor_print(struct monitor *m, FILE *out)
{
    const struct monitor_options *o = &m->options;

    histograms_print(m->calls, out);
    counter_print(m->verdicts, out);
    counter_print(m->turned_away, out);
    print_number("tdvol_keybroker_sealed", "gauge", "1 while the broker has no master key.",
                 broker_is_open(o->broker) ? 0 : 1, out);
    print_number("tdvol_attested_sessions", "gauge",
                 "Attested sessions; an expired one counts until it is removed.",
                 o->count_sessions ? o->count_sessions(o->cookie) : 0, out);
    print_store(o->broker, out);
    print_number("tdvol_keybroker_last_backup_timestamp_seconds", "gauge",
                 "When the last backup of the store was made by the broker; 0: none was.",
                 atomic_load(&o->broker->backup_ms) / 1000, out);
    print_number("tdvol_keybroker_certificate_expiry_timestamp_seconds", "gauge",
                 "When the broker's certificate expires.",
                 (uint64_t)atomic_load(&o->broker->certificate_until), out);
    print_number("tdvol_keybroker_certificate_reload_failed", "gauge",
                 "1 while changed certificate files are not good, and the old ones are in use.",
                 atomic_load(&o->broker->certificate_failed), out);
    if (broker_is_open(o->broker)) {
        print_audit(o->broker, out);
        print_keys(o->broker, out);
        print_retained(o->broker, out);
    }
    if (o->collaterals)
        print_collateral(o->collaterals, out);
    metrics_print_memory(out);
}

static unsigned print_check(bool holds, const struct error *err, FILE *out)
{
    fprintf(out, "%s\n", holds ? "ok" : err->text);
    return holds ? HTTP_OK : HTTP_UNAVAILABLE;
}

static unsigned print_healthz(void *cookie, FILE *out)
{
    const struct monitor *m = cookie;
    struct error err = ERROR_INIT;

    return print_check(!m->listener || checkup_holds(m->listener, &err), &err, out);
}

/* What must be looked at, and does not keep the broker from its work. */
static void print_key_warnings(const struct broker *broker, FILE *out)
{
    struct rewrap_state work = { .records = 0 };
    struct keyring_state ring;

    keyring_state(broker->keyring, &ring);
    if (broker->rewrap)
        rewrap_state(broker->rewrap, &work);
    if (ring.has_old_master)
        (void)fputs(
            "warning: the master key is being changed: the former one opens the store, too\n", out);
    if (work.problem.code != ERROR_NONE)
        fprintf(out, "warning: secrets are not wrapped anew yet: %s\n", work.problem.text);
}

static void print_warnings(const struct monitor *m, FILE *out)
{
    const struct broker *broker = m->options.broker;
    char trouble[AUDIT_TROUBLE_LEN] = "";

    if (broker_is_open(broker)) {
        audit_trouble(broker->audit, trouble);
        print_key_warnings(broker, out);
    }
    if (trouble[0] != '\0')
        fprintf(out, "warning: audit log: %s\n", trouble);
    if (broker->check.is_changed || broker->check.damaged > 0)
        (void)fputs("warning: the store was changed by something else than this broker\n", out);
    if (atomic_load(&broker->certificate_failed))
        (void)fputs("warning: the changed certificates are not good: the old ones are in use\n",
                    out);
}

static unsigned print_readyz(void *cookie, FILE *out)
{
    struct error err = ERROR_INIT;

    unsigned status = print_check(monitor_check_ready(cookie, &err), &err, out);

    print_warnings(cookie, out);
    return status;
}

static unsigned print_metrics(void *cookie, FILE *out)
{
    monitor_print(cookie, out);
    return HTTP_OK;
}

static const struct http_page pages[] = {
    { "/healthz", NULL, false, print_healthz },
    { "/readyz", NULL, false, print_readyz },
    { "/metrics", HTTP_TYPE_METRICS, true, print_metrics },
};

/* The store was read at the start, so it is good until a check says otherwise. */
static bool start_checks(struct monitor *m, struct error *err)
{
    const struct checkup_options store = { .thread = "store-check",
                                           .subject = "the store",
                                           .period_ms = PERIOD_MS,
                                           .retry_ms = RETRY_MS,
                                           .patience_ms = STORE_WAIT_MS,
                                           .good_at_first = true,
                                           .check = ask_store,
                                           .cookie = (void *)(uintptr_t)m->options.broker };
    const struct checkup_options listener = { .thread = "listener-check",
                                              .subject = "the listener",
                                              .period_ms = PERIOD_MS,
                                              .retry_ms = RETRY_MS,
                                              .patience_ms = LISTENER_WAIT_MS,
                                              .good_at_first = true,
                                              .check = m->options.check_listener,
                                              .cookie = m->options.listener };

    return checkup_start(&store, &m->store, err) &&
           (!listener.check || checkup_start(&listener, &m->listener, err));
}

bool monitor_serve(struct monitor *m, const char *address, struct error *err)
{
    return (start_checks(m, err) &&
            http_server_start(address, pages, ARRAY_LEN(pages), m, &m->server, err)) ||
           error_wrap(err, "--http");
}
