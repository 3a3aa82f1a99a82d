/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "master/source.h"
#include "tests/unit/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIGITS "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static struct error err;
static char folder[] = "/tmp/tdvol-master-XXXXXX";
static char path[64];

static int set_up(void **state UNUSED)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/tdvol-master-XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/key", folder);
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_ok(fd_pwrite_all(fd, DIGITS "\n", strlen(DIGITS) + 1, 0, &err));
    return 0;
}

static int tear_down(void **state UNUSED)
{
    (void)unsetenv("CREDENTIALS_DIRECTORY"); /* NOLINT(concurrency-mt-unsafe) */
    (void)unlink(path);
    return rmdir(folder);
}

static struct secret text_of(const char *text)
{
    struct secret out = SECRET_INIT;

    assert_ok(secret_alloc(&out, strlen(text) + 1, &err));
    memcpy(out.bytes, text, strlen(text));
    out.len = strlen(text);
    return out;
}

static struct master_source *source_of(const char *spec)
{
    struct master_source *source = NULL;

    const struct master_source_options options = { .spec = spec };

    assert_ok(master_source_new(&options, &source, &err));
    return source;
}

static void assert_gives_the_key(struct master_source *source)
{
    auto_secret struct secret key = SECRET_INIT;

    assert_ok(master_source_get(source, &key, &err));
    assert_int_equal(key.len, MASTER_KEY_LEN);
    assert_int_equal(key.bytes[31], 31);
}

static void key_comes_from_a_file(void **state UNUSED)
{
    char spec[96];

    auto_master_source struct master_source *bare = source_of(path);
    assert_gives_the_key(bare);
    (void)snprintf(spec, sizeof(spec), "file:%s", path);
    auto_master_source struct master_source *named = source_of(spec);
    assert_gives_the_key(named);
    assert_int_equal(chmod(path, 0644), 0);
    auto_secret struct secret key = SECRET_INIT;
    assert_refused(ERROR_FAILED_PRECONDITION, master_source_get(named, &key, &err));
    assert_contains(err.text, "chmod");
}

static void key_comes_from_a_descriptor(void **state UNUSED)
{
    char spec[16];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    (void)snprintf(spec, sizeof(spec), "fd:%d", fd);
    auto_master_source struct master_source *source = source_of(spec);
    assert_gives_the_key(source);
    assert_int_equal(fcntl(fd, F_GETFD), -1); /* it was closed */
    auto_master_source struct master_source *wrong = source_of("fd:x");
    auto_secret struct secret key = SECRET_INIT;
    assert_refused(ERROR_INVALID_ARGUMENT, master_source_get(wrong, &key, &err));
}

static void key_comes_from_a_credential(void **state UNUSED)
{
    auto_master_source struct master_source *source = source_of("credential:key");
    auto_secret struct secret key = SECRET_INIT;

    assert_refused(ERROR_FAILED_PRECONDITION, master_source_get(source, &key, &err));
    assert_contains(err.text, "LoadCredentialEncrypted=key");
    assert_int_equal(setenv("CREDENTIALS_DIRECTORY", folder, 1),
                     0); /* NOLINT(concurrency-mt-unsafe) */
    assert_gives_the_key(source);
    auto_master_source struct master_source *missing = source_of("credential:other");
    assert_false(master_source_get(missing, &key, &err));
}

static void unknown_sources_are_refused_and_the_known_named(void **state UNUSED)
{
    static const char *const bad[] = { "hsm:1",       "",  "file:", "fd:", "unseal:now",
                                       "credential:", ":",

                                       "FILE:x" };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const struct master_source_options options = { .spec = bad[i] };
        auto_master_source struct master_source *source = NULL;

        assert_refused(ERROR_INVALID_ARGUMENT, master_source_new(&options, &source, &err));
        assert_contains(
            err.text,
            "file:PATH, fd:N, credential:NAME, vault:URL, kbs:URL, peer:HOST:PORT, unseal:");
    }
}

static void names_that_cannot_be_credentials_are_refused(void **state UNUSED)
{
    static const char *const bad[] = { "credential:../key", "credential:a/b", "credential:.a" };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const struct master_source_options options = { .spec = bad[i] };
        auto_master_source struct master_source *source = NULL;

        assert_refused(ERROR_INVALID_ARGUMENT, master_source_new(&options, &source, &err));
        assert_contains(err.text, "is no name of a credential");
        assert_null(source);
    }
}

/* Port 1 of this machine has no server. */
static void remote_source_is_not_asked_again_at_once(void **state UNUSED)
{
    auto_master_source struct master_source *kbs = source_of("kbs:http://127.0.0.1:1/a/b/c");
    auto_secret struct secret key = SECRET_INIT;
    const struct error why = { .code = ERROR_FAILED_PRECONDITION, .text = "another store's" };

    assert_refused(ERROR_UNAVAILABLE, master_source_get(kbs, &key, &err));
    assert_contains(err.text, "127.0.0.1");
    master_source_refuse(kbs, &why);
    assert_refused(ERROR_FAILED_PRECONDITION, master_source_get(kbs, &key, &err));
    assert_string_equal(err.text, "another store's");
}

/* A file that was mended counts at once. */
static void local_source_is_asked_each_time(void **state UNUSED)
{
    auto_master_source struct master_source *file = source_of(path);
    const struct error why = { .code = ERROR_FAILED_PRECONDITION, .text = "another store's" };

    master_source_refuse(file, &why);
    assert_gives_the_key(file);
}

static void administrators_bring_the_key(void **state UNUSED)
{
    auto_master_source struct master_source *source = source_of("unseal:");
    auto_secret struct secret text = text_of(DIGITS "\n"), key = SECRET_INIT;
    struct master_progress progress = { 0 };

    assert_refused(ERROR_UNAVAILABLE, master_source_get(source, &key, &err));
    assert_contains(err.text, "tdvolctl broker unseal");
    assert_ok(master_source_add(source, &text, &progress, &err));
    assert_true(progress.have == 1 && progress.need == 1);
    assert_refused(ERROR_FAILED_PRECONDITION, master_source_add(source, &text, &progress, &err));
    assert_gives_the_key(source);
    assert_refused(ERROR_UNAVAILABLE, master_source_get(source, &key, &err)); /* only once */
}

static void administrators_bring_shares(void **state UNUSED)
{
    auto_master_source struct master_source *source = source_of("unseal:");
    auto_secret struct secret digits = text_of(DIGITS), key = SECRET_INIT, none = SECRET_INIT;
    struct secret shares[3] = { SECRET_INIT }, others[3] = { SECRET_INIT };
    struct master_progress progress = { 0 };

    assert_ok(master_key_parse(&digits, &key, &err));
    assert_ok(shares_split(&key, 2, 3, shares, &err));
    key.bytes[0]++;
    assert_ok(shares_split(&key, 2, 3, others, &err));
    assert_ok(master_source_add(source, &shares[2], &progress, &err));
    assert_true(progress.have == 1 && progress.need == 2);
    assert_refused(ERROR_UNAVAILABLE, master_source_get(source, &none, &err));
    assert_contains(err.text, "1 of 2 shares");
    assert_refused(ERROR_INVALID_ARGUMENT, master_source_add(source, &shares[2], &progress, &err));
    assert_contains(err.text, "share number 3 is here already");
    assert_refused(ERROR_INVALID_ARGUMENT, master_source_add(source, &others[0], &progress, &err));
    assert_contains(err.text, "belongs to another key");
    assert_ok(master_source_add(source, &shares[0], &progress, &err));
    assert_true(progress.have == 2 && progress.need == 2);
    assert_gives_the_key(source);
    for (size_t i = 0; i < ARRAY_LEN(shares); i++) {
        secret_wipe(&shares[i]);
        secret_wipe(&others[i]);
    }
}

/* Nobody is open after all brokers were stopped. */
static void administrators_may_bring_the_key_of_a_peer(void **state UNUSED)
{
    static const struct master_source_options options = { .spec = "peer:127.0.0.1:1",
                                                          .peer_ca = "/no/ca" };
    auto_master_source struct master_source *source = NULL;
    auto_secret struct secret text = text_of(DIGITS), key = SECRET_INIT;
    struct master_progress progress = { 0 };

    assert_ok(master_source_new(&options, &source, &err));
    assert_false(master_source_get(source, &key, &err));
    assert_ok(master_source_add(source, &text, &progress, &err));
    assert_gives_the_key(source); /* though the peers would not be asked again yet */
    assert_false(master_source_get(source, &key, &err));
}

static void nobody_brings_a_key_that_comes_from_elsewhere(void **state UNUSED)
{
    auto_master_source struct master_source *source = source_of(path);
    auto_secret struct secret text = text_of(DIGITS);
    struct master_progress progress = { 0 };

    assert_refused(ERROR_FAILED_PRECONDITION, master_source_add(source, &text, &progress, &err));
    assert_contains(err.text, "--master-key unseal:");
    assert_gives_the_key(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(key_comes_from_a_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(key_comes_from_a_descriptor, set_up, tear_down),
        cmocka_unit_test_setup_teardown(key_comes_from_a_credential, set_up, tear_down),
        cmocka_unit_test(unknown_sources_are_refused_and_the_known_named),
        cmocka_unit_test(names_that_cannot_be_credentials_are_refused),
        cmocka_unit_test_setup_teardown(remote_source_is_not_asked_again_at_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(local_source_is_asked_each_time, set_up, tear_down),
        cmocka_unit_test(administrators_bring_the_key),
        cmocka_unit_test(administrators_bring_shares),
        cmocka_unit_test(administrators_may_bring_the_key_of_a_peer),
        cmocka_unit_test_setup_teardown(nobody_brings_a_key_that_comes_from_elsewhere, set_up,
                                        tear_down),
    };

    return RUN_TESTS(tests);
}
