/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "audit/audit_files.h"

#include <jansson.h>

/*
 * All lines of several logs, by their time. Within a log their order stays, also where the broker's
 * clock went back. Checks nothing: see audit/audit_verify.h.
 */
#define AUDIT_TIME_TEXT 25 /* "2026-11-23T23:15:48.123Z" and NUL */

struct audit_entry {
    const char *path;
    uint64_t number;            /* of the line in this file, from 1 */
    char time[AUDIT_TIME_TEXT]; /* not before that of the line before; "": none is known yet */
    const char *replica;        /* as the log says; "": not known */
    const char *chain;          /* likewise, in hex */
    const char *hash;
    json_t *fields; /* an object; NULL: it is no line of a broker */
};

struct audit_merge;

/* set: ordered; outlives it. */
MUST_USE bool audit_merge_new(const struct audit_files *set, struct audit_merge **out,
                              struct error *err);
void audit_merge_free(struct audit_merge **merge);
#define auto_audit_merge CLEANUP(audit_merge_free)

/* *found: there was another line. What *out points to stays until the next call. */
MUST_USE bool audit_merge_next(struct audit_merge *merge, struct audit_entry *out, bool *found,
                               struct error *err);
