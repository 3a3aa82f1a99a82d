/* SPDX-License-Identifier: Apache-2.0 */
#include "base/reader.h"
#include "tests/unit/test.h"

static const uint8_t bytes[] = { 0x01, 0x82, 0x03, 0x04, 0x05, 0x06, 0x07, 0xf8, 0x09, 0x0a };

static void numbers_are_little_endian(void **state)
{
    struct byte_reader r = { bytes, sizeof(bytes) };
    uint16_t small = 0;
    uint32_t middle = 0;

    (void)state;
    assert_true(byte_reader_u32(&r, &middle));
    assert_int_equal(middle, 0x04038201);
    assert_true(byte_reader_u16(&r, &small));
    assert_int_equal(small, 0x0605);
    assert_int_equal(r.left, 4);
    assert_int_equal(u16le(bytes), 0x8201);
    assert_int_equal(u32le(bytes), 0x04038201);
    assert_int_equal(u64le(bytes), 0xf807060504038201ull);
}

static void ranges_follow_each_other(void **state)
{
    struct byte_reader r = { bytes, sizeof(bytes) };
    const uint8_t *part = NULL;

    (void)state;
    assert_true(byte_reader_take(&r, 4, &part));
    assert_ptr_equal(part, bytes);
    assert_true(byte_reader_take(&r, 0, &part));
    assert_ptr_equal(part, bytes + 4);
    assert_true(byte_reader_take(&r, 6, &part));
    assert_ptr_equal(part, bytes + 4);
    assert_int_equal(r.left, 0);
}

static void nothing_changes_when_too_few_bytes_are_left(void **state)
{
    (void)state;
    for (size_t left = 0; left < sizeof(uint32_t); left++) {
        struct byte_reader r = { bytes, left };
        const uint8_t *part = NULL;
        uint16_t small = 7;
        uint32_t middle = 7;

        assert_false(byte_reader_u32(&r, &middle));
        assert_true(left >= sizeof(small) || !byte_reader_u16(&r, &small));
        assert_false(byte_reader_take(&r, left + 1, &part));
        assert_false(byte_reader_take(&r, SIZE_MAX, &part));
        assert_int_equal(middle, 7);
        assert_int_equal(small, 7);
        assert_null(part);
        assert_ptr_equal(r.at, bytes);
        assert_int_equal(r.left, left);
    }
}

static void only_zeros_are_zero(void **state)
{
    const uint8_t zeros[8] = { 0 }, late[8] = { [7] = 1 };

    (void)state;
    assert_true(bytes_are_zero(zeros, sizeof(zeros)));
    assert_true(bytes_are_zero(late, 7));
    assert_true(bytes_are_zero(late, 0));
    assert_false(bytes_are_zero(late, sizeof(late)));
    assert_false(bytes_are_zero(late + 7, 1));
}

static void numbers_of_any_length_have_two_byte_orders(void **state)
{
    (void)state;
    assert_int_equal(little_endian(bytes, 0), 0);
    assert_int_equal(little_endian(bytes, 1), 0x01);
    assert_int_equal(little_endian(bytes, 3), 0x038201);
    assert_int_equal(little_endian(bytes, 8), 0xf807060504038201ull);
    assert_int_equal(big_endian(bytes, 0), 0);
    assert_int_equal(big_endian(bytes, 3), 0x018203);
    assert_int_equal(big_endian(bytes, 8), 0x01820304050607f8ull);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_little_endian),
        cmocka_unit_test(ranges_follow_each_other),
        cmocka_unit_test(nothing_changes_when_too_few_bytes_are_left),
        cmocka_unit_test(only_zeros_are_zero),
        cmocka_unit_test(numbers_of_any_length_have_two_byte_orders),
    };

    return RUN_TESTS(tests);
}
