/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/control.h"
#include "tests/unit/test.h"

static void device_mapper_is_found_among_others(void **state UNUSED)
{
    unsigned found = 0;

    assert_true(control_find_minor("229 fuse\n236 device-mapper\n237 loop-control\n", &found));
    assert_int_equal(found, 236);
    assert_true(control_find_minor(" 63 device-mapper", &found));
    assert_int_equal(found, 63);
}

static void a_kernel_without_device_mapper_has_no_number(void **state UNUSED)
{
    static const char *const texts[] = { "",
                                         "\n",
                                         "229 fuse\n",
                                         "236 device-mapper-x\n",
                                         "device-mapper\n",
                                         " device-mapper\n",
                                         "99999999999 device-mapper\n",
                                         "236 x device-mapper\n" };
    unsigned found = 7;

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_false(control_find_minor(texts[i], &found));
    assert_int_equal(found, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device_mapper_is_found_among_others),
        cmocka_unit_test(a_kernel_without_device_mapper_has_no_number),
    };

    return RUN_TESTS(tests);
}
