/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/network.h"
#include "tests/unit/test.h"

#include <stdio.h>

enum { CROWD = 45 };
static struct networks networks;
static struct network *network[CROWD];
static struct intake requests[CROWD * INTAKE_EACH_MAX];

static int set_up(void **state)
{
    struct error err = ERROR_INIT;
    char host[32];

    (void)state;
    networks_init(&networks);
    for (unsigned i = 0; i < CROWD; i++) {
        (void)snprintf(host, sizeof(host), "192.0.2.%u", i);
        assert_ok(network_enter(&networks, host, &network[i], &err));
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(requests); i++)
        intake_leave(&networks, &requests[i]);
    for (size_t i = 0; i < CROWD; i++)
        network_leave(&networks, network[i]);
    assert_int_equal(networks.n_connections + networks.n_unfinished + networks.bytes, 0);
    assert_null(network_with_most_connections(&networks));
    return 0;
}

static void a_64_of_ipv6_is_one_network(void **state)
{
    struct network *a = NULL, *b = NULL, *c = NULL;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(network_enter(&networks, "2001:db8::1", &a, &err));
    assert_ok(network_enter(&networks, "2001:db8::ffff:2", &b, &err));
    assert_ok(network_enter(&networks, "2001:db8:0:1::1", &c, &err));
    assert_ptr_equal(a, b);
    assert_ptr_not_equal(a, c);
    assert_ptr_equal(network_with_most_connections(&networks), a);
    assert_int_equal(networks.n_connections, CROWD + 3);
    network_leave(&networks, a);
    network_leave(&networks, b);
    network_leave(&networks, c);
}

static void fill(size_t i, size_t n)
{
    static size_t used;

    for (used = i * INTAKE_EACH_MAX; n > 0; n--)
        intake_enter(&networks, network[i], &requests[used++], 1);
}

static void one_network_has_a_limit(void **state)
{
    (void)state;
    fill(0, INTAKE_EACH_MAX);
    assert_int_equal(intake_room(&networks, network[0], 1, 0), INTAKE_OVER_OWN);
    assert_int_equal(intake_room(&networks, network[0], 0, 1), INTAKE_FITS);
    assert_int_equal(intake_room(&networks, network[1], 1, 0), INTAKE_FITS);
    intake_leave(&networks, &requests[0]);
    intake_leave(&networks, &requests[0]);
    assert_int_equal(intake_room(&networks, network[0], 1, 0), INTAKE_FITS);
    intake_grow(&networks, &requests[1], INTAKE_EACH_BYTES);
    assert_int_equal(intake_room(&networks, network[0], 0, 1), INTAKE_OVER_OWN);
}

/* 44 strangers cannot shut out the 45th: one of theirs has to go. */
static void a_crowd_makes_room_for_one_more(void **state)
{
    struct network *last = network[CROWD - 1];
    struct intake *victim = NULL;

    (void)state;
    for (size_t i = 0; i < INTAKE_ALL_MAX / INTAKE_EACH_MAX; i++)
        fill(i, INTAKE_EACH_MAX);
    fill(CROWD - 2, INTAKE_ALL_MAX % INTAKE_EACH_MAX);
    assert_int_equal(intake_room(&networks, last, 1, 0), INTAKE_OVER_ALL);
    victim = intake_victim(&networks, last);
    assert_non_null(victim);
    assert_int_equal(victim->network->n_unfinished, INTAKE_EACH_MAX);
    assert_null(intake_victim(&networks, victim->network));
    intake_leave(&networks, victim);
    assert_int_equal(intake_room(&networks, last, 1, 0), INTAKE_FITS);
}

static void the_largest_is_the_victim(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        fill(i, 2);
        intake_grow(&networks, &requests[i * INTAKE_EACH_MAX], INTAKE_ALL_BYTES / 4);
    }
    intake_grow(&networks, &requests[2 * INTAKE_EACH_MAX + 1], 100);
    assert_int_equal(intake_room(&networks, network[4], 0, 1), INTAKE_OVER_ALL);
    assert_ptr_equal(intake_victim(&networks, network[4]), &requests[2 * INTAKE_EACH_MAX]);
}

#define NETWORKS(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        NETWORKS(a_64_of_ipv6_is_one_network),
        NETWORKS(one_network_has_a_limit),
        NETWORKS(a_crowd_makes_room_for_one_more),
        NETWORKS(the_largest_is_the_victim),
    };

    return RUN_TESTS(tests);
}
