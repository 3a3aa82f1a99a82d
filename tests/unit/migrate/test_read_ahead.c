/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "migrate/read_ahead.h"
#include "tests/unit/test.h"

#include <sys/mman.h>
#include <unistd.h>

#define CHUNKS 7u

static int device_with_numbers(uint64_t bytes)
{
    struct error err = ERROR_INIT;
    int fd = memfd_create("device", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    for (uint64_t at = 0; at < bytes; at += CHUNK_BYTES)
        assert_ok(fd_pwrite_all(fd, &at, sizeof(at), (off_t)at, &err));
    return fd;
}

static void chunks_come_in_order_up_to_the_end(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    auto_close int fd = device_with_numbers(CHUNKS * CHUNK_BYTES);
    auto_read_ahead struct read_ahead reader = { .fd = -1 };
    struct chunk chunk;

    assert_ok(read_ahead_start(&reader, fd, CHUNK_BYTES, CHUNKS * CHUNK_BYTES - 1000, &err));
    for (uint64_t n = 1; n < CHUNKS; n++) {
        uint64_t found = 0;

        assert_ok(read_ahead_next(&reader, &chunk, &err));
        memcpy(&found, chunk.bytes, sizeof(found));
        assert_int_equal(found, n * CHUNK_BYTES);
        assert_int_equal(chunk.offset, n * CHUNK_BYTES);
        assert_int_equal(chunk.len, CHUNK_BYTES); /* the last one is filled up */
        read_ahead_release(&reader);
    }
    assert_ok(read_ahead_next(&reader, &chunk, &err));
    assert_int_equal(chunk.len, 0);
}

static void empty_range_ends_at_once(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    auto_close int fd = device_with_numbers(CHUNK_BYTES);
    auto_read_ahead struct read_ahead reader = { .fd = -1 };
    struct chunk chunk;

    assert_ok(read_ahead_start(&reader, fd, 0, 0, &err));
    assert_ok(read_ahead_next(&reader, &chunk, &err));
    assert_int_equal(chunk.len, 0);
}

static void error_comes_after_the_chunks_before_it(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    auto_close int fd = device_with_numbers(CHUNK_BYTES);
    auto_read_ahead struct read_ahead reader = { .fd = -1 };
    struct chunk chunk;

    assert_int_equal(ftruncate(fd, CHUNK_BYTES + 8192), 0);
    assert_ok(read_ahead_start(&reader, fd, 0, 3 * CHUNK_BYTES, &err));
    assert_ok(read_ahead_next(&reader, &chunk, &err));
    read_ahead_release(&reader);
    for (int i = 0; i < 2; i++) {
        assert_refused(ERROR_INTERNAL, read_ahead_next(&reader, &chunk, &err));
        assert_contains(err.text, "read at offset 4202496"); /* the first one that is not there */
    }
}

static void user_may_leave_early(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    auto_close int fd = device_with_numbers(CHUNKS * CHUNK_BYTES);
    struct chunk chunk;

    for (unsigned n = 0; n < READ_AHEAD_CHUNKS; n++) {
        auto_read_ahead struct read_ahead reader = { .fd = -1 };

        assert_ok(read_ahead_start(&reader, fd, 0, CHUNKS * CHUNK_BYTES, &err));
        for (unsigned i = 0; i < n; i++) {
            assert_ok(read_ahead_next(&reader, &chunk, &err));
            read_ahead_release(&reader);
        }
    }
}

static void exact_read_names_what_cannot_be_read(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    auto_close int fd = device_with_numbers(2 * CHUNK_BYTES);
    static uint8_t bytes[16384];
    uint64_t found = 0;

    assert_ok(read_exactly(fd, bytes, sizeof(bytes), CHUNK_BYTES, &err));
    memcpy(&found, bytes, sizeof(found));
    assert_int_equal(found, CHUNK_BYTES);
    assert_refused(ERROR_INTERNAL,
                   read_exactly(fd, bytes, sizeof(bytes), 2 * CHUNK_BYTES - 8192, &err));
    assert_contains(err.text, "read at offset 8388608");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_come_in_order_up_to_the_end),
        cmocka_unit_test(empty_range_ends_at_once),
        cmocka_unit_test(error_comes_after_the_chunks_before_it),
        cmocka_unit_test(user_may_leave_early),
        cmocka_unit_test(exact_read_names_what_cannot_be_read),
    };

    return RUN_TESTS(tests);
}
