/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "keys/broker_set.h"
#include "tests/unit/csi/site.h"
#include "tests/unit/test.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Calls in sessions, with one and with two brokers: which calls wait, which errors they get, and
 * when the node attests. */

#define THREADS    8
#define REFUSED_MS 300
#define WAIT_MS    60000 /* for what will happen, however busy the machine is */

static const struct session_pace pace = {
    .interval_ms = 1,
    .setbacks = { [SETBACK_UNREACHABLE] = { 20, 40 },
                  [SETBACK_SOON] = { 20, 40 },
                  [SETBACK_REFUSED] = { REFUSED_MS, 10000 } },
};

static struct site a, b;
static struct identity other;
static struct domain domain;
static struct attestation attestation;
static struct broker_route routes[2];
static struct metrics *metrics;
static struct sessions *sessions;
static struct broker_set *set;
static struct broker_transport door;
static size_t waiting_max;
static struct error err;

static int set_up(void **state UNUSED)
{
    site_make(&a);
    site_make(&b);
    domain_make(&domain);
    assert_ok(identity_new("other", &other, &err));
    assert_ok(metrics_new(&metrics, &err));
    attestation = domain_attestation(&domain);
    routes[0] = site_route(&a, "a:1");
    routes[1] = site_route(&b, "b:1");
    waiting_max = THREADS;
    sessions = NULL;
    set = NULL;
    return 0;
}

static int tear_down(void **state UNUSED)
{
    broker_set_free(set);
    sessions_free(sessions);
    metrics_free(metrics);
    identity_wipe(&other);
    domain_free(&domain);
    site_free(&b);
    site_free(&a);
    return 0;
}

static void make(size_t n_routes, bool is_attested)
{
    const struct session_options options = { &attestation, routes,      n_routes,
                                             &pace,        waiting_max, metrics };

    if (is_attested)
        assert_ok(sessions_new(&options, &sessions, &err));
    const struct broker_set_options set_options = { routes, n_routes, sessions, attestation.pins };
    assert_ok(broker_set_new(&set_options, &set, &err));
    door = broker_set_transport(set);
    if (is_attested)
        assert_ok(sessions_start(sessions, &err));
}

static bool call_as(const char *method, struct error *out_err)
{
    auto_arena struct arena arena = { .limit = 1u << 20 };
    Tdvol__Keybroker__V1__GetRecordRequest record;
    Tdvol__Keybroker__V1__GetStatusRequest status;
    ProtobufCMessage *response = NULL;
    bool is_status = strcmp(method, "GetStatus") == 0;

    tdvol__keybroker__v1__get_record_request__init(&record);
    tdvol__keybroker__v1__get_status_request__init(&status);
    *out_err = (struct error)ERROR_INIT;
    bool done = door.call(door.cookie, "Test", method, is_status ? &status.base : &record.base,
                          &arena, &response, out_err);
    assert_int_equal(done, response != NULL);
    return done;
}

static bool call(void)
{
    return call_as("GetRecord", &err);
}

static unsigned attests(struct site *site)
{
    return site_count(site, &site->n_attests);
}

static void wait_for_attests(struct site *site, unsigned n)
{
    for (int i = 0; i < WAIT_MS && attests(site) < n; i++)
        (void)usleep(1000);
    assert_true(attests(site) >= n);
}

/* --- many at once --- */

static atomic_uint n_failed;
static atomic_bool is_over;

static void *call_once(void *cookie UNUSED)
{
    struct error mine = ERROR_INIT;

    if (!call_as("GetRecord", &mine))
        (void)atomic_fetch_add(&n_failed, 1);
    return NULL;
}

static void *call_on(void *cookie)
{
    while (!atomic_load(&is_over)) {
        (void)call_once(cookie);
        (void)usleep(2000);
    }
    return NULL;
}

static void start_threads(pthread_t threads[static THREADS], void *(*run)(void *))
{
    atomic_store(&n_failed, 0);
    atomic_store(&is_over, false);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run, NULL), 0);
}

static void join_threads(const pthread_t threads[static THREADS])
{
    atomic_store(&is_over, true);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void call_in_parallel(void)
{
    pthread_t threads[THREADS];

    start_threads(threads, call_once);
    join_threads(threads);
}

static void many_calls_share_one_attestation(void **state UNUSED)
{
    domain.quote_ms = 50;
    make(1, true);
    call_in_parallel();
    assert_int_equal(atomic_load(&n_failed), 0);
    assert_int_equal(attests(&a), 1);
    assert_int_equal(domain.n_quotes, 1);
    assert_int_equal(site_count(&a, &a.n_calls), THREADS);
}

static void few_calls_wait_and_the_others_are_told_to_retry(void **state UNUSED)
{
    pthread_t threads[THREADS];

    waiting_max = 2;
    domain.quote_ms = 3000;
    make(1, true);
    start_threads(threads, call_once);
    for (int i = 0; i < WAIT_MS && atomic_load(&n_failed) < THREADS - 2; i++)
        (void)usleep(1000);
    assert_int_equal(attests(&a), 0);
    assert_int_equal(atomic_load(&n_failed), THREADS - 2);
    join_threads(threads);
    assert_int_equal(atomic_load(&n_failed), THREADS - 2);
    assert_ok(call());
}

static void session_is_there_before_the_first_call(void **state UNUSED)
{
    make(1, true);
    wait_for_attests(&a, 1);
}

static void session_is_renewed_before_it_ends(void **state UNUSED)
{
    pthread_t threads[THREADS];

    a.life_ms = 3000;
    domain.quote_ms = 30;
    make(1, true);
    uint64_t start_ms = clock_now_ms();
    start_threads(threads, call_on);
    wait_for_attests(&a, 3);
    uint64_t took_ms = clock_now_ms() - start_ms;
    join_threads(threads);
    assert_int_equal(atomic_load(&n_failed), 0);
    assert_true(took_ms >= a.life_ms); /* twice, and each time not long before the end */
    assert_int_equal(domain.most_at_once, 1);
}

static void failed_renewal_leaves_the_session_as_it_is(void **state UNUSED)
{
    a.life_ms = 900;
    make(1, true);
    assert_ok(call());
    site_fail(&a, (struct site_fault){ "Attest", ERROR_DENIED, "TcbOutOfDate", NULL, 1 });
    wait_for_attests(&a, 2); /* at two thirds of the session's life */
    assert_ok(call());
    assert_int_equal(attests(&a), 2);
}

/* --- sessions that are lost --- */

static void lost_session_is_made_up_for_once(void **state UNUSED)
{
    make(1, true);
    assert_ok(call());
    site_forget(&a); /* as a restarted broker does */
    call_in_parallel();
    assert_int_equal(atomic_load(&n_failed), 0);
    assert_int_equal(attests(&a), 2);
}

static void call_is_retried_once_and_no_more(void **state UNUSED)
{
    make(1, true);
    wait_for_attests(&a, 1);
    site_fail(&a, (struct site_fault){ "GetRecord", ERROR_UNAUTHENTICATED, NULL, "who?", 99 });
    assert_refused(ERROR_UNAUTHENTICATED, call());
    assert_string_equal(err.reason, "KeyRefused");
    assert_contains(err.text, "key broker a:1: GetRecord: who?");
    assert_int_equal(site_count(&a, &a.n_calls), 2);
    assert_true(attests(&a) <= 3);
}

/* A broker that takes evidence but knows no session must not keep the node busy with quotes. */
static void broker_without_memory_is_left_alone_for_a_while(void **state UNUSED)
{
    make(1, true);
    site_fail(&a,
              (struct site_fault){ "GetRecord", ERROR_UNAUTHENTICATED, NULL, NULL, UINT32_MAX });
    for (int i = 0; i < 20; i++)
        assert_refused(ERROR_UNAUTHENTICATED, call());
    assert_true(attests(&a) <= 4);
}

static void other_key_in_a_session_is_not_believed(void **state UNUSED)
{
    make(1, true);
    assert_ok(call());
    pthread_mutex_lock(&a.lock);
    a.calls_pem = other.certificate_pem;
    pthread_mutex_unlock(&a.lock);
    assert_refused(ERROR_UNAUTHENTICATED, call());
    assert_contains(err.text, "another key than before");
    pthread_mutex_lock(&a.lock);
    a.calls_pem = NULL;
    pthread_mutex_unlock(&a.lock);
    (void)usleep((REFUSED_MS + 50) * 1000);
    assert_ok(call());
}

/* --- refusals --- */

static void refused_node_is_told_at_once_and_asks_rarely(void **state UNUSED)
{
    site_fail(&a, (struct site_fault){ "Attest", ERROR_DENIED, "TcbOutOfDate", "too old", 2 });
    make(1, true);
    uint64_t start_ms = clock_now_ms();
    for (int i = 0; i < 20; i++) {
        assert_refused(ERROR_DENIED, call());
        assert_string_equal(err.reason, "KeyRefused");
        assert_contains(err.text, "TcbOutOfDate");
        assert_contains(err.text, "too old");
    }
    assert_true(attests(&a) <= 1 + (clock_now_ms() - start_ms) / REFUSED_MS);
    wait_for_attests(&a, 3); /* without a call; the second wait is twice as long */
    assert_true(clock_now_ms() - start_ms >= 3 * REFUSED_MS);
    assert_ok(call());
}

static void refused_call_is_no_reason_to_attest(void **state UNUSED)
{
    make(1, true);
    site_fail(&a, (struct site_fault){ "GetRecord", ERROR_DENIED, NULL, "not yours", 1 });
    assert_refused(ERROR_DENIED, call());
    assert_string_equal(err.reason, "KeyRefused");
    assert_int_equal(attests(&a), 1);
    site_fail(&a, (struct site_fault){ "GetRecord", ERROR_NOT_FOUND, NULL, NULL, 1 });
    assert_refused(ERROR_NOT_FOUND, call());
    assert_string_equal(err.reason, "");
    assert_ok(call());
    assert_int_equal(attests(&a), 1);
}

static void missing_token_is_never_a_missing_volume(void **state UNUSED)
{
    attestation.owner_token = "/nonexistent/token";
    make(1, true);
    assert_refused(ERROR_FAILED_PRECONDITION, call());
    assert_contains(err.text, "/nonexistent/token");
    assert_int_equal(site_count(&a, &a.n_challenges), 0);
}

static void what_comes_soon_is_waited_for(void **state UNUSED)
{
    site_fail(&a, (struct site_fault){ "Attest", ERROR_UNAVAILABLE, "CollateralMissing", NULL, 3 });
    make(1, true);
    call_in_parallel();
    assert_int_equal(atomic_load(&n_failed), 0);
    assert_int_equal(attests(&a), 4);
}

static void nonce_that_grew_old_is_replaced(void **state UNUSED)
{
    site_fail(&a, (struct site_fault){ "Attest", ERROR_UNAUTHENTICATED, NULL, NULL, 1 });
    make(1, true);
    assert_ok(call());
    assert_int_equal(attests(&a), 2);
    assert_int_equal(site_count(&a, &a.n_challenges), 2);
}

static void status_does_not_wait_for_a_session(void **state UNUSED)
{
    domain.quote_ms = 1500;
    make(1, true);
    assert_refused(ERROR_UNAVAILABLE, call_as("GetStatus", &err));
    assert_int_equal(attests(&a), 0);
    assert_ok(call());
    assert_ok(call_as("GetStatus", &err));
}

static void stopping_ends_the_waiting(void **state UNUSED)
{
    pthread_t thread;

    domain.quote_ms = 300;
    domain.fault = (struct site_fault){ "", ERROR_UNAVAILABLE, "QuoteUnavailable", "busy", 99 };
    make(1, true);
    atomic_store(&n_failed, 0);
    assert_int_equal(pthread_create(&thread, NULL, call_once, NULL), 0);
    (void)usleep(50 * 1000);
    sessions_stop(sessions);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(atomic_load(&n_failed), 1);
    assert_refused(ERROR_UNAVAILABLE, call());
    assert_contains(err.text, "busy");
}

/* --- two brokers --- */

static const struct site_fault down = { "", ERROR_UNAVAILABLE, NULL, "connection refused",
                                        UINT32_MAX };

static void second_broker_is_used_and_kept_when_the_first_is_down(void **state UNUSED)
{
    site_fail(&a, down);
    make(2, true);
    assert_ok(call());
    assert_int_equal(attests(&b), 1);
    site_fail(&a, (struct site_fault){ .method = NULL });
    unsigned asked = site_count(&a, &a.n_challenges) + site_count(&a, &a.n_calls);
    for (int i = 0; i < 20; i++)
        assert_ok(call());
    assert_int_equal(site_count(&a, &a.n_challenges) + site_count(&a, &a.n_calls), asked);
    assert_int_equal(site_count(&b, &b.n_calls), 21);
    assert_int_equal(attests(&b), 1);

    (void)usleep(50 * 1000); /* a broker that failed is not asked again at once */
    site_fail(&b, down);
    assert_ok(call());
    assert_int_equal(attests(&a), 1);
}

static void session_with_the_first_is_used_when_it_is_back(void **state UNUSED)
{
    make(2, true);
    assert_ok(call());
    site_fail(&a, down);
    assert_ok(call());
    site_fail(&a, (struct site_fault){ .method = NULL });
    site_fail(&b, down);
    assert_ok(call());
    assert_int_equal(attests(&a) + attests(&b), 2);
}

static void all_down_is_unreachable(void **state UNUSED)
{
    site_fail(&a, down);
    site_fail(&b, down);
    make(2, true);
    assert_refused(ERROR_UNAVAILABLE, call());
    assert_string_equal(err.reason, "BrokerUnreachable");
    assert_contains(err.text, "key broker b:1: GetRecord");
}

static void broker_with_a_wrong_key_is_passed_over(void **state UNUSED)
{
    attestation.pins.n = 1;
    memcpy(attestation.pins.sha256[0], b.key.key_sha256, KEY_SHA256_LEN);
    make(2, true);
    assert_ok(call());
    assert_int_equal(attests(&a), 0);
    assert_int_equal(attests(&b), 1);
    assert_int_equal(domain.n_quotes, 1);
}

static void refusal_of_one_broker_is_not_carried_to_the_next(void **state UNUSED)
{
    site_fail(&a, (struct site_fault){ "Attest", ERROR_DENIED, "NoRule", NULL, 1 });
    make(2, true);
    assert_refused(ERROR_DENIED, call());
    assert_int_equal(attests(&b), 0);
}

/* --- by certificate --- */

static void certificate_needs_no_session(void **state UNUSED)
{
    a.has_session = b.has_session = true; /* they know our certificate */
    make(2, false);
    assert_ok(call());
    site_fail(&a, down);
    assert_ok(call());
    assert_ok(call_as("GetStatus", &err));
    assert_int_equal(site_count(&a, &a.n_challenges) + site_count(&b, &b.n_challenges), 0);
    site_forget(&b);
    assert_refused(ERROR_UNAUTHENTICATED, call());
    assert_string_equal(err.reason, "KeyRefused");
    assert_int_equal(domain.n_quotes, 0);
}

static void broker_with_another_time_is_passed_over(void **state UNUSED)
{
    a.has_session = b.has_session = true;
    site_fail(&a, (struct site_fault){ "GetRecord", ERROR_UNAUTHENTICATED, NULL, "not yet", 99 });
    make(2, false);
    assert_ok(call());
    assert_ok(call());
    site_fail(&b, down);
    assert_refused(ERROR_UNAUTHENTICATED, call());
    assert_contains(err.text, "key broker a:1: GetRecord: not yet");
}

static void pins_hold_with_a_certificate_too(void **state UNUSED)
{
    a.has_session = b.has_session = true;
    attestation.pins.n = 1;
    memcpy(attestation.pins.sha256[0], b.key.key_sha256, KEY_SHA256_LEN);
    make(2, false);
    assert_ok(call());
    assert_int_equal(site_count(&b, &b.n_calls), 1);
    site_fail(&b, down);
    assert_refused(ERROR_UNAVAILABLE, call());
    assert_contains(err.text, "--broker-key-sha256");
}

/* --- metrics --- */

static void metrics_count_results_and_show_the_session(void **state UNUSED)
{
    auto_free char *text = NULL;
    size_t len = 0;

    site_fail(&a, (struct site_fault){ "Attest", ERROR_UNAVAILABLE, "CollateralMissing", NULL, 2 });
    a.life_ms = 100500;
    make(1, true);
    assert_ok(call());
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    metrics_print(metrics, out);
    assert_int_equal(fclose(out), 0);
    assert_contains(text, "tdvol_attestations_total{result=\"CollateralMissing\"} 2\n");
    assert_contains(text, "tdvol_attestations_total{result=\"ok\"} 1\n");
    assert_contains(text, "tdvol_session_seconds{broker=\"a:1\"} 100\n");
}

static void made_up_results_do_not_fill_the_memory(void **state UNUSED)
{
    auto_free char *text = NULL;
    size_t len = 0;

    for (int i = 0; i < 500; i++) {
        char word[16];

        (void)snprintf(word, sizeof(word), "Word%d", i);
        metrics_attested(metrics, word);
    }
    metrics_attested(metrics, "Word1");
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    metrics_print(metrics, out);
    assert_int_equal(fclose(out), 0);
    assert_contains(text, "result=\"Word1\"} 2\n");
    assert_contains(text, "result=\"Other\"} 401\n");
    assert_null(strstr(text, "Word99\""));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(many_calls_share_one_attestation),
        CASE(session_is_there_before_the_first_call),
        CASE(few_calls_wait_and_the_others_are_told_to_retry),
        CASE(session_is_renewed_before_it_ends),
        CASE(failed_renewal_leaves_the_session_as_it_is),
        CASE(lost_session_is_made_up_for_once),
        CASE(call_is_retried_once_and_no_more),
        CASE(broker_without_memory_is_left_alone_for_a_while),
        CASE(other_key_in_a_session_is_not_believed),
        CASE(refused_node_is_told_at_once_and_asks_rarely),
        CASE(refused_call_is_no_reason_to_attest),
        CASE(missing_token_is_never_a_missing_volume),
        CASE(what_comes_soon_is_waited_for),
        CASE(nonce_that_grew_old_is_replaced),
        CASE(status_does_not_wait_for_a_session),
        CASE(stopping_ends_the_waiting),
        CASE(second_broker_is_used_and_kept_when_the_first_is_down),
        CASE(session_with_the_first_is_used_when_it_is_back),
        CASE(all_down_is_unreachable),
        CASE(broker_with_a_wrong_key_is_passed_over),
        CASE(refusal_of_one_broker_is_not_carried_to_the_next),
        CASE(certificate_needs_no_session),
        CASE(broker_with_another_time_is_passed_over),
        CASE(pins_hold_with_a_certificate_too),
        CASE(metrics_count_results_and_show_the_session),
        CASE(made_up_results_do_not_fill_the_memory),
    };

    return RUN_TESTS(tests);
}
