/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "tests/unit/test.h"

#include <errno.h>
#include <string.h>

static void set_replaces_the_whole_error(void **state)
{
    struct error err = { .code = ERROR_INTERNAL, .sys_errno = EIO, .reason = "Old", .text = "old" };

    (void)state;
    assert_false(error_set(&err, ERROR_DENIED, "volume %s", "v1"));
    assert_int_equal(err.code, ERROR_DENIED);
    assert_int_equal(err.sys_errno, 0);
    assert_string_equal(err.reason, "");
    assert_string_equal(err.text, "volume v1");
}

static void set_may_use_its_own_text(void **state)
{
    struct error err = { .text = "cause" };

    (void)state;
    assert_false(error_set(&err, ERROR_INTERNAL, "step: %s", err.text));
    assert_string_equal(err.text, "step: cause");
}

static void set_reason_replaces_all_and_names_the_failure(void **state)
{
    struct error err = { .code = ERROR_INTERNAL, .sys_errno = EIO, .reason = "Old", .text = "old" };

    (void)state;
    assert_false(error_set_reason(&err, ERROR_DATA_LOSS, "RolledBack", "opened %d times", 3));
    assert_int_equal(err.code, ERROR_DATA_LOSS);
    assert_int_equal(err.sys_errno, 0);
    assert_string_equal(err.reason, "RolledBack");
    assert_string_equal(err.text, "opened 3 times");
}

static void set_reason_may_use_its_own_reason_and_text(void **state)
{
    struct error err = { .code = ERROR_DENIED, .reason = "NoRule", .text = "cause" };

    (void)state;
    assert_false(error_set_reason(&err, ERROR_UNAUTHENTICATED, err.reason, "step: %s", err.text));
    assert_string_equal(err.reason, "NoRule");
    assert_string_equal(err.text, "step: cause");
}

static void wraps_read_from_outermost_to_cause(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_false(error_set_errno(&err, ENXIO, "open %s", "LUKS2 header"));
    assert_false(error_reason(&err, "HeaderGone"));
    assert_false(error_wrap(&err, "stage %s", "pvc-7"));
    assert_string_equal(err.text, "stage pvc-7: open LUKS2 header: No such device or address");
    assert_int_equal(err.sys_errno, ENXIO);
    assert_int_equal(err.code, ERROR_INTERNAL);
    assert_string_equal(err.reason, "HeaderGone");
}

static void code_follows_errno(void **state)
{
    static const struct {
        int sys_errno;
        enum error_code code;
    } rows[] = {
        { ENOENT, ERROR_NOT_FOUND },
        { ENOSPC, ERROR_RESOURCE_EXHAUSTED },
        { EDQUOT, ERROR_RESOURCE_EXHAUSTED },
        { EBUSY, ERROR_ABORTED },
        { EFBIG, ERROR_OUT_OF_RANGE },
        { EIO, ERROR_INTERNAL },
        { 99999, ERROR_INTERNAL },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        assert_false(error_set_errno(&err, rows[i].sys_errno, "x"));
        assert_int_equal(err.code, rows[i].code);
        assert_int_equal(err.sys_errno, rows[i].sys_errno);
    }
}

static void unknown_errno_is_named_by_number(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_false(error_set_errno(&err, 99999, "x"));
    assert_string_equal(err.text, "x: errno 99999");
}

static void long_text_ends_with_dots(void **state)
{
    struct error err = ERROR_INIT;
    const size_t len = sizeof(err.text) - 1;

    (void)state;
    assert_false(error_set(&err, ERROR_INTERNAL, "%0*d", (int)len, 0));
    assert_int_equal(strlen(err.text), len);
    assert_null(strchr(err.text, '.'));

    assert_false(error_set(&err, ERROR_INTERNAL, "%0*d", (int)len + 1, 0));
    assert_int_equal(strlen(err.text), len);
    assert_string_equal(err.text + len - 4, "0...");

    assert_false(error_wrap(&err, "outer"));
    assert_int_equal(strlen(err.text), len);
    assert_memory_equal(err.text, "outer: 0", 8);
    assert_string_equal(err.text + len - 3, "...");
}

static void cut_never_splits_a_character(void **state)
{
    struct error err = ERROR_INIT;
    const char euro[] = "\xE2\x82\xAC";
    char text[600] = "";

    (void)state;
    for (size_t shift = 0; shift < 3; shift++) {
        for (size_t i = 0; i < (size_t)199 * 3 - shift; i++)
            text[i] = (char)(i < shift ? 'x' : euro[(i - shift) % 3]);
        assert_false(error_set(&err, ERROR_INTERNAL, "%s", text));
        size_t len = strlen(err.text);
        assert_string_equal(err.text + len - 3, "...");
        assert_memory_equal(err.text + len - 6, euro, 3);
    }
}

static void reason_too_long_is_cut(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_false(error_reason(&err, "ThisWordIsLongerThanThirtyOneBytes"));
    assert_int_equal(strlen(err.reason), sizeof(err.reason) - 1);
}

static void every_code_has_its_name(void **state)
{
    (void)state;
    for (int code = 0; code < ERROR_CODE_COUNT; code++) {
        assert_non_null(error_code_name((enum error_code)code));
        assert_string_not_equal(error_code_name((enum error_code)code), "UNKNOWN");
    }
    assert_string_equal(error_code_name(ERROR_DENIED), "PERMISSION_DENIED");
    assert_string_equal(error_code_name(ERROR_CODE_COUNT), "UNKNOWN");
    assert_string_equal(error_code_name((enum error_code) - 1), "UNKNOWN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_replaces_the_whole_error),
        cmocka_unit_test(set_may_use_its_own_text),
        cmocka_unit_test(set_reason_replaces_all_and_names_the_failure),
        cmocka_unit_test(set_reason_may_use_its_own_reason_and_text),
        cmocka_unit_test(wraps_read_from_outermost_to_cause),
        cmocka_unit_test(code_follows_errno),
        cmocka_unit_test(unknown_errno_is_named_by_number),
        cmocka_unit_test(long_text_ends_with_dots),
        cmocka_unit_test(cut_never_splits_a_character),
        cmocka_unit_test(reason_too_long_is_cut),
        cmocka_unit_test(every_code_has_its_name),
    };

    return RUN_TESTS(tests);
}
