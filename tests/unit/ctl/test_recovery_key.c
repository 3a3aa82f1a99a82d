/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "ctl/recovery_key.h"
#include "tests/unit/record/made_certificate.h"
#include "tests/unit/test.h"

#include <fcntl.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PASSPHRASE "correct horse"

struct files {
    char folder[32], plain[64], locked[64];
};

/* The key once more, encrypted. */
static void write_locked(const char *path, const char *pem)
{
    BIO *in = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_int_equal(PEM_write_PKCS8PrivateKey(file, key, EVP_aes_256_cbc(), PASSPHRASE,
                                               (int)strlen(PASSPHRASE), NULL, NULL),
                     1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0600), 0);
    EVP_PKEY_free(key);
    BIO_free(in);
}

static int setup(void **state)
{
    static struct files files;
    auto_made_certificate struct made_certificate made =
        make_certificate(&(struct certificate_wish){ .kind = "P-256" });
    struct error err = ERROR_INIT;

    files = (struct files){ .folder = "/tmp/tdvol-key-XXXXXX" };
    assert_non_null(mkdtemp(files.folder));
    (void)snprintf(files.plain, sizeof(files.plain), "%s/plain", files.folder);
    (void)snprintf(files.locked, sizeof(files.locked), "%s/locked", files.folder);
    assert_ok(file_write(files.plain, 0600, made.key_pem, strlen(made.key_pem), &err));
    write_locked(files.locked, made.key_pem);
    *state = &files;
    return 0;
}

static int teardown(void **state)
{
    struct files *files = *state;

    (void)unlink(files->plain);
    (void)unlink(files->locked);
    return rmdir(files->folder);
}

/* A descriptor from which this text is read. */
static int pipe_of(const char *text, size_t len)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(write(fds[1], text, len), len);
    (void)close(fds[1]);
    return fds[0];
}

static void a_key_without_a_passphrase_asks_for_none(void **state)
{
    struct files *files = *state;
    auto_recovery_key struct recovery_key *key = NULL;
    struct error err = ERROR_INIT;

    assert_ok(recovery_key_load(files->plain, -1, &key, &err));
    assert_non_null(key);
}

static void the_first_line_of_the_descriptor_is_the_passphrase(void **state)
{
    static const char *const good[] = { PASSPHRASE, PASSPHRASE "\n", PASSPHRASE "\nmore" };
    static const char *const bad[] = { "", "\n", "correct", "correct horse ", "\ncorrect horse" };
    struct files *files = *state;

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        auto_recovery_key struct recovery_key *key = NULL;
        auto_close int fd = pipe_of(good[i], strlen(good[i]));
        struct error err = ERROR_INIT;

        assert_ok(recovery_key_load(files->locked, fd, &key, &err));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        auto_recovery_key struct recovery_key *key = NULL;
        auto_close int fd = pipe_of(bad[i], strlen(bad[i]));
        struct error err = ERROR_INIT;

        assert_refused(ERROR_INVALID_ARGUMENT, recovery_key_load(files->locked, fd, &key, &err));
        assert_contains(err.text, "its passphrase is another one");
        assert_contains(err.text, files->locked);
    }
}

static void an_endless_passphrase_is_refused(void **state)
{
    static char text[65536];
    struct files *files = *state;
    auto_recovery_key struct recovery_key *key = NULL;
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = 'x';
    auto_close int fd = pipe_of(text, sizeof(text));

    assert_refused(ERROR_INVALID_ARGUMENT, recovery_key_load(files->locked, fd, &key, &err));
}

static void a_key_that_others_can_read_is_refused(void **state)
{
    struct files *files = *state;
    auto_recovery_key struct recovery_key *key = NULL;
    struct error err = ERROR_INIT;

    assert_int_equal(chmod(files->plain, 0644), 0);
    assert_false(recovery_key_load(files->plain, -1, &key, &err));
    assert_false(recovery_key_load("/nonexistent", -1, &key, &err));
    assert_null(key);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(a_key_without_a_passphrase_asks_for_none),
        CASE(the_first_line_of_the_descriptor_is_the_passphrase),
        CASE(an_endless_passphrase_is_refused),
        CASE(a_key_that_others_can_read_is_refused),
    };

    return RUN_TESTS(tests);
}
