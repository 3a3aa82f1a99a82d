/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Lets the nth allocation of the code under test fail. Included once by a test program that is
 * linked with nth_allocation_args (tests/fault/meson.build). It sees only the calls of our own
 * code, not those of shared libraries.
 *
 *     for (unsigned n = 1;; n++) {
 *         nth_allocation_fails(n);
 *         bool is_done = code_under_test(&err);
 *         if (!nth_allocation_stop()) {
 *             assert_true(is_done);
 *             break;
 *         }
 *         assert_false(is_done);
 *     }
 */

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    unsigned fail_at; /* counted from 1; 0: none fails */
    unsigned count;
    bool has_failed;
} nth_allocation;

/* From now on the nth allocation fails, and only that one. */
static inline void nth_allocation_fails(unsigned n)
{
    nth_allocation.fail_at = n;
    nth_allocation.count = 0;
    nth_allocation.has_failed = false;
}

/* All succeed again. True when one has failed since. */
static inline bool nth_allocation_stop(void)
{
    nth_allocation.fail_at = 0;
    return nth_allocation.has_failed;
}

static inline bool nth_allocation_is_due(void)
{
    if (nth_allocation.fail_at == 0 || ++nth_allocation.count != nth_allocation.fail_at)
        return false;
    nth_allocation.has_failed = true;
    errno = ENOMEM;
    return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t max);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t max);
int __wrap_asprintf(char **out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int __wrap___asprintf_chk(char **out, int flag, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int __real___vasprintf_chk(char **out, int flag, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));
int __wrap___vasprintf_chk(char **out, int flag, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));

void *__wrap_malloc(size_t size)
{
    return nth_allocation_is_due() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return nth_allocation_is_due() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return nth_allocation_is_due() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    return nth_allocation_is_due() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t max)
{
    return nth_allocation_is_due() ? NULL : __real_strndup(text, max);
}

int __wrap_asprintf(char **out, const char *fmt, ...)
{
    va_list args;

    if (nth_allocation_is_due())
        return -1;
    va_start(args, fmt);
    int len = __real___vasprintf_chk(out, 0, fmt, args);
    va_end(args);
    return len;
}

/* asprintf() calls this under _FORTIFY_SOURCE, with gcc and with older clang. */
int __wrap___asprintf_chk(char **out, int flag, const char *fmt, ...)
{
    va_list args;

    if (nth_allocation_is_due())
        return -1;
    va_start(args, fmt);
    int len = __real___vasprintf_chk(out, flag, fmt, args);
    va_end(args);
    return len;
}

/* The same with clang since glibc 2.40. */
int __wrap___vasprintf_chk(char **out, int flag, const char *fmt, va_list args)
{
    return nth_allocation_is_due() ? -1 : __real___vasprintf_chk(out, flag, fmt, args);
}
