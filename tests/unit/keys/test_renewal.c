/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/file.h"
#include "keys/renewal.h"
#include "tests/unit/base/folder.h"
#include "tests/unit/proto/certificates.h"
#include "tests/unit/test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Certificates in files that are replaced, well and badly. */

enum { LOOK_MS = 20, SEEN_MS = 300 };

static char ca_path[PATH_MAX], certificate_path[PATH_MAX], key_path[PATH_MAX];
static struct test_identity ca, first, second;
static struct renewal_options options;
static struct renewal *renewal;
static struct metrics *metrics;
static struct error err;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static unsigned n_used;
static char used[8192];

static bool use(void *cookie UNUSED, const struct credentials *c, struct error *out UNUSED)
{
    (void)pthread_mutex_lock(&lock);
    n_used++;
    (void)snprintf(used, sizeof(used), "%s", c->certificate ? c->certificate : c->ca);
    (void)pthread_mutex_unlock(&lock);
    return true;
}

static unsigned times_used(void)
{
    (void)pthread_mutex_lock(&lock);
    unsigned n = n_used;
    (void)pthread_mutex_unlock(&lock);
    return n;
}

static void write_text(const char *path, const char *text)
{
    assert_ok(file_write(path, 0600, text, strlen(text), &err));
}

static int set_up(void **state)
{
    assert_int_equal(folder_make(state), 0);
    (void)snprintf(ca_path, sizeof(ca_path), "%s", folder_path("ca.crt"));
    (void)snprintf(certificate_path, sizeof(certificate_path), "%s", folder_path("tls.crt"));
    (void)snprintf(key_path, sizeof(key_path), "%s", folder_path("tls.key"));
    test_identity_make(&ca, "ca", NULL);
    test_identity_make(&first, "node", &ca);
    test_identity_make(&second, "node", &ca);
    write_text(ca_path, ca.certificate_pem);
    write_text(certificate_path, first.certificate_pem);
    write_text(key_path, first.key_pem);
    n_used = 0;
    renewal = NULL;
    options = (struct renewal_options){
        .files = { ca_path, certificate_path, key_path, geteuid(), getegid() },
        .interval_ms = LOOK_MS,
        .use = use,
    };
    err = (struct error)ERROR_INIT;
    assert_ok(metrics_new(&metrics, &err));
    options.metrics = metrics;
    return 0;
}

static int tear_down(void **state)
{
    renewal_stop(renewal);
    metrics_free(metrics);
    test_identity_free(&ca);
    test_identity_free(&first);
    test_identity_free(&second);
    return folder_remove(state);
}

static void start(void)
{
    auto_credentials struct credentials c = { .key = SECRET_INIT };

    assert_ok(credentials_read(&options.files, &c, &err));
    assert_ok(renewal_start(&options, &c, &renewal, &err));
}

static void wait_for(unsigned n)
{
    for (int i = 0; i < 300 && times_used() < n; i++)
        (void)usleep(10000);
    assert_int_equal(times_used(), n);
}

static void stays_at(unsigned n)
{
    (void)usleep(SEEN_MS * 1000);
    assert_int_equal(times_used(), n);
}

/* --- reading --- */

static void what_does_not_belong_together_is_refused(void **state UNUSED)
{
    struct credentials c = { .key = SECRET_INIT };

    write_text(key_path, second.key_pem);
    assert_refused(ERROR_INVALID_ARGUMENT, credentials_read(&options.files, &c, &err));
    assert_contains(err.text, "do not belong together");
    write_text(key_path, "-----BEGIN PRIVATE KEY-----\n");
    assert_refused(ERROR_INVALID_ARGUMENT, credentials_read(&options.files, &c, &err));
    assert_contains(err.text, "the key is not usable");
    write_text(certificate_path, "");
    assert_refused(ERROR_INVALID_ARGUMENT, credentials_read(&options.files, &c, &err));
    assert_contains(err.text, "the certificate is not usable");
    write_text(ca_path, "nothing");
    assert_refused(ERROR_INVALID_ARGUMENT, credentials_read(&options.files, &c, &err));
    assert_contains(err.text, "--broker-ca");
    assert_null(c.ca);
}

static void a_key_that_others_can_read_is_refused(void **state UNUSED)
{
    auto_credentials struct credentials c = { .key = SECRET_INIT };

    assert_int_equal(chmod(key_path, 0440), 0);
    assert_ok(credentials_read(&options.files, &c, &err)); /* our own group */
    credentials_wipe(&c);
    options.files.gid = getegid() + 1;
    assert_refused(ERROR_FAILED_PRECONDITION, credentials_read(&options.files, &c, &err));
    options.files.gid = getegid();
    assert_int_equal(chmod(key_path, 0460), 0);
    assert_refused(ERROR_FAILED_PRECONDITION, credentials_read(&options.files, &c, &err));
    assert_int_equal(chmod(key_path, 0404), 0);
    assert_refused(ERROR_FAILED_PRECONDITION, credentials_read(&options.files, &c, &err));
}

/* --- reading again --- */

static void files_that_stay_are_not_read_again(void **state UNUSED)
{
    start();
    stays_at(0);
}

static void a_new_pair_is_used_once_both_files_are_there(void **state UNUSED)
{
    start();
    write_text(certificate_path, second.certificate_pem);
    stays_at(0); /* the key is still the old one */
    write_text(key_path, second.key_pem);
    wait_for(1);
    assert_string_equal(used, second.certificate_pem);
    stays_at(1);
}

static void a_change_before_the_start_is_seen(void **state UNUSED)
{
    auto_credentials struct credentials c = { .key = SECRET_INIT };

    assert_ok(credentials_read(&options.files, &c, &err));
    write_text(certificate_path, second.certificate_pem);
    write_text(key_path, second.key_pem);
    assert_ok(renewal_start(&options, &c, &renewal, &err));
    wait_for(1);
}

static void broken_files_change_nothing_and_mended_ones_do(void **state UNUSED)
{
    start();
    write_text(ca_path, "");
    stays_at(0);
    assert_int_equal(unlink(key_path), 0);
    stays_at(0);
    write_text(ca_path, ca.certificate_pem);
    write_text(key_path, second.key_pem);
    assert_int_equal(chmod(key_path, 0644), 0);
    write_text(certificate_path, second.certificate_pem);
    stays_at(0);
    assert_int_equal(chmod(key_path, 0600), 0); /* content and time of writing stay */
    wait_for(1);
}

/* Kubernetes: tls.crt -> ..data/tls.crt, and ..data is a link that is replaced. */
static void a_secret_of_kubernetes_that_is_replaced_is_seen(void **state UNUSED)
{
    char data[128], next[128];

    (void)snprintf(data, sizeof(data), "%s/..data", folder);
    (void)snprintf(next, sizeof(next), "%s/..data_tmp", folder);
    for (int i = 1; i <= 2; i++) {
        const struct test_identity *one = i == 1 ? &first : &second;
        char path[128];

        (void)snprintf(path, sizeof(path), "%s/..%d", folder, i);
        assert_int_equal(mkdir(path, 0700), 0);
        (void)snprintf(path, sizeof(path), "%s/..%d/tls.crt", folder, i);
        write_text(path, one->certificate_pem);
        (void)snprintf(path, sizeof(path), "%s/..%d/tls.key", folder, i);
        write_text(path, one->key_pem);
    }
    assert_int_equal(symlink("..1", data), 0);
    assert_int_equal(unlink(certificate_path) | unlink(key_path), 0);
    assert_int_equal(symlink("..data/tls.crt", certificate_path), 0);
    assert_int_equal(symlink("..data/tls.key", key_path), 0);
    start();
    stays_at(0);
    assert_int_equal(symlink("..2", next), 0);
    assert_int_equal(rename(next, data), 0);
    wait_for(1);
    assert_string_equal(used, second.certificate_pem);
}

static void an_attested_node_reads_the_ca_alone(void **state UNUSED)
{
    struct test_identity other;

    test_identity_make(&other, "new ca", NULL);
    options.files.certificate = options.files.key = NULL;
    start();
    write_text(certificate_path, second.certificate_pem);
    stays_at(0);
    write_text(ca_path, other.certificate_pem);
    wait_for(1);
    assert_string_equal(used, other.certificate_pem);
    test_identity_free(&other);
}

static void the_metrics_know_when_certificates_end(void **state UNUSED)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    int64_t now_s = (int64_t)(clock_wall_ms() / 1000);
    long long until_s = 0;

    start();
    assert_non_null(out);
    metrics_print(metrics, out);
    assert_int_equal(fclose(out), 0);
    for (int i = 0; i < 2; i++) {
        const char *line = strstr(text, i == 0 ? "timestamp_seconds{certificate=\"broker-ca\"} "
                                               : "timestamp_seconds{certificate=\"client-cert\"} ");

        assert_non_null(line);
        assert_int_equal(sscanf(strchr(line, ' '), "%lld", &until_s), 1);
        assert_in_range(until_s, now_s + 3000, now_s + 3700);
    }
    free(text);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_does_not_belong_together_is_refused),
        CASE(a_key_that_others_can_read_is_refused),
        CASE(files_that_stay_are_not_read_again),
        CASE(a_new_pair_is_used_once_both_files_are_there),
        CASE(a_change_before_the_start_is_seen),
        CASE(broken_files_change_nothing_and_mended_ones_do),
        CASE(a_secret_of_kubernetes_that_is_replaced_is_seen),
        CASE(an_attested_node_reads_the_ca_alone),
        CASE(the_metrics_know_when_certificates_end),
    };

    return RUN_TESTS(tests);
}
