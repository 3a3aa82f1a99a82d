/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_files.h"
#include "tests/unit/audit/logs.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct logs logs;
static char told[1024];

static int setup(void **state)
{
    (void)state;
    logs_setup(&logs);
    told[0] = '\0';
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    logs_teardown(&logs);
    return 0;
}

static void tell(void *cookie, const char *text)
{
    (void)cookie;
    (void)snprintf(told + strlen(told), sizeof(told) - strlen(told), "%s\n", text);
}

static void order(struct audit_files *set)
{
    const struct audit_teller teller = { .tell = tell };
    struct error err = ERROR_INIT;

    assert_ok(audit_files_order(set, &teller, &err));
}

/* Orders the whole folder. */
static void order_all(struct audit_files *set)
{
    struct error err = ERROR_INIT;

    assert_ok(audit_files_add(set, logs.dir, &err));
    order(set);
}

/* The file names of a log, joined by spaces. */
static void assert_log(const struct audit_files *set, const char *first, const char *wanted)
{
    char names[128] = "";

    for (size_t i = 0; i < set->n_logs; i++) {
        if (strcmp(strrchr(set->files[set->logs[i]].path, '/') + 1, first) != 0)
            continue;
        for (size_t at = set->logs[i]; at != AUDIT_NO_FILE; at = set->files[at].next)
            (void)snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
                           names[0] ? " " : "", strrchr(set->files[at].path, '/') + 1);
    }
    assert_string_equal(names, wanted);
}

static const char *const three_parts[] = { "one", "|", "two", "three", "|", "four" };

static void parts_are_linked_by_their_lines(void **state UNUSED)
{
    auto_audit_files struct audit_files set = { .n = 0 };

    logs_write(&logs, "a", three_parts, ARRAY_LEN(three_parts), NULL);
    logs_write(&logs, "b", three_parts, ARRAY_LEN(three_parts), NULL);
    order_all(&set);
    assert_int_equal(set.n, 6);
    assert_int_equal(set.n_logs, 2);
    assert_log(&set, "a.1", "a.1 a.2 a");
    assert_log(&set, "b.1", "b.1 b.2 b");
    assert_string_equal(told, "");
}

static void a_missing_part_makes_two_logs(void **state UNUSED)
{
    auto_audit_files struct audit_files set = { .n = 0 };

    logs_write(&logs, "a", three_parts, ARRAY_LEN(three_parts), NULL);
    logs_remove(&logs, "a.2");
    order_all(&set);
    assert_int_equal(set.n_logs, 2);
    assert_log(&set, "a.1", "a.1");
    assert_log(&set, "a", "a");
}

static void a_file_counts_once(void **state UNUSED)
{
    auto_audit_files struct audit_files set = { .n = 0 };
    struct error err = ERROR_INIT;
    size_t len = 0;

    logs_write(&logs, "a", three_parts, ARRAY_LEN(three_parts), NULL);
    auto_free char *text = logs_read(&logs, "a.2", &len);

    logs_put(&logs, "whole", text, len);
    logs_put(&logs, "cut", text, len - 30);
    assert_int_equal(symlink("a.2", logs_path(&logs, "link")), 0);
    assert_ok(audit_files_add(&set, logs_path(&logs, "a"), &err));
    order_all(&set);
    assert_int_equal(set.n, 5);
    assert_int_equal(set.n_logs, 1);
    assert_string_equal(told, "");
    size_t copies = 0;
    for (size_t i = 0; i < set.n; i++)
        copies += set.files[i].is_copy;
    assert_int_equal(copies, 2);
}

static void two_versions_of_a_file_are_told(void **state UNUSED)
{
    auto_audit_files struct audit_files set = { .n = 0 };
    size_t len = 0;

    logs_write(&logs, "a", three_parts, 1, NULL);
    auto_free char *text = logs_read(&logs, "a", &len);

    text[len - 4] ^= 1;
    logs_put(&logs, "other", text, len);
    order_all(&set);
    assert_contains(told, "begin alike and then differ");
    assert_int_equal(set.n_logs, 2);
}

static void two_files_after_the_same_line_are_told(void **state UNUSED)
{
    auto_audit_files struct audit_files set = { .n = 0 };
    size_t len = 0;

    logs_write(&logs, "a", three_parts, ARRAY_LEN(three_parts), NULL);
    auto_free char *text = logs_read(&logs, "a", &len);

    text[strcspn(text, "T") - 1] ^= 1; /* the time of its first line */
    logs_put(&logs, "other", text, len);
    order_all(&set);
    assert_contains(told, "goes on from the same line as");
}

/* {"seq":1,...,"prev":PREV,"event":"x","mac":...} with a last line that is free. */
static void put_made_up(const char *name, const char *prev, const char *last)
{
    char text[1024];
    int len =
        snprintf(text, sizeof(text),
                 "{\"seq\":1,\"time\":\"\",\"prev\":\"%s\",\"event\":\"x\",\"mac\":\"%s\"}\n%s\n",
                 prev, prev, last);

    logs_put(&logs, name, text, (size_t)len);
}

static void a_circle_of_files_ends(void **state UNUSED)
{
    auto_audit_files struct audit_files set = { .n = 0 };
    char a[AUDIT_HASH_TEXT], b[AUDIT_HASH_TEXT];
    struct error err = ERROR_INIT;

    assert_ok(audit_line_hash("end of a", 8, a, &err));
    assert_ok(audit_line_hash("end of b", 8, b, &err));
    put_made_up("a", b, "end of a");
    put_made_up("b", a, "end of b");
    order_all(&set);
    assert_contains(told, "goes on from a file that goes on from it");
    assert_int_equal(set.n_logs, 1);
    size_t n = 0;
    for (size_t at = set.logs[0]; at != AUDIT_NO_FILE; at = set.files[at].next)
        n++;
    assert_int_equal(n, 2);
}

static void a_file_that_follows_from_itself_is_a_log(void **state UNUSED)
{
    auto_audit_files struct audit_files set = { .n = 0 };
    char a[AUDIT_HASH_TEXT];
    struct error err = ERROR_INIT;

    assert_ok(audit_line_hash("end of a", 8, a, &err));
    put_made_up("a", a, "end of a");
    order_all(&set);
    assert_int_equal(set.n_logs, 1);
    assert_log(&set, "a", "a");
}

static void what_is_no_log_is_kept_apart(void **state UNUSED)
{
    auto_audit_files struct audit_files set = { .n = 0 };
    struct error err = ERROR_INIT;
    auto_free char *big = calloc(3, AUDIT_LINE_MAX);

    assert_non_null(big);
    logs_put(&logs, "empty", "", 0);
    logs_put(&logs, "zeros", big, 3 * AUDIT_LINE_MAX);
    logs_put(&logs, ".hidden", "x", 1);
    order_all(&set);
    assert_int_equal(set.n, 2);
    assert_int_equal(set.n_logs, 2);
    logs_put(&logs, "packed", "\x1f\x8b\x08", 3);
    assert_refused(ERROR_INVALID_ARGUMENT, audit_files_add(&set, logs_path(&logs, "packed"), &err));
    assert_refused(ERROR_NOT_FOUND, audit_files_add(&set, logs_path(&logs, "none"), &err));
    assert_int_equal(mkfifo(logs_path(&logs, "pipe"), 0600), 0);
    assert_refused(ERROR_INVALID_ARGUMENT, audit_files_add(&set, logs_path(&logs, "pipe"), &err));
    assert_int_equal(unlink(logs_path(&logs, ".hidden")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(parts_are_linked_by_their_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_part_makes_two_logs, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_counts_once, setup, teardown),
        cmocka_unit_test_setup_teardown(two_versions_of_a_file_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(two_files_after_the_same_line_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_circle_of_files_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_follows_from_itself_is_a_log, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_log_is_kept_apart, setup, teardown),
    };

    return RUN_TESTS(tests);
}
