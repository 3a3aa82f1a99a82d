/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/log.h"
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* capture() and captured() enclose calls; captured() returns what they wrote to stderr. */
static int saved_stderr, capture_fd;

static void capture(void)
{
    capture_fd = memfd_create("stderr", MFD_CLOEXEC);
    saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(capture_fd >= 0 && saved_stderr >= 0);
    assert_int_equal(fcntl(capture_fd, F_SETFL, O_APPEND), 0); /* like a pipe or a log file */
    assert_int_equal(dup2(capture_fd, STDERR_FILENO), STDERR_FILENO);
}

static char *captured(void)
{
    struct error err = ERROR_INIT;
    char path[64], *text = NULL;
    size_t len = 0;

    assert_int_equal(dup2(saved_stderr, STDERR_FILENO), STDERR_FILENO);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", capture_fd);
    assert_ok(file_read(path, 16u << 20, &text, &len, &err));
    close_at(&capture_fd);
    close_at(&saved_stderr);
    return text;
}

static json_t *captured_object(void)
{
    auto_free char *text = captured();
    size_t len = strlen(text);

    assert_true(len > 0 && text[len - 1] == '\n');
    assert_ptr_equal(strchr(text, '\n'), text + len - 1);
    json_t *object = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(object);
    return object;
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    assert_non_null(text);
    return text;
}

static void json_line_holds_every_field(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    log_setup("tdvol-test", &(struct log_options){ LOG_FORMAT_JSON, LOG_INFO });
    error_set(&err, ERROR_DENIED, "no \"key\"\n");
    error_reason(&err, "KeyRefused");
    capture();
    log_info("rpc", TEXT("method", "Probe"), NUMBER("ms", -7), ERROR_FIELDS(&err));
    json_t *object = captured_object();
    assert_int_equal(strlen(text_of(object, "ts")), 24);
    assert_string_equal(text_of(object, "level"), "info");
    assert_string_equal(text_of(object, "program"), "tdvol-test");
    assert_string_equal(text_of(object, "msg"), "rpc");
    assert_string_equal(text_of(object, "method"), "Probe");
    assert_int_equal(json_integer_value(json_object_get(object, "ms")), -7);
    assert_string_equal(text_of(object, "code"), "PERMISSION_DENIED");
    assert_string_equal(text_of(object, "reason"), "KeyRefused");
    assert_string_equal(text_of(object, "error"), "no \"key\"\n");
    json_decref(object);
}

static void levels_below_the_least_are_not_written(void **state)
{
    (void)state;
    log_setup("t", &(struct log_options){ LOG_FORMAT_JSON, LOG_WARNING });
    assert_false(log_is_enabled(LOG_INFO));
    assert_true(log_is_enabled(LOG_ERROR));
    capture();
    log_debug("a", NUMBER("n", 1));
    log_info("b", NUMBER("n", 1));
    auto_free char *text = captured();
    assert_string_equal(text, "");
}

static void hostile_text_stays_one_valid_line(void **state)
{
    static const char *const texts[] = {
        "\n{\"level\":\"error\"}", "\x1b[2J\x7f", "\xff\xfe", "\xc0\xaf", "\xed\xa0\x80",
        "\xf4\x90\x80\x80",        "\xc2\x9b[J",  "\xe2\x82", "\"\\\"",   "a\tb",
        "\xf0\x9f\x94\x91",
    };

    (void)state;
    for (int format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JSON; format++) {
        for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
            log_setup("t", &(struct log_options){ format, LOG_INFO });
            capture();
            log_info("x", TEXT("field", texts[i]));
            if (format == LOG_FORMAT_JSON) {
                json_decref(captured_object());
                continue;
            }
            auto_free char *text = captured();
            assert_int_equal(strcspn(text, "\n"), strlen(text) - 1);
            assert_int_equal(strcspn(text, "\x1b\x7f\xff\xfe\xc0\xed"), strlen(text));
            assert_null(strstr(text, "\xc2\x9b"));
        }
    }
}

static void valid_text_is_kept_as_it_is(void **state)
{
    static const char text[] = "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x94\x91 \"q\" \\";

    (void)state;
    log_setup("t", &(struct log_options){ LOG_FORMAT_JSON, LOG_INFO });
    capture();
    log_info("x", TEXT("field", text));
    json_t *object = captured_object();
    assert_string_equal(text_of(object, "field"), text);
    json_decref(object);
}

static void long_text_is_cut(void **state)
{
    char text[3000];

    (void)state;
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = "\xe2\x82\xac"[i % 3];
    text[sizeof(text) - 1] = '\0';
    log_setup("t", &(struct log_options){ LOG_FORMAT_JSON, LOG_INFO });
    capture();
    log_info("x", TEXT("field", text), TEXT("next", "kept"));
    json_t *object = captured_object();
    size_t len = strlen(text_of(object, "field"));
    assert_true(len <= 1024 + 3 && len > 1000);
    assert_string_equal(text_of(object, "field") + len - 6, "\xe2\x82\xac...");
    assert_string_equal(text_of(object, "next"), "kept");
    json_decref(object);
}

static void line_too_long_loses_fields_and_says_so(void **state)
{
    struct log_field fields[20];
    char text[1001];

    (void)state;
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = '\x01'; /* six bytes each, escaped */
    text[sizeof(text) - 1] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        fields[i] = TEXT("field", text);
    log_setup("t", &(struct log_options){ LOG_FORMAT_JSON, LOG_INFO });
    capture();
    log_write(LOG_INFO, "x", fields, ARRAY_LEN(fields));
    json_t *object = captured_object();
    assert_true(json_is_true(json_object_get(object, "cut")));
    json_decref(object);
}

static void null_text_is_empty(void **state)
{
    const char *nothing = NULL;

    (void)state;
    log_setup("t", &(struct log_options){ LOG_FORMAT_TEXT, LOG_INFO });
    capture();
    log_info("staged", TEXT("volume", nothing), NUMBER("ms", 3));
    auto_free char *text = captured();
    assert_string_equal(text + 24, " t info: staged volume=\"\" ms=3\n");
}

static void errno_survives(void **state)
{
    (void)state;
    log_setup("t", &(struct log_options){ LOG_FORMAT_TEXT, LOG_INFO });
    auto_close int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_int_equal(close(STDERR_FILENO), 0);
    errno = EXDEV;
    log_info("x", NUMBER("n", 1));
    int seen = errno;
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(seen, EXDEV);
}

static void *write_lines(void *unused)
{
    for (int i = 0; i < 500; i++)
        log_info("thread", TEXT("field", "0123456789012345678901234567890123456789"));
    return unused;
}

static void lines_of_threads_do_not_mix(void **state)
{
    pthread_t threads[4];
    size_t count = 0;

    (void)state;
    log_setup("t", &(struct log_options){ LOG_FORMAT_JSON, LOG_INFO });
    capture();
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    auto_free char *text = captured();
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1, count++) {
        json_t *object = json_loadb(line, (size_t)(end - line), 0, NULL);

        assert_non_null(object);
        json_decref(object);
    }
    assert_int_equal(count, 4 * 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_line_holds_every_field),
        cmocka_unit_test(levels_below_the_least_are_not_written),
        cmocka_unit_test(hostile_text_stays_one_valid_line),
        cmocka_unit_test(valid_text_is_kept_as_it_is),
        cmocka_unit_test(long_text_is_cut),
        cmocka_unit_test(line_too_long_loses_fields_and_says_so),
        cmocka_unit_test(null_text_is_empty),
        cmocka_unit_test(errno_survives),
        cmocka_unit_test(lines_of_threads_do_not_mix),
    };

    return RUN_TESTS(tests);
}
