/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_reader.h"
#include "base/file.h"
#include "tests/unit/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int file_of(const void *bytes, size_t len)
{
    struct error err = ERROR_INIT;
    int fd = memfd_create("log", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_ok(fd_write_all(fd, bytes, len, &err));
    return fd;
}

static void assert_hash(const struct audit_text *text, const void *bytes, size_t len)
{
    struct error err = ERROR_INIT;
    char hash[AUDIT_HASH_TEXT];

    assert_ok(audit_line_hash(bytes, len, hash, &err));
    assert_string_equal(text->hash, hash);
}

/* The lines of a text, joined by '|'; a last one without a line end has a '.'. */
static void assert_lines(const char *bytes, size_t len, const char *wanted)
{
    auto_close int fd = file_of(bytes, len);
    auto_audit_reader struct audit_reader reader = AUDIT_READER_INIT;
    struct error err = ERROR_INIT;
    struct audit_text text;
    bool found = false;
    char all[64] = "";

    assert_ok(audit_reader_open(&reader, fd, &err));
    for (uint64_t number = 1;; number++) {
        assert_ok(audit_reader_next(&reader, &text, &found, &err));
        if (!found)
            break;
        assert_false(text.is_long);
        assert_int_equal(text.number, number);
        assert_hash(&text, text.bytes, text.len);
        size_t used = strlen(all);
        (void)snprintf(all + used, sizeof(all) - used, "%.*s%s", (int)text.len, text.bytes,
                       text.has_end ? "|" : ".");
    }
    assert_string_equal(all, wanted);
    assert_ok(audit_reader_next(&reader, &text, &found, &err));
    assert_false(found);
}

static void lines_are_found(void **state)
{
    (void)state;
    assert_lines("", 0, "");
    assert_lines("\n", 1, "|");
    assert_lines("a", 1, "a.");
    assert_lines("a\n", 2, "a|");
    assert_lines("a\n\nbc\r\ne", 8, "a||bc\r|e.");
}

/* Lines whose sizes are around that of the buffer, one after the other. */
static void no_line_is_cut_whatever_lies_before_it(void **state)
{
    (void)state;
    static const size_t lengths[] = { 0,
                                      AUDIT_LINE_MAX - 2,
                                      1,
                                      AUDIT_LINE_MAX - 1,
                                      AUDIT_LINE_MAX,
                                      AUDIT_LINE_MAX + 1,
                                      3,
                                      3 * AUDIT_LINE_MAX,
                                      AUDIT_LINE_MAX / 2,
                                      AUDIT_LINE_MAX / 2 + 1,
                                      2 * AUDIT_LINE_MAX };
    auto_free char *all = malloc(16 * AUDIT_LINE_MAX);
    auto_audit_reader struct audit_reader reader = AUDIT_READER_INIT;
    struct error err = ERROR_INIT;
    struct audit_text text;
    size_t len = 0;
    bool found = false;

    assert_non_null(all);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        for (size_t j = 0; j < lengths[i]; j++)
            all[len++] = (char)('a' + (i + j) % 26);
        all[len++] = '\n';
    }
    auto_close int fd = file_of(all, len - 1); /* the last one has no end */
    size_t at = 0;

    assert_ok(audit_reader_open(&reader, fd, &err));
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++, at++) {
        assert_ok(audit_reader_next(&reader, &text, &found, &err));
        assert_true(found);
        assert_int_equal(text.is_long, lengths[i] >= AUDIT_LINE_MAX);
        if (!text.is_long) {
            assert_int_equal(text.len, lengths[i]);
            assert_memory_equal(text.bytes, all + at, lengths[i]);
        }
        assert_hash(&text, all + at, lengths[i]);
        assert_int_equal(text.has_end, i + 1 < ARRAY_LEN(lengths));
        at += lengths[i];
    }
    assert_ok(audit_reader_next(&reader, &text, &found, &err));
    assert_false(found);
}

static void what_comes_after_it_was_opened_is_left_out(void **state)
{
    (void)state;
    auto_close int fd = file_of("one\ntw", 6);
    auto_audit_reader struct audit_reader reader = AUDIT_READER_INIT;
    struct error err = ERROR_INIT;
    struct audit_text text;
    bool found = false;

    assert_ok(audit_reader_open(&reader, fd, &err));
    assert_ok(fd_write_all(fd, "o\nthree\n", 8, &err));
    assert_ok(audit_reader_next(&reader, &text, &found, &err));
    assert_true(found);
    assert_ok(audit_reader_next(&reader, &text, &found, &err));
    assert_true(found);
    assert_int_equal(text.len, 2);
    assert_false(text.has_end);
    assert_ok(audit_reader_next(&reader, &text, &found, &err));
    assert_false(found);
}

static void a_file_that_becomes_shorter_ends(void **state)
{
    (void)state;
    auto_close int fd = file_of("one\ntwo\n", 8);
    auto_audit_reader struct audit_reader reader = AUDIT_READER_INIT;
    struct error err = ERROR_INIT;
    struct audit_text text;
    bool found = true;

    assert_ok(audit_reader_open(&reader, fd, &err));
    assert_int_equal(ftruncate(fd, 2), 0);
    assert_ok(audit_reader_next(&reader, &text, &found, &err));
    assert_true(found);
    assert_int_equal(text.len, 2);
    assert_ok(audit_reader_next(&reader, &text, &found, &err));
    assert_false(found);
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    auto_audit_reader struct audit_reader reader = AUDIT_READER_INIT;
    auto_close int folder = open("/", O_RDONLY | O_CLOEXEC);
    int ends[2];
    struct error err = ERROR_INIT;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_refused(ERROR_INVALID_ARGUMENT, audit_reader_open(&reader, ends[0], &err));
    assert_refused(ERROR_INVALID_ARGUMENT, audit_reader_open(&reader, folder, &err));
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_found),
        cmocka_unit_test(no_line_is_cut_whatever_lies_before_it),
        cmocka_unit_test(what_comes_after_it_was_opened_is_left_out),
        cmocka_unit_test(a_file_that_becomes_shorter_ends),
        cmocka_unit_test(what_is_no_file_is_refused),
    };

    return RUN_TESTS(tests);
}
