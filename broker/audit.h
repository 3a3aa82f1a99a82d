/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/log.h"

#include <stddef.h>

/*
 * The audit log: append-only JSON lines, each with the SHA-256 of the line before it ("prev"), a
 * sequence number and the time. A line is on disk when audit_write returns; when it cannot be
 * written, the call it speaks of must fail.
 *
 * A crash may tear the last line: it never was acknowledged. It stays as it is; the next line is an
 * event "torn", which carries the torn line's hash like any other.
 */

#define AUDIT_LINE_MAX ((size_t)64 * 1024) /* bytes, with the line end */

struct audit;

/* Opens or creates the file and checks the end of it. DATA_LOSS names the line that does not
 * follow from the one before; FAILED_PRECONDITION when another broker writes to it. */
MUST_USE bool audit_open(const char *path, struct audit **out, struct error *err);
void audit_close(struct audit **audit);
#define auto_audit CLEANUP(audit_close)

/* Fields with an empty text are left out. INTERNAL when the line is not on disk. Thread-safe. */
MUST_USE bool audit_write(struct audit *audit, const struct log_field *fields, size_t n,
                          struct error *err);

uint64_t audit_lines(struct audit *audit); /* the number of the last line */

/* Checks the whole file, from its first line on. */
MUST_USE bool audit_check(const char *path, uint64_t *out_lines, struct error *err);
