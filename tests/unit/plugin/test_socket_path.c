/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/socket_path.h"
#include "tests/unit/test.h"

static struct error err;

static void endpoint_is_a_unix_path(void **state UNUSED)
{
    const char *path = NULL;

    assert_ok(socket_path_parse("unix:///run/csi.sock", &path, &err));
    assert_string_equal(path, "/run/csi.sock");
    assert_ok(socket_path_parse("unix:/run/csi.sock", &path, &err));
    assert_string_equal(path, "/run/csi.sock");
}

static void other_endpoints_are_refused(void **state UNUSED)
{
    static const char *const bad[] = {
        "",        "/run/csi.sock", "tcp://127.0.0.1:1", "unix:",
        "unix://", "unix:///",      "unix:a/b",          "unix://relative/path"
    };
    const char *path = NULL;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_INVALID_ARGUMENT, socket_path_parse(bad[i], &path, &err));
    assert_null(path);
}

static void each_socket_has_a_lock_of_its_own(void **state UNUSED)
{
    char a[SOCKET_LOCK_MAX], b[SOCKET_LOCK_MAX], again[SOCKET_LOCK_MAX];

    assert_ok(socket_path_lock("/run/tdvol", "/a.sock", "socket", a, &err));
    assert_ok(socket_path_lock("/run/tdvol", "/b.sock", "socket", b, &err));
    assert_ok(socket_path_lock("/run/tdvol", "/a.sock", "socket", again, &err));
    assert_string_equal(a, again);
    assert_ok(socket_path_lock("/run/tdvol", "/a.sock", "plugin", again, &err));
    assert_string_not_equal(a, again);
    assert_string_not_equal(a, b);
    assert_int_equal(strncmp(a, "/run/tdvol/", 11), 0);
}

static void driver_name_is_what_csi_allows(void **state UNUSED)
{
    static const char *const good[] = { "a", "csi.tdvol.dev", "A-b_c.d" };
    static const char *const bad[] = {
        "",    ".a",       "a.",
        "1a",  "a1",       "a b",
        "a/b", "\xc3\xa4", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    };

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_ok(socket_path_check_driver(good[i], &err));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_INVALID_ARGUMENT, socket_path_check_driver(bad[i], &err));
}

static void node_id_is_what_a_label_can_hold(void **state UNUSED)
{
    static const char long_id[] =
        "a234567890123456789012345678901234567890123456789012345678901234";
    static const char *const good[] = { "a",      "1",        "node-1", "ip-10-0-0-1.eu.internal",
                                        "Node_1", long_id + 1 };
    static const char *const bad[] = { "",    "-a",  "a-",  ".a",       "a.",
                                       "a b", "a/b", "a:1", "\xc3\xa4", long_id };

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_ok(socket_path_check_node(good[i], &err));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_INVALID_ARGUMENT, socket_path_check_node(bad[i], &err));
    assert_contains(err.text, "--node-id");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endpoint_is_a_unix_path),
        cmocka_unit_test(other_endpoints_are_refused),
        cmocka_unit_test(each_socket_has_a_lock_of_its_own),
        cmocka_unit_test(driver_name_is_what_csi_allows),
        cmocka_unit_test(node_id_is_what_a_label_can_hold),
    };

    return RUN_TESTS(tests);
}
