/* SPDX-License-Identifier: Apache-2.0 */
#include "base/option.h"
#include "plugin/http.h"
#include "tests/unit/csi/fake.h"
#include "tests/unit/test.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct fake *f;
static struct metrics *metrics;
static struct error err;

static int set_up(void **state UNUSED)
{
    f = fake_new();
    return metrics_new(&metrics, &err) ? 0 : -1;
}

static int tear_down(void **state UNUSED)
{
    metrics_free(metrics);
    fake_free(f);
    return 0;
}

static char *page(void)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    http_print_metrics(&f->plugin, metrics, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void calls_fall_into_buckets(void **state UNUSED)
{
    metrics_observe(metrics, METRICS_RPC, "NodeStageVolume", ERROR_NONE, 600);
    metrics_observe(metrics, METRICS_RPC, "NodeStageVolume", ERROR_NONE, 700000);
    metrics_observe(metrics, METRICS_RPC, "NodeStageVolume", ERROR_ABORTED, 1);
    metrics_observe(metrics, METRICS_BROKER, "OpenVolume", ERROR_UNAVAILABLE, 10);
    auto_free char *text = page();
#define LABELS "{method_name=\"NodeStageVolume\",grpc_status_code=\"OK\""
    assert_contains(text, "# TYPE csi_plugin_operations_seconds histogram\n");
    assert_contains(text, "csi_plugin_operations_seconds_bucket" LABELS ",le=\"0.5\"} 0\n");
    assert_contains(text, "csi_plugin_operations_seconds_bucket" LABELS ",le=\"1\"} 1\n");
    assert_contains(text, "csi_plugin_operations_seconds_bucket" LABELS ",le=\"600\"} 1\n");
    assert_contains(text, "csi_plugin_operations_seconds_bucket" LABELS ",le=\"+Inf\"} 2\n");
    assert_contains(text, "csi_plugin_operations_seconds_sum" LABELS "} 700.600\n");
    assert_contains(text, "csi_plugin_operations_seconds_count" LABELS "} 2\n");
    assert_contains(text, "grpc_status_code=\"ABORTED\",le=\"0.1\"} 1\n");
    assert_contains(text, "tdvol_broker_request_seconds_count{method_name=\"OpenVolume\","
                          "grpc_status_code=\"UNAVAILABLE\"} 1\n");
}

static void health_is_shown_in_its_words(void **state UNUSED)
{
    health_note(f->plugin.health, "v1", HEALTH_ROLLED_BACK, "x");
    health_integrity_errors(f->plugin.health, "v2", 6);
    auto_free char *text = page();
    assert_contains(text, "tdvol_volume_health{volume_id=\"v1\",reason=\"RolledBack\"} 2\n");
    assert_contains(text, "tdvol_integrity_errors_total{volume_id=\"v2\"} 6\n");
    assert_contains(text, "\nprocess_resident_memory_bytes ");
}

/* --- over a socket --- */

static uint16_t port_of(const char *address)
{
    uint64_t port = 0;

    assert_true(parse_u64(strrchr(address, ':') + 1, &port));
    return (uint16_t)port;
}

/* A port that was free a moment ago. */
static void pick(char out[static 32])
{
    struct sockaddr_in where = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(where);
    auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (const struct sockaddr *)&where, sizeof(where)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&where, &len), 0);
    (void)snprintf(out, 32, "127.0.0.1:%u", ntohs(where.sin_port));
}

static void fetch(const char *address, const char *request, char *out, size_t size)
{
    const struct sockaddr_in where = { .sin_family = AF_INET,
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                       .sin_port = htons(port_of(address)) };
    auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t used = 0;
    ssize_t n = 0;

    assert_int_equal(connect(fd, (const struct sockaddr *)&where, sizeof(where)), 0);
    assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
    do {
        n = recv(fd, out + used, size - 1 - used, 0);
        used += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    out[used] = '\0';
}

#define GET(path) "GET " path " HTTP/1.0\r\n\r\n"

/* The broker is asked in the background. */
static void await_page(const char *address, const char *path, const char *wanted, char text[4096])
{
    char request[64];

    (void)snprintf(request, sizeof(request), "GET %s HTTP/1.0\r\n\r\n", path);
    for (int i = 0; i < 1000; i++) {
        fetch(address, request, text, 4096);
        if (strstr(text, wanted))
            return;
        (void)poll(NULL, 0, 5);
    }
    fail_msg("%s does not become%s: %s", path, wanted, text);
}

static void pages_answer_over_http(void **state UNUSED)
{
    struct http *http = NULL;
    static char text[16384];
    char address[32];

    pick(address);
    assert_ok(http_start(address, &f->plugin, metrics, NULL, &http, &err));
    fetch(address, GET("/healthz"), text, sizeof(text));
    assert_contains(text, " 200 ");
    await_page(address, "/readyz", " 200 ", text);
    fetch(address, GET("/metrics"), text, sizeof(text));
    assert_contains(text, "csi_plugin_operations_seconds");
    fetch(address, GET("/other"), text, sizeof(text));
    assert_contains(text, " 404 ");
    fetch(address, "POST /metrics HTTP/1.0\r\nContent-Length: 0\r\n\r\n", text, sizeof(text));
    assert_contains(text, " 405 ");
    http_stop(http);
}

static void unreachable_broker_makes_unready_but_not_unhealthy(void **state UNUSED)
{
    struct http *http = NULL;
    char address[32], text[4096];

    pick(address);
    f->fault = (struct fake_fault){ .at = "GetStatus", .code = ERROR_UNAVAILABLE };
    assert_ok(http_start(address, &f->plugin, metrics, NULL, &http, &err));
    await_page(address, "/readyz", "GetStatus failed", text);
    assert_contains(text, " 503 ");
    fetch(address, GET("/healthz"), text, sizeof(text));
    assert_contains(text, " 200 ");
    f->plugin.probe.none = false;
    fetch(address, GET("/healthz"), text, sizeof(text));
    assert_contains(text, " 503 ");
    http_stop(http);
}

static void bad_address_is_refused(void **state UNUSED)
{
    static const char *const bad[] = { "", "localhost", "::1:80", "127.0.0.1:x" };
    struct http *http = NULL;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_INVALID_ARGUMENT,
                       http_start(bad[i], &f->plugin, metrics, NULL, &http, &err));
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(calls_fall_into_buckets), T(health_is_shown_in_its_words),
        T(pages_answer_over_http),  T(unreachable_broker_makes_unready_but_not_unhealthy),
        T(bad_address_is_refused),
    };

    return RUN_TESTS(tests);
}
