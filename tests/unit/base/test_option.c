/* SPDX-License-Identifier: Apache-2.0 */
#include "base/option.h"
#include "tests/unit/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct sample {
    const char *path;
    uint64_t size_bytes;
    bool read_only;
    int level;
    struct option_list peers;
};

static const char *const levels[] = { "debug", "info", "error", NULL };
static const struct option rows[] = {
    OPTION_TEXT_ROW("path", struct sample, path, "PATH", "Where it is.", .required = true),
    OPTION_U64_ROW("size-bytes", struct sample, size_bytes, 512, 4096, "BYTES", "How large."),
    OPTION_BOOL_ROW("read-only", struct sample, read_only, "No writes."),
    OPTION_CHOICE_ROW("level", struct sample, level, levels, "How much is said."),
    OPTION_LIST_ROW("peer", struct sample, peers, "NAME", "Who may call."),
};

static bool set(struct sample *s, const char *name, const char *value, struct error *err)
{
    return option_set(rows, ARRAY_LEN(rows), s, name, value, err);
}

/* main()'s argv is char *const *, but literals are const. */
static char *const *as_argv(const char *const *argv)
{
    union {
        const char *const *in;
        char *const *out;
    } view = { .in = argv };

    return view.out;
}

#define ARGS(...)                                             \
    ((int)ARRAY_LEN(((const char *const[]){ __VA_ARGS__ }))), \
        as_argv((const char *const[]){ __VA_ARGS__ })
#define PARSE(s, rest, ...) parse((s), (rest), &err, ARGS(__VA_ARGS__))

static bool parse(struct sample *s, struct option_list *rest, struct error *err, int argc,
                  char *const *argv)
{
    return option_parse(rows, ARRAY_LEN(rows), s, argc, argv, rest, err);
}

static void numbers_are_decimal_digits_only(void **state)
{
    static const char *const bad[] = { "",
                                       "-1",
                                       "+1",
                                       " 1",
                                       "1 ",
                                       "1s",
                                       "0x1",
                                       "1.0",
                                       "18446744073709551616",
                                       "99999999999999999999999" };
    uint64_t value = 7;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(parse_u64(bad[i], &value));
    assert_int_equal(value, 7);
    assert_true(parse_u64("18446744073709551615", &value));
    assert_true(value == UINT64_MAX);
    assert_true(parse_u64("0", &value));
    assert_int_equal(value, 0);
}

static void each_type_is_set(void **state)
{
    struct sample s = { .level = 1 };
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(set(&s, "path", "/x", &err));
    assert_ok(set(&s, "size-bytes", "512", &err));
    assert_ok(set(&s, "size-bytes", "4096", &err));
    assert_ok(set(&s, "read-only", "true", &err));
    assert_ok(set(&s, "level", "error", &err));
    assert_ok(set(&s, "peer", "a", &err));
    assert_ok(set(&s, "peer", "b", &err));
    assert_string_equal(s.path, "/x");
    assert_int_equal(s.size_bytes, 4096);
    assert_true(s.read_only);
    assert_int_equal(s.level, 2);
    assert_int_equal(s.peers.n, 2);
    assert_string_equal(s.peers.items[1], "b");
    assert_ok(set(&s, "read-only", "false", &err));
    assert_false(s.read_only);
}

static void bad_values_are_refused_and_change_nothing(void **state)
{
    static const struct {
        const char *name, *value, *text;
    } bad[] = {
        { "size-bytes", "511", "from 512 to 4096" },
        { "size-bytes", "4097", "from 512 to 4096" },
        { "size-bytes", "-1", "\"-1\"" },
        { "size-bytes", "", "size-bytes" },
        { "read-only", "yes", "\"true\" or \"false\"" },
        { "read-only", "True", "read-only" },
        { "read-only", "1", "read-only" },
        { "level", "warn", "debug, info or error" },
        { "level", "", "level" },
        { "Path", "/x", "did you mean \"path\"?" },
        { "size_bytes", "512", "did you mean \"size-bytes\"?" },
        { "", "x", "unknown option" },
        { "entirely-else", "x", "unknown option \"entirely-else\"" },
    };
    struct sample s = { .path = "/old", .size_bytes = 1, .level = 1 };
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_refused(ERROR_INVALID_ARGUMENT, set(&s, bad[i].name, bad[i].value, &err));
        assert_contains(err.text, bad[i].text);
    }
    assert_string_equal(s.path, "/old");
    assert_int_equal(s.size_bytes, 1);
    assert_int_equal(s.level, 1);
    assert_false(s.read_only);
}

static void far_names_get_no_suggestion(void **state)
{
    struct sample s = { 0 };
    struct error err = ERROR_INIT;

    (void)state;
    assert_refused(ERROR_INVALID_ARGUMENT, set(&s, "entirely-else", "x", &err));
    assert_null(strstr(err.text, "did you mean"));
}

static void very_long_names_and_values_are_refused(void **state)
{
    struct sample s = { 0 };
    struct error err = ERROR_INIT;
    char text[5000];

    (void)state;
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        text[i] = 'p';
    text[sizeof(text) - 1] = '\0';
    assert_refused(ERROR_INVALID_ARGUMENT, set(&s, text, "x", &err));
    assert_refused(ERROR_INVALID_ARGUMENT, set(&s, "size-bytes", text, &err));
}

static void lists_have_an_end(void **state)
{
    struct sample s = { 0 };
    struct error err = ERROR_INIT;

    (void)state;
    for (int i = 0; i < OPTION_LIST_MAX; i++)
        assert_ok(set(&s, "peer", "a", &err));
    assert_refused(ERROR_INVALID_ARGUMENT, set(&s, "peer", "a", &err));
    assert_int_equal(s.peers.n, OPTION_LIST_MAX);
}

static void all_three_spellings_are_parsed(void **state)
{
    struct sample s = { 0 };
    struct option_list rest = { 0 };
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(PARSE(&s, &rest, "prog", "--path", "/x", "one", "--level=info", "--read-only", "-",
                    "--peer=a=b", "--peer", "--c", "--", "--path"));
    assert_string_equal(s.path, "/x");
    assert_int_equal(s.level, 1);
    assert_true(s.read_only);
    assert_string_equal(s.peers.items[0], "a=b");
    assert_string_equal(s.peers.items[1], "--c");
    assert_int_equal(rest.n, 3);
    assert_string_equal(rest.items[0], "one");
    assert_string_equal(rest.items[1], "-");
    assert_string_equal(rest.items[2], "--path");
}

static void bad_command_lines_are_refused(void **state)
{
    struct sample s = { 0 };
    struct option_list rest = { .n = OPTION_LIST_MAX };
    struct error err = ERROR_INIT;

    (void)state;
    assert_refused(ERROR_INVALID_ARGUMENT, PARSE(&s, NULL, "prog"));
    assert_string_equal(err.text, "--path is required");
    assert_refused(ERROR_INVALID_ARGUMENT, PARSE(&s, NULL, "prog", "--path"));
    assert_string_equal(err.text, "--path needs a value");
    assert_refused(ERROR_INVALID_ARGUMENT, PARSE(&s, NULL, "prog", "--path=a", "--path=b"));
    assert_string_equal(err.text, "--path is given twice");
    assert_refused(ERROR_INVALID_ARGUMENT, PARSE(&s, NULL, "prog", "--path=a", "x"));
    assert_contains(err.text, "unexpected argument \"x\"");
    assert_refused(ERROR_INVALID_ARGUMENT, PARSE(&s, &rest, "prog", "--path=a", "x"));
    assert_refused(ERROR_INVALID_ARGUMENT, PARSE(&s, NULL, "prog", "-p"));
    assert_refused(ERROR_INVALID_ARGUMENT, PARSE(&s, NULL, "prog", "--pth=x"));
    assert_contains(err.text, "did you mean \"path\"?");
    assert_refused(ERROR_INVALID_ARGUMENT, PARSE(&s, NULL, "prog", "--=x"));
    assert_refused(ERROR_INVALID_ARGUMENT, PARSE(&s, NULL, "prog", "--read-only="));
}

static void help_is_found_before_the_end_of_options(void **state)
{
    (void)state;
    assert_true(option_wants_help(ARGS("prog", "--help")));
    assert_true(option_wants_help(ARGS("prog", "x", "-h")));
    assert_false(option_wants_help(ARGS("--help")));
    assert_false(option_wants_help(ARGS("prog", "--", "--help")));
}

static void print_to(char *out, size_t size, void (*print)(const struct option *, size_t))
{
    FILE *file = tmpfile();
    int saved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);

    assert_non_null(file);
    assert_int_equal(fflush(stdout), 0);
    assert_int_equal(dup2(fileno(file), STDOUT_FILENO), STDOUT_FILENO);
    print(rows, ARRAY_LEN(rows));
    assert_int_equal(fflush(stdout), 0);
    assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
    (void)close(saved);
    rewind(file);
    out[fread(out, 1, size - 1, file)] = '\0';
    (void)fclose(file);
}

static void help_and_reference_page_name_every_row(void **state)
{
    char text[4096];

    (void)state;
    print_to(text, sizeof(text), option_print_help);
    assert_contains(text, "  --path PATH\n        Where it is. Required.\n");
    assert_contains(text, "  --size-bytes BYTES\n        How large.");
    assert_contains(text, "512 to 4096");
    assert_contains(text, "  --read-only\n");
    assert_contains(text, "debug, info, error");
    assert_contains(text, "May be repeated.");
    print_to(text, sizeof(text), option_print_markdown);
    assert_contains(text, "| `path` | PATH | Where it is. Required. |\n");
    assert_contains(text, "| `read-only` | true, false | No writes. |\n");
    assert_contains(text, "| `level` | debug, info, error | How much is said. |\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_decimal_digits_only),
        cmocka_unit_test(each_type_is_set),
        cmocka_unit_test(bad_values_are_refused_and_change_nothing),
        cmocka_unit_test(far_names_get_no_suggestion),
        cmocka_unit_test(very_long_names_and_values_are_refused),
        cmocka_unit_test(lists_have_an_end),
        cmocka_unit_test(all_three_spellings_are_parsed),
        cmocka_unit_test(bad_command_lines_are_refused),
        cmocka_unit_test(help_is_found_before_the_end_of_options),
        cmocka_unit_test(help_and_reference_page_name_every_row),
    };

    return RUN_TESTS(tests);
}
