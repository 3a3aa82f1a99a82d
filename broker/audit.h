/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/log.h"

#include <stddef.h>

/*
 * The audit log: append-only JSON lines, each with the SHA-256 of the line before it ("prev"), a
 * sequence number and the time. A line is on disk when audit_write returns. When a line cannot be
 * written, the call that it describes must fail.
 *
 * A crash may tear the last line. Such a line was never acknowledged, so it stays as it is. The
 * next line is an event "torn", which has the torn line's hash, as every line has the hash of the
 * line before it.
 */

#define AUDIT_LINE_MAX ((size_t)64 * 1024) /* bytes, with the line end */

struct audit;

/* Opens or creates the file and checks its end. DATA_LOSS names the line that does not follow from
 * the line before; FAILED_PRECONDITION when another broker writes to the file. */
MUST_USE bool audit_open(const char *path, struct audit **out, struct error *err);
void audit_close(struct audit **audit);
#define auto_audit CLEANUP(audit_close)

/* Fields with an empty text are left out. INTERNAL when the line is not on disk. Thread-safe. */
MUST_USE bool audit_write(struct audit *audit, const struct log_field *fields, size_t n,
                          struct error *err);

uint64_t audit_lines(struct audit *audit); /* the number of the last line */

/* Checks the whole file from its first line. */
MUST_USE bool audit_check(const char *path, uint64_t *out_lines, struct error *err);
