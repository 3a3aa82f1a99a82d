/* SPDX-License-Identifier: Apache-2.0 */
#include "base/macro.h"
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int open_null(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static void auto_close_closes_at_the_end_of_scope(void **state)
{
    int number = -1;

    (void)state;
    {
        auto_close int fd = open_null();

        number = fd;
    }
    assert_int_equal(fcntl(number, F_GETFD), -1);
}

static void close_at_empties_the_slot_and_keeps_errno(void **state)
{
    int fd = open_null();

    (void)state;
    errno = EXDEV;
    close_at(&fd);
    assert_int_equal(fd, -1);
    close_at(&fd);
    assert_int_equal(errno, EXDEV);
}

static void free_at_empties_the_slot_and_keeps_errno(void **state)
{
    char *bytes = malloc(1);

    (void)state;
    assert_non_null(bytes);
    errno = EXDEV;
    free_at(&bytes);
    assert_null(bytes);
    free_at(&bytes);
    assert_int_equal(errno, EXDEV);
}

static void taking_moves_the_owner(void **state)
{
    auto_free char *bytes = malloc(1);
    auto_close int fd = open_null();
    char *given_bytes = bytes;
    int given_fd = fd;

    (void)state;
    auto_free char *taken_bytes = TAKE_PTR(bytes);
    auto_close int taken_fd = TAKE_FD(fd);
    assert_null(bytes);
    assert_int_equal(fd, -1);
    assert_ptr_equal(taken_bytes, given_bytes);
    assert_int_equal(taken_fd, given_fd);
}

static void rounding_up_reaches_the_next_step(void **state)
{
    (void)state;
    assert_int_equal(round_up_u64(0, 4096), 0);
    assert_int_equal(round_up_u64(1, 4096), 4096);
    assert_int_equal(round_up_u64(4096, 4096), 4096);
    assert_int_equal(round_up_u64(4097, 4096), 8192);
}

static void bytes_become_text(void **state)
{
    (void)state;
    static const char bytes[3] = { 'a', 'b', 'c' };
    auto_free char *text = text_of_bytes(bytes, sizeof(bytes));
    auto_free char *nothing = text_of_bytes(NULL, 0);

    assert_string_equal(text, "abc");
    assert_string_equal(nothing, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_close_closes_at_the_end_of_scope),
        cmocka_unit_test(close_at_empties_the_slot_and_keeps_errno),
        cmocka_unit_test(free_at_empties_the_slot_and_keeps_errno),
        cmocka_unit_test(taking_moves_the_owner),
        cmocka_unit_test(rounding_up_reaches_the_next_step),
        cmocka_unit_test(bytes_become_text),
    };

    return RUN_TESTS(tests);
}
