/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/grpc_runtime.h"
#include "proto/network.h"
#include "tests/unit/proto/certificates.h"
#include "tests/unit/proto/fixture.h"
#include "tests/unit/test.h"

#include <grpc/grpc_security.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "csi.pb-c.h"

static int set_up(void **state)
{
    int failed = fixture_set_up_door(state);

    fixture_start(*state);
    return failed;
}

static void the_handler_sees_the_client_certificate(void **state)
{
    struct fixture *t = *state;
    struct error err = ERROR_INIT;
    struct client *client = connect_to(t->target, t->tls);

    if (ask_info(client, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    char peer[4096];
    bool reused = true;
    last_peer(&t->node, peer, sizeof(peer), &reused);
    assert_string_equal(peer, t->user.certificate_pem);
    assert_string_equal(t->node.address, "127.0.0.1");
    assert_false(reused);
    client_free(client);

    client = connect_to(t->target, t->tls); /* a new connection does not resume the old one */
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    last_peer(&t->node, peer, sizeof(peer), &reused);
    assert_false(reused);
    client_free(client);
}

static void the_client_sees_which_server_answered(void **state)
{
    struct fixture *t = *state;
    Csi__V1__NodeGetInfoRequest request = CSI__V1__NODE_GET_INFO_REQUEST__INIT;
    const struct client_question question = { &csi__v1__node__descriptor, "NodeGetInfo",
                                              &request.base, 5000 };
    struct client *client = connect_to(t->target, t->tls);

    for (int i = 0; i < 2; i++) { /* a call that connects, and one that finds a connection */
        auto_arena struct arena arena = { .limit = 65536 };
        struct client_reply reply = { .message = NULL };
        struct error err = ERROR_INIT;

        assert_ok(client_ask(client, &question, &arena, &reply, &err));
        assert_string_equal(reply.certificate_pem, t->identity.certificate_pem);
    }
    client_free(client);
}

static void ask_who_answers(struct client *client, const char *certificate_pem)
{
    Csi__V1__NodeGetInfoRequest request = CSI__V1__NODE_GET_INFO_REQUEST__INIT;
    const struct client_question question = { &csi__v1__node__descriptor, "NodeGetInfo",
                                              &request.base, 5000 };
    auto_arena struct arena arena = { .limit = 65536 };
    struct client_reply reply = { .message = NULL };
    struct error err = ERROR_INIT;

    assert_ok(client_ask(client, &question, &arena, &reply, &err));
    assert_string_equal(reply.certificate_pem, certificate_pem);
}

static void a_changed_certificate_is_for_new_connections(void **state)
{
    struct fixture *t = *state;
    struct test_identity next;
    auto_secret struct secret key = SECRET_INIT;
    struct server_tls tls = { .private_key_pem = &t->key, .client_ca_pem = t->ca.certificate_pem };
    struct client *before = connect_to(t->target, t->tls);
    struct error err = ERROR_INIT;

    ask_who_answers(before, t->identity.certificate_pem);
    test_identity_make(&next, "broker", &t->ca);
    tls.certificate_pem = next.certificate_pem; /* with the key of the old one: nothing changes */
    assert_refused(ERROR_INVALID_ARGUMENT, door_change_tls(t->door, &tls, &err));
    assert_ok(secret_alloc(&key, strlen(next.key_pem), &err));
    memcpy(key.bytes, next.key_pem, key.len);
    tls.private_key_pem = &key;
    err = (struct error)ERROR_INIT;
    assert_ok(door_change_tls(t->door, &tls, &err));
    ask_who_answers(before, t->identity.certificate_pem);
    struct client *after = connect_to(t->target, t->tls);

    ask_who_answers(after, next.certificate_pem);
    client_free(before);
    client_free(after);
    test_identity_free(&next);
}

static void a_server_under_another_ca_is_not_trusted(void **state)
{
    struct fixture *t = *state;
    struct client_tls tls = *t->tls;
    struct test_identity other;
    struct error err = ERROR_INIT;

    test_identity_make(&other, "other ca", NULL);
    tls.ca_pem = other.certificate_pem;
    struct client *client = connect_to(t->target, &tls);
    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE);
    client_free(client);
    test_identity_free(&other);
}

static void a_server_of_another_name_is_not_trusted(void **state)
{
    struct fixture *t = *state;
    struct client_tls tls = *t->tls;
    struct error err = ERROR_INIT;

    tls.server_name = "elsewhere.example";
    struct client *client = connect_to(t->target, &tls);

    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE);
    client_free(client);
    tls.server_name = "localhost"; /* as in the certificate */
    client = connect_to(t->target, &tls);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    client_free(client);
}

static void tls_1_2_is_refused(void **state)
{
    struct fixture *t = *state;

    assert_true(tls_connects(t->port, TLS1_3_VERSION, &t->user));
    assert_false(tls_connects(t->port, TLS1_2_VERSION, &t->user));
}

static void a_client_without_certificate_is_refused(void **state)
{
    struct fixture *t = *state;

    assert_true(tls_connects(t->port, TLS1_3_VERSION, &t->user));
    assert_false(tls_connects(t->port, TLS1_3_VERSION, NULL));
}

static void a_plain_client_is_refused(void **state)
{
    struct fixture *t = *state;
    struct error err = ERROR_INIT;
    struct client *client = connect_to(t->target, NULL);

    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE);
    client_free(client);
}

/* Calls that begin and then send nothing, over one connection. */
struct dawdlers {
    grpc_channel *channel;
    grpc_completion_queue *queue;
    size_t n;
    struct dawdler {
        grpc_call *call;
        grpc_status_code code;
        grpc_slice text;
        grpc_metadata_array initial, trailing;
    } all[INTAKE_EACH_MAX];
};

static void dawdlers_begin(struct dawdlers *d, const struct fixture *t)
{
    grpc_ssl_pem_key_cert_pair pair = { t->user.key_pem, t->user.certificate_pem };
    grpc_channel_credentials *credentials =
        grpc_ssl_credentials_create(t->ca.certificate_pem, &pair, NULL, NULL);
    const grpc_slice method = grpc_slice_from_static_string("/csi.v1.Node/NodeGetInfo");

    d->channel = grpc_channel_create(t->target, credentials, NULL);
    d->queue = grpc_completion_queue_create_for_next(NULL);
    grpc_channel_credentials_release(credentials);
    for (d->n = 0; d->n < ARRAY_LEN(d->all); d->n++) {
        struct dawdler *one = &d->all[d->n];
        grpc_op begin = { .op = GRPC_OP_SEND_INITIAL_METADATA };
        grpc_op answer = { .op = GRPC_OP_RECV_INITIAL_METADATA };
        grpc_op end = { .op = GRPC_OP_RECV_STATUS_ON_CLIENT };

        grpc_metadata_array_init(&one->initial);
        grpc_metadata_array_init(&one->trailing);
        answer.data.recv_initial_metadata.recv_initial_metadata = &one->initial;
        end.data.recv_status_on_client.trailing_metadata = &one->trailing;
        end.data.recv_status_on_client.status = &one->code;
        end.data.recv_status_on_client.status_details = &one->text;
        one->call =
            grpc_channel_create_call(d->channel, NULL, GRPC_PROPAGATE_DEFAULTS, d->queue, method,
                                     NULL, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        assert_int_equal(grpc_call_start_batch(one->call, &begin, 1, NULL, NULL), GRPC_CALL_OK);
        assert_int_equal(grpc_call_start_batch(one->call, &answer, 1, NULL, NULL), GRPC_CALL_OK);
        assert_int_equal(grpc_call_start_batch(one->call, &end, 1, one, NULL), GRPC_CALL_OK);
    }
}

/* Waits until each has its status. */
static void dawdlers_end(struct dawdlers *d)
{
    for (size_t ended = 0; ended < d->n;) {
        grpc_event event = grpc_completion_queue_next(
            d->queue,
            gpr_time_add(gpr_now(GPR_CLOCK_REALTIME), gpr_time_from_seconds(30, GPR_TIMESPAN)),
            NULL);

        assert_int_equal(event.type, GRPC_OP_COMPLETE);
        ended += event.tag != NULL;
    }
    for (size_t i = 0; i < d->n; i++) {
        grpc_slice_unref(d->all[i].text);
        grpc_metadata_array_destroy(&d->all[i].initial);
        grpc_metadata_array_destroy(&d->all[i].trailing);
        grpc_call_unref(d->all[i].call);
    }
    grpc_channel_destroy(d->channel);
    grpc_completion_queue_shutdown(d->queue);
    while (grpc_completion_queue_next(d->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).type !=
           GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(d->queue);
}

static void unfinished_requests_of_one_address_are_limited(void **state)
{
    struct fixture *t = *state;
    struct client *client = connect_to(t->target, t->tls);
    enum error_code code = ERROR_NONE;
    struct error err = ERROR_INIT;
    static struct dawdlers d;

    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    dawdlers_begin(&d, t);
    for (int i = 0; i < 500 && code == ERROR_NONE; i++) {
        sleep_ms(10);
        code = ask_info(client, &err);
    }
    assert_int_equal(code, ERROR_UNAVAILABLE);
    assert_contains(err.text, "this address has too many unfinished requests");
    dawdlers_end(&d); /* the server ends them */
    for (size_t i = 0; i < d.n; i++)
        assert_int_equal(d.all[i].code, GRPC_STATUS_DEADLINE_EXCEEDED);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    client_free(client);
}

static void a_taken_port_is_an_error(void **state)
{
    struct fixture *t = *state;
    struct door *second = fixture_door(t);
    struct error err = ERROR_INIT;
    uint16_t port = 0;

    assert_refused(ERROR_FAILED_PRECONDITION,
                   fixture_listen_tls(t, second, t->target, &port, &err));
    assert_contains(err.text, t->target);
    assert_int_equal(port, 0);
    door_free(second);
}

static void bad_addresses_are_named(void **state)
{
    static const char *const bad[] = {
        "",      "9809",    "localhost",       "localhost:",  "::1:9809",
        "[::1]", "[]:9809", "localhost:65536", "localhost:-1"
    };
    struct fixture *t = *state;
    struct door *second = fixture_door(t);
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_refused(ERROR_INVALID_ARGUMENT, fixture_listen_tls(t, second, bad[i], NULL, &err));
        assert_contains(err.text, bad[i]);
    }
    assert_refused(ERROR_FAILED_PRECONDITION,
                   fixture_listen_tls(t, second, "192.0.2.1:0", NULL, &err)); /* not ours */
    assert_refused(ERROR_FAILED_PRECONDITION,
                   fixture_listen_tls(t, second, "no.such.name.invalid:0", NULL, &err));
    door_free(second);
}

static bool has_ipv6(void)
{
    const struct sockaddr_in6 address = { .sin6_family = AF_INET6,
                                          .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    auto_close int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return fd >= 0 &&
           bind(fd, (const struct sockaddr *)(const void *)&address, sizeof(address)) == 0;
}

/* The broker's documents name such addresses; each must answer on both families. */
static void one_address_serves_both_families(void **state)
{
    static const char *const addresses[] = { "0.0.0.0:0", "[::]:0", "localhost:0" };
    struct fixture *t = *state;

    if (!has_ipv6())
        skip_because("this machine has no IPv6");
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        struct door *door = fixture_door(t);
        struct error err = ERROR_INIT;
        uint16_t port = 0;

        assert_ok(fixture_listen_tls(t, door, addresses[i], &port, &err));
        assert_ok(door_start(door, &err));
        for (int family = 0; family < 2; family++) {
            char target[64];

            (void)snprintf(target, sizeof(target), family ? "[::1]:%u" : "127.0.0.1:%u", port);
            struct client_tls tls = *t->tls;
            tls.server_name = "localhost";
            struct client *client = connect_to(target, &tls);
            if (ask_info(client, &err) != ERROR_NONE)
                fail_msg("%s, %s: %s", addresses[i], target, err.text);
            assert_string_equal(t->node.address, family ? "::1" : "127.0.0.1");
            client_free(client);
        }
        door_free(door);
    }
}

static void a_bad_key_is_an_error(void **state)
{
    struct fixture *t = *state;
    const struct server_binding binding = { &node_service, &t->node };
    struct server_tls tls = { t->identity.certificate_pem, &t->user_key, t->ca.certificate_pem };
    struct door *second = fixture_door(t);
    struct error err = ERROR_INIT;

    assert_refused(ERROR_INVALID_ARGUMENT,
                   door_listen(second, "127.0.0.1:0", &tls, &binding, 1, NULL, &err));
    tls = (struct server_tls){ "no certificate", &t->key, t->ca.certificate_pem };
    assert_refused(ERROR_INVALID_ARGUMENT,
                   door_listen(second, "127.0.0.1:0", &tls, &binding, 1, NULL, &err));
    tls = (struct server_tls){ t->identity.certificate_pem, &t->key, "no CA" };
    assert_refused(ERROR_INVALID_ARGUMENT,
                   door_listen(second, "127.0.0.1:0", &tls, &binding, 1, NULL, &err));
    door_free(second);
}

#define TLS(name) cmocka_unit_test_setup_teardown(name, set_up, fixture_tear_down)

static int dial_raw(const struct fixture *t)
{
    const struct sockaddr_in where = { .sin_family = AF_INET,
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                       .sin_port = htons(t->port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (const struct sockaddr *)(const void *)&where, sizeof(where)), 0);
    return fd;
}

/* The crowd comes from the same network as the check. */
static void door_is_seen_alive_also_in_a_crowd(void **state)
{
    struct fixture *t = *state;
    struct error err = ERROR_INIT;
    int fds[DOOR_CONNECTIONS_MAX / 2];

    assert_ok(door_check(t->door, &err));
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fds[i] = dial_raw(t);
    assert_ok(door_check(t->door, &err));
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        (void)close(fds[i]);
    assert_ok(door_check(t->door, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TLS(the_handler_sees_the_client_certificate),
        TLS(the_client_sees_which_server_answered),
        TLS(a_changed_certificate_is_for_new_connections),
        TLS(a_server_under_another_ca_is_not_trusted),
        TLS(a_server_of_another_name_is_not_trusted),
        TLS(tls_1_2_is_refused),
        TLS(a_client_without_certificate_is_refused),
        TLS(a_plain_client_is_refused),
        TLS(unfinished_requests_of_one_address_are_limited),
        TLS(a_taken_port_is_an_error),
        TLS(bad_addresses_are_named),
        TLS(one_address_serves_both_families),
        TLS(a_bad_key_is_an_error),
        TLS(door_is_seen_alive_also_in_a_crowd),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return RUN_TESTS(tests);
}
