/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_merge.h"
#include "tests/unit/audit/logs.h"

#include <stdio.h>
#include <stdlib.h>

static struct logs logs;
static struct audit_files set;

static int setup(void **state)
{
    (void)state;
    logs_setup(&logs);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    audit_files_close(&set);
    logs_teardown(&logs);
    return 0;
}

static void tell_nothing(void *cookie, const char *text)
{
    (void)cookie, (void)text;
}

static void order(void)
{
    const struct audit_teller teller = { .tell = tell_nothing };
    struct error err = ERROR_INIT;

    set = (struct audit_files){ .n = 0 };
    assert_ok(audit_files_add(&set, logs.dir, &err));
    assert_ok(audit_files_order(&set, &teller, &err));
}

/* A line that only has the form of one. */
static void put_line(char *text, size_t size, unsigned number, const char *time, const char *more)
{
    char zeros[AUDIT_HASH_TEXT];
    const struct audit_chain none = audit_chain_none();

    memcpy(zeros, none.hash, sizeof(zeros));
    (void)snprintf(
        text + strlen(text), size - strlen(text),
        "{\"seq\":%u,\"time\":\"%s\",\"prev\":\"%s\",\"event\":\"x\"%s,\"mac\":\"%s\"}\n", number,
        time, zeros, more, zeros);
}

#define DAY(n) "2026-01-0" n "T00:00:00.000Z"

static void put_two_logs(void)
{
    char a[2048] = "", b[2048] = "";

    put_line(a, sizeof(a), 1, DAY("1"), ",\"replica\":\"ra\"");
    put_line(a, sizeof(a), 2, DAY("4"), "");
    put_line(a, sizeof(a), 3, DAY("2"), ""); /* the clock went back */
    put_line(a, sizeof(a), 4, "rubbish", "");
    put_line(a, sizeof(a), 5, DAY("6"), "");
    put_line(b, sizeof(b), 11, DAY("2"), ",\"replica\":\"rb\",\"chain\":\"c0\"");
    put_line(b, sizeof(b), 12, DAY("3"), "");
    put_line(b, sizeof(b), 13, DAY("5"), "");
    logs_put(&logs, "a", a, strlen(a));
    logs_put(&logs, "b", b, strlen(b));
}

static void lines_come_by_their_time_and_in_their_order(void **state UNUSED)
{
    static const struct {
        int seq;
        const char *replica, *time;
    } wanted[] = { { 1, "ra", DAY("1") },  { 11, "rb", DAY("2") }, { 12, "rb", DAY("3") },
                   { 2, "ra", DAY("4") },  { 3, "ra", DAY("4") },  { 4, "ra", DAY("4") },
                   { 13, "rb", DAY("5") }, { 5, "ra", DAY("6") } };
    auto_audit_merge struct audit_merge *merge = NULL;
    struct error err = ERROR_INIT;
    struct audit_entry e;
    bool found = false;

    put_two_logs();
    order();
    assert_ok(audit_merge_new(&set, &merge, &err));
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        assert_ok(audit_merge_next(merge, &e, &found, &err));
        assert_true(found);
        assert_int_equal(json_integer_value(json_object_get(e.fields, "seq")), wanted[i].seq);
        assert_string_equal(e.replica, wanted[i].replica);
        assert_string_equal(e.time, wanted[i].time);
    }
    assert_string_equal(e.chain, "");
    assert_ok(audit_merge_next(merge, &e, &found, &err));
    assert_false(found);
}

static void real_logs_have_all_their_lines(void **state UNUSED)
{
    static const char *const values[] = { "one", "|", "two", "|", "three" };
    auto_audit_merge struct audit_merge *merge = NULL;
    struct error err = ERROR_INIT;
    struct audit_entry e;
    bool found = true;
    json_int_t next[2] = { 1, 1 };

    logs_write(&logs, "ra", values, ARRAY_LEN(values), NULL);
    logs_write(&logs, "rb", values, ARRAY_LEN(values), NULL);
    order();
    assert_ok(audit_merge_new(&set, &merge, &err));
    for (;;) {
        assert_ok(audit_merge_next(merge, &e, &found, &err));
        if (!found)
            break;
        size_t log = strcmp(e.replica, "rb") == 0;
        assert_int_equal(json_integer_value(json_object_get(e.fields, "seq")), next[log]++);
        assert_int_equal(strlen(e.chain), 2 * AUDIT_CHAIN_ID_LEN);
        assert_int_equal(strlen(e.hash), 2 * SHA256_LEN);
    }
    assert_int_equal(next[0], 7);
    assert_int_equal(next[1], 7);
}

static void what_is_no_line_is_not_lost(void **state UNUSED)
{
    static const char *const bad[] = { "rubbish", "{}", "", "\xff\xfe", "{\"seq\":1,\"seq\":2}" };
    auto_audit_merge struct audit_merge *merge = NULL;
    struct error err = ERROR_INIT;
    struct audit_entry e;
    bool found = true;
    size_t n = 0, len = 0;
    char text[4096] = "";

    put_line(text, sizeof(text), 1, DAY("1"), ",\"replica\":\"ra\"");
    put_line(text, sizeof(text), 2, DAY("1"), ",\"a\":1,\"a\":2");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s\n", bad[i]);
    len = strlen(text);
    logs_put(&logs, "a", text, len);
    order();
    assert_ok(audit_merge_new(&set, &merge, &err));
    for (;; n++) {
        assert_ok(audit_merge_next(merge, &e, &found, &err));
        if (!found)
            break;
        assert_int_equal(e.number, n + 1);
        assert_int_equal(e.fields == NULL, n > 0);
        assert_string_equal(e.time, DAY("1"));
    }
    assert_int_equal(n, 2 + ARRAY_LEN(bad));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_come_by_their_time_and_in_their_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(real_logs_have_all_their_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_line_is_not_lost, setup, teardown),
    };

    return RUN_TESTS(tests);
}
