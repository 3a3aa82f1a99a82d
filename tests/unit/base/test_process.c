/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/process.h"
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHELL(script)              \
    (const char *const[])          \
    {                              \
        "sh", "-c", (script), NULL \
    }

static void output_and_exit_code_are_handed_back(void **state)
{
    struct process_result result;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(process_run(SHELL("echo out; echo problem >&2; exit 3"), 0, &result, &err));
    assert_int_equal(result.exit_code, 3);
    assert_string_equal(result.output, "out\nproblem\n");
}

static void environment_is_small_and_stdin_empty(void **state)
{
    struct process_result result;
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(setenv("TDVOL_UNIT_TEST", "1", 1), 0);
    assert_ok(process_run((const char *const[]){ "env", NULL }, 0, &result, &err));
    assert_contains(result.output, "LC_ALL=C\nPATH=");
    assert_null(strstr(result.output, "TDVOL_UNIT_TEST"));
    assert_ok(process_run((const char *const[]){ "cat", NULL }, 5000, &result, &err));
    assert_string_equal(result.output, "");
}

static void signals_and_descriptors_are_not_inherited(void **state)
{
    auto_close int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct process_result result;
    struct error err = ERROR_INIT;

    (void)state;
    assert_true(fd >= 0);
    assert_true(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    assert_ok(process_run(SHELL("kill -PIPE $$"), 0, &result, &err));
    assert_int_equal(result.exit_code, 128 + SIGPIPE);
    char script[64];
    (void)snprintf(script, sizeof(script), "test ! -e /proc/self/fd/%d", fd);
    assert_ok(process_run(SHELL(script), 0, &result, &err));
    assert_int_equal(result.exit_code, 0);
}

static void missing_program_is_named(void **state)
{
    struct process_result result;
    struct error err = ERROR_INIT;

    (void)state;
    assert_refused(ERROR_FAILED_PRECONDITION,
                   process_run((const char *const[]){ "tdvol-no-such", NULL }, 0, &result, &err));
    assert_string_equal(err.text, "program tdvol-no-such is not installed");
    assert_refused(ERROR_INTERNAL,
                   process_run((const char *const[]){ "/dev/null", NULL }, 0, &result, &err));
}

static void program_that_runs_too_long_is_killed(void **state)
{
    struct process_result result;
    struct error err = ERROR_INIT;
    uint64_t start_ms = clock_now_ms();

    (void)state;
    assert_refused(ERROR_DEADLINE_EXCEEDED,
                   process_run((const char *const[]){ "sleep", "60", NULL }, 100, &result, &err));
    assert_true(clock_now_ms() - start_ms < 10000);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void killed_program_counts_as_128_and_signal(void **state)
{
    struct process_result result;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(process_run(SHELL("kill -KILL $$"), 0, &result, &err));
    assert_int_equal(result.exit_code, 137);
}

static void long_output_keeps_its_end(void **state)
{
    struct process_result result;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(
        process_run(SHELL("yes 0123456789 | head -c 1000000; echo; echo last"), 0, &result, &err));
    size_t len = strlen(result.output);
    assert_true(len >= PROCESS_OUTPUT_MAX / 4 && len < PROCESS_OUTPUT_MAX);
    assert_string_equal(result.output + len - 6, "\nlast\n");
}

static void grandchild_that_keeps_the_output_is_not_waited_for(void **state)
{
    struct process_result result;
    struct error err = ERROR_INIT;
    uint64_t start_ms = clock_now_ms();

    (void)state;
    assert_ok(process_run(SHELL("sleep 3 & echo started"), 0, &result, &err));
    assert_string_equal(result.output, "started\n");
    assert_true(clock_now_ms() - start_ms < 2500);
}

static void closed_output_does_not_end_the_wait(void **state)
{
    struct process_result result;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(process_run(SHELL("exec >&- 2>&-; sleep 0.1; exit 7"), 0, &result, &err));
    assert_int_equal(result.exit_code, 7);
}

static void must_gives_the_last_line_of_a_failure(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(process_must(SHELL("exit 1"), 0, 1, &err));
    assert_refused(
        ERROR_INTERNAL,
        process_must(SHELL("echo fine; echo; echo 'disk is bad'; echo; exit 8"), 0, 1, &err));
    assert_string_equal(err.text, "sh failed with exit code 8: disk is bad");
}

static void must_gives_no_part_of_a_usage_text(void **state)
{
    static const struct {
        const char *script, *text;
    } rows[] = {
        { "echo 'must be larger than 300MB.'; echo 'Usage: sh'; echo '<num> is a number'; exit 1",
          "sh failed with exit code 1: must be larger than 300MB." },
        { "echo 'first'; echo 'bad -Z'; echo; echo 'usage: sh [-z]'; exit 1",
          "sh failed with exit code 1: bad -Z" },
        /* Nothing else was said. */
        { "echo; echo 'Usage: sh FILE'; exit 2", "sh failed with exit code 2: Usage: sh FILE" },
        { "echo 'the usage: too high'; exit 1", "sh failed with exit code 1: the usage: too high" },
    };
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_refused(ERROR_INTERNAL, process_must(SHELL(rows[i].script), 0, 0, &err));
        assert_string_equal(err.text, rows[i].text);
    }
}

static void started_child_has_the_descriptor_at_its_number(void **state)
{
    struct error err = ERROR_INIT;
    int ends[2], status = -1;
    char bytes[8] = "";
    pid_t pid = -1;

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_ok(process_start(SHELL("echo hello >&9"), ends[1], 9, &pid, &err));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(ends[0], bytes, sizeof(bytes) - 1), 6);
    assert_string_equal(bytes, "hello\n");
    /* both descriptors have the same number */
    char script[32];
    (void)snprintf(script, sizeof(script), "echo again >&%d", ends[1]);
    assert_ok(process_start(SHELL(script), ends[1], ends[1], &pid, &err));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void start_refuses_stdio_and_missing_programs(void **state)
{
    struct error err = ERROR_INIT;
    pid_t pid = -1;

    (void)state;
    assert_refused(ERROR_INVALID_ARGUMENT, process_start(SHELL("exit"), 0, 2, &pid, &err));
    assert_refused(ERROR_FAILED_PRECONDITION,
                   process_start((const char *const[]){ "tdvol-no-such", NULL }, 0, 3, &pid, &err));
    assert_int_equal(pid, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_and_exit_code_are_handed_back),
        cmocka_unit_test(environment_is_small_and_stdin_empty),
        cmocka_unit_test(signals_and_descriptors_are_not_inherited),
        cmocka_unit_test(missing_program_is_named),
        cmocka_unit_test(program_that_runs_too_long_is_killed),
        cmocka_unit_test(killed_program_counts_as_128_and_signal),
        cmocka_unit_test(long_output_keeps_its_end),
        cmocka_unit_test(grandchild_that_keeps_the_output_is_not_waited_for),
        cmocka_unit_test(closed_output_does_not_end_the_wait),
        cmocka_unit_test(must_gives_the_last_line_of_a_failure),
        cmocka_unit_test(must_gives_no_part_of_a_usage_text),
        cmocka_unit_test(started_child_has_the_descriptor_at_its_number),
        cmocka_unit_test(start_refuses_stdio_and_missing_programs),
    };

    return RUN_TESTS(tests);
}
