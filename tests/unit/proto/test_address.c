/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/address.h"
#include "tests/unit/test.h"

static void hosts_are_taken_without_port(void **state UNUSED)
{
    static const struct {
        const char *uri, *host;
    } rows[] = {
        { "ipv4:192.0.2.1:7443", "192.0.2.1" },
        { "ipv6:%5B2001:db8::1%5D:7443", "2001:db8::1" },
        { "ipv6:[::1]:50051", "::1" },
        { "ipv6:%5bfe80::1%25eth0%5d:1", "fe80::1%eth0" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char host[ADDRESS_HOST_MAX + 1] = "";

        assert_true(address_host(rows[i].uri, host));
        assert_string_equal(host, rows[i].host);
    }
}

static void other_uris_have_no_host(void **state UNUSED)
{
    static const char *const uris[] = {
        "",
        "unix:",
        "unix:/run/x.sock",
        "dns:///broker:1",
        "ipv4:",
        "ipv4:192.0.2.1",
        "ipv4::7443",
        "ipv6:::1:7443",
        "ipv6:[]:7443",
        "ipv6:[::1:7443",
        "ipv6:%5B::1%5D%3",
        "ipv6:%5B::1%5D:1%",
        "ipv6:%5B::1%zz%5D:1",
        "ipv4:1%00.2:3",
        "ipv6:[1111:1111:1111:1111:1111:1111:1111:1111%a-zone-with-a-name-too-long-for-us]:1",
    };

    for (size_t i = 0; i < ARRAY_LEN(uris); i++) {
        char host[ADDRESS_HOST_MAX + 1] = "before";

        if (address_host(uris[i], host))
            fail_msg("%s: %s", uris[i], host);
        assert_string_equal(host, "before");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_are_taken_without_port),
        cmocka_unit_test(other_uris_have_no_host),
    };

    return RUN_TESTS(tests);
}
