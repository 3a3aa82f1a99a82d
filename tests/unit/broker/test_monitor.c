/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "broker/monitor.h"
#include "tests/sim/sim.h"
#include "tests/unit/broker/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct fixture fixture;
static struct sim_pki *pki;
static struct monitor *monitor;
static struct collaterals *collaterals;
static struct error err;
static uint64_t now_ms;
static char bundle[128], cache[128];

static uint64_t clock_ms(void)
{
    return now_ms;
}

static size_t seven(void *cookie UNUSED)
{
    return 7;
}

static int set_up(void **state UNUSED)
{
    fixture_start(&fixture);
    fixture.broker.now_ms = clock_ms;
    now_ms = (uint64_t)sim_tcb_default().issued * 1000 + 1000;
    pki = sim_pki_new();
    (void)snprintf(bundle, sizeof(bundle), "%s/bundle.json", fixture.dir);
    (void)snprintf(cache, sizeof(cache), "%s/cache", fixture.dir);
    return 0;
}

static int tear_down(void **state UNUSED)
{
    monitor_free(monitor);
    monitor = NULL;
    collaterals_free(collaterals);
    collaterals = NULL;
    sim_pki_free(pki);
    (void)unlink(bundle);
    (void)rmdir(cache);
    fixture_stop(&fixture);
    return 0;
}

static void open_monitor(void)
{
    const struct monitor_options options = { .broker = &fixture.broker,
                                             .collaterals = collaterals,
                                             .count_sessions = seven };

    assert_ok(monitor_new(&options, &monitor, &err));
}

static void open_collateral(void)
{
    const struct collaterals_options options = { .store = fixture.broker.store,
                                                 .root = sim_pki_root(pki),
                                                 .cache_dir = cache,
                                                 .bundle = bundle,
                                                 .now_ms = clock_ms };
    const struct sim_tcb tcb = sim_tcb_default();
    auto_collateral_set struct collateral_set set = { .ca = PCK_CA_PLATFORM };
    const struct collateral_set *const sets[] = { &set };
    auto_free char *text = NULL;

    sim_collateral(pki, &tcb, &set);
    assert_ok(collateral_bundle_print(sets, 1, &text, &err));
    assert_ok(file_write(bundle, 0600, text, strlen(text), &err));
    assert_ok(collaterals_new(&options, &collaterals, &err));
}

static char *page(void)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    monitor_print(monitor, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void sealed_is_not_ready(void **state UNUSED)
{
    open_monitor();
    assert_ok(monitor_check_ready(monitor, &err));
    atomic_store(&fixture.broker.is_open, false);
    broker_say_sealed(&fixture.broker, "it waits");
    assert_refused(ERROR_UNAVAILABLE, monitor_check_ready(monitor, &err));
    assert_contains(err.text, "the broker is sealed: it waits");
    auto_free char *text = page();
    assert_contains(text, "\ntdvol_keybroker_sealed 1\n");
    atomic_store(&fixture.broker.is_open, true);
}

static void what_does_not_listen_yet_is_not_ready(void **state UNUSED)
{
    static atomic_bool is_listening;
    const struct monitor_options options = { .broker = &fixture.broker,
                                             .is_listening = &is_listening };

    assert_ok(monitor_new(&options, &monitor, &err));
    assert_refused(ERROR_UNAVAILABLE, monitor_check_ready(monitor, &err));
    assert_contains(err.text, "does not listen yet");
    atomic_store(&is_listening, true);
    assert_ok(monitor_check_ready(monitor, &err));
}

static bool broken_get(struct store *store UNUSED, const struct store_name *name UNUSED,
                       struct record *out UNUSED, struct error *e)
{
    return error_set(e, ERROR_UNAVAILABLE, "store: disk I/O error");
}

static void a_store_that_does_not_answer_is_not_ready(void **state UNUSED)
{
    const struct store_ops *good = fixture.broker.store->ops;
    struct store_ops bad = *good;

    bad.get = broken_get;
    open_monitor();
    fixture.broker.store->ops = &bad;
    assert_refused(ERROR_UNAVAILABLE, monitor_check_ready(monitor, &err));
    assert_contains(err.text, "disk I/O");
    fixture.broker.store->ops = good;
    assert_ok(monitor_check_ready(monitor, &err));
}

/* Probes are answered before the store is unlocked; what it says then must not be told afterwards. */
static void a_store_is_not_asked_before_the_broker_is_open(void **state UNUSED)
{
    const struct store_ops *good = fixture.broker.store->ops;
    struct store_ops locked = *good;

    locked.get = broken_get;
    open_monitor();
    atomic_store(&fixture.broker.is_open, false);
    fixture.broker.store->ops = &locked;
    assert_ok(monitor_serve(monitor, "127.0.0.1:0", &err));
    (void)usleep(50000); /* the first check has been made */
    fixture.broker.store->ops = good;
    atomic_store(&fixture.broker.is_open, true);
    assert_ok(monitor_check_ready(monitor, &err));
}

static void who_was_turned_away_is_counted(void **state UNUSED)
{
    open_monitor();
    monitor_turned_away(monitor, "NoRoom");
    monitor_turned_away(monitor, "NoRoom");
    auto_free char *text = page();
    assert_contains(text, "\ntdvol_door_turned_away_total{why=\"NoRoom\"} 2\n");
}

static void with_all_collateral_expired_it_is_not_ready(void **state UNUSED)
{
    open_collateral();
    open_monitor();
    assert_ok(monitor_check_ready(monitor, &err));
    now_ms = (uint64_t)sim_tcb_default().next_update * 1000 + 1000;
    assert_refused(ERROR_FAILED_PRECONDITION, monitor_check_ready(monitor, &err));
    assert_contains(err.text, "expired");
}

static void observe(const char *method, enum error_code code, const char *reason)
{
    const struct rpc_call call = { .method = method };
    struct error outcome = { .code = code };

    (void)snprintf(outcome.reason, sizeof(outcome.reason), "%s", reason);
    monitor_observe(monitor, &call, &outcome, 20);
}

#define SERVICE "/tdvol.keybroker.v1.KeyBroker/"

static void verdicts_are_counted_in_known_words_only(void **state UNUSED)
{
    open_monitor();
    observe(SERVICE "Attest", ERROR_NONE, "");
    observe(SERVICE "Attest", ERROR_DENIED, "TcbRevoked");
    observe(SERVICE "Attest", ERROR_DENIED, "TcbRevoked");
    observe(SERVICE "Attest", ERROR_DENIED, "evil\"} 1\n");
    observe(SERVICE "Attest", ERROR_RESOURCE_EXHAUSTED, "");
    observe(SERVICE "GetStatus", ERROR_DENIED, "TcbRevoked");
    auto_free char *text = page();
    assert_contains(text, "tdvol_attest_verdicts_total{reason=\"Accepted\"} 1\n");
    assert_contains(text, "tdvol_attest_verdicts_total{reason=\"TcbRevoked\"} 2\n");
    assert_contains(text, "tdvol_attest_verdicts_total{reason=\"Other\"} 2\n");
    assert_null(strstr(text, "evil"));
}

static void methods_that_only_a_client_names_are_one_series(void **state UNUSED)
{
    open_monitor();
    observe(SERVICE "GetStatus", ERROR_NONE, "");
    observe(SERVICE "Nonsense1", ERROR_UNIMPLEMENTED, "");
    observe("/nonsense", ERROR_UNIMPLEMENTED, "");
    auto_free char *text = page();
    assert_contains(text, "tdvol_keybroker_operations_seconds_count{method_name=\"GetStatus\","
                          "grpc_status_code=\"OK\"} 1\n");
    assert_contains(text, "_count{method_name=\"Other\",grpc_status_code=\"UNIMPLEMENTED\"} 2\n");
    assert_null(strstr(text, "onsense"));
}

static void collateral_and_sessions_are_shown(void **state UNUSED)
{
    const struct sim_tcb tcb = sim_tcb_default();
    char line[160];

    open_collateral();
    open_monitor();
    auto_free char *text = page();
#define PLATFORM "{fmspc=\"a0c06f000000\",ca=\"platform\"}"
    (void)snprintf(line, sizeof(line),
                   "tdvol_collateral_next_update_timestamp_seconds" PLATFORM " %lld\n",
                   (long long)tcb.next_update);
    assert_contains(text, line);
    assert_contains(text, "tdvol_collateral_evaluation_number" PLATFORM " 18\n");
    assert_contains(text, "tdvol_collateral_refresh_failed" PLATFORM " 0\n");
    assert_contains(text, "\ntdvol_attested_sessions 7\n");
    assert_contains(text, "\ntdvol_audit_lines_total 1\n");
    assert_contains(text, "\nprocess_resident_memory_bytes ");
}

static void with_an_expired_certificate_it_is_not_ready(void **state UNUSED)
{
    int64_t now = (int64_t)(now_ms / 1000);

    open_monitor();
    atomic_store(&fixture.broker.certificate_until, now + 1);
    assert_ok(monitor_check_ready(monitor, &err));
    atomic_store(&fixture.broker.certificate_until, now - 1);
    atomic_store(&fixture.broker.certificate_failed, true);
    assert_refused(ERROR_FAILED_PRECONDITION, monitor_check_ready(monitor, &err));
    assert_contains(err.text, "certificate is expired");
    auto_free char *text = page();
    char line[96];

    (void)snprintf(line, sizeof(line),
                   "\ntdvol_keybroker_certificate_expiry_timestamp_seconds %lld\n",
                   (long long)now - 1);
    assert_contains(text, line);
    assert_contains(text, "\ntdvol_keybroker_certificate_reload_failed 1\n");
    atomic_store(&fixture.broker.certificate_until, 0);
}

static void a_changed_store_is_shown(void **state UNUSED)
{
    open_monitor();
    auto_free char *before = page();
    assert_contains(before, "\ntdvol_store_refused_total 0\n");
    assert_contains(before, "\ntdvol_store_changed 0\n");
    fixture.broker.check.is_changed = true;
    (void)store_refuse(fixture.broker.store, "v", "record", &err);
    auto_free char *text = page();
    assert_contains(text, "\ntdvol_store_refused_total 1\n");
    assert_contains(text, "\ntdvol_store_changed 1\n");
    assert_contains(text, "\ntdvol_audit_broken 0\n");
    assert_contains(text, "\ntdvol_audit_unwritten_refusals_total 0\n");
}

static void an_address_that_is_none_is_refused(void **state UNUSED)
{
    open_monitor();
    assert_refused(ERROR_INVALID_ARGUMENT, monitor_serve(monitor, "localhost", &err));
    assert_contains(err.text, "--http");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(sealed_is_not_ready),
        CASE(what_does_not_listen_yet_is_not_ready),
        CASE(a_store_that_does_not_answer_is_not_ready),
        CASE(a_store_is_not_asked_before_the_broker_is_open),
        CASE(with_all_collateral_expired_it_is_not_ready),
        CASE(verdicts_are_counted_in_known_words_only),
        CASE(who_was_turned_away_is_counted),
        CASE(methods_that_only_a_client_names_are_one_series),
        CASE(collateral_and_sessions_are_shown),
        CASE(with_an_expired_certificate_it_is_not_ready),
        CASE(a_changed_store_is_shown),
        CASE(an_address_that_is_none_is_refused),
    };

    return RUN_TESTS(tests);
}
