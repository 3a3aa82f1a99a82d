/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/vm/steps.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Lives of volumes through tdvol-blockd on a real kernel: run by tests/vm/run. */

static void run_life(enum integrity integrity, const char *fs_type, uint64_t size_bytes)
{
    static struct block_result result;
    create("a", integrity, fs_type, size_bytes);
    struct block_request *stage = stage_request("a");
    must(stage, &result);
    assert_false(result.already);
    must(stage, &result);
    assert_true(result.already);

    struct block_request *publish = publish_request("a", "mnt/target");
    must(publish, &result);
    assert_false(result.already);
    must(publish, &result);
    assert_true(result.already);
    write_text("mnt/target/file", "hello");
    expect_text("mnt/stage-a/file", "hello");

    struct block_request *stats = with_path(front_request(BLOCK_STATS, "a"), "mnt/target");
    must(stats, &result);
    assert_false(result.stats.is_block);
    assert_true(result.stats.total_bytes > 0 && result.stats.total_inodes > 0);

    struct block_request *delete = front_request(BLOCK_DELETE, "a");
    refused(delete, ERROR_FAILED_PRECONDITION);
    struct block_request *unstage = unstage_request("a");
    refused(unstage, ERROR_FAILED_PRECONDITION);

    simple(BLOCK_UNPUBLISH, "a", "mnt/target");
    simple(BLOCK_UNPUBLISH, "a", "mnt/target");
    assert_int_not_equal(0, access(front_path(&front, "mnt/target"), F_OK));
    must(unstage, NULL);
    must(unstage, &result);
    assert_true(result.already);
    assert_int_equal(integrity != INTEGRITY_NONE, front_record(&front, "a")->has_clean_hash);
    expect_nothing_left();

    must(stage, NULL);
    expect_text("mnt/stage-a/file", "hello");
    must(unstage, NULL);
    must(delete, NULL);
    must(delete, &result);
    assert_true(result.already);
    assert_int_equal(0, count_in(front_path(&front, "local"), ""));
    expect_nothing_left();
}

static void an_authenticated_ext4_volume_lives(void **state)
{
    (void)state;
    run_life(INTEGRITY_AEGIS128, "ext4", 64 * MIB);
}

static void an_xfs_volume_with_hmac_lives(void **state)
{
    (void)state;
    run_life(INTEGRITY_HMAC_SHA256, "xfs", 320 * MIB);
}

static void an_ext4_volume_without_integrity_lives(void **state)
{
    (void)state;
    run_life(INTEGRITY_NONE, "ext4", 64 * MIB);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_authenticated_ext4_volume_lives, steps_start, steps_end),
        cmocka_unit_test_setup_teardown(an_xfs_volume_with_hmac_lives, steps_start, steps_end),
        cmocka_unit_test_setup_teardown(an_ext4_volume_without_integrity_lives, steps_start,
                                        steps_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
