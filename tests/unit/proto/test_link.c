/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "proto/resolve.h"
#include "tests/unit/proto/fixture.h"
#include "tests/unit/proto/relay.h"
#include "tests/unit/test.h"

#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * What a client does when addresses, names and servers come and go. The names are the test's own,
 * so each order of events is made, not waited for. The client calls "localhost:1", which nothing
 * but the test's resolver can find; "localhost" is in the server's certificate.
 */

enum {
    NAME_PORT = 1,
    BACK_MS = 5000, /* the longest time without an answer after the trouble is over */
};

/* --- names --- */

struct names {
    struct resolver resolver;
    pthread_mutex_t lock;
    struct address_list addresses; /* n 0: the look-up fails */
    unsigned n_hang;               /* so many look-ups hang until the end */
    unsigned n_asked, n_hanging, n_hanging_max;
    bool is_ending;
};

static struct names names;

static bool resolve(void *cookie, const char *host UNUSED, const char *port UNUSED,
                    struct address_list *out, struct error *err)
{
    struct names *n = cookie;

    (void)pthread_mutex_lock(&n->lock);
    n->n_asked++;
    bool hangs = n->n_hang > 0;
    if (hangs) {
        n->n_hang--;
        n->n_hanging++;
        if (n->n_hanging > n->n_hanging_max)
            n->n_hanging_max = n->n_hanging;
    }
    while (hangs && !n->is_ending) {
        (void)pthread_mutex_unlock(&n->lock);
        sleep_ms(5);
        (void)pthread_mutex_lock(&n->lock);
    }
    n->n_hanging -= hangs;
    *out = n->addresses;
    (void)pthread_mutex_unlock(&n->lock);
    return (!hangs && out->n > 0) ||
           error_set(err, ERROR_UNAVAILABLE, "look up localhost: try again");
}

static void forget_names(void)
{
    (void)pthread_mutex_lock(&names.lock);
    names.addresses.n = 0;
    (void)pthread_mutex_unlock(&names.lock);
}

static void set_names(const uint16_t *ports, size_t n)
{
    (void)pthread_mutex_lock(&names.lock);
    names.addresses.n = n;
    for (size_t i = 0; i < n; i++)
        (void)snprintf(names.addresses.items[i], RESOLVE_ADDRESS_LEN, "ipv4:127.0.0.1:%u",
                       ports[i]);
    (void)pthread_mutex_unlock(&names.lock);
}
#define SET_NAMES(...) \
    set_names((uint16_t[]){ __VA_ARGS__ }, ARRAY_LEN(((uint16_t[]){ __VA_ARGS__ })))

static unsigned asked(void)
{
    (void)pthread_mutex_lock(&names.lock);
    unsigned n = names.n_asked;
    (void)pthread_mutex_unlock(&names.lock);
    return n;
}

/* --- the scene --- */

static struct fixture *f;
static struct client *client;
static struct relay *relay, *silent; /* both lead to the server; silent never passes a byte */
static struct error err;

static int set_up(void **state)
{
    names = (struct names){ .resolver = { .resolve = resolve, .cookie = &names } };
    (void)pthread_mutex_init(&names.lock, NULL);
    assert_int_equal(fixture_set_up_door(state), 0);
    f = *state;
    fixture_start(f);
    relay = relay_start(f->port);
    silent = relay_start(f->port);
    relay_freeze(silent, true);
    client = NULL;
    err = (struct error)ERROR_INIT;
    return 0;
}

static int tear_down(void **state)
{
    client_free(client);
    relay_stop(relay);
    relay_stop(silent);
    (void)pthread_mutex_lock(&names.lock);
    names.is_ending = true;
    while (names.n_hanging > 0) {
        (void)pthread_mutex_unlock(&names.lock);
        sleep_ms(5);
        (void)pthread_mutex_lock(&names.lock);
    }
    (void)pthread_mutex_unlock(&names.lock);
    sleep_ms(20); /* the last look-up leaves */
    return fixture_tear_down(state);
}

static void open_client(const char *target, const char *server_name)
{
    f->client_tls.server_name = server_name;
    assert_ok(client_new_with(target, f->tls, &names.resolver, &client, &err));
}

static void open_localhost(void)
{
    open_client("localhost:1", NULL);
}

/* Asks as a plugin does: again when it failed. Returns how long it took. */
static uint64_t served_after_ms(void)
{
    uint64_t began_ms = clock_now_ms(), now_ms = began_ms;

    while (ask_stats(client, "ok", "", 3000, &err) != ERROR_NONE) {
        now_ms = clock_now_ms();
        if (now_ms - began_ms > 4 * BACK_MS)
            fail_msg("not served: %s", err.text);
        sleep_ms(20);
    }
    return clock_now_ms() - began_ms;
}

static uint16_t refusing_port(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    (void)close(fd);
    return ntohs(at.sin_port);
}

/* --- the order of addresses --- */

static void after_a_refusal_the_next_address_is_tried_at_once(void **state UNUSED)
{
    SET_NAMES(refusing_port(), refusing_port(), refusing_port(), relay_port(relay));
    open_localhost();
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    assert_true(served_after_ms() < 200);
}

static void an_ipv6_address_that_refuses_comes_before_an_ipv4_one(void **state UNUSED)
{
    SET_NAMES(1, relay_port(relay));
    (void)snprintf(names.addresses.items[0], RESOLVE_ADDRESS_LEN, "ipv6:[::1]:%u", refusing_port());
    open_localhost();
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
}

static void an_address_that_is_silent_does_not_keep_the_next_one_waiting(void **state UNUSED)
{
    SET_NAMES(relay_port(silent), relay_port(relay));
    open_localhost();
    uint64_t took_ms = served_after_ms();
    assert_in_range(took_ms, 200, 1500);
    assert_int_equal(relay_accepted(silent), 1);
    assert_true(served_after_ms() < 200); /* it stays with the one that answered */
    assert_int_equal(relay_accepted(relay), 1);
}

static void when_all_refuse_the_call_fails_at_once_and_says_why(void **state UNUSED)
{
    uint64_t began_ms = clock_now_ms();

    SET_NAMES(refusing_port(), refusing_port());
    open_localhost();
    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE);
    assert_contains(err.text, "no connection to localhost:1");
    assert_contains(err.text, "Connection refused");
    assert_true(clock_now_ms() - began_ms < 1000);
}

static void a_server_that_is_silent_is_named(void **state UNUSED)
{
    SET_NAMES(relay_port(silent));
    open_localhost();
    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE);
    assert_contains(err.text, "does not answer");
    relay_freeze(silent, false); /* it goes on: SIGCONT */
    assert_in_range(served_after_ms(), 0, BACK_MS);
}

static void the_deadline_of_a_call_holds_while_nothing_answers(void **state UNUSED)
{
    uint64_t began_ms = clock_now_ms();

    SET_NAMES(relay_port(silent));
    open_localhost();
    assert_int_equal(ask_stats(client, "ok", "", 300, &err), ERROR_DEADLINE_EXCEEDED);
    names.n_hang = 3;
    assert_int_equal(ask_stats(client, "ok", "", 300, &err), ERROR_DEADLINE_EXCEEDED);
    assert_true(clock_now_ms() - began_ms < 2000);
}

/* --- the fault: the list is replaced while its first address is being tried --- */

static void a_list_that_is_replaced_while_connecting_is_used(void **state UNUSED)
{
    SET_NAMES(refusing_port(), relay_port(relay));
    open_localhost();
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    unsigned before = asked();

    SET_NAMES(relay_port(silent)); /* what the first look-up after the cut finds */
    relay_cut(relay);              /* as keepalive does */
    assert_int_equal(ask_stats(client, "ok", "", 500, &err), ERROR_DEADLINE_EXCEEDED);
    assert_int_equal(asked(), before + 1);
    assert_int_equal(relay_accepted(silent), 1); /* it is being tried */
    SET_NAMES(refusing_port(), relay_port(silent), relay_port(relay));
    assert_in_range(served_after_ms(), 0, 2500);
    assert_int_equal(relay_accepted(silent), 1); /* and was not given up for the new list */
}

static void a_list_may_change_at_every_look_up(void **state UNUSED)
{
    open_localhost();
    for (int i = 0; i < 6; i++) {
        SET_NAMES(refusing_port(), relay_port(silent), relay_port(relay), refusing_port());
        assert_in_range(served_after_ms(), 0, BACK_MS);
        SET_NAMES(relay_port(silent), refusing_port());
        relay_cut(relay);
        (void)ask_stats(client, "ok", "", (uint64_t)i * 60, &err);
        SET_NAMES(relay_port(relay), relay_port(silent));
        assert_in_range(served_after_ms(), 0, BACK_MS);
        relay_cut(relay);
    }
}

static void an_address_that_refused_is_tried_again_beside_a_silent_one(void **state UNUSED)
{
    uint16_t port = refusing_port();
    struct door *other = fixture_door(f);
    char address[32];

    SET_NAMES(port, relay_port(silent));
    open_localhost();
    assert_int_equal(ask_stats(client, "ok", "", 300, &err), ERROR_DEADLINE_EXCEEDED);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", port);
    assert_ok(fixture_listen_tls(f, other, address, &port, &err) && door_start(other, &err));
    assert_in_range(served_after_ms(), 0, 2500);
    client_free(TAKE_PTR(client));
    door_free(other);
}

/* --- servers come and go --- */

static void a_connection_that_was_closed_is_noticed_before_the_call(void **state UNUSED)
{
    SET_NAMES(relay_port(relay));
    open_localhost();
    for (int i = 0; i < 20; i++) {
        assert_int_equal(ask_stats(client, "ok", "", 3000, &err), ERROR_NONE);
        relay_cut(relay);
    }
    assert_int_equal(relay_accepted(relay), 20);
}

static void a_server_that_hangs_is_left_for_one_that_answers(void **state UNUSED)
{
    SET_NAMES(relay_port(relay));
    open_localhost();
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    relay_freeze(relay, true);
    SET_NAMES(f->port); /* it was started anew elsewhere; nobody closes the old connection */
    assert_int_equal(ask_stats(client, "ok", "", 2500, &err), ERROR_DEADLINE_EXCEEDED);
    assert_in_range(served_after_ms(), 0, BACK_MS);
}

static void a_short_call_that_gets_no_answer_is_no_reason_to_connect_again(void **state UNUSED)
{
    SET_NAMES(relay_port(relay));
    open_localhost();
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    assert_int_equal(ask_stats(client, "until-cancelled", "", 200, &err), ERROR_DEADLINE_EXCEEDED);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    assert_int_equal(relay_accepted(relay), 1);
}

static void a_server_that_hung_and_was_killed_is_found_at_its_new_address(void **state UNUSED)
{
    SET_NAMES(relay_port(relay));
    open_localhost();
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    relay_freeze(relay, true);
    assert_int_not_equal(ask_stats(client, "ok", "", 2500, &err), ERROR_NONE);
    assert_int_not_equal(ask_stats(client, "ok", "", 2500, &err), ERROR_NONE);
    SET_NAMES(refusing_port(), f->port);
    relay_cut(relay);
    assert_in_range(served_after_ms(), 0, BACK_MS);
}

static void an_attempt_that_does_not_end_is_told(void **state UNUSED)
{
    SET_NAMES(relay_port(silent));
    open_localhost();
    assert_ok(client_check(client, 100, &err));
    assert_int_equal(ask_stats(client, "ok", "", 200, &err), ERROR_DEADLINE_EXCEEDED);
    assert_refused(ERROR_FAILED_PRECONDITION, client_check(client, 100, &err));
    assert_ok(client_check(client, 60000, &err));
    assert_int_equal(ask_stats(client, "ok", "", 10000, &err), ERROR_UNAVAILABLE);
    assert_ok(client_check(client, 100, &err)); /* it has ended */
}

/* --- names --- */

static void a_failed_look_up_is_told_at_once_and_not_remembered(void **state UNUSED)
{
    uint64_t began_ms = clock_now_ms();

    open_localhost();
    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE);
    assert_contains(err.text, "look up localhost: try again");
    assert_true(clock_now_ms() - began_ms < 1000);
    for (int i = 0; i < 30; i++) {
        (void)ask_info(client, &err);
        sleep_ms(50);
    }
    assert_in_range(asked(), 3, 20); /* many calls, few questions */
    SET_NAMES(relay_port(relay));
    assert_in_range(served_after_ms(), 0, 1000);
}

static void without_names_the_last_addresses_are_used(void **state UNUSED)
{
    SET_NAMES(relay_port(relay));
    open_localhost();
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    forget_names();
    relay_cut(relay);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    (void)pthread_mutex_lock(&names.lock);
    names.n_hang = 1;
    (void)pthread_mutex_unlock(&names.lock);
    relay_cut(relay);
    assert_in_range(served_after_ms(), 900, 2500); /* a name server that is silent, too */
}

static void a_look_up_whose_question_got_lost_holds_nothing_up(void **state UNUSED)
{
    names.n_hang = 2;
    SET_NAMES(relay_port(relay));
    open_localhost();
    assert_in_range(served_after_ms(), 1500, 3500); /* the third question */
    assert_int_equal(asked(), 3);
}

static void hanging_look_ups_are_few(void **state UNUSED)
{
    uint64_t began_ms = clock_now_ms();

    names.n_hang = 1000;
    open_localhost();
    while (clock_now_ms() - began_ms < 4000)
        (void)ask_stats(client, "ok", "", 100, &err);
    assert_int_equal(asked(), RESOLVE_LOOKUPS_MAX);
    assert_int_equal(names.n_hanging_max, RESOLVE_LOOKUPS_MAX);
    began_ms = clock_now_ms();
    client_free(TAKE_PTR(client)); /* does not wait for them */
    assert_true(clock_now_ms() - began_ms < 500);
}

static void an_ip_address_is_not_looked_up(void **state UNUSED)
{
    char address[32];

    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", f->port);
    open_client(address, NULL);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    assert_int_equal(asked(), 0);
    client_free(client);
    client = NULL;
    (void)snprintf(address, sizeof(address), "[::1]:%u", refusing_port());
    open_client(address, NULL);
    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE);
    assert_contains(err.text, "ipv6:");
    assert_int_equal(asked(), 0);
}

static void targets_without_a_port_are_refused(void **state UNUSED)
{
    static const char *const bad[] = { "", "localhost", ":1", "[]:1", "localhost:123456789" };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_INVALID_ARGUMENT,
                       client_new_with(bad[i], f->tls, &names.resolver, &client, &err));
    client = NULL;
}

/* --- who the server is --- */

/* The certificate is for localhost and 127.0.0.1, whatever address the name leads to. */
static void the_name_in_the_certificate_is_that_of_the_target(void **state UNUSED)
{
    const struct row {
        const char *target, *server_name;
        enum error_code code;
    } rows[] = {
        { "localhost:1", NULL, ERROR_NONE },
        { "broker.example:1", NULL, ERROR_UNAVAILABLE },
        { "localhost.example:1", NULL, ERROR_UNAVAILABLE },
        { "broker.example:1", "localhost", ERROR_NONE },
        { "broker.example:1", "127.0.0.1", ERROR_NONE },
        { "localhost:1", "broker.example", ERROR_UNAVAILABLE },
    };

    SET_NAMES(relay_port(relay));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        open_client(rows[i].target, rows[i].server_name);
        if (ask_info(client, &err) != rows[i].code)
            fail_msg("%s, %s: %s", rows[i].target, rows[i].server_name, err.text);
        client_free(TAKE_PTR(client));
    }
}

static void a_server_of_another_ca_is_passed_over(void **state UNUSED)
{
    struct test_identity ca, identity;
    struct secret key = SECRET_INIT;
    struct door *door = fixture_door(f);
    uint16_t port = 0;

    test_identity_make(&ca, "other ca", NULL);
    test_identity_make(&identity, "broker", &ca);
    assert_ok(secret_alloc(&key, strlen(identity.key_pem), &err));
    memcpy(key.bytes, identity.key_pem, key.len);
    const struct server_binding binding = { &node_service, &f->node };
    const struct server_tls tls = { identity.certificate_pem, &key, NULL };
    assert_ok(door_listen(door, "127.0.0.1:0", &tls, &binding, 1, &port, &err));
    assert_ok(door_start(door, &err));
    SET_NAMES(port);
    open_localhost();
    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE);
    sleep_ms(300);
    SET_NAMES(port, relay_port(relay));
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    client_free(TAKE_PTR(client));
    door_free(door);
    secret_wipe(&key);
    test_identity_free(&identity);
    test_identity_free(&ca);
}

/* --- new credentials --- */

struct slow_call {
    pthread_t thread;
    enum error_code code;
};

static void *call_slowly(void *cookie)
{
    struct slow_call *call = cookie;
    struct error ignored = ERROR_INIT;

    call->code = ask_stats(client, "slow", "", 5000, &ignored);
    return NULL;
}

static void new_credentials_are_used_at_once_and_calls_in_flight_end_well(void **state UNUSED)
{
    struct test_identity user;
    struct secret key = SECRET_INIT;
    struct slow_call call = { .code = ERROR_INTERNAL };
    char peer[4096];
    bool reused = true;

    SET_NAMES(relay_port(relay));
    open_localhost();
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    test_identity_make(&user, "node", &f->ca);
    assert_ok(secret_alloc(&key, strlen(user.key_pem), &err));
    memcpy(key.bytes, user.key_pem, key.len);
    const struct client_tls tls = { f->ca.certificate_pem, user.certificate_pem, &key, NULL };

    assert_int_equal(pthread_create(&call.thread, NULL, call_slowly, &call), 0);
    while (!atomic_load(&f->node.entered))
        sleep_ms(1);
    assert_ok(client_set_tls(client, &tls, &err));
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    last_peer(&f->node, peer, sizeof(peer), &reused);
    assert_string_equal(peer, user.certificate_pem);
    (void)pthread_join(call.thread, NULL);
    assert_int_equal(call.code, ERROR_NONE);
    assert_int_equal(relay_accepted(relay), 2);
    secret_wipe(&key);
    test_identity_free(&user);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(after_a_refusal_the_next_address_is_tried_at_once),
        CASE(an_ipv6_address_that_refuses_comes_before_an_ipv4_one),
        CASE(an_address_that_is_silent_does_not_keep_the_next_one_waiting),
        CASE(when_all_refuse_the_call_fails_at_once_and_says_why),
        CASE(a_server_that_is_silent_is_named),
        CASE(the_deadline_of_a_call_holds_while_nothing_answers),
        CASE(a_list_that_is_replaced_while_connecting_is_used),
        CASE(a_list_may_change_at_every_look_up),
        CASE(an_address_that_refused_is_tried_again_beside_a_silent_one),
        CASE(a_connection_that_was_closed_is_noticed_before_the_call),
        CASE(a_server_that_hangs_is_left_for_one_that_answers),
        CASE(a_short_call_that_gets_no_answer_is_no_reason_to_connect_again),
        CASE(a_server_that_hung_and_was_killed_is_found_at_its_new_address),
        CASE(an_attempt_that_does_not_end_is_told),
        CASE(a_failed_look_up_is_told_at_once_and_not_remembered),
        CASE(without_names_the_last_addresses_are_used),
        CASE(a_look_up_whose_question_got_lost_holds_nothing_up),
        CASE(hanging_look_ups_are_few),
        CASE(an_ip_address_is_not_looked_up),
        CASE(targets_without_a_port_are_refused),
        CASE(the_name_in_the_certificate_is_that_of_the_target),
        CASE(a_server_of_another_ca_is_passed_over),
        CASE(new_credentials_are_used_at_once_and_calls_in_flight_end_well),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return RUN_TESTS(tests);
}
