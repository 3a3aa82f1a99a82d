/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macro.h"

#include <stdbool.h>
#include <stdint.h>

/* What the caller can do. error.c has one row per code; proto/status.c maps the codes to gRPC. */
enum error_code {
    ERROR_NONE,
    ERROR_INVALID_ARGUMENT,
    ERROR_NOT_FOUND,
    ERROR_ALREADY_EXISTS,
    ERROR_DENIED,              /* policy said no; do not retry */
    ERROR_UNAUTHENTICATED,     /* the peer must prove its identity again */
    ERROR_RESOURCE_EXHAUSTED,  /* no space, or a limit reached */
    ERROR_FAILED_PRECONDITION, /* the state forbids it; an operator must act */
    ERROR_ABORTED,             /* busy, or a compare-and-swap lost: retry */
    ERROR_OUT_OF_RANGE,
    ERROR_UNIMPLEMENTED,
    ERROR_UNAVAILABLE, /* the peer cannot be reached, or is sealed; retry with backoff */
    ERROR_DEADLINE_EXCEEDED,
    ERROR_CANCELLED,
    ERROR_DATA_LOSS, /* the disk does not match the record */
    ERROR_INTERNAL,
    ERROR_CODE_COUNT
};

/*
 * Why an operation failed. The caller owns it, usually on its stack: reporting a failure allocates
 * nothing. The text goes from the outermost step to the cause:
 * "stage pvc-7: open LUKS2 header: No such device". It never holds secrets. The struct is plain
 * data: our processes send it to each other unchanged.
 */
struct error {
    enum error_code code;
    int sys_errno;   /* errno of the cause, 0 when there is none */
    char reason[32]; /* stable CamelCase word for health and metrics ("RolledBack"); may be empty */
    char text[512];
};

#define ERROR_INIT         \
    {                      \
        .code = ERROR_NONE \
    }

/* All return false, so a bool function can end with "return error_...(err, ...)". err may not be
 * NULL. error_set replaces the old error. A text that is too long ends with "...". */
bool error_set(struct error *err, enum error_code code, const char *fmt, ...) PRINTF(3, 4);

/* The same with the failure's name; see error_reason. */
bool error_set_reason(struct error *err, enum error_code code, const char *reason, const char *fmt,
                      ...) PRINTF(4, 5);

/* "fmt: description of sys_errno". Code follows the errno: ENOENT is NOT_FOUND, ENOSPC and EDQUOT
 * RESOURCE_EXHAUSTED, EBUSY ABORTED, anything else INTERNAL. */
bool error_set_errno(struct error *err, int sys_errno, const char *fmt, ...) PRINTF(3, 4);

/* Puts "fmt: " before the text; code, errno and reason stay. */
bool error_wrap(struct error *err, const char *fmt, ...) PRINTF(2, 3);

/* Names the failure with one stable CamelCase word (see docs/health.md); code and text stay. */
bool error_reason(struct error *err, const char *reason);

/* "INVALID_ARGUMENT": the name of gRPC's status code. "UNKNOWN" for any other number. */
const char *error_code_name(enum error_code code);

/* Analyzers do not look into error.c. This tells them that these functions return false. */
#if defined(__clang_analyzer__) || defined(TDVOL_ANALYZER)
#define error_set(...)        ((void)error_set(__VA_ARGS__), false)
#define error_set_reason(...) ((void)error_set_reason(__VA_ARGS__), false)
#define error_set_errno(...)  ((void)error_set_errno(__VA_ARGS__), false)
#define error_wrap(...)       ((void)error_wrap(__VA_ARGS__), false)
#define error_reason(...)     ((void)error_reason(__VA_ARGS__), false)
#endif
