/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_releases.h"
#include "tests/unit/audit/logs.h"

#include <stdio.h>

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

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* Lines that have the form of a broker's: method, code, quote and measurement. */
static void put(const char *const (*lines)[4], size_t n)
{
    const struct audit_chain none = audit_chain_none();
    char text[8192] = "";

    for (size_t i = 0; i < n; i++)
        (void)snprintf(
            text + strlen(text), sizeof(text) - strlen(text),
            "{\"seq\":1,\"time\":\"\",\"prev\":\"%s\",\"event\":\"call\",\"method\":\"%s\","
            "\"code\":\"%s\",\"quote_sha256\":\"%s\",\"mrtd\":\"%s\",\"image\":\"i\","
            "\"mac\":\"%s\"}\n",
            none.hash, lines[i][0], lines[i][1], lines[i][2], lines[i][3], none.hash);
    logs_put(&logs, "log", text, strlen(text));
}

static void print(void *cookie, const struct audit_quote *q)
{
    char *out = cookie;
    size_t used = strlen(out);

    (void)snprintf(out + used, 256 - used, "%.1s:%s:%u:%d%d ", q->sha256, q->mrtd,
                   (unsigned)q->releases, q->is_attested, q->is_mixed);
}

static void assert_releases(const char *wanted, unsigned releases)
{
    auto_audit_releases struct audit_releases r = { .n = 0 };
    const struct audit_teller teller = { .tell = tell_nothing };
    struct error err = ERROR_INIT;
    char out[256] = "";

    set = (struct audit_files){ .n = 0 };
    assert_ok(audit_files_add(&set, logs.dir, &err));
    assert_ok(audit_files_order(&set, &teller, &err));
    assert_ok(audit_releases_read(&set, &r, &err));
    audit_releases_each(&r, print, out);
    assert_string_equal(out, wanted);
    assert_int_equal(r.releases, releases);
}

static void releases_are_counted_for_each_quote(void **state UNUSED)
{
    static const char *const lines[][4] = {
        { "Attest", "OK", A, "m1" },     { "OpenVolume", "OK", A, "m1" },
        { "OpenVolume", "OK", A, "m1" }, { "OpenVolume", "PERMISSION_DENIED", A, "m1" },
        { "GetRecord", "OK", A, "m1" },  { "OpenVolume", "OK", "", "" },
        { "OpenVolume", "OK", B, "m2" }, { "OpenVolume", "OK", A, "" }, /* of an older broker */
    };

    put(lines, ARRAY_LEN(lines));
    assert_releases("::1:00 a:m1:3:10 b:m2:1:00 ", 5);
}

static void a_refused_attest_proves_nothing_and_two_measurements_are_noticed(void **state UNUSED)
{
    static const char *const lines[][4] = {
        { "Attest", "PERMISSION_DENIED", A, "m1" },
        { "OpenVolume", "OK", A, "m1" },
        { "Attest", "OK", B, "m1" },
        { "OpenVolume", "OK", B, "m2" },
    };

    put(lines, ARRAY_LEN(lines));
    assert_releases("a:m1:1:00 b:m1:1:11 ", 2);
}

static void what_is_no_hash_is_no_quote(void **state UNUSED)
{
    static const char *const lines[][4] = {
        { "Attest", "OK", "x", "m1" },
        { "OpenVolume", "OK", "x", "m1" },
    };

    put(lines, ARRAY_LEN(lines));
    assert_releases(":m1:1:00 ", 1);
}

static void logs_without_releases_have_none(void **state UNUSED)
{
    logs_put(&logs, "log", "rubbish\n", 8);
    assert_releases("", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(releases_are_counted_for_each_quote, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_refused_attest_proves_nothing_and_two_measurements_are_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_hash_is_no_quote, setup, teardown),
        cmocka_unit_test_setup_teardown(logs_without_releases_have_none, setup, teardown),
    };

    return RUN_TESTS(tests);
}
