/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/space.h"
#include "tests/unit/test.h"

static void a_space_is_found_by_the_kind_in_the_record(void **state UNUSED)
{
    const struct space *space = NULL;
    struct error err = ERROR_INIT;

    assert_ok(space_find(BACKING_FILE, &space, &err));
    assert_ptr_equal(space, &space_file);
    assert_ok(space_find(BACKING_DEVICE, &space, &err));
    assert_ptr_equal(space, &space_device);
    assert_refused(ERROR_FAILED_PRECONDITION, space_find((enum backing_kind)7, &space, &err));
    assert_contains(err.text, "backing 7");
}

static void all_of_them_are_listed(void **state UNUSED)
{
    assert_ptr_equal(space_at(0), &space_file);
    assert_ptr_equal(space_at(1), &space_device);
    assert_null(space_at(2));
    assert_null(space_at(SIZE_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_space_is_found_by_the_kind_in_the_record),
        cmocka_unit_test(all_of_them_are_listed),
    };

    return RUN_TESTS(tests);
}
