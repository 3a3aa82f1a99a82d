/* SPDX-License-Identifier: Apache-2.0 */
#include "base/uuid.h"
#include "tests/unit/test.h"

#include <string.h>

static void text_is_lower_case_with_dashes(void **state)
{
    const uint8_t uuid[UUID_LEN] = { 0xAB, 0xCD, 0xEF, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13 };
    char text[UUID_TEXT_LEN];

    (void)state;
    uuid_text(uuid, text);
    assert_string_equal(text, "abcdef01-0203-0405-0607-08090a0b0c0d");
}

static void boot_id_is_stable(void **state)
{
    char a[BOOT_ID_LEN], b[BOOT_ID_LEN];

    (void)state;
    boot_id_text(a);
    boot_id_text(b);
    assert_string_equal(a, b);
    assert_true(strcmp(a, "unknown") == 0 || strlen(a) == BOOT_ID_LEN - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_lower_case_with_dashes),
        cmocka_unit_test(boot_id_is_stable),
    };

    return RUN_TESTS(tests);
}
