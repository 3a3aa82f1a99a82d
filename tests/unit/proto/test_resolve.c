/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "proto/resolve.h"
#include "tests/unit/test.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Look-ups of names; tests/unit/proto/test_link.c has what a client makes of them. */

static struct error err;
static struct address_list addresses;

static bool ask(struct name *name, enum name_answer wanted)
{
    err = (struct error)ERROR_INIT;
    return name_ask(name, &err) &&
           name_wait(name, clock_now_ms() + 5000, &addresses, &err) == wanted;
}

static void numbers_are_their_own_addresses(void **state UNUSED)
{
    static const char *const rows[][2] = {
        { "127.0.0.1:7443", "ipv4:127.0.0.1:7443" },
        { "[::1]:7443", "ipv6:[::1]:7443" },
        { "[2001:db8:0::1]:65535", "ipv6:[2001:db8::1]:65535" },
        { "[fe80::1%lo]:1", "ipv6:[fe80::1%lo]:1" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct name *name = NULL;

        assert_ok(name_new(rows[i][0], &resolver_system, &name, &err));
        assert_true(ask(name, NAME_ANSWERED));
        assert_int_equal(addresses.n, 1);
        assert_string_equal(addresses.items[0], rows[i][1]);
        assert_int_equal(name_wait(name, 0, &addresses, &err), NAME_SILENT); /* given once */
        name_free(name);
    }
}

static void the_system_knows_localhost(void **state UNUSED)
{
    struct name *name = NULL;

    assert_ok(name_new("localhost:7443", &resolver_system, &name, &err));
    assert_true(ask(name, NAME_ANSWERED));
    assert_true(addresses.n >= 1);
    for (size_t i = 0; i < addresses.n; i++)
        assert_true(strcmp(addresses.items[i], "ipv4:127.0.0.1:7443") == 0 ||
                    strcmp(addresses.items[i], "ipv6:[::1]:7443") == 0);
    name_free(name);
}

static void a_name_that_nobody_has_fails(void **state UNUSED)
{
    struct name *name = NULL;

    assert_ok(name_new("a..b:7443", &resolver_system, &name, &err));
    assert_true(ask(name, NAME_FAILED));
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    assert_contains(err.text, "look up a..b: ");
    name_free(name);
}

static void what_is_not_host_and_port_is_refused(void **state UNUSED)
{
    char too_long[400];
    struct name *name = NULL;

    (void)snprintf(too_long, sizeof(too_long), "%0390d:1", 0);
    assert_refused(ERROR_INVALID_ARGUMENT, name_new("", &resolver_system, &name, &err));
    assert_refused(ERROR_INVALID_ARGUMENT, name_new("host", &resolver_system, &name, &err));
    assert_refused(ERROR_INVALID_ARGUMENT, name_new(":7443", &resolver_system, &name, &err));
    assert_refused(ERROR_INVALID_ARGUMENT, name_new(too_long, &resolver_system, &name, &err));
}

/* --- answers that come out of order --- */

static atomic_uint n_asked, n_ended;
static atomic_bool is_released;

/* The first look-up waits until the test lets it go on; its answer is old then. */
static bool resolve(void *cookie UNUSED, const char *host UNUSED, const char *port UNUSED,
                    struct address_list *out, struct error *out_err UNUSED)
{
    unsigned number = atomic_fetch_add(&n_asked, 1) + 1;

    while (number == 1 && !atomic_load(&is_released))
        (void)usleep(1000);
    out->n = 1;
    (void)snprintf(out->items[0], RESOLVE_ADDRESS_LEN, "ipv4:127.0.0.%u:1", number);
    atomic_fetch_add(&n_ended, 1);
    return true;
}

static void an_answer_that_comes_late_does_not_replace_a_newer_one(void **state UNUSED)
{
    static const struct resolver resolver = { .resolve = resolve };
    struct name *name = NULL;

    assert_ok(name_new("host:1", &resolver, &name, &err));
    assert_ok(name_ask(name, &err));
    while (atomic_load(&n_asked) < 1)
        (void)usleep(1000);
    assert_true(ask(name, NAME_ANSWERED));
    assert_string_equal(addresses.items[0], "ipv4:127.0.0.2:1");
    atomic_store(&is_released, true);
    while (atomic_load(&n_ended) < 2)
        (void)usleep(1000);
    (void)usleep(20000);
    assert_int_equal(name_wait(name, 0, &addresses, &err), NAME_SILENT);
    assert_ok(name_ask(name, &err));
    while (atomic_load(&n_ended) < 3)
        (void)usleep(1000);
    (void)usleep(
        20000); /* nobody takes this answer: it is of the past when the next one is asked for */
    assert_true(ask(name, NAME_ANSWERED));
    assert_string_equal(addresses.items[0], "ipv4:127.0.0.4:1");
    name_free(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_their_own_addresses),
        cmocka_unit_test(the_system_knows_localhost),
        cmocka_unit_test(a_name_that_nobody_has_fails),
        cmocka_unit_test(what_is_not_host_and_port_is_refused),
        cmocka_unit_test(an_answer_that_comes_late_does_not_replace_a_newer_one),
    };

    return RUN_TESTS(tests);
}
