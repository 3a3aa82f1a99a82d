/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "migrate/target.h"
#include "tests/unit/test.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define BYTES (4u << 20)

static const struct target_mark mark = { "01234567-89ab-cdef-0123-456789abcdef", 8192 };
static uint8_t head[TARGET_HEAD_BYTES];

static void fill(uint8_t *bytes, uint8_t value, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = value;
}

static struct target target_with(const void *bytes, size_t len)
{
    struct error err = ERROR_INIT;
    struct target target = TARGET_INIT;

    target.path = "new";
    target.bytes = BYTES;
    target.fd = memfd_create("device", MFD_CLOEXEC);
    assert_true(target.fd >= 0);
    assert_int_equal(ftruncate(target.fd, BYTES), 0);
    if (len > 0)
        assert_ok(fd_pwrite_all(target.fd, bytes, len, 0, &err));
    return target;
}

static enum target_state look(struct target *target)
{
    struct error err = ERROR_INIT;
    enum target_state state = TARGET_OTHER;

    assert_ok(target_look(target, &mark, head, sizeof(head), &state, &err));
    return state;
}

static void marker_is_of_one_copy_only(void **state UNUSED)
{
    uint8_t block[TARGET_MARKER_BYTES];
    struct target_mark other = mark;

    target_mark_encode(&mark, block);
    assert_true(target_mark_fits(block, &mark));
    other.bytes++;
    assert_false(target_mark_fits(block, &other));
    other = mark;
    other.uuid[0] = 'f';
    assert_false(target_mark_fits(block, &other));
    block[TARGET_MARKER_BYTES - 1] = 1;
    assert_false(target_mark_fits(block, &mark));
}

static void begun_copy_is_known_again_and_has_nothing_else(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    static uint8_t found[TARGET_HEAD_BYTES];

    fill(head, 0x11, sizeof(head));
    auto_target struct target target = target_with(head, sizeof(head));
    assert_ok(target_begin(&target, &mark, &err));
    assert_int_equal(look(&target), TARGET_BEGUN);
    assert_ok(fd_pread_all(target.fd, found, sizeof(found), 0, &err));
    for (size_t i = TARGET_MARKER_BYTES; i < sizeof(found); i++)
        assert_int_equal(found[i], 0);
}

static void finished_copy_has_the_sources_head(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    fill(head, 0x22, sizeof(head));
    auto_target struct target target = target_with(NULL, 0);
    assert_ok(target_begin(&target, &mark, &err));
    assert_ok(target_finish(&target, head, sizeof(head), &err));
    assert_int_equal(look(&target), TARGET_DONE);
}

static void short_head_is_finished_too(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    uint8_t found[TARGET_MARKER_BYTES];

    fill(head, 0x33, sizeof(head));
    auto_target struct target target = target_with(NULL, 0);
    assert_ok(target_begin(&target, &mark, &err));
    assert_ok(target_finish(&target, head, TARGET_MARKER_BYTES, &err));
    assert_ok(fd_pread_all(target.fd, found, sizeof(found), 0, &err));
    assert_memory_equal(found, head, sizeof(found));
}

static void zeros_are_empty_and_a_file_system_is_not(void **state UNUSED)
{
    fill(head, 0x44, sizeof(head));
    auto_target struct target zeros = target_with(NULL, 0);
    assert_int_equal(look(&zeros), TARGET_EMPTY);
    auto_target struct target xfs = target_with("hsqs", 4);
    assert_int_equal(look(&xfs), TARGET_OTHER);
    assert_true(strlen(xfs.found) > 0);
}

static void zeros_of_source_and_target_say_nothing_about_a_finished_copy(void **state UNUSED)
{
    bytes_wipe(head, sizeof(head));
    auto_target struct target target = target_with(NULL, 0);
    assert_int_equal(look(&target), TARGET_EMPTY);
}

static void file_systems_with_small_sectors_are_refused_on_large_ones(void **state UNUSED)
{
    static const uint8_t xfs_magic[] = { 'X', 'F', 'S', 'B' };
    struct error err = ERROR_INIT;

    bytes_wipe(head, sizeof(head));
    assert_ok(target_check_sectors(4096, head, sizeof(head), &err));
    memcpy(head, xfs_magic, sizeof(xfs_magic));
    head[102] = 2; /* 512 */
    assert_refused(ERROR_FAILED_PRECONDITION, target_check_sectors(4096, head, sizeof(head), &err));
    assert_ok(target_check_sectors(512, head, sizeof(head), &err));
    head[102] = 16;
    assert_ok(target_check_sectors(4096, head, sizeof(head), &err));
    bytes_wipe(head, 4);
    head[1080] = 0x53;
    head[1081] = 0xef;
    assert_refused(ERROR_FAILED_PRECONDITION, target_check_sectors(4096, head, sizeof(head), &err));
    assert_contains(err.text, "1024");
    head[1048] = 2;
    assert_ok(target_check_sectors(4096, head, sizeof(head), &err));
    head[1051] = 0xff; /* an impossible number says nothing */
    assert_ok(target_check_sectors(4096, head, sizeof(head), &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(marker_is_of_one_copy_only),
        cmocka_unit_test(begun_copy_is_known_again_and_has_nothing_else),
        cmocka_unit_test(finished_copy_has_the_sources_head),
        cmocka_unit_test(short_head_is_finished_too),
        cmocka_unit_test(zeros_are_empty_and_a_file_system_is_not),
        cmocka_unit_test(zeros_of_source_and_target_say_nothing_about_a_finished_copy),
        cmocka_unit_test(file_systems_with_small_sectors_are_refused_on_large_ones),
    };

    return RUN_TESTS(tests);
}
