/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit.h"
#include "base/file.h"
#include "tests/unit/broker/store_place.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* A log, and the SQLite store that has its head. */
struct scene {
    struct store_place *place;
    char path[96], old[100]; /* old: where a rotation puts the file */
    struct secret master;
    struct audit *audit;
};

static struct scene scene;

static int setup(void **state)
{
    struct error err = ERROR_INIT;

    scene = (struct scene){ .audit = NULL };
    assert_int_equal(store_place_sqlite(state), 0);
    scene.place = *state;
    (void)snprintf(scene.path, sizeof(scene.path), "%s/audit.jsonl", scene.place->dir);
    (void)snprintf(scene.old, sizeof(scene.old), "%s.1", scene.path);
    assert_ok(secret_random(&scene.master, 32, &err));
    return 0;
}

static int teardown(void **state)
{
    audit_close(&scene.audit);
    secret_wipe(&scene.master);
    unlink(scene.path);
    unlink(scene.old);
    return store_place_remove(state);
}

static void start(void)
{
    const struct audit_options options = { scene.path, scene.place->store, &scene.master,
                                           &scene.master };
    struct error err = ERROR_INIT;

    assert_ok(audit_open(&options, &scene.audit, &err));
}

/* Also the store is opened again, as by a new process. */
static void stop(void)
{
    audit_close(&scene.audit);
    assert_false(store_place_reopen(scene.place).is_changed);
}

static const char *trouble(void)
{
    static char text[AUDIT_TROUBLE_LEN];

    audit_trouble(scene.audit, text);
    return text;
}

static bool put(const char *value, struct error *err)
{
    const struct log_field fields[] = { TEXT("event", value), TEXT("empty", NULL), NUMBER("n", 7) };

    return audit_write(scene.audit, fields, ARRAY_LEN(fields), NULL, err);
}

static void put_ok(const char *value)
{
    struct error err = ERROR_INIT;

    assert_ok(put(value, &err));
}

/* The line "begun" and three more. */
static void write_three(void)
{
    start();
    put_ok("one");
    put_ok("two");
    put_ok("three");
    stop();
}

static char *read_whole(const char *path)
{
    struct error err = ERROR_INIT;
    char *text = NULL;
    size_t len = 0;

    assert_ok(file_read(path, 1 << 20, &text, &len, &err));
    return text;
}

/* Without a sync: it is called a thousand times. */
static void write_whole(const char *text, size_t len)
{
    FILE *file = fopen(scene.path, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

/* The number of the last line; fails when the log is not good. */
static uint64_t lines(bool with_key)
{
    const char *const paths[] = { scene.path };
    struct audit_report report = { .lines = 0 };
    struct error err = ERROR_INIT;

    assert_ok(audit_check(paths, 1, with_key ? &scene.master : NULL, &report, &err));
    return report.lines;
}

static void assert_bad(bool with_key, const char *why)
{
    const char *const paths[] = { scene.path };
    struct audit_report report;
    struct error err = ERROR_INIT;

    assert_refused(ERROR_DATA_LOSS,
                   audit_check(paths, 1, with_key ? &scene.master : NULL, &report, &err));
    assert_contains(err.text, why);
    assert_contains(err.text, scene.path);
}

static size_t start_of_line(const char *text, unsigned number)
{
    const char *at = text;

    for (unsigned i = 0; i < number; i++)
        at = strchr(at, '\n') + 1;
    return (size_t)(at - text);
}

/* --- writing --- */

/* Writes a word over another one of the same length. */
static void swap_words(char *text, const char *old, const char *new)
{
    char *at = strstr(text, old);

    assert_non_null(at);
    for (size_t i = 0; new[i] != '\0'; i++)
        at[i] = new[i];
}

static void lines_follow_each_other_over_a_restart(void **state UNUSED)
{
    write_three();
    start();
    assert_string_equal(trouble(), "");
    put_ok("four");
    assert_int_equal(audit_lines(scene.audit), 5);
    assert_int_equal(lines(false), 5);
    assert_int_equal(lines(true), 5);
    auto_free char *text = read_whole(scene.path);
    assert_contains(text, "{\"seq\":1,\"time\":\"");
    assert_contains(text, "\"prev\":\"0000");
    assert_contains(text, "\"event\":\"begun\",\"chain\":\"");
    assert_contains(text, "\"event\":\"one\",\"n\":7,\"mac\":\"");
}

static void strange_text_stays_one_line(void **state UNUSED)
{
    start();
    put_ok("a\"b\n{\"seq\":9}\n\x1b");
    put_ok("\",\"mac\":\"00\"}");
    put_ok("torn\\");
    put_ok("cut \xc3");
    assert_int_equal(lines(true), 5);
}

static void a_line_that_cannot_be_written_fails_and_leaves_nothing(void **state UNUSED)
{
    const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
    struct error err = ERROR_INIT;

    write_three();
    start();
    auto_free char *text = read_whole(scene.path);
    const struct rlimit tight = { strlen(text) + 20, RLIM_INFINITY }; /* cuts the line short */

    assert_ok(audit_check_room(scene.audit, &err));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    assert_refused(ERROR_UNAVAILABLE, put("lost", &err));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
    assert_ok(audit_check_room(scene.audit, &err));
    assert_int_equal(lines(true), 4);
    put_ok("next");
    assert_int_equal(lines(true), 5);
    stop();
    start();
    assert_string_equal(trouble(), "");
}

static void a_second_writer_is_refused(void **state UNUSED)
{
    const struct audit_options options = { scene.path, scene.place->store, &scene.master,
                                           &scene.master };
    auto_audit struct audit *second = NULL;
    struct error err = ERROR_INIT;

    start();
    assert_refused(ERROR_FAILED_PRECONDITION, audit_open(&options, &second, &err));
    assert_contains(err.text, "another broker writes to it");
}

/* --- somebody changes the file --- */

/* Each byte of all lines, one at a time. Without the key only the last line may be changed. */
static void each_changed_byte_is_found(void **state UNUSED)
{
    write_three();
    auto_free char *text = read_whole(scene.path);
    size_t len = strlen(text), last = start_of_line(text, 3);

    for (size_t i = 0; i < len - 1; i++) {
        text[i] ^= 1;
        write_whole(text, len);
        const char *const paths[] = { scene.path };
        struct audit_report report;
        struct error err = ERROR_INIT;

        if (i < last - 1)
            assert_refused(ERROR_DATA_LOSS, audit_check(paths, 1, NULL, &report, &err));
        /* A last line that can be no line looks torn, which the store's head tells apart. */
        if (audit_check(paths, 1, &scene.master, &report, &err))
            assert_int_equal(report.lines, 3);
        text[i] ^= 1;
    }
}

static void assert_restarted(const char *why)
{
    start();
    assert_contains(trouble(), why);
    put_ok("after");
    auto_free char *text = read_whole(scene.path);
    assert_contains(text, "\"event\":\"restarted\",\"chain\":\"");
    assert_contains(text, why);
    assert_int_equal(lines(true), 6); /* restarted, after */
    stop();
    start(); /* that line explains it */
    assert_string_equal(trouble(), "");
    audit_close(&scene.audit);
}

/* As somebody without the key would: he has the hashes right. */
static void a_log_that_was_written_anew_is_told_and_the_broker_goes_on(void **state UNUSED)
{
    write_three();
    auto_free char *text = read_whole(scene.path);
    size_t begin = start_of_line(text, 1);
    char *line = text + begin, hash[2 * SHA256_LEN + 1];
    uint8_t digest[SHA256_LEN];
    struct error err = ERROR_INIT;

    swap_words(line, "\"one\"", "\"eno\"");
    for (unsigned i = 1; i < 3; i++) { /* the hash of each line goes into the next one */
        size_t at = start_of_line(text, i), next = start_of_line(text, i + 1);

        assert_ok(sha256(text + at, next - at - 1, digest, &err));
        hex_encode(digest, sizeof(digest), hash);
        memcpy(strstr(text + next, "\"prev\":\"") + 8, hash, sizeof(hash) - 1);
    }
    write_whole(text, strlen(text));
    assert_int_equal(lines(false), 4);
    assert_bad(true, "line after number 1 does not have the broker's MAC");
    assert_restarted("line number 4, the last one that the broker's store knows, is missing");
}

static void a_changed_line_is_told_at_the_start(void **state UNUSED)
{
    write_three();
    auto_free char *text = read_whole(scene.path);

    swap_words(text, "\"two\"", "\"owt\"");
    write_whole(text, strlen(text));
    assert_bad(false, "line after number 3 does not have the hash of the line before it");
    assert_restarted("line after number 3 does not have the hash");
}

static void a_log_that_was_cut_is_told(void **state UNUSED)
{
    write_three();
    auto_free char *text = read_whole(scene.path);

    write_whole(text, start_of_line(text, 3));
    assert_int_equal(lines(true), 3); /* the file alone does not tell */
    assert_restarted("line number 4, the last one that the broker's store knows, is missing");
}

static void a_log_that_was_deleted_is_told(void **state UNUSED)
{
    write_three();
    assert_int_equal(unlink(scene.path), 0);
    assert_restarted("line number 4, the last one that the broker's store knows, is missing");
    auto_free char *text = read_whole(scene.path);
    assert_contains(text, "{\"seq\":5,");
    assert_contains(text, "\"known\":4");
}

static void lines_in_another_order_are_told(void **state UNUSED)
{
    write_three();
    auto_free char *text = read_whole(scene.path);
    auto_free char *forged = NULL;
    size_t two = start_of_line(text, 2), three = start_of_line(text, 3);
    char *second = text + two;

    assert_true(asprintf(&forged, "%.*s%s%.*s", (int)two, text, text + three, (int)(three - two),
                         second) > 0);
    write_whole(forged, strlen(forged));
    assert_bad(false, "after number 2");
    assert_restarted("after number 2");
}

static void a_missing_line_is_told(void **state UNUSED)
{
    write_three();
    auto_free char *text = read_whole(scene.path);
    size_t one = start_of_line(text, 1), two = start_of_line(text, 2);

    memmove(text + one, text + two, strlen(text + two) + 1);
    write_whole(text, strlen(text));
    assert_bad(false, "after number 1");
    assert_restarted("after number 1");
}

static void lines_that_were_added_are_told(void **state UNUSED)
{
    write_three();
    auto_free char *text = read_whole(scene.path);
    auto_free char *forged = NULL;
    char hash[2 * SHA256_LEN + 1];
    uint8_t digest[SHA256_LEN];
    size_t last = start_of_line(text, 3);
    struct error err = ERROR_INIT;

    assert_ok(sha256(text + last, strlen(text) - last - 1, digest, &err));
    hex_encode(digest, sizeof(digest), hash);
    assert_true(asprintf(&forged,
                         "%s{\"seq\":5,\"time\":\"\",\"prev\":\"%s\",\"event\":\"x\",\"mac\":"
                         "\"%064d\"}\n",
                         text, hash, 0) > 0);
    write_whole(forged, strlen(forged));
    assert_int_equal(lines(false), 5);
    assert_bad(true, "after number 4 does not have the broker's MAC");
    assert_restarted("after number 4 does not have the broker's MAC");
}

/* A store that was put back, or whose head was taken away, knows another log. */
static void a_log_that_the_store_does_not_know_is_told(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    char path[128];

    write_three();
    store_close(&scene.place->store);
    (void)snprintf(path, sizeof(path), "%s/broker.db", scene.place->dir);
    assert_int_equal(unlink(path), 0);
    assert_ok(store_sqlite_open(scene.place->dir, &scene.place->store, &err));
    (void)store_place_unlock(scene.place->store, 1);
    start();
    assert_contains(trouble(), "does not know this log");
    put_ok("after");
    assert_int_equal(lines(true), 6);
    auto_free char *text = read_whole(scene.path);
    assert_contains(text, "\"event\":\"begun\",\"chain\":\"");
    assert_contains(text, "\"first\":5,\"note\":\"the broker's store does not know this log\"");
}

/* --- crashes --- */

/* Four lines with a head, and one that was written for a change which was not stored. */
static void write_one_after_the_head(void)
{
    const struct log_field fields[] = { TEXT("event", "last") };
    struct store_head head;
    struct error err = ERROR_INIT;

    write_three();
    start();
    assert_ok(audit_write(scene.audit, fields, 1, &head, &err));
    assert_int_equal(head.seq, 5);
    stop();
}

static void a_line_without_its_head_is_taken_as_it_is(void **state UNUSED)
{
    write_one_after_the_head();
    start();
    assert_string_equal(trouble(), "");
    put_ok("after");
    assert_int_equal(lines(true), 7);
    auto_free char *text = read_whole(scene.path);
    assert_null(strstr(text, "restarted"));
    assert_contains(text, "\"event\":\"ahead\",");
    assert_contains(text, "\"lines\":1,\"mac\"");
}

/* A crash may leave any part of the last line. */
static void a_torn_last_line_is_kept_and_explained(void **state)
{
    for (size_t i = 0, len = 2; i < len; i++) {
        write_one_after_the_head();
        auto_free char *text = read_whole(scene.path);
        size_t begin = start_of_line(text, 4);

        len = strlen(text) - begin;
        write_whole(text, begin + 1 + i);
        start();
        assert_string_equal(trouble(), "");
        put_ok("after");
        /* A line that lacks only its end counts, and is ahead of the head. Otherwise an event "torn"
         * counts instead. */
        assert_int_equal(lines(true), i >= len - 2 ? 7 : 6);
        auto_free char *now = read_whole(scene.path);

        assert_int_equal(strstr(now, "\"event\":\"torn\"") == NULL, i >= len - 2);
        if (i > 3 && i + 3 < len)
            i += 40;
        assert_int_equal(teardown(state), 0);
        assert_int_equal(setup(state), 0);
    }
}

static void a_torn_line_without_explanation_is_found(void **state UNUSED)
{
    write_three();
    auto_free char *text = read_whole(scene.path);
    auto_free char *forged = NULL;

    assert_true(asprintf(&forged, "rubbish\n%s", text) > 0);
    write_whole(forged, strlen(forged));
    assert_bad(false, "after number 0 does not have the hash of the line before it");
}

/* --- rotation --- */

static void rotate(void)
{
    assert_int_equal(rename(scene.path, scene.old), 0);
}

static void reopen(void)
{
    struct error err = ERROR_INIT;

    assert_ok(audit_reopen(scene.audit, &err));
}

static void the_chain_goes_on_over_a_rotation(void **state UNUSED)
{
    const char *const paths[] = { scene.old, scene.path };
    struct audit_report report;
    struct error err = ERROR_INIT;

    write_three();
    start();
    rotate();
    put_ok("still in the old file");
    reopen();
    put_ok("in the new file");
    assert_int_equal(lines(true), 7);
    auto_free char *text = read_whole(scene.path);
    assert_contains(text, "{\"seq\":6,");
    assert_contains(text, "\"event\":\"rotated\",\"chain\":\"");
    assert_ok(audit_check(paths, 2, &scene.master, &report, &err));
    assert_int_equal(report.lines, 7);
    assert_int_equal(report.restarts, 0);
    reopen(); /* nothing was renamed */
    assert_int_equal(audit_lines(scene.audit), 7);
    stop();
    start();
    assert_string_equal(trouble(), "");
}

static void a_line_that_is_missing_between_two_files_is_found(void **state UNUSED)
{
    const char *const paths[] = { scene.old, scene.path };
    struct audit_report report;
    struct error err = ERROR_INIT;

    write_three();
    start();
    rotate();
    reopen();
    auto_free char *text = read_whole(scene.old);

    assert_ok(file_write(scene.old, 0600, text, start_of_line(text, 3), &err));
    assert_refused(ERROR_DATA_LOSS, audit_check(paths, 2, NULL, &report, &err));
    assert_contains(err.text, "after number 3");
}

static void a_file_that_was_emptied_or_swapped_is_told(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    write_three();
    start();
    assert_int_equal(truncate(scene.path, 0), 0); /* logrotate's copytruncate */
    reopen();
    put_ok("after");
    assert_int_equal(lines(true), 6);
    rotate();
    assert_ok(file_write(scene.path, 0600, "somebody else's\n", 16, &err));
    reopen();
    assert_contains(trouble(), "did not write");
    put_ok("after");
    assert_int_equal(lines(true), 8);
}

static void a_place_that_takes_no_file_keeps_the_old_one(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    write_three();
    start();
    rotate();
    assert_int_equal(symlink("/nowhere/at/all", scene.path), 0);
    assert_false(audit_reopen(scene.audit, &err));
    put_ok("still in the old file");
    assert_int_equal(unlink(scene.path), 0);
    err = (struct error)ERROR_INIT;
    assert_ok(audit_reopen(scene.audit, &err));
    assert_int_equal(lines(true), 6);
}

/* --- keys --- */

/* Who has the master key, and not the key that the chain began with, cannot make a line. */
static void a_chain_of_another_key_needs_that_key(void **state UNUSED)
{
    auto_secret struct secret root = SECRET_INIT;
    const struct audit_options options = { scene.path, scene.place->store, &scene.master, &root };
    const char *const paths[] = { scene.path };
    struct audit_report report;
    struct error err = ERROR_INIT;

    assert_ok(secret_random(&root, 32, &err));
    assert_ok(audit_open(&options, &scene.audit, &err));
    stop();
    start(); /* the key is needed no more */
    put_ok("more");
    assert_string_equal(trouble(), "");
    assert_ok(audit_check(paths, 1, &root, &report, &err));
    assert_bad(true, "line after number 0 does not have the broker's MAC");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(lines_follow_each_other_over_a_restart),
        CASE(strange_text_stays_one_line),
        CASE(a_line_that_cannot_be_written_fails_and_leaves_nothing),
        CASE(a_second_writer_is_refused),
        CASE(each_changed_byte_is_found),
        CASE(a_log_that_was_written_anew_is_told_and_the_broker_goes_on),
        CASE(a_changed_line_is_told_at_the_start),
        CASE(a_log_that_was_cut_is_told),
        CASE(a_log_that_was_deleted_is_told),
        CASE(lines_in_another_order_are_told),
        CASE(a_missing_line_is_told),
        CASE(lines_that_were_added_are_told),
        CASE(a_log_that_the_store_does_not_know_is_told),
        CASE(a_line_without_its_head_is_taken_as_it_is),
        CASE(a_torn_last_line_is_kept_and_explained),
        CASE(a_torn_line_without_explanation_is_found),
        CASE(the_chain_goes_on_over_a_rotation),
        CASE(a_line_that_is_missing_between_two_files_is_found),
        CASE(a_file_that_was_emptied_or_swapped_is_told),
        CASE(a_place_that_takes_no_file_keeps_the_old_one),
        CASE(a_chain_of_another_key_needs_that_key),
    };

    (void)signal(SIGXFSZ, SIG_IGN);
    return RUN_TESTS(tests);
}
