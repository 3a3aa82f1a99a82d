/* SPDX-License-Identifier: Apache-2.0 */
#include "appraisal/appraisal.h"
#include "base/confine.h"
#include "base/file.h"
#include "policy/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* How a child ends. What it has to say follows on its standard output. */
enum { CHILD_ACCEPTS = 0, CHILD_REFUSES = 1, CHILD_FAILS = 2 };

/* --- in the child --- */

static int say(int exit_code, const char *text)
{
    (void)dprintf(STDOUT_FILENO, "%s", text);
    return exit_code;
}

static int judge(int nothing_fd, void *cookie)
{
    char said[APPRAISAL_TEXT] = "";
    struct error err = ERROR_INIT;

    (void)nothing_fd;
    if (appraisal_judge(cookie, said, &err))
        return say(CHILD_ACCEPTS, said);
    return say(err.code == ERROR_DENIED ? CHILD_REFUSES : CHILD_FAILS, err.text);
}

static int check_policy(int nothing_fd, void *cookie)
{
    const struct bytes_view *text = cookie;
    auto_policy struct policy *policy = NULL;
    struct error err = ERROR_INIT;

    (void)nothing_fd;
    if (policy_parse((const char *)text->bytes, text->len, &policy, &err))
        return say(CHILD_ACCEPTS, "");
    return say(CHILD_FAILS, err.text);
}

/* --- in the parent --- */

/* A child that was taken over may have written anything. */
static void make_printable(char *text)
{
    for (char *at = text; *at; at++)
        if (*at < ' ' || *at > '~')
            *at = '?';
}

static bool call(int (*run)(int nothing_fd, void *cookie), const void *cookie,
                 char said[static APPRAISAL_TEXT], struct error *err)
{
    auto_close int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct process_result result;

    if (nothing < 0)
        return error_set_errno(err, errno, "/dev/null");
    if (!confine_call(run, (void *)(uintptr_t)cookie, nothing, &result, err))
        return error_wrap(err, "judge the broker's evidence");
    make_printable(result.output);
    if (result.exit_code == CHILD_ACCEPTS) {
        (void)snprintf(said, APPRAISAL_TEXT, "%.*s", APPRAISAL_TEXT - 1, result.output);
        return true;
    }
    if (result.exit_code == CHILD_REFUSES)
        return error_set_reason(err, ERROR_DENIED, BROKER_EVIDENCE_REASON, "%s", result.output);
    if (result.exit_code == CHILD_FAILS)
        return error_set(err, ERROR_FAILED_PRECONDITION, "%s", result.output);
    return error_set_reason(err, ERROR_DENIED, BROKER_EVIDENCE_REASON,
                            "the broker's evidence is refused: whoever judged it ended with %d: "
                            "%.200s",
                            result.exit_code, result.output);
}

bool appraisal_judge_confined(const struct appraisal *a, char said[static APPRAISAL_TEXT],
                              struct error *err)
{
    return call(judge, a, said, err);
}

bool appraisal_check_policy(struct bytes_view policy, struct error *err)
{
    char said[APPRAISAL_TEXT];

    return call(check_policy, &policy, said, err);
}
