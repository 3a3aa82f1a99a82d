/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/backing.h"
#include "tests/unit/test.h"

static void a_backing_is_found_by_its_name_alone(void **state UNUSED)
{
    assert_ptr_equal(backing_find("local"), &backing_local);
    assert_int_equal(backing_find("local")->kind, BACKING_FILE);
    assert_null(backing_find("locale"));
    assert_null(backing_find(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_backing_is_found_by_its_name_alone),
    };

    return RUN_TESTS(tests);
}
