/* SPDX-License-Identifier: Apache-2.0 */
#include "master/peer.h"
#include "tests/unit/test.h"

/* What peers answer is tested with brokers, and with false ones: tests/integration/native/test_peer.py. */

static struct error err;

static bool check(const char *addresses, const char *ca)
{
    return peer_options_check(&(struct peer_options){ .addresses = addresses, .ca_file = ca },
                              &err);
}

static void addresses_are_hosts_with_ports(void **state UNUSED)
{
    assert_ok(check("broker-2.example:7443", "ca"));
    assert_ok(check("127.0.0.1:1,[::1]:65535,b:7443", "ca"));
    assert_ok(check("a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8", "ca"));
}

static void other_addresses_are_refused(void **state UNUSED)
{
    static const char *const rows[] = { "",      "a",
                                        ":1",    "a:",
                                        "a:0",   "a:65536",
                                        "a:1,b", "a:1,,b:2",
                                        ",a:1",  "a b:1",
                                        "a/b:1", "\xC3\xA4:1",
                                        "a:1\n", "a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8,a:9" };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_refused(ERROR_INVALID_ARGUMENT, check(rows[i], "ca"));
}

static void missing_ca_is_named(void **state UNUSED)
{
    assert_refused(ERROR_INVALID_ARGUMENT, check("a:1", NULL));
    assert_contains(err.text, "--peer-ca");
    auto_secret struct secret key = SECRET_INIT;
    const struct peer_options options = { .addresses = "a:1", .ca_file = "/no/ca" };
    assert_false(peer_fetch(&options, &key, &err));
    assert_contains(err.text, "--peer-ca");
    assert_null(key.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_hosts_with_ports),
        cmocka_unit_test(other_addresses_are_refused),
        cmocka_unit_test(missing_ca_is_named),
    };

    return RUN_TESTS(tests);
}
