/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/stacked.h"
#include "tests/unit/test.h"

/* The codes that decide, as bits by their numbers. */
static unsigned codes_that_decide(enum stacked_decision what)
{
    unsigned codes = 0;

    for (int code = ERROR_NONE; code < ERROR_CODE_COUNT; code++)
        if (stacked_has_decided(&(struct error){ .code = (enum error_code)code }, what))
            codes |= 1u << code;
    return codes;
}

/* The answer was lost, or the other side failed in the middle: it may have done what it was asked for. */
#define UNCLEAR                                                                   \
    (1u << ERROR_NONE | 1u << ERROR_UNAVAILABLE | 1u << ERROR_DEADLINE_EXCEEDED | \
     1u << ERROR_CANCELLED | 1u << ERROR_INTERNAL | 1u << ERROR_DATA_LOSS |       \
     1u << ERROR_ALREADY_EXISTS)

static void what_may_still_happen_is_not_decided(void **state)
{
    (void)state;
    assert_int_equal(codes_that_decide(DECIDED_NOT_ATTACHED) & (UNCLEAR | 1u << ERROR_ABORTED), 0);
    assert_int_equal(codes_that_decide(DECIDED_NOT_DELETED) & (UNCLEAR | 1u << ERROR_ABORTED), 0);
    assert_int_equal(codes_that_decide(DECIDED_NO_RECORD) & UNCLEAR, 0);
}

static void names_that_do_not_exist_are_attached_nowhere(void **state)
{
    (void)state;
    assert_int_equal(codes_that_decide(DECIDED_NOWHERE),
                     1u << ERROR_NOT_FOUND | 1u << ERROR_INVALID_ARGUMENT);
}

/* The deletion of what is gone goes on: NOT_FOUND is no refusal. */
static void only_a_refusal_leaves_a_volume_as_it_is(void **state)
{
    (void)state;
    assert_int_equal(codes_that_decide(DECIDED_NOT_DELETED),
                     1u << ERROR_FAILED_PRECONDITION | 1u << ERROR_INVALID_ARGUMENT);
}

/* As external-provisioner and external-snapshotter have it. */
static void sidecars_repeat_what_may_still_be_at_work(void **state)
{
    (void)state;
    assert_int_equal(codes_that_decide(DECIDED_TO_REPEAT),
                     1u << ERROR_CANCELLED | 1u << ERROR_DEADLINE_EXCEEDED |
                         1u << ERROR_UNAVAILABLE | 1u << ERROR_ABORTED);
}

static void a_tenant_without_room_gets_no_record(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    error_set(&err, ERROR_RESOURCE_EXHAUSTED, "the broker has too many clients");
    assert_false(stacked_has_decided(&err, DECIDED_NO_RECORD));
    error_reason(&err, RECORD_LIMIT_REASON);
    assert_true(stacked_has_decided(&err, DECIDED_NO_RECORD));
    assert_false(stacked_has_decided(&err, DECIDED_NOT_DELETED));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_may_still_happen_is_not_decided),
        cmocka_unit_test(names_that_do_not_exist_are_attached_nowhere),
        cmocka_unit_test(only_a_refusal_leaves_a_volume_as_it_is),
        cmocka_unit_test(sidecars_repeat_what_may_still_be_at_work),
        cmocka_unit_test(a_tenant_without_room_gets_no_record),
    };

    return RUN_TESTS(tests);
}
