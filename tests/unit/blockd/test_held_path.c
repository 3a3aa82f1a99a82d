/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/process.h"
#include "blockd/held_path.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char root[] = "/tmp/place.XXXXXX";
static struct mount_roots roots;
static struct error err;

static const char *in_root(const char *rest)
{
    static char paths[4][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 4];

    (void)snprintf(path, PATH_MAX, "%s%s", root, rest);
    return path;
}

static int make_root(void **state)
{
    (void)state;
    if (!mkdtemp(root) || !file_make_dirs(in_root("/pods/x"), 0700, &err) ||
        symlink("/", in_root("/up")) || symlink("pods", in_root("/side")))
        return -1;
    roots.free = (struct option_list){ .n = 2, .items = { "/nowhere", root } };
    return 0;
}

static int remove_root(void **state)
{
    (void)state;
    const char *argv[] = { "rm", "-rf", root, NULL };
    return process_must(argv, 0, 0, &err) ? 0 : -1;
}

static void a_name_below_a_root_is_found(void **state)
{
    (void)state;
    static const char *const good[] = { "/target", "/pods/target", "/pods/x/target",
                                        "//pods/target/" };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        auto_held_path struct held_path place = HELD_PATH_INIT;

        assert_true(held_path_open(&roots, NULL, in_root(good[i]), &place, &err));
        assert_string_equal("target", place.name);
        assert_int_equal(0, strncmp(place.path, root, strlen(root)));
        assert_null(strstr(place.path, "//"));
    }
}

static void a_name_needs_no_folder(void **state)
{
    (void)state;
    struct held_path place = HELD_PATH_INIT;
    assert_false(held_path_open(&roots, NULL, in_root("/none/x/target"), &place, &err));
    assert_int_equal(ERROR_NOT_FOUND, err.code);
    assert_true(held_path_name(&roots, NULL, in_root("//none/x/target/"), &place, &err));
    assert_string_equal("target", place.name);
    assert_string_equal(in_root("/none/x/target"), place.path);
    assert_int_equal(-1, place.folder_fd);
    assert_false(held_path_name(&roots, NULL, in_root("/none/../target"), &place, &err));
    assert_int_equal(ERROR_INVALID_ARGUMENT, err.code);
}

/* What is staged below a link is remembered by its real path. */
static void a_root_that_is_a_link_has_two_names(void **state)
{
    (void)state;
    struct mount_roots linked = { .free = { .n = 2, .items = { "/nowhere", in_root("/side") } } };
    auto_held_path struct held_path place = HELD_PATH_INIT;
    auto_held_path struct held_path again = HELD_PATH_INIT;
    assert_true(held_path_resolve_roots(&linked.free, &err));
    assert_int_equal(3, linked.free.n);
    assert_true(held_path_open(&linked, NULL, in_root("/side/x/target"), &place, &err));
    assert_string_equal(in_root("/pods/x/target"), place.path);
    assert_true(held_path_open(&linked, NULL, place.path, &again, &err));
    assert_string_equal(place.path, again.path);
    assert_false(held_path_open(&linked, NULL, in_root("/target"), &again, &err));
    free((void *)(uintptr_t)linked.free.items[2]);

    struct option_list full = { .n = OPTION_LIST_MAX };
    for (size_t i = 0; i < OPTION_LIST_MAX; i++)
        full.items[i] = in_root("/side");
    assert_false(held_path_resolve_roots(&full, &err));
    assert_int_equal(ERROR_INVALID_ARGUMENT, err.code);
}

static void a_path_that_leaves_the_roots_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "",           "/",
                                       "/..",        "/../x",
                                       "/pods/../x", "/pods/./x",
                                       "/pods//x",   "/up/etc",
                                       "/up/x/y",    "/side/x",
                                       "/pods/x/..", "/pods/x/.",
                                       "x/target",   "/pods/x/../../../target" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct held_path place = HELD_PATH_INIT;
        bool ok = held_path_open(&roots, NULL, in_root(bad[i]), &place, &err);

        if (ok)
            print_message("%s\n", bad[i]);
        assert_false(ok);
        assert_int_equal(ERROR_INVALID_ARGUMENT, err.code);
        assert_int_equal(-1, place.folder_fd);
    }
    struct held_path place = HELD_PATH_INIT;
    assert_false(held_path_open(&roots, NULL, "some/path", &place, &err));
    assert_false(held_path_open(&roots, NULL, "/etc/passwd", &place, &err));
    assert_false(held_path_open(&roots, NULL, "", &place, &err));
}

static void a_missing_folder_is_not_found(void **state)
{
    (void)state;
    struct held_path place = HELD_PATH_INIT;
    assert_false(held_path_open(&roots, NULL, in_root("/none/target"), &place, &err));
    assert_int_equal(ERROR_NOT_FOUND, err.code);
}

static void what_is_made_is_removed_and_twice_is_fine(void **state)
{
    (void)state;
    struct stat st;
    bool found = false;
    for (int as_file = 0; as_file < 2; as_file++) {
        auto_held_path struct held_path place = HELD_PATH_INIT;

        assert_true(held_path_open(&roots, NULL, in_root("/pods/t"), &place, &err));
        assert_true(held_path_make(&place, as_file, &err));
        assert_true(held_path_make(&place, as_file, &err));
        assert_true(held_path_stat(&place, &found, &st, &err) && found);
        assert_int_equal(as_file, S_ISREG(st.st_mode));
        assert_false(held_path_make(&place, !as_file, &err));
        assert_int_equal(ERROR_FAILED_PRECONDITION, err.code);
        assert_true(held_path_remove(&place, &err));
        assert_true(held_path_remove(&place, &err));
        assert_true(held_path_stat(&place, &found, &st, &err) && !found);
    }
}

static void what_holds_something_is_not_removed(void **state)
{
    (void)state;
    static const char *const kept[] = { "/pods/full", "/pods/dir", "/pods/link" };
    assert_true(file_write(in_root("/pods/full"), 0600, "x", 1, &err));
    assert_true(file_make_dirs(in_root("/pods/dir/inner"), 0700, &err));
    assert_int_equal(0, symlink("full", in_root("/pods/link")));
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        auto_held_path struct held_path place = HELD_PATH_INIT;

        assert_true(held_path_open(&roots, NULL, in_root(kept[i]), &place, &err));
        assert_false(held_path_remove(&place, &err));
        assert_int_equal(ERROR_FAILED_PRECONDITION, err.code);
    }
    assert_int_equal(0, access(in_root("/pods/full"), F_OK));
}

static void a_link_is_no_mount_point(void **state)
{
    (void)state;
    int fd = -1;
    auto_held_path struct held_path place = HELD_PATH_INIT;
    assert_int_equal(0, symlink("/etc", in_root("/pods/trap")));
    assert_true(held_path_open(&roots, NULL, in_root("/pods/trap"), &place, &err));
    assert_false(held_path_open_fd(&place, &fd, &err));
    assert_false(held_path_make(&place, false, &err));
}

static void below_kubelets_root_the_rule_counts(void **state)
{
    (void)state;
    char side[64];
    (void)snprintf(side, sizeof(side), "%s/side", root);
    const struct mount_roots both = { .kubelet = { .n = 1, .items = { root } },
                                      .free = { .n = 1, .items = { side } } };
    const struct kubelet_rule rule = { .shapes = KUBELET_TARGET, .driver = "d", .volume_id = "v" };
    struct held_path place = HELD_PATH_INIT;
    static const char target[] = "/pods/x/volumes/kubernetes.io~csi/pv/mount";
    assert_true(held_path_name(&both, &rule, in_root(target), &place, &err));
    assert_string_equal(in_root(target), place.path);
    assert_false(held_path_name(&both, &rule, in_root("/pods/x/target"), &place, &err));
    assert_int_equal(ERROR_INVALID_ARGUMENT, err.code);
    assert_non_null(strstr(err.text, "/pods/x/target: this is no place of kubelet"));
    /* It was checked before. */
    assert_true(held_path_name(&both, NULL, in_root("/pods/x/target"), &place, &err));
    /* The longest root counts. */
    assert_true(held_path_name(&both, &rule, in_root("/side/x/target"), &place, &err));
}

static bool opens_as_target(const char *path)
{
    auto_held_path struct held_path place = HELD_PATH_INIT;
    auto_close int fd = -1;

    err = (struct error)ERROR_INIT;
    assert_true(held_path_open(&roots, NULL, in_root(path), &place, &err));
    if (!held_path_open_target(&place, &fd, &err))
        return false;
    assert_true(held_path_is_same(&place, fd));
    return true;
}

static void only_what_is_empty_is_a_target(void **state)
{
    (void)state;
    assert_true(file_make_dirs(in_root("/full/inner"), 0700, &err));
    assert_true(file_make_dirs(in_root("/empty"), 0700, &err));
    assert_true(file_write(in_root("/file"), 0600, "x", 1, &err));
    assert_true(file_write(in_root("/nothing"), 0600, "", 0, &err));
    assert_int_equal(0, symlink("empty", in_root("/link")));
    assert_true(opens_as_target("/empty"));
    assert_true(opens_as_target("/nothing"));
    assert_false(opens_as_target("/full"));
    assert_int_equal(ERROR_FAILED_PRECONDITION, err.code);
    assert_false(opens_as_target("/file"));
    assert_int_equal(ERROR_FAILED_PRECONDITION, err.code);
    assert_false(opens_as_target("/link"));
    assert_false(opens_as_target("/none"));
    assert_int_equal(ERROR_NOT_FOUND, err.code);
}

static void an_exchanged_target_is_noticed(void **state)
{
    (void)state;
    auto_held_path struct held_path place = HELD_PATH_INIT;
    auto_close int fd = -1;
    assert_true(file_make_dirs(in_root("/swap"), 0700, &err));
    assert_true(held_path_open(&roots, NULL, in_root("/swap"), &place, &err));
    assert_true(held_path_open_target(&place, &fd, &err));
    assert_int_equal(0, rename(in_root("/swap"), in_root("/away")));
    assert_false(held_path_is_same(&place, fd));
    assert_int_equal(0, symlink("away", in_root("/swap")));
    assert_false(held_path_is_same(&place, fd));
}

static void a_place_below_a_folder_needs_no_root(void **state)
{
    (void)state;
    static const char *const bad[] = { "up/etc", "side/x", "pods/../x", "", ".", "pods/./x" };
    auto_held_path struct held_path place = HELD_PATH_INIT;
    assert_true(held_path_open_below(root, "pods/target", &place, &err));
    assert_string_equal("target", place.name);
    assert_string_equal(in_root("/pods/target"), place.path);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct held_path other = HELD_PATH_INIT;

        assert_false(held_path_open_below(root, bad[i], &other, &err));
        assert_int_equal(ERROR_INVALID_ARGUMENT, err.code);
    }
}

static bool is_unmounted(const char *folder, const char *name)
{
    auto_held_path struct held_path place = HELD_PATH_INIT;

    assert_true(held_path_open_below(folder, name, &place, &err));
    return held_path_check_unmounted(&place, &err);
}

static void a_mount_is_noticed(void **state)
{
    (void)state;
    assert_false(is_unmounted("/", "proc"));
    assert_int_equal(ERROR_FAILED_PRECONDITION, err.code);
    assert_string_equal("something else is mounted at /proc", err.text);
    assert_true(is_unmounted(root, "pods"));
    assert_true(is_unmounted(root, "none"));
    assert_true(is_unmounted(root, "up")); /* a link is not followed */
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_below_a_root_is_found),
        cmocka_unit_test(a_name_needs_no_folder),
        cmocka_unit_test(a_root_that_is_a_link_has_two_names),
        cmocka_unit_test(a_path_that_leaves_the_roots_is_refused),
        cmocka_unit_test(a_missing_folder_is_not_found),
        cmocka_unit_test(what_is_made_is_removed_and_twice_is_fine),
        cmocka_unit_test(what_holds_something_is_not_removed),
        cmocka_unit_test(a_link_is_no_mount_point),
        cmocka_unit_test(below_kubelets_root_the_rule_counts),
        cmocka_unit_test(only_what_is_empty_is_a_target),
        cmocka_unit_test(an_exchanged_target_is_noticed),
        cmocka_unit_test(a_place_below_a_folder_needs_no_root),
        cmocka_unit_test(a_mount_is_noticed),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
