/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/proto/certificates.h"
#include "tests/unit/proto/fixture.h"
#include "tests/unit/test.h"

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
    tls.server_name = "localhost"; /* in the certificate */
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

static void no_client_certificate_is_refused(void **state)
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
        TLS(no_client_certificate_is_refused),
        TLS(a_plain_client_is_refused),
        TLS(a_taken_port_is_an_error),
        TLS(a_bad_key_is_an_error),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return RUN_TESTS(tests);
}
