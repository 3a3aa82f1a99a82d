/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/https.h"
#include "master/vault.h"
#include "tests/unit/test.h"

/* What Vault answers is tested with an imitation of it: tests/integration/native/test_vault.py. */

static void options_that_are_missing_or_wrong_are_named(void **state UNUSED)
{
    static const struct {
        struct vault_options options;
        const char *why;
    } rows[] = {
        { { "https://vault/v1/transit/decrypt/k", NULL, NULL, "w" }, "--vault-token" },
        { { "https://vault/v1/transit/decrypt/k", NULL, "t", NULL }, "--wrapped-key" },
        { { "http://vault/v1", NULL, "t", "w" }, "use https://" },
        { { "https://u:p@vault/v1", NULL, "t", "w" }, "no user" },
        { { "https://vault/v1?x=1", NULL, "t", "w" }, "no user, query or fragment" },
        { { "vault", NULL, "t", "w" }, "is not an address" },
    };
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_refused(ERROR_INVALID_ARGUMENT, vault_options_check(&rows[i].options, &err));
        assert_contains(err.text, rows[i].why);
    }
    const struct vault_options good = { "https://vault:8200/v1/transit/decrypt/k", NULL, "t", "w" };
    assert_ok(vault_options_check(&good, &err));
}

static void missing_files_are_named_before_anything_is_sent(void **state UNUSED)
{
    const struct vault_options options = { "https://127.0.0.1:1/v1", NULL, "/no/token",
                                           "/no/wrapped" };
    auto_secret struct secret key = SECRET_INIT;
    struct error err = ERROR_INIT;

    assert_ok(https_init(&err));
    assert_false(vault_unwrap(&options, &key, &err));
    assert_contains(err.text, "/no/wrapped");
    assert_null(key.bytes);
    https_done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_that_are_missing_or_wrong_are_named),
        cmocka_unit_test(missing_files_are_named_before_anything_is_sent),
    };

    return RUN_TESTS(tests);
}
