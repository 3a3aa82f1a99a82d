/* SPDX-License-Identifier: Apache-2.0 */
#include "base/address.h"
#include "tests/unit/test.h"

static void a_64_of_ipv6_is_one_network(void **state UNUSED)
{
    static const struct {
        const char *host, *network;
    } rows[] = {
        { "192.0.2.1", "192.0.2.1" },
        { "2001:db8::1", "20010db800000000" },
        { "2001:db8::ffff:ffff:ffff:ffff", "20010db800000000" },
        { "2001:db8:0:1::1", "20010db800000001" },
        { "::ffff:192.0.2.1", "::ffff:192.0.2.1" },
        { "fe80::1%eth0", "fe80::1%eth0" },
        { "", "" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char network[ADDRESS_NETWORK_LEN];

        address_network(rows[i].host, network);
        assert_string_equal(network, rows[i].network);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_64_of_ipv6_is_one_network),
    };

    return RUN_TESTS(tests);
}
