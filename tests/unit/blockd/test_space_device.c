/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/process.h"
#include "blockd/operation.h"
#include "blockd/place.h"
#include "blockd/space_device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[] = "/tmp/space-device.XXXXXX";
static char dir[64];
static struct worker_config config = { .driver = "d", .upstream_dir = dir };
static struct worker worker = { .config = &config };
static struct device_place place;
static struct block_result result;
static struct error err;

static int make_root(void **state)
{
    (void)state;
    if (!mkdtemp(root))
        return -1;
    (void)snprintf(dir, sizeof(dir), "%s/upstream", root);
    return volume_name_make("d", "a", &worker.name, &err) &&
                   place_of(dir, &worker.name, &place, &err)
               ? 0
               : -1;
}

static int remove_root(void **state)
{
    (void)state;
    const char *argv[] = { "rm", "-rf", root, NULL };
    return process_must(argv, 0, 0, &err) ? 0 : -1;
}

static int prepare(void **state)
{
    (void)state;
    const char *argv[] = { "rm", "-rf", dir, NULL };
    config.upstream_dir = dir;
    result = (struct block_result){ .already = false };
    return process_must(argv, 0, 0, &err) && space_device_prepare(dir, &err) ? 0 : -1;
}

/* The folder of the volume's places. */
static const char *folder(void)
{
    static char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, worker.name.text);
    return path;
}

static bool has_place(void)
{
    bool found = false;

    assert_true(space_device_find_place(&worker, &found, &err));
    return found;
}

static void places_come_and_go(void **state)
{
    (void)state;
    struct stat st;
    assert_false(has_place());
    assert_true(operation_place(&worker, &result, &err));
    assert_false(result.already);
    assert_true(has_place());
    assert_int_equal(0, lstat(place.stage, &st));
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(0, st.st_mode & 007);
    assert_true(operation_place(&worker, &result, &err));
    assert_true(result.already);
    /* A driver may leave the file over which it had mounted the device. */
    assert_true(file_write(place.device, 0600, "", 0, &err));
    assert_true(operation_unplace(&worker, &result, &err));
    assert_false(result.already);
    assert_false(has_place());
    assert_true(operation_unplace(&worker, &result, &err));
    assert_true(result.already);
}

static void half_made_places_are_completed_and_removed(void **state)
{
    (void)state;
    assert_int_equal(0, mkdir(folder(), 0700));
    assert_true(operation_place(&worker, &result, &err));
    assert_int_equal(0, access(place.stage, F_OK));
    assert_int_equal(0, rmdir(place.stage));
    assert_true(operation_unplace(&worker, &result, &err));
    assert_false(has_place());
}

static void what_is_left_at_a_place_is_named_and_stays(void **state)
{
    (void)state;
    char inner[PATH_MAX + 16];
    assert_true(operation_place(&worker, &result, &err));
    assert_true(file_write(place.device, 0600, "x", 1, &err));
    assert_false(operation_unplace(&worker, &result, &err));
    assert_int_equal(ERROR_FAILED_PRECONDITION, err.code);
    assert_non_null(strstr(err.text, place.device));
    assert_int_equal(0, unlink(place.device));
    (void)snprintf(inner, sizeof(inner), "%s/globalmount", place.stage);
    assert_int_equal(0, mkdir(inner, 0700));
    assert_false(operation_unplace(&worker, &result, &err));
    assert_int_equal(ERROR_FAILED_PRECONDITION, err.code);
    assert_non_null(strstr(err.text, place.stage));
    assert_int_equal(0, access(inner, F_OK));
}

static void a_link_is_no_place(void **state)
{
    (void)state;
    assert_int_equal(0, symlink("/etc", folder()));
    assert_false(operation_place(&worker, &result, &err));
    assert_int_equal(ERROR_FAILED_PRECONDITION, err.code);
    assert_false(operation_unplace(&worker, &result, &err));
    assert_int_equal(0, access(folder(), F_OK));
    assert_int_equal(0, unlink(folder()));
    assert_int_equal(0, mkdir(folder(), 0700));
    assert_int_equal(0, symlink("/etc", place.stage));
    assert_false(operation_place(&worker, &result, &err));
    assert_int_equal(ERROR_FAILED_PRECONDITION, err.code);
    assert_false(operation_unplace(&worker, &result, &err));
    assert_int_equal(0, unlink(place.stage));
    assert_int_equal(0, symlink("/etc/passwd", place.device));
    assert_false(operation_unplace(&worker, &result, &err));
    assert_int_equal(0, access(place.device, F_OK));
}

static void without_another_driver_there_are_no_places(void **state)
{
    (void)state;
    config.upstream_dir = NULL;
    assert_false(has_place());
    assert_false(operation_place(&worker, &result, &err));
    assert_int_equal(ERROR_FAILED_PRECONDITION, err.code);
    assert_false(operation_unplace(&worker, &result, &err));
    assert_int_equal(ERROR_FAILED_PRECONDITION, err.code);
    assert_true(space_device_prepare(NULL, &err));
}

static void a_folder_that_others_can_write_is_refused(void **state)
{
    (void)state;
    assert_int_equal(0, chmod(dir, 0777));
    assert_false(space_device_prepare(dir, &err));
    assert_int_equal(ERROR_FAILED_PRECONDITION, err.code);
    assert_non_null(strstr(err.text, dir));
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(places_come_and_go, prepare),
        cmocka_unit_test_setup(half_made_places_are_completed_and_removed, prepare),
        cmocka_unit_test_setup(what_is_left_at_a_place_is_named_and_stays, prepare),
        cmocka_unit_test_setup(a_link_is_no_place, prepare),
        cmocka_unit_test_setup(without_another_driver_there_are_no_places, prepare),
        cmocka_unit_test_setup(a_folder_that_others_can_write_is_refused, prepare),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
