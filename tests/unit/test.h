/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Includes cmocka after the headers that it needs, and adds assertions for our calling convention.
 * Those on calls use the caller's "struct error err".
 */

#include "base/error.h"

#include <string.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#define assert_ok(call)                                                         \
    do {                                                                        \
        if (!(call))                                                            \
            fail_msg("%s: %s: %s", #call, error_code_name(err.code), err.text); \
    } while (0)

#define assert_refused(wanted_code, call)                                       \
    do {                                                                        \
        err = (struct error)ERROR_INIT;                                         \
        if (call)                                                               \
            fail_msg("%s succeeded", #call);                                    \
        if (err.code != (wanted_code))                                          \
            fail_msg("%s: %s: %s", #call, error_code_name(err.code), err.text); \
    } while (0)

#define assert_contains(text, part)                              \
    do {                                                         \
        if (!strstr((text), (part)))                             \
            fail_msg("\"%s\" is not in \"%s\"", (part), (text)); \
    } while (0)

/* With sanitizers programs limit no system calls (base/syscalls.c), and mlock() does nothing. */
#ifndef __has_feature
#define __has_feature(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define HAS_SANITIZER true
#else
#define HAS_SANITIZER false
#endif

/* Ends the test. cmocka's skip() prints "not ok # SKIP", which is a failure for meson. */
#define skip_because(why)                                      \
    do {                                                       \
        print_message("# skipped, %s: %s\n", __func__, (why)); \
        return;                                                \
    } while (0)

#define RUN_TESTS(tests) \
    (cmocka_set_message_output(CM_OUTPUT_TAP), cmocka_run_group_tests(tests, NULL, NULL))
