/* SPDX-License-Identifier: Apache-2.0 */
#include "base/names.h"
#include "tests/unit/test.h"

static void names_are_joined_by_commas(void **state)
{
    struct name_list list = { .text = "" };

    (void)state;
    name_list_add(&list, "tdx");
    assert_string_equal(list.text, "tdx");
    name_list_add(&list, "snp");
    name_list_add(&list, "sgx");
    assert_string_equal(list.text, "tdx, snp, sgx");
}

static void a_list_that_is_too_long_is_cut(void **state)
{
    struct name_list list = { .text = "" };

    (void)state;
    for (size_t i = 0; i < sizeof(list.text); i++)
        name_list_add(&list, "abc");
    assert_int_equal(strlen(list.text), sizeof(list.text) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_joined_by_commas),
        cmocka_unit_test(a_list_that_is_too_long_is_cut),
    };

    return RUN_TESTS(tests);
}
