/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/attester.h"
#include "tests/unit/test.h"

static void an_attester_is_found_by_its_name(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    assert_ptr_equal(attester_find("tdx", &err), &attester_tdx);
    assert_int_equal(err.code, ERROR_NONE);
}

static void an_unknown_attester_is_refused_and_the_known_are_named(void **state UNUSED)
{
    static const char *const unknown[] = { "", "snp", "TDX", "tdx ", "td", "tdx2" };

    for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
        struct error err = ERROR_INIT;

        assert_null(attester_find(unknown[i], &err));
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        assert_contains(err.text, unknown[i]);
        assert_contains(err.text, "the known ones are tdx");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_attester_is_found_by_its_name),
        cmocka_unit_test(an_unknown_attester_is_refused_and_the_known_are_named),
    };

    return RUN_TESTS(tests);
}
