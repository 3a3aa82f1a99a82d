/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/log.h"
#include "base/secret.h"
#include "store/store.h"

#include <stddef.h>

/*
 * The audit log: append-only JSON lines, each with a number, the time, the hash of the line before
 * it and a MAC (audit/audit_line.h). A line is on disk when audit_write returns. When a line cannot
 * be written, the call that it describes must fail.
 *
 * The head, which is the last line's number and hash and the key of the next line, is in the
 * broker's store: with the change that the line describes, or alone, but always before the answer.
 * A crash between line and head leaves lines after the head with good MACs: they are taken as they
 * are. A crash may tear the last line, too; nothing was answered for it, and the next line is an
 * event "torn".
 *
 * When the file is not what the head says, the broker does not stop: it writes a line "restarted",
 * which says what is wrong, and goes on in the same chain. audit_trouble tells it.
 */

struct audit;

struct audit_options {
    const char *path;
    struct store *store;           /* unlocked; outlives the log */
    const struct secret *head_key; /* of SEAL_KEY_LEN: wraps the key of the next line */
    /* From which the keys of a new chain derive: the master key, or a key that is kept elsewhere.
     * Not used once the store has a head. */
    const struct secret *root;
    int held_fd; /* from audit_hold, taken over also after a failure; 0: the path is opened */
    const char
        *replica; /* the broker's name, for the lines that name the chain; NULL: it has none */
};

/* Opens or creates the file and locks it, and changes nothing else. Whoever has it may take the place of
 * an earlier process in the store. FAILED_PRECONDITION when another broker writes to the file. */
MUST_USE bool audit_hold(const char *path, int *fd, struct error *err);

/* Opens or creates the file and compares it with the head. FAILED_PRECONDITION when another broker
 * writes to the file. */
MUST_USE bool audit_open(const struct audit_options *options, struct audit **out,
                         struct error *err);
void audit_close(struct audit **audit);
#define auto_audit CLEANUP(audit_close)

/* Opens the path again, after something has renamed the file. The new file's first line names the
 * last line of the old one. After a failure the old file stays in use. Thread-safe. */
MUST_USE bool audit_reopen(struct audit *audit, struct error *err);

/* Fields with an empty text are left out; the first one is the event. UNAVAILABLE when the line is not
 * on disk, or the store cannot be reached; INTERNAL when the store refuses the head. head: NULL, or
 * the caller stores it together with a change. Thread-safe. */
MUST_USE bool audit_write(struct audit *audit, const struct log_field *fields, size_t n,
                          struct store_head *head, struct error *err);

/* UNAVAILABLE while lines cannot be written. Thread-safe. */
MUST_USE bool audit_check_room(struct audit *audit, struct error *err);

uint64_t audit_lines(struct audit *audit); /* the number of the last line */

/* What was wrong with the file when it was opened; "": nothing was. */
#define AUDIT_TROUBLE_LEN 256
void audit_trouble(struct audit *audit, char out[static AUDIT_TROUBLE_LEN]);

/* Checks whole files, the oldest first. root: NULL, or the key that the chain began with
 * (audit_options); without it the MACs are not checked. DATA_LOSS names the line that is not what
 * the broker wrote. */
struct audit_report {
    uint64_t lines;    /* the number of the last line */
    uint64_t restarts; /* lines that say that something before them is wrong or lost */
};
MUST_USE bool audit_check(const char *const *paths, size_t n, const struct secret *root,
                          struct audit_report *out, struct error *err);
