/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/arguments.h"
#include "tests/unit/test.h"

static struct error err;
static struct broker_arguments arguments;

static bool parse_all(const char *const *words, int n)
{
    return broker_arguments_parse(n, (char **)(uintptr_t)words, &arguments, &err);
}

static bool parse(const char *first, const char *value)
{
    const char *const words[] = { "tdvol-broker", "--dir", "/d", "--listen=:1", first, value };

    return parse_all(words, first ? (value ? 6 : 5) : 4);
}

static void what_is_not_given_has_its_default(void **state UNUSED)
{
    assert_ok(parse(NULL, NULL));
    assert_string_equal(arguments.dir, "/d");
    assert_true(arguments.master_key_fd == BROKER_NO_FD);
    assert_int_equal(arguments.format_deadline_s, 600);
    assert_int_equal(arguments.workers, 4);
    assert_null(arguments.files[BROKER_POLICY]);
    assert_string_equal(broker_file_names[BROKER_POLICY], "policy.json");
}

static void given_values_replace_defaults(void **state UNUSED)
{
    assert_ok(parse("--workers", "9"));
    assert_int_equal(arguments.workers, 9);
    assert_ok(parse("--policy", "/p"));
    assert_string_equal(arguments.files[BROKER_POLICY], "/p");
    assert_int_equal(arguments.workers, 4); /* nothing is left of the parse before */
}

static void wrong_ones_are_named(void **state UNUSED)
{
    assert_refused(ERROR_INVALID_ARGUMENT, parse("--workers", "65"));
    assert_contains(err.text, "workers");
    assert_refused(ERROR_INVALID_ARGUMENT, parse("--no-such", NULL));
    assert_contains(err.text, "no-such");
    const char *const words[] = { "tdvol-broker", "--dir", "/d" };
    assert_refused(ERROR_INVALID_ARGUMENT, parse_all(words, ARRAY_LEN(words)));
    assert_contains(err.text, "listen");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_given_has_its_default),
        cmocka_unit_test(given_values_replace_defaults),
        cmocka_unit_test(wrong_ones_are_named),
    };

    return RUN_TESTS(tests);
}
