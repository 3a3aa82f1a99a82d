/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"
#include "base/file.h"
#include "base/macro.h"
#include "tests/unit/base/folder.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* Passes one.a, one.b, one.a in a child process, and returns its waitpid() status. */
static int pass_points(const char *rule, const char *log)
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0) {
        if ((rule && setenv("TDVOL_FAULT", rule, 1) != 0) ||
            (log && setenv("TDVOL_FAULT_LOG", log, 1) != 0))
            _exit(9);
        (void)alarm(20); /* ends a point that sleeps */
        FAULT_POINT("one.a");
        FAULT_POINT("one.b");
        FAULT_POINT("one.a");
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static char *passed(const char *name)
{
    struct error err = ERROR_INIT;
    char *text = NULL;
    size_t len = 0;

    assert_ok(file_read(folder_path(name), 4096, &text, &len, &err));
    return text;
}

#ifdef TDVOL_FAULTS

static void every_point_is_logged(void **state)
{
    (void)state;
    assert_int_equal(pass_points(NULL, folder_path("log")), 0);
    auto_free char *text = passed("log");
    assert_string_equal(text,
                        "one.a test_base_fault\none.b test_base_fault\none.a test_base_fault\n");
}

static void named_point_kills_at_the_nth_passing(void **state)
{
    static const struct {
        const char *rule;
        int points; /* logged before the end */
    } rows[] = {
        { "one.a:kill", 1 },   { "one.b:kill", 2 },   { "one.a:kill:1", 1 },
        { "one.a:kill:2", 3 }, { "one.a:kill:0", 1 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        (void)unlink(folder_path("log"));
        int status = pass_points(rows[i].rule, folder_path("log"));
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        auto_free char *text = passed("log");
        int lines = 0;
        for (const char *at = text; *at; at++)
            lines += *at == '\n';
        assert_int_equal(lines, rows[i].points);
    }
}

static void other_points_are_passed(void **state)
{
    (void)state;
    assert_int_equal(pass_points("one:kill", NULL), 0);
    assert_int_equal(pass_points("one.ab:kill", NULL), 0);
    assert_int_equal(pass_points("one.b:kill:2", NULL), 0);
    assert_int_equal(pass_points("one.a:kill:3", NULL), 0);
}

static void misspelt_rule_ends_the_process(void **state)
{
    (void)state;
    assert_true(WIFSIGNALED(pass_points("one.a:kil", NULL)));
    assert_true(WIFSIGNALED(pass_points("one.a:kill:x", NULL)));
}

static void sleeping_point_stops_until_killed(void **state)
{
    int status = -1;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        (void)setenv("TDVOL_FAULT", "one.a:sleep", 1);
        FAULT_POINT("one.a");
        _exit(0);
    }
    (void)usleep(100000);
    assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void rule_in_a_file_acts_once(void **state)
{
    struct error err = ERROR_INIT;
    char rule[PATH_MAX + 1];

    (void)state;
    assert_ok(file_write(folder_path("rule"), 0600, "one.b:kill\n", 11, &err));
    (void)snprintf(rule, sizeof(rule), "@%s", folder_path("rule"));
    assert_true(WIFSIGNALED(pass_points(rule, NULL)));
    assert_int_equal(access(folder_path("rule"), F_OK), -1);
    assert_int_equal(pass_points(rule, NULL), 0);
}

#else

static void points_do_nothing_in_this_build(void **state)
{
    (void)state;
    assert_int_equal(pass_points("one.a:kill", folder_path("log")), 0);
    assert_int_equal(access(folder_path("log"), F_OK), -1);
    (void)passed;
}

#endif

#define CASE(name) cmocka_unit_test_setup_teardown(name, folder_make, folder_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef TDVOL_FAULTS
        CASE(every_point_is_logged),
        CASE(named_point_kills_at_the_nth_passing),
        CASE(other_points_are_passed),
        CASE(misspelt_rule_ends_the_process),
        CASE(sleeping_point_stops_until_killed),
        CASE(rule_in_a_file_acts_once),
#else
        CASE(points_do_nothing_in_this_build),
#endif
    };

    return RUN_TESTS(tests);
}
