/* SPDX-License-Identifier: Apache-2.0 */
#include "master/pair.h"
#include "tests/unit/test.h"

static struct error err;

static void assert_made(const struct master_pair_options *options, bool has_old)
{
    auto_master_source struct master_source *current = NULL, *old = NULL;

    err = (struct error)ERROR_INIT;
    assert_ok(master_pair_new(options, &current, &old, &err));
    assert_non_null(current);
    assert_int_equal(old != NULL, has_old);
}

static void the_former_key_has_a_source_while_the_key_is_changed(void **state UNUSED)
{
    assert_made(&(struct master_pair_options){ .fd = -1 }, false);
    assert_made(&(struct master_pair_options){ .fd = 3 }, false);
    assert_made(&(struct master_pair_options){ .current.spec = "file:/a", .fd = -1 }, false);
    assert_made(
        &(struct master_pair_options){ .current.spec = "unseal:", .fd = -1, .old_spec = "/old" },
        true);
    assert_made(&(struct master_pair_options){ .fd = 3, .old_spec = "credential:old" }, true);
}

static void options_that_do_not_fit_are_refused_by_name(void **state UNUSED)
{
    static const struct {
        struct master_pair_options options;
        const char *text;
    } cases[] = {
        { { .current.spec = "/a", .fd = 3 }, "--master-key-fd" },
        { { .current.spec = "nothing:x", .fd = -1 }, "--master-key: " },
        { { .current.spec = "/a", .fd = -1, .old_spec = "nothing:x" }, "--old-master-key: " },
        { { .current.spec = "/a", .fd = -1, .old_spec = "unseal:" }, "does not take unseal:" },
        { { .current.spec = "/a", .fd = -1, .old_spec = "peer:h:1" }, "does not take peer:" },
        { { .current.spec = "/a", .fd = -1, .old_spec = "kbs:https://h" }, "does not take kbs:" },
        { { .current.spec = "/a", .fd = -1, .old_wrapped = "/w" }, "--old-wrapped-key" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct master_source *current = NULL, *old = NULL;

        assert_refused(ERROR_INVALID_ARGUMENT,
                       master_pair_new(&cases[i].options, &current, &old, &err));
        assert_contains(err.text, cases[i].text);
        assert_null(current);
        assert_null(old);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_former_key_has_a_source_while_the_key_is_changed),
        cmocka_unit_test(options_that_do_not_fit_are_refused_by_name),
    };

    return RUN_TESTS(tests);
}
