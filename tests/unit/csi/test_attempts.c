/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/attempts.h"
#include "tests/unit/test.h"

#include <stdio.h>

static struct attempts *attempts;

static int set_up(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    return attempts_new(&attempts, &err) ? 0 : -1;
}

static int tear_down(void **state UNUSED)
{
    attempts_free(attempts);
    return 0;
}

static uint64_t begin(enum attempt_kind kind, const char *name, const char *source,
                      uint64_t version)
{
    const struct copy_attempt attempt = { kind, name, source };

    return attempts_begin(attempts, &attempt, version);
}

static void end(enum attempt_kind kind, const char *name, const char *source)
{
    const struct copy_attempt attempt = { kind, name, source };

    attempts_end(attempts, &attempt);
}

static void first_version_stays_until_the_end(void **state UNUSED)
{
    assert_int_equal(begin(ATTEMPT_VOLUME, "n", "s", 5), 5);
    assert_int_equal(begin(ATTEMPT_VOLUME, "n", "s", 7), 5);
    end(ATTEMPT_VOLUME, "n", "s");
    end(ATTEMPT_VOLUME, "n", "s");
    assert_int_equal(begin(ATTEMPT_VOLUME, "n", "s", 7), 7);
}

static void attempts_are_told_apart(void **state UNUSED)
{
    assert_int_equal(begin(ATTEMPT_VOLUME, "n", "s", 1), 1);
    assert_int_equal(begin(ATTEMPT_SNAPSHOT, "n", "s", 2), 2);
    assert_int_equal(begin(ATTEMPT_GROUP, "n", "s", 3), 3);
    assert_int_equal(begin(ATTEMPT_GROUP, "n", "t", 4), 4);
    assert_int_equal(begin(ATTEMPT_GROUP, "m", "s", 5), 5);
    end(ATTEMPT_SNAPSHOT, "n", "s");
    assert_int_equal(begin(ATTEMPT_VOLUME, "n", "s", 9), 1);
    assert_int_equal(begin(ATTEMPT_SNAPSHOT, "n", "s", 9), 9);
    assert_int_equal(begin(ATTEMPT_GROUP, "n", "t", 9), 4);
}

static void oldest_is_forgotten_when_there_are_too_many(void **state UNUSED)
{
    char name[16];

    for (unsigned i = 0; i <= ATTEMPTS_MAX; i++) {
        (void)snprintf(name, sizeof(name), "n%u", i);
        assert_int_equal(begin(ATTEMPT_VOLUME, name, "s", 1), 1);
    }
    assert_int_equal(begin(ATTEMPT_VOLUME, "n1", "s", 2), 1);
    assert_int_equal(begin(ATTEMPT_VOLUME, "n0", "s", 2), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(first_version_stays_until_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attempts_are_told_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(oldest_is_forgotten_when_there_are_too_many, set_up,
                                        tear_down),
    };

    return RUN_TESTS(tests);
}
