/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/identity.h"
#include "base/digest.h"
#include "base/file.h"
#include "keys/connection.h"
#include "keys/remote_keys.h"
#include "proto/door.h"
#include "tests/unit/base/folder.h"
#include "tests/unit/csi/fake.h"
#include "tests/unit/proto/certificates.h"
#include "tests/unit/test.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "keybroker.pb-c.h"

/* The way from the options to a server over real TLS. The server knows who has attested, and a
 * worker makes the quotes. */

struct broker_server {
    struct door *door;
    struct secret key;
    struct test_identity ca, certificate;
    uint16_t port;
    uint8_t key_sha256[KEY_SHA256_LEN];

    pthread_mutex_t lock; /* guards what follows */
    uint8_t attested_key[KEY_SHA256_LEN];
    bool has_session;
    unsigned n_attests;
    char token[64];
};

static struct broker_server s;
static struct fake *fake;
static struct metrics *metrics;
static struct connection *connection;
static struct option_list brokers, pins;
static struct connection_options options;
static char address[64], ca_path[PATH_MAX];

#define M(name) Tdvol__Keybroker__V1__##name

static bool get_challenge(struct broker_server *b, struct rpc_call *call,
                          const M(GetChallengeRequest) * request UNUSED,
                          M(GetChallengeResponse) * response, struct error *err UNUSED)
{
    uint8_t nonce[BINDING_LEN] = { 9 };

    response->nonce.data = arena_memdup(call->arena, nonce, sizeof(nonce));
    response->nonce.len = sizeof(nonce);
    response->broker_key_sha256.data = arena_memdup(call->arena, b->key_sha256, BINDING_LEN);
    response->broker_key_sha256.len = BINDING_LEN;
    response->remaining_ms = 60000;
    return true;
}

/* The client's key is the one of the TLS session, as for the real broker. */
static bool attest(struct broker_server *b, struct rpc_call *call, const M(AttestRequest) * request,
                   M(AttestResponse) * response, struct error *err)
{
    struct binding binding = { .nonce = { 9 } };
    uint8_t report_data[REPORT_DATA_LEN];
    struct quote quote;

    memcpy(binding.broker_key_sha256, b->key_sha256, BINDING_LEN);
    if (!key_sha256_of_certificate(call->peer->certificate_pem, binding.client_key_sha256, err) ||
        !sha256(request->sealing_public_key.data, request->sealing_public_key.len,
                binding.sealing_key_sha256, err) ||
        !binding_report_data(&binding, report_data, err) ||
        !quote_parse(request->quote.data, request->quote.len, &quote, err))
        return false;
    if (!bytes_are_equal(quote.td.report_data, report_data, REPORT_DATA_LEN) &&
        !error_set(err, ERROR_DENIED, "the quote is for somebody else"))
        return error_reason(err, "ReportData");
    pthread_mutex_lock(&b->lock);
    memcpy(b->attested_key, binding.client_key_sha256, KEY_SHA256_LEN);
    b->has_session = true;
    b->n_attests++;
    (void)snprintf(b->token, sizeof(b->token), "%.*s", (int)request->owner_token.len,
                   (const char *)request->owner_token.data);
    pthread_mutex_unlock(&b->lock);
    response->remaining_ms = 3600000;
    response->tenant = arena_strdup(call->arena, "t");
    response->rule = arena_strdup(call->arena, "r");
    return true;
}

static bool get_status(struct broker_server *b, struct rpc_call *call,
                       const M(GetStatusRequest) * request UNUSED, M(GetStatusResponse) * response,
                       struct error *err)
{
    uint8_t key[KEY_SHA256_LEN];

    if (!key_sha256_of_certificate(call->peer->certificate_pem, key, err))
        return false;
    pthread_mutex_lock(&b->lock);
    bool is_known = b->has_session && bytes_are_equal(key, b->attested_key, sizeof(key));
    pthread_mutex_unlock(&b->lock);
    response->state = TDVOL__KEYBROKER__V1__BROKER_STATE__BROKER_STATE_OPEN;
    return is_known || error_set(err, ERROR_UNAUTHENTICATED, "attest first");
}

RPC_HANDLER(get_challenge, struct broker_server, M(GetChallengeRequest), M(GetChallengeResponse))
RPC_HANDLER(attest, struct broker_server, M(AttestRequest), M(AttestResponse))
RPC_HANDLER(get_status, struct broker_server, M(GetStatusRequest), M(GetStatusResponse))
static const struct rpc_method methods[] = {
    { "GetChallenge", get_challenge_untyped, 0 },
    { "Attest", attest_untyped, 0, 2 << 20 },
    { "GetStatus", get_status_untyped, 0 },
};
static const struct rpc_service service = { &tdvol__keybroker__v1__key_broker__descriptor, methods,
                                            ARRAY_LEN(methods) };

static struct error err; /* of the tests: the handlers above have their own */

static void start_server(void)
{
    const struct server_options server_options = {
        .n_workers = 2, .limits = { .message_bytes = 65536, .string_bytes = 128, .map_bytes = 4096 }
    };
    const struct server_binding binding = { &service, &s };

    s = (struct broker_server){ .key = SECRET_INIT };
    assert_int_equal(pthread_mutex_init(&s.lock, NULL), 0);
    test_identity_make(&s.ca, "ca", NULL);
    test_identity_make(&s.certificate, "broker", &s.ca);
    assert_ok(secret_alloc(&s.key, strlen(s.certificate.key_pem), &err));
    memcpy(s.key.bytes, s.certificate.key_pem, s.key.len);
    assert_ok(key_sha256_of_certificate(s.certificate.certificate_pem, s.key_sha256, &err));
    const struct server_tls tls = { s.certificate.certificate_pem, &s.key, NULL };
    assert_ok(door_new(&server_options, &s.door, &err));
    assert_ok(door_listen(s.door, "127.0.0.1:0", &tls, &binding, 1, &s.port, &err));
    assert_ok(door_start(s.door, &err));
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", s.port);
    (void)snprintf(ca_path, sizeof(ca_path), "%s", folder_path("ca.crt"));
    assert_ok(file_write(ca_path, 0600, s.ca.certificate_pem, strlen(s.ca.certificate_pem), &err));
}

static int set_up(void **state)
{
    assert_int_equal(folder_make(state), 0);
    start_server();
    fake = fake_new();
    connection = NULL;
    brokers = (struct option_list){ 1, { address } };
    pins = (struct option_list){ .n = 0 };
    options = (struct connection_options){ .brokers = &brokers,
                                           .ca = ca_path,
                                           .pins = &pins,
                                           .common_name = "node-1",
                                           .blocks = &fake->plugin.workers };
    return metrics_new(&metrics, &err) ? 0 : -1;
}

static int tear_down(void **state)
{
    connection_free(connection);
    door_free(s.door);
    metrics_free(metrics);
    fake_free(fake);
    secret_wipe(&s.key);
    test_identity_free(&s.certificate);
    test_identity_free(&s.ca);
    (void)pthread_mutex_destroy(&s.lock);
    return folder_remove(state);
}

static void open_connection(void)
{
    assert_ok(connection_new(&options, &connection, &err));
    assert_ok(connection_open(connection, metrics, &err));
    assert_ok(connection_start(connection, &err));
}

/* GetStatus does not wait for a session, so this asks again until the session is there. */
static bool ask_until(enum error_code wanted)
{
    struct remote_keys keys;

    remote_keys_init(&keys, connection_transport(connection), "d", "n");

    for (int i = 0; i < 500; i++) {
        err = (struct error)ERROR_INIT;
        (void)!keys.keys.ops->status(&keys.keys, "Test", &err);
        if (err.code == wanted)
            return true;
        (void)usleep(10000);
    }
    return false;
}

static void key_in_memory_is_attested_over_tls(void **state UNUSED)
{
    char token[PATH_MAX], request[PATH_MAX];
    auto_free char *text = NULL;
    size_t len = 0;
    struct stat st;

    (void)snprintf(token, sizeof(token), "%s", folder_path("token"));
    (void)snprintf(request, sizeof(request), "%s", folder_path("owner.csr"));
    assert_ok(file_write(token, 0600, "a.b.c\n", 6, &err));
    options.owner_token = token;
    options.owner_request = request;
    open_connection();
    if (!ask_until(ERROR_NONE))
        fail_msg("%s", err.text);
    assert_int_equal(s.n_attests, 1);
    assert_string_equal(s.token, "a.b.c");
    assert_ok(file_read(request, 65536, &text, &len, &err));
    assert_contains(text, "BEGIN CERTIFICATE REQUEST");
    assert_int_equal(stat(request, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
}

static void restarted_broker_is_attested_to_again(void **state UNUSED)
{
    open_connection();
    assert_true(ask_until(ERROR_NONE));
    pthread_mutex_lock(&s.lock);
    s.has_session = false;
    pthread_mutex_unlock(&s.lock);
    assert_true(ask_until(ERROR_NONE));
    assert_int_equal(s.n_attests, 2);
}

static void distort(struct fake *f UNUSED, uint8_t quote[static FAKE_QUOTE_LEN])
{
    quote[48 + 520] ^= 1;
}

/* A worker that lies: the true one looks at its quote (attest/tsm.h). */
static void quote_over_other_bytes_gives_no_session(void **state UNUSED)
{
    fake->distort_quote = distort;
    open_connection();
    assert_true(ask_until(ERROR_DENIED));
    assert_contains(err.text, "for somebody else");
    assert_int_equal(s.n_attests, 0);
}

static void second_address_is_tried(void **state UNUSED)
{
    char both[96];

    (void)snprintf(both, sizeof(both), "127.0.0.1:1,%s", address);
    brokers.items[0] = both;
    open_connection();
    assert_true(ask_until(ERROR_NONE));
    assert_int_equal(s.n_attests, 1);
}

static void broker_that_is_not_pinned_gets_nothing(void **state UNUSED)
{
    char hex[2 * KEY_SHA256_LEN + 1];
    uint8_t wrong[KEY_SHA256_LEN] = { 1 };

    hex_encode(wrong, sizeof(wrong), hex);
    pins = (struct option_list){ 1, { hex } };
    open_connection();
    (void)usleep(300 * 1000);
    assert_true(ask_until(ERROR_UNAVAILABLE));
    assert_contains(err.text, "BrokerKeyMismatch");
    connection_free(connection);
    hex_encode(s.key_sha256, sizeof(wrong), hex);
    open_connection();
    assert_true(ask_until(ERROR_NONE));
}

static char certificate_path[PATH_MAX], key_path[PATH_MAX];

/* The server knows this certificate from then on, and no other. */
static void write_certificate(void)
{
    struct test_identity node;

    test_identity_make(&node, "node", &s.ca);
    pthread_mutex_lock(&s.lock);
    assert_ok(key_sha256_of_certificate(node.certificate_pem, s.attested_key, &err));
    s.has_session = true;
    pthread_mutex_unlock(&s.lock);
    assert_ok(file_write(certificate_path, 0600, node.certificate_pem, strlen(node.certificate_pem),
                         &err));
    assert_ok(file_write(key_path, 0600, node.key_pem, strlen(node.key_pem), &err));
    test_identity_free(&node);
}

static void use_certificate(void)
{
    (void)snprintf(certificate_path, sizeof(certificate_path), "%s", folder_path("node.crt"));
    (void)snprintf(key_path, sizeof(key_path), "%s", folder_path("node.key"));
    write_certificate();
    options.client_cert = certificate_path;
    options.client_key = key_path;
    options.renewal_ms = 20;
    open_connection();
}

static void certificate_of_a_file_speaks_for_the_node(void **state UNUSED)
{
    use_certificate();
    assert_true(ask_until(ERROR_NONE));
    assert_int_equal(s.n_attests, 0);
}

static void certificate_that_is_replaced_speaks_for_the_node(void **state UNUSED)
{
    use_certificate();
    for (int i = 0; i < 3; i++) {
        assert_true(ask_until(ERROR_NONE));
        write_certificate(); /* the server does not know the old one any more */
    }
    assert_true(ask_until(ERROR_NONE));
}

/* The key of the session lives on: the broker needs no new quote. */
static void ca_that_is_replaced_is_trusted_without_a_new_quote(void **state UNUSED)
{
    struct test_identity other;
    auto_free char *both = NULL;

    options.renewal_ms = 20;
    open_connection();
    assert_true(ask_until(ERROR_NONE));
    test_identity_make(&other, "new ca", NULL);
    assert_ok(
        file_write(ca_path, 0600, other.certificate_pem, strlen(other.certificate_pem), &err));
    assert_true(ask_until(ERROR_UNAVAILABLE)); /* the server still shows the old one's */
    assert_true(asprintf(&both, "%s%s", other.certificate_pem, s.ca.certificate_pem) > 0);
    assert_ok(file_write(ca_path, 0600, both, strlen(both), &err));
    assert_true(ask_until(ERROR_NONE));
    assert_int_equal(s.n_attests, 1);
    test_identity_free(&other);
}

/* --- options --- */

static void combinations_without_sense_are_refused(void **state UNUSED)
{
    static const struct option_list none = { .n = 0 };
    struct connection_options o = options;

    assert_ok(connection_check(&o, &err));
    o.client_cert = "c";
    assert_refused(ERROR_INVALID_ARGUMENT, connection_check(&o, &err));
    o.client_key = "k";
    assert_ok(connection_check(&o, &err));
    o.owner_token = "t";
    assert_refused(ERROR_INVALID_ARGUMENT, connection_check(&o, &err));
    assert_contains(err.text, "--owner-token");
    o.owner_token = NULL;
    o.owner_request = "r";
    assert_refused(ERROR_INVALID_ARGUMENT, connection_check(&o, &err));
    o.owner_request = NULL;
    o.owner_certificate = "r";
    assert_refused(ERROR_INVALID_ARGUMENT, connection_check(&o, &err));
    o = options;
    o.brokers = &none;
    assert_refused(ERROR_INVALID_ARGUMENT, connection_check(&o, &err));
}

static void too_many_addresses_are_refused(void **state UNUSED)
{
    static const char many[] = "a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8";

    brokers = (struct option_list){ 3, { many, "b:1,b:2,b:3,b:4,b:5,b:6,b:7,b:8", "c:1" } };
    assert_refused(ERROR_INVALID_ARGUMENT, connection_new(&options, &connection, &err));
    brokers.n = 2;
    assert_ok(connection_new(&options, &connection, &err));
}

static void addresses_are_host_and_port(void **state UNUSED)
{
    static const char *const bad[] = {
        "",      ",",       "host",       "host:",       ":7443",  "host:0",      "host:65536",
        "a:1,b", "a:1,a:1", "a:1\n:2",    "unix:/x:1",   "a\"b:1", "a:1,b:2,a:1", "host:-1",
        "a,b:1", "a b:1",   "dns:///a:1", "h\xc3\xa4:1", "a%20:1",
    };
    static const char *const good[] = { "a:1", "a:1,", "[::1]:7443", "broker.example.com:65535",
                                        "10.0.0.1:7443,b-2.x_y:1" };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        brokers.items[0] = bad[i];
        err = (struct error)ERROR_INIT;
        if (connection_new(&options, &connection, &err))
            fail_msg("%s", bad[i]);
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        assert_null(connection);
    }
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        brokers.items[0] = good[i];
        assert_ok(connection_new(&options, &connection, &err));
        connection_free(connection);
        connection = NULL;
    }
}

static void missing_files_are_named(void **state UNUSED)
{
    options.ca = "/nonexistent/ca";
    assert_refused(ERROR_NOT_FOUND, connection_new(&options, &connection, &err));
    assert_contains(err.text, "--broker-ca");
    options.ca = ca_path;
    options.owner_request = "/nonexistent/owner.csr";
    assert_refused(ERROR_NOT_FOUND, connection_new(&options, &connection, &err));
    assert_contains(err.text, "--owner-request");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* tdvol-blockd looks for the same names as TLS does. */
static void the_names_are_the_hosts_of_the_addresses_or_the_one_given(void **state UNUSED)
{
    const struct option_list *names = NULL;

    brokers = (struct option_list){ 2, { "a.example:1,[::1]:2", "10.0.0.1:3" } };
    assert_ok(connection_new(&options, &connection, &err));
    names = connection_server_names(connection);
    assert_int_equal(names->n, 3);
    assert_string_equal(names->items[0], "a.example");
    assert_string_equal(names->items[1], "::1");
    assert_string_equal(names->items[2], "10.0.0.1");
    connection_free(connection);
    connection = NULL;
    options.server_name = "b.example";
    assert_ok(connection_new(&options, &connection, &err));
    names = connection_server_names(connection);
    assert_int_equal(names->n, 1);
    assert_string_equal(names->items[0], "b.example");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(key_in_memory_is_attested_over_tls),
        CASE(restarted_broker_is_attested_to_again),
        CASE(quote_over_other_bytes_gives_no_session),
        CASE(second_address_is_tried),
        CASE(broker_that_is_not_pinned_gets_nothing),
        CASE(certificate_of_a_file_speaks_for_the_node),
        CASE(certificate_that_is_replaced_speaks_for_the_node),
        CASE(ca_that_is_replaced_is_trusted_without_a_new_quote),
        CASE(combinations_without_sense_are_refused),
        CASE(addresses_are_host_and_port),
        CASE(too_many_addresses_are_refused),
        CASE(missing_files_are_named),
        CASE(the_names_are_the_hosts_of_the_addresses_or_the_one_given),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return RUN_TESTS(tests);
}
