/* SPDX-License-Identifier: Apache-2.0 */
#include "appraisal/appraisal.h"
#include "tests/unit/appraisal/vouching.h"
#include "tests/unit/test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The program is linked with --wrap=appraisal_judge: a child can be one that was taken over. */

static struct vouching v;
static struct broker_evidence shown;
static struct appraisal a;
static struct error err;
static char said[APPRAISAL_TEXT];
static void (*attack)(void); /* in the child; NULL: none */

bool __real_appraisal_judge(const struct appraisal *x, char out[static APPRAISAL_TEXT],
                            struct error *e);
bool __wrap_appraisal_judge(const struct appraisal *x, char out[static APPRAISAL_TEXT],
                            struct error *e);
bool __wrap_appraisal_judge(const struct appraisal *x, char out[static APPRAISAL_TEXT],
                            struct error *e)
{
    if (attack)
        attack();
    return __real_appraisal_judge(x, out, e);
}

static int set_up(void **state UNUSED)
{
    attack = NULL;
    vouching_make(&v);
    a = (struct appraisal){ .nonce = { 1 }, .key_sha256 = { 2 }, .now = time(NULL) };
    a.root = sim_pki_root(v.pki);
    a.policy = (struct bytes_view){ (const uint8_t *)v.policy, strlen(v.policy) };
    vouching_show(&v, a.nonce, a.key_sha256, &shown);
    a.quote = (struct bytes_view){ shown.bytes, shown.size.quote };
    a.collateral = (struct bytes_view){ shown.bytes + shown.size.quote, shown.size.collateral };
    return 0;
}

static int tear_down(void **state UNUSED)
{
    broker_evidence_free(&shown);
    vouching_free(&v);
    return 0;
}

static bool judge(void)
{
    err = (struct error)ERROR_INIT;
    return appraisal_judge_confined(&a, said, &err);
}

static void the_child_judges_as_the_parent_would(void **state UNUSED)
{
    assert_ok(judge());
    assert_string_equal(said, "rule brokers, image broker-1");
    a.nonce[0] ^= 1;
    assert_refused(ERROR_DENIED, judge());
    assert_string_equal(err.reason, BROKER_EVIDENCE_REASON);
    assert_contains(err.text, ": ReportData:");
    a.policy.len = 2;
    assert_refused(ERROR_FAILED_PRECONDITION, judge());
}

static void crash(void)
{
    (void)raise(SIGSEGV);
}

static void babble(void)
{
    char text[2 * 4096];

    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)(i % 255 + 1);
    (void)!write(STDOUT_FILENO, text, sizeof(text));
    _exit(1);
}

static void end_otherwise(void)
{
    _exit(77);
}

/* It can still accept: its rights are what the confinement takes. */
static void reach_out(void)
{
    int ends[2];

    if (access("/etc/passwd", R_OK) == 0 || fork() >= 0 ||
        open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0 ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0)
        return;
    _exit(1);
}

static void a_child_that_crashes_has_refused(void **state UNUSED)
{
    attack = crash;
    assert_refused(ERROR_DENIED, judge());
    assert_string_equal(err.reason, BROKER_EVIDENCE_REASON);
    attack = end_otherwise;
    assert_refused(ERROR_DENIED, judge());
    assert_contains(err.text, "77");
}

static void what_it_says_is_printable_and_bounded(void **state UNUSED)
{
    attack = babble;
    assert_refused(ERROR_DENIED, judge());
    for (const char *at = err.text; *at; at++)
        assert_true(*at >= ' ' && *at <= '~');
}

static void it_can_reach_nothing(void **state UNUSED)
{
    if (HAS_SANITIZER)
        skip_because("with sanitizers no system calls are limited");
    attack = reach_out;
    assert_refused(ERROR_DENIED, judge());
}

static void a_policy_is_checked_before_it_is_needed(void **state UNUSED)
{
    static const uint8_t wrong[] = "{\"version\":1}";

    assert_ok(appraisal_check_policy(a.policy, &err));
    assert_refused(ERROR_FAILED_PRECONDITION,
                   appraisal_check_policy((struct bytes_view){ wrong, sizeof(wrong) - 1 }, &err));
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        CASE(the_child_judges_as_the_parent_would),    CASE(a_child_that_crashes_has_refused),
        CASE(what_it_says_is_printable_and_bounded),   CASE(it_can_reach_nothing),
        CASE(a_policy_is_checked_before_it_is_needed),
    };

    return RUN_TESTS(tests);
}
