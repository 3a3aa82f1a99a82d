/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/https.h"
#include "master/kbs.h"
#include "tests/unit/test.h"

/* The exchange itself is tested with an imitation of the KBS: tests/integration/native/test_kbs.py. */

static struct error err;

static bool check(const char *url)
{
    return kbs_options_check(&(struct kbs_options){ .url = url }, &err);
}

static void addresses_of_resources_are_accepted(void **state UNUSED)
{
    assert_ok(check("https://kbs.example/default/tdvol/master"));
    assert_ok(check("https://kbs.example:8443/Re-po_1/t.y.p.e/tag-1.2"));
    assert_ok(check("http://127.0.0.1:8080/a/b/c"));
    assert_ok(check("https://[::1]:8080/a/b/c"));
}

static void other_paths_are_refused(void **state UNUSED)
{
    static const char *const rows[] = {
        "https://kbs",           "https://kbs/",
        "https://kbs/a/b",       "https://kbs/a/b/c/d",
        "https://kbs/a/b/c/",    "https://kbs//a/b/c",
        "https://kbs/a//c",      "https://kbs/../b/c",
        "https://kbs/a/b/..",    "https://kbs/a/.b/c",
        "https://kbs/a/b/c%2fd", "https://kbs/a/b%00/c",
        "https://kbs/a/b/c;d",   "https://kbs/a/b/\xC3\xA4",
        "https://kbs/a b/c/d",
    };
    char large[512] = "https://kbs/a/b/";

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_refused(ERROR_INVALID_ARGUMENT, check(rows[i]));
    for (size_t i = strlen(large); i < 300; i++)
        large[i] = 'a';
    assert_refused(ERROR_INVALID_ARGUMENT, check(large));
    assert_contains(err.text, "https://HOST/REPOSITORY/TYPE/TAG");
}

static void plain_http_and_users_are_refused(void **state UNUSED)
{
    static const struct {
        const char *url, *why;
    } rows[] = {
        { "http://kbs.example/a/b/c", "use https://" },
        { "http://127.evil.example/a/b/c", "use https://" },
        { "ftp://127.0.0.1/a/b/c", "use https://" },
        { "https://u:p@kbs/a/b/c", "no user" },
        { "https://kbs/a/b/c?d=e", "no user, query or fragment" },
        { "https://kbs/a/b/c#d", "no user, query or fragment" },
        { "kbs", "is not an address" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_refused(ERROR_INVALID_ARGUMENT, check(rows[i].url));
        assert_contains(err.text, rows[i].why);
    }
}

static void server_that_is_away_is_named(void **state UNUSED)
{
    const struct kbs_options options = { .url = "http://127.0.0.1:1/a/b/c" };
    auto_secret struct secret key = SECRET_INIT;

    assert_ok(https_init(&err));
    assert_refused(ERROR_UNAVAILABLE, kbs_fetch(&options, &key, &err));
    assert_contains(err.text, "http://127.0.0.1:1/kbs/v0/auth");
    assert_null(key.bytes);
    https_done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_of_resources_are_accepted),
        cmocka_unit_test(other_paths_are_refused),
        cmocka_unit_test(plain_http_and_users_are_refused),
        cmocka_unit_test(server_that_is_away_is_named),
    };

    return RUN_TESTS(tests);
}
