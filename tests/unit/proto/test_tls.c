/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/grpc_runtime.h"
#include "proto/unfinished.h"
#include "tests/unit/proto/certificates.h"
#include "tests/unit/proto/fixture.h"
#include "tests/unit/test.h"

#include <grpc/grpc_security.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csi.pb-c.h"

struct tls_fixture {
    struct fixture *base;
    struct test_identity ca, server, user, other_ca;
    struct secret server_key, user_key;
    uint16_t port;
    char target[32];
};

static void copy_secret(struct secret *out, const char *text)
{
    struct error err = ERROR_INIT;

    assert_true(secret_alloc(out, strlen(text), &err));
    memcpy(out->bytes, text, out->len);
}

static int set_up_tls(void **state)
{
    struct tls_fixture *t = calloc(1, sizeof(*t));
    struct error err = ERROR_INIT;

    assert_non_null(t);
    assert_int_equal(fixture_set_up((void **)&t->base), 0);
    test_identity_make(&t->ca, "ca", NULL);
    test_identity_make(&t->other_ca, "other ca", NULL);
    test_identity_make(&t->server, "broker", &t->ca);
    test_identity_make(&t->user, "node", &t->ca);
    copy_secret(&t->server_key, t->server.key_pem);
    copy_secret(&t->user_key, t->user.key_pem);

    const struct server_tls tls = { t->server.certificate_pem, &t->server_key,
                                    t->ca.certificate_pem };
    const struct server_binding binding = { &node_service, &t->base->node };
    if (!server_listen_tls(t->base->server, "127.0.0.1:0", &tls, &binding, 1, &t->port, &err) ||
        !server_start(t->base->server, &err))
        fail_msg("%s", err.text);
    (void)snprintf(t->target, sizeof(t->target), "127.0.0.1:%u", t->port);
    *state = t;
    return 0;
}

static int tear_down_tls(void **state)
{
    struct tls_fixture *t = *state;

    assert_int_equal(fixture_tear_down((void **)&t->base), 0);
    test_identity_free(&t->ca);
    test_identity_free(&t->other_ca);
    test_identity_free(&t->server);
    test_identity_free(&t->user);
    secret_wipe(&t->server_key);
    secret_wipe(&t->user_key);
    free(t);
    return 0;
}

static void the_handler_sees_the_client_certificate(void **state)
{
    struct tls_fixture *t = *state;
    const struct client_tls tls = { t->ca.certificate_pem, t->user.certificate_pem, &t->user_key,
                                    NULL };
    struct error err = ERROR_INIT;
    struct client *client = connect_to(t->target, &tls);

    if (ask_info(client, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    char peer[4096];
    bool reused = true;
    last_peer(&t->base->node, peer, sizeof(peer), &reused);
    assert_string_equal(peer, t->user.certificate_pem);
    assert_string_equal(t->base->node.address, "127.0.0.1");
    assert_false(reused);
    client_free(client);

    client = connect_to(t->target, &tls); /* a new connection does not resume the old one */
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    last_peer(&t->base->node, peer, sizeof(peer), &reused);
    assert_false(reused);
    client_free(client);
}

static void the_client_sees_which_server_answered(void **state)
{
    struct tls_fixture *t = *state;
    const struct client_tls tls = { t->ca.certificate_pem, t->user.certificate_pem, &t->user_key,
                                    NULL };
    Csi__V1__NodeGetInfoRequest request = CSI__V1__NODE_GET_INFO_REQUEST__INIT;
    const struct client_question question = { &csi__v1__node__descriptor, "NodeGetInfo",
                                              &request.base, 5000 };
    struct client *client = connect_to(t->target, &tls);

    for (int i = 0; i < 2; i++) { /* a call that connects, and one that finds a connection */
        auto_arena struct arena arena = { .limit = 65536 };
        struct client_reply reply = { .message = NULL };
        struct error err = ERROR_INIT;

        assert_ok(client_ask(client, &question, &arena, &reply, &err));
        assert_string_equal(reply.certificate_pem, t->server.certificate_pem);
    }
    client_free(client);
}

static void a_server_under_another_ca_is_not_trusted(void **state)
{
    struct tls_fixture *t = *state;
    const struct client_tls tls = { t->other_ca.certificate_pem, t->user.certificate_pem,
                                    &t->user_key, NULL };
    struct error err = ERROR_INIT;
    struct client *client = connect_to(t->target, &tls);

    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE);
    client_free(client);
}

static void a_server_of_another_name_is_not_trusted(void **state)
{
    struct tls_fixture *t = *state;
    struct client_tls tls = { t->ca.certificate_pem, t->user.certificate_pem, &t->user_key,
                              "elsewhere.example" };
    struct error err = ERROR_INIT;
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
    struct tls_fixture *t = *state;

    assert_true(tls_connects(t->port, TLS1_3_VERSION, &t->user));
    assert_false(tls_connects(t->port, TLS1_2_VERSION, &t->user));
}

static void a_client_without_certificate_is_refused(void **state)
{
    struct tls_fixture *t = *state;

    assert_true(tls_connects(t->port, TLS1_3_VERSION, &t->user));
    assert_false(tls_connects(t->port, TLS1_3_VERSION, NULL));
}

static void a_plain_client_is_refused(void **state)
{
    struct tls_fixture *t = *state;
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
    } all[UNFINISHED_EACH_MAX];
};

static void dawdlers_begin(struct dawdlers *d, const struct tls_fixture *t)
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
    struct tls_fixture *t = *state;
    const struct client_tls tls = { t->ca.certificate_pem, t->user.certificate_pem, &t->user_key,
                                    NULL };
    struct client *client = connect_to(t->target, &tls);
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
    struct tls_fixture *t = *state;
    const struct server_tls tls = { t->server.certificate_pem, &t->server_key,
                                    t->ca.certificate_pem };
    const struct server_binding binding = { &node_service, &t->base->node };
    struct server *second = fixture_server(t->base);
    struct error err = ERROR_INIT;
    uint16_t port = 0;

    assert_false(server_listen_tls(second, t->target, &tls, &binding, 1, &port, &err));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    assert_non_null(strstr(err.text, t->target));
    assert_int_equal(port, 0);
    server_free(second);
}

static void a_bad_key_is_an_error(void **state)
{
    struct tls_fixture *t = *state;
    const struct server_tls tls = { t->server.certificate_pem, &t->user_key,
                                    t->ca.certificate_pem };
    const struct server_binding binding = { &node_service, &t->base->node };
    struct server *second = fixture_server(t->base);
    struct error err = ERROR_INIT;

    assert_false(server_listen_tls(second, "127.0.0.1:0", &tls, &binding, 1, NULL, &err));
    server_free(second);
}

#define TLS(name) cmocka_unit_test_setup_teardown(name, set_up_tls, tear_down_tls)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TLS(the_handler_sees_the_client_certificate),
        TLS(the_client_sees_which_server_answered),
        TLS(a_server_under_another_ca_is_not_trusted),
        TLS(a_server_of_another_name_is_not_trusted),
        TLS(tls_1_2_is_refused),
        TLS(a_client_without_certificate_is_refused),
        TLS(a_plain_client_is_refused),
        TLS(unfinished_requests_of_one_address_are_limited),
        TLS(a_taken_port_is_an_error),
        TLS(a_bad_key_is_an_error),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return RUN_TESTS(tests);
}
