/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/process.h"
#include "crypt/loop.h"
#include "tests/vm/front.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* tdvol-blockd and its workers on a real kernel: run by tests/vm/run. */

#define MIB (1ull << 20)

static struct front front;

static void must(const struct block_request *request, struct block_result *result)
{
    struct error err = ERROR_INIT;
    if (!front_call(&front, request, result, &err))
        fail_msg("operation %u: %s %s: %s", request->operation, error_code_name(err.code),
                 err.reason, err.text);
}

static void refused(const struct block_request *request, enum error_code code)
{
    struct error err = ERROR_INIT;
    bool done = front_call(&front, request, NULL, &err);
    if (done || err.code != code)
        print_message("operation %u: %s: %s\n", request->operation, error_code_name(err.code),
                      err.text);
    assert_false(done);
    assert_string_equal(error_code_name(code), error_code_name(err.code));
}

static struct block_request *with_path(struct block_request *request, const char *path)
{
    snprintf(request->path, sizeof(request->path), "%s", front_path(&front, path));
    return request;
}

static struct block_request *stage_request(const char *volume_id)
{
    struct block_request *request = with_path(front_request(BLOCK_STAGE, volume_id), "mnt/stage");
    snprintf(request->fs_type, sizeof(request->fs_type), "%s",
             front_record(&front, volume_id)->spec.fs_type);
    return request;
}

static struct block_request *publish_request(const char *volume_id, const char *path)
{
    struct block_request *request = with_path(front_request(BLOCK_PUBLISH, volume_id), path);
    snprintf(request->path2, sizeof(request->path2), "%s", front_path(&front, "mnt/stage"));
    snprintf(request->fs_type, sizeof(request->fs_type), "%s",
             front_record(&front, volume_id)->spec.fs_type);
    return request;
}

static void create(const char *volume_id, enum integrity integrity, const char *fs_type,
                   uint64_t size_bytes)
{
    front_add(&front, volume_id, integrity, fs_type, size_bytes);
    struct block_request *request = front_request(BLOCK_CREATE, volume_id);
    request->size_bytes = front_record(&front, volume_id)->spec.device_bytes;
    must(request, NULL);
}

static void simple(enum block_operation operation, const char *volume_id, const char *path)
{
    struct block_request *request = with_path(front_request(operation, volume_id), path);
    must(request, NULL);
}

static void write_text(const char *path, const char *text)
{
    struct error err = ERROR_INIT;
    if (!file_write(front_path(&front, path), 0600, text, strlen(text), &err))
        fail_msg("%s", err.text);
}

static void expect_text(const char *path, const char *text)
{
    struct error err = ERROR_INIT;
    auto_free char *bytes = NULL;
    size_t len = 0;
    if (!file_read(front_path(&front, path), 4096, &bytes, &len, &err))
        fail_msg("%s", err.text);
    assert_string_equal(text, bytes);
}

static unsigned count_in(const char *folder, const char *prefix)
{
    unsigned n = 0;
    DIR *stream = opendir(folder);
    for (const struct dirent *e; stream && (e = readdir(stream));)
        n += strncmp(e->d_name, prefix, strlen(prefix)) == 0 && e->d_name[0] != '.';
    if (stream)
        closedir(stream);
    return n;
}

static unsigned count_loops(void)
{
    unsigned n = 0;
    for (int i = 0; i < 64; i++) {
        char path[64];
        snprintf(path, sizeof(path), "/sys/block/loop%d/loop", i);
        n += access(path, F_OK) == 0;
    }
    return n;
}

static void expect_nothing_left(void)
{
    assert_int_equal(0, count_in("/dev/mapper", "tdvol-"));
    assert_int_equal(0, count_in("/dev/mapper", "temporary-"));
    assert_int_equal(0, count_loops());
    assert_int_equal(0, count_in(front_path(&front, "state"), ""));
    for (int i = 0; i < 100 && front_worker(&front); i++)
        usleep(20000); /* it ends after its answer */
    assert_int_equal(0, front_worker(&front));
}

static int start(void **state)
{
    (void)state;
    front_start(&front);
    return 0;
}

static int end(void **state)
{
    (void)state;
    front_end(&front);
    return 0;
}

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
    expect_text("mnt/stage/file", "hello");

    struct block_request *stats = with_path(front_request(BLOCK_STATS, "a"), "mnt/target");
    must(stats, &result);
    assert_false(result.stats.is_block);
    assert_true(result.stats.total_bytes > 0 && result.stats.total_inodes > 0);

    struct block_request *delete = front_request(BLOCK_DELETE, "a");
    refused(delete, ERROR_FAILED_PRECONDITION);
    struct block_request *unstage = with_path(front_request(BLOCK_UNSTAGE, "a"), "mnt/stage");
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
    expect_text("mnt/stage/file", "hello");
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
        cmocka_unit_test_setup_teardown(an_authenticated_ext4_volume_lives, start, end),
        cmocka_unit_test_setup_teardown(an_xfs_volume_with_hmac_lives, start, end),
        cmocka_unit_test_setup_teardown(an_ext4_volume_without_integrity_lives, start, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
