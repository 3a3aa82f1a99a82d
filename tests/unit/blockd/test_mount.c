/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "blockd/mount.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

static struct mount_options options;
static struct error err;

static void words_become_attributes_and_options(void **state)
{
    (void)state;
    assert_true(
        mount_options_parse("ro,noatime,data=ordered,nosuid,x-foo=1,_netdev,dax", &options, &err));
    assert_true(options.read_only);
    assert_int_equal(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME | MOUNT_ATTR_NOSUID,
                     options.attributes);
    assert_int_equal(2, options.n);
    assert_string_equal("data", options.items[0].name);
    assert_string_equal("ordered", options.items[0].value);
    assert_string_equal("dax", options.items[1].name);
    assert_null(options.items[1].value);
}

static void the_last_word_wins(void **state)
{
    (void)state;
    assert_true(mount_options_parse("ro,noatime,nosuid,rw,relatime,suid", &options, &err));
    assert_false(options.read_only);
    assert_int_equal(0, options.attributes);
}

static void a_quoted_context_keeps_its_commas(void **state)
{
    (void)state;
    assert_true(mount_options_parse(
        "context=\"system_u:object_r:container_file_t:s0:c1,c2\",noexec", &options, &err));
    assert_int_equal(1, options.n);
    assert_string_equal("context", options.items[0].name);
    assert_string_equal("system_u:object_r:container_file_t:s0:c1,c2", options.items[0].value);
    assert_int_equal(MOUNT_ATTR_NOEXEC, options.attributes);
}

static void no_options_are_fine(void **state)
{
    (void)state;
    assert_true(mount_options_parse("", &options, &err));
    assert_int_equal(0, options.n);
    assert_true(mount_options_parse("defaults", &options, &err));
    assert_int_equal(0, options.n);
}

static void options_that_name_other_devices_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "bind",        "remount,ro",          "loop",
                                       "source=/x",   "logdev=/dev/sda",     "rtdev=/dev/sda",
                                       "journal_dev", "journal_path=/dev/x", "shared",
                                       "ro=1",        "noatime=x",           "move" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(mount_options_parse(bad[i], &options, &err));
        assert_int_equal(ERROR_INVALID_ARGUMENT, err.code);
    }
}

static void malformed_options_are_refused(void **state)
{
    (void)state;
    static char text[4200];
    assert_false(mount_options_parse("context=\"a,b", &options, &err));
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        text[i] = 'a';
    assert_false(mount_options_parse(text, &options, &err));
    for (size_t i = 0; i < 200; i++)
        text[i] = i % 2 ? ',' : 'a';
    text[200] = 0;
    assert_false(mount_options_parse(text, &options, &err));
    assert_int_equal(ERROR_INVALID_ARGUMENT, err.code);
}

#define TABLE                                                                         \
    "20 1 0:19 / / rw,relatime shared:1 - ext4 /dev/sda rw\n"                         \
    "30 20 254:6 / /mnt/a\\040b rw,relatime shared:2 - ext4 /dev/mapper/tdvol-x rw\n" \
    "31 20 254:6 / /mnt/target ro,relatime shared:2 - ext4 /dev/mapper/tdvol-x rw\n"  \
    "32 20 254:7 / /mnt/stack rw - ext4 /dev/mapper/tdvol-y rw\n"                     \
    "33 32 254:8 / /mnt/stack rw - xfs /dev/mapper/tdvol-z ro\n"                      \
    "34 20 0:6 /mapper/tdvol-raw /mnt/node rw - devtmpfs devtmpfs rw\n"               \
    "35 20 0:6 /dm-12 /mnt/other rw - devtmpfs devtmpfs rw\n"                         \
    "36 20 0:6 /mapper/tdvol-gone//deleted /mnt/gone rw - devtmpfs devtmpfs rw\n"     \
    "37 20 254:20 /sub /k/pods/a/volume-subpaths/pv/app/0 rw - ext4 /dev/mapper/tdvol-p rw\n"

static char table[] = "/tmp/mountinfo.XXXXXX";

static int write_table(void **state)
{
    (void)state;
    int fd = mkstemp(table);
    bool ok = fd >= 0 && fd_write_all(fd, TABLE, strlen(TABLE), &err);
    close(fd);
    return ok ? 0 : -1;
}

static int remove_table(void **state)
{
    (void)state;
    return unlink(table);
}

static void the_topmost_mount_of_a_path_is_found(void **state)
{
    (void)state;
    bool found = false;
    struct mount_entry entry;
    assert_true(mount_find(table, "/mnt/a b", &found, &entry, &err));
    assert_true(found && entry.device == makedev(254, 6) && !entry.read_only);
    assert_true(mount_find(table, "/mnt/target", &found, &entry, &err));
    assert_true(found && entry.read_only);
    assert_true(mount_find(table, "/mnt/stack", &found, &entry, &err));
    assert_true(found && entry.device == makedev(254, 8) && entry.read_only);
    assert_true(mount_find(table, "/mnt", &found, &entry, &err));
    assert_false(found);
    assert_false(mount_find("/nowhere", "/mnt", &found, &entry, &err));
}

static void a_bound_node_is_known_by_its_name(void **state)
{
    (void)state;
    bool found = false;
    struct mount_entry entry;
    assert_true(mount_find(table, "/mnt/node", &found, &entry, &err) && found);
    assert_true(mount_is_node(&entry, 0, "tdvol-raw"));
    assert_false(mount_is_node(&entry, 0, "tdvol-x"));
    assert_true(mount_find(table, "/mnt/other", &found, &entry, &err) && found);
    assert_true(mount_is_node(&entry, makedev(254, 12), "tdvol-x"));
    assert_false(mount_is_node(&entry, 0, "tdvol-x"));
    assert_true(mount_find(table, "/mnt/gone", &found, &entry, &err) && found);
    assert_true(mount_is_node(&entry, 0, "tdvol-gone"));
    assert_true(mount_find(table, "/mnt/target", &found, &entry, &err) && found);
    assert_string_equal("", entry.root_name);
    assert_false(mount_is_node(&entry, makedev(254, 6), "tdvol-x"));
}

static const char *user_of(unsigned minor, const char *node_name, const char *const *except,
                           const char *target)
{
    static char path[PATH_MAX];
    bool found = false;
    const struct mount_search search = {
        .device = makedev(254, minor), .node_name = node_name, .except = except, .target = target
    };

    assert_true(mount_find_user(table, &search, &found, path, &err));
    return found ? path : "";
}

static void users_of_a_device_are_found(void **state)
{
    (void)state;
    const char *none[] = { NULL }, *staging[] = { "/mnt/a b", NULL },
               *both[] = { "/mnt/a b", "/mnt/target", NULL };
    assert_string_equal("/mnt/a b", user_of(6, "tdvol-x", none, NULL));
    assert_string_equal("/mnt/target", user_of(6, "tdvol-x", staging, NULL));
    assert_string_equal("", user_of(6, "tdvol-x", both, NULL));
    assert_string_equal("/mnt/node", user_of(9, "tdvol-raw", none, NULL));
    assert_string_equal("/mnt/other", user_of(12, "tdvol-q", none, NULL));
    assert_string_equal("", user_of(1, "tdvol-q", none, NULL));
}

static void a_sub_path_of_the_same_pod_is_no_other_user(void **state)
{
    (void)state;
    const char *none[] = { NULL };
    assert_string_equal("", user_of(20, "tdvol-p", none, "/k/pods/a/volumes/x/pv/mount"));
    assert_string_equal("/k/pods/a/volume-subpaths/pv/app/0",
                        user_of(20, "tdvol-p", none, "/k/pods/b/volumes/x/pv/mount"));
    assert_string_equal("/k/pods/a/volume-subpaths/pv/app/0", user_of(20, "tdvol-p", none, NULL));
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_become_attributes_and_options),
        cmocka_unit_test(the_last_word_wins),
        cmocka_unit_test(a_quoted_context_keeps_its_commas),
        cmocka_unit_test(no_options_are_fine),
        cmocka_unit_test(options_that_name_other_devices_are_refused),
        cmocka_unit_test(malformed_options_are_refused),
        cmocka_unit_test(the_topmost_mount_of_a_path_is_found),
        cmocka_unit_test(a_bound_node_is_known_by_its_name),
        cmocka_unit_test(users_of_a_device_are_found),
        cmocka_unit_test(a_sub_path_of_the_same_pod_is_no_other_user),
    };
    return cmocka_run_group_tests(tests, write_table, remove_table);
}
