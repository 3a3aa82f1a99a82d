/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "broker/audit.h"
#include "tests/unit/test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

struct place {
    char dir[64], path[96];
};

static int setup(void **state)
{
    static struct place place;

    (void)snprintf(place.dir, sizeof(place.dir), "/tmp/tdvol-audit-XXXXXX");
    assert_non_null(mkdtemp(place.dir));
    (void)snprintf(place.path, sizeof(place.path), "%s/audit.jsonl", place.dir);
    *state = &place;
    return 0;
}

static int teardown(void **state)
{
    const struct place *place = *state;

    unlink(place->path);
    return rmdir(place->dir);
}

static bool put(struct audit *audit, const char *value, struct error *err)
{
    const struct log_field fields[] = { TEXT("event", value), TEXT("empty", NULL), NUMBER("n", 7) };

    return audit_write(audit, fields, ARRAY_LEN(fields), err);
}

/* Writes three lines and closes the log. */
static void write_three(const char *path)
{
    auto_audit struct audit *audit = NULL;
    struct error err = ERROR_INIT;

    assert_ok(audit_open(path, &audit, &err));
    assert_ok(put(audit, "one", &err));
    assert_ok(put(audit, "two", &err));
    assert_ok(put(audit, "three", &err));
}

static char *read_whole(const char *path)
{
    struct error err = ERROR_INIT;
    char *text = NULL;
    size_t len = 0;

    assert_ok(file_read(path, 1 << 20, &text, &len, &err));
    return text;
}

static void write_whole(const char *path, const char *text, size_t len)
{
    struct error err = ERROR_INIT;

    assert_ok(file_write(path, 0600, text, len, &err));
}

static void lines_follow_each_other_over_a_restart(void **state)
{
    const struct place *place = *state;
    struct error err = ERROR_INIT;
    uint64_t lines = 0;

    write_three(place->path);
    write_three(place->path);
    assert_ok(audit_check(place->path, &lines, &err));
    assert_int_equal(lines, 6);

    auto_free char *text = read_whole(place->path);

    assert_contains(text, "{\"seq\":1,\"time\":\"");
    assert_contains(text, "\"prev\":\"0000");
    assert_contains(text, "\"event\":\"one\",\"n\":7}\n");
}

static void strange_text_stays_one_line(void **state)
{
    const struct place *place = *state;
    auto_audit struct audit *audit = NULL;
    struct error err = ERROR_INIT;
    uint64_t lines = 0;

    assert_ok(audit_open(place->path, &audit, &err));
    assert_ok(put(audit, "a\"b\n{\"seq\":9}\n\x1b", &err));
    assert_ok(put(audit, "cut \xc3", &err));
    assert_ok(audit_check(place->path, &lines, &err));
    assert_int_equal(lines, 2);
}

/* Changes each byte of all lines except the last, one at a time. */
static void each_changed_byte_is_found(void **state)
{
    const struct place *place = *state;
    auto_free char *text = NULL;

    write_three(place->path);
    text = read_whole(place->path);
    size_t len = strlen(text), last = 0;

    for (size_t i = len - 1; i-- > 0 && last == 0;)
        if (text[i] == '\n')
            last = i;
    for (size_t i = 0; i < last; i++) {
        struct error err = ERROR_INIT;
        uint64_t lines = 0;

        text[i] ^= 1;
        write_whole(place->path, text, len);
        assert_refused(ERROR_DATA_LOSS, audit_check(place->path, &lines, &err));
        text[i] ^= 1;
    }
}

static void a_missing_line_is_found_at_the_start_too(void **state)
{
    const struct place *place = *state;
    auto_audit struct audit *audit = NULL;
    auto_free char *text = NULL;
    struct error err = ERROR_INIT;
    uint64_t lines = 0;

    write_three(place->path);
    text = read_whole(place->path);
    char *second = strchr(text, '\n') + 1, *third = strchr(second, '\n') + 1;

    write_whole(place->path, second, strlen(second)); /* without the first line */
    assert_refused(ERROR_DATA_LOSS, audit_check(place->path, &lines, &err));
    assert_refused(ERROR_DATA_LOSS, audit_open(place->path, &audit, &err));
    memmove(second, third, strlen(third) + 1); /* without the second line */
    write_whole(place->path, text, strlen(text));
    assert_refused(ERROR_DATA_LOSS, audit_check(place->path, &lines, &err));
    assert_refused(ERROR_DATA_LOSS, audit_open(place->path, &audit, &err));
    assert_contains(err.text, "after number 1");
    assert_contains(err.text, place->path);
}

/* A crash may leave any part of the last line. */
static void a_torn_last_line_is_kept_and_explained(void **state)
{
    const struct place *place = *state;
    auto_free char *text = NULL;

    write_three(place->path);
    text = read_whole(place->path);
    char *third = strchr(strchr(text, '\n') + 1, '\n') + 1;
    size_t start = (size_t)(third - text), len = strlen(text);

    for (size_t cut = start + 1; cut < len; cut++) {
        struct audit *audit = NULL;
        struct error err = ERROR_INIT;
        uint64_t lines = 0;

        write_whole(place->path, text, cut);
        assert_ok(audit_open(place->path, &audit, &err));
        assert_ok(put(audit, "after", &err));
        audit_close(&audit);
        assert_ok(audit_check(place->path, &lines, &err));
        /* A line that lacks only its end counts. Otherwise an event "torn" counts instead. */
        assert_int_equal(lines, 4);
        if (cut < len - 1) {
            auto_free char *now = read_whole(place->path);

            assert_contains(now, "\"event\":\"torn\"");
        }
    }
}

static void a_torn_line_without_explanation_is_found(void **state)
{
    const struct place *place = *state;
    auto_free char *text = NULL;
    auto_free char *forged = NULL;
    struct error err = ERROR_INIT;
    uint64_t lines = 0;

    write_three(place->path);
    text = read_whole(place->path);
    assert_true(asprintf(&forged, "rubbish\n%s", text) > 0);
    write_whole(place->path, forged, strlen(forged));
    assert_refused(ERROR_DATA_LOSS, audit_check(place->path, &lines, &err));
}

static void a_long_log_is_checked_from_near_its_end(void **state)
{
    const struct place *place = *state;
    auto_audit struct audit *audit = NULL;
    struct error err = ERROR_INIT;
    uint64_t lines = 0;
    char long_text[900];

    for (size_t i = 0; i < sizeof(long_text) - 1; i++)
        long_text[i] = 'x';
    long_text[sizeof(long_text) - 1] = '\0';
    assert_ok(audit_open(place->path, &audit, &err));
    for (int i = 0; i < 400; i++)
        assert_ok(put(audit, long_text, &err));
    audit_close(&audit);
    assert_ok(audit_open(place->path, &audit, &err));
    assert_ok(put(audit, "next", &err));
    assert_ok(audit_check(place->path, &lines, &err));
    assert_int_equal(lines, 401);
}

static void a_second_writer_is_refused(void **state)
{
    const struct place *place = *state;
    auto_audit struct audit *audit = NULL;
    auto_audit struct audit *second = NULL;
    struct error err = ERROR_INIT;

    assert_ok(audit_open(place->path, &audit, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, audit_open(place->path, &second, &err));
}

static void a_line_that_cannot_be_written_fails_and_leaves_nothing(void **state)
{
    const struct place *place = *state;
    const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
    auto_audit struct audit *audit = NULL;
    struct error err = ERROR_INIT;
    uint64_t lines = 0;

    write_three(place->path);
    assert_ok(audit_open(place->path, &audit, &err));
    auto_free char *text = read_whole(place->path);
    const struct rlimit tight = { strlen(text) + 20, RLIM_INFINITY }; /* cuts the line short */

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    assert_refused(ERROR_INTERNAL, put(audit, "lost", &err));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
    assert_ok(audit_check(place->path, &lines, &err));
    assert_int_equal(lines, 3);
    assert_ok(put(audit, "next", &err));
    assert_ok(audit_check(place->path, &lines, &err));
    assert_int_equal(lines, 4);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(lines_follow_each_other_over_a_restart),
        CASE(strange_text_stays_one_line),
        CASE(each_changed_byte_is_found),
        CASE(a_missing_line_is_found_at_the_start_too),
        CASE(a_torn_last_line_is_kept_and_explained),
        CASE(a_torn_line_without_explanation_is_found),
        CASE(a_long_log_is_checked_from_near_its_end),
        CASE(a_second_writer_is_refused),
        CASE(a_line_that_cannot_be_written_fails_and_leaves_nothing),
    };

    (void)signal(SIGXFSZ, SIG_IGN);
    return RUN_TESTS(tests);
}
