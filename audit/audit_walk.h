/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "audit/audit_reader.h"

/*
 * Goes through the lines of audit logs and says whether they are what the broker wrote. What is
 * known beforehand decides how much it can say:
 *
 *  - nothing: each line has the hash of the line before it, and the next number;
 *  - the head, from the broker's store: also, that the line of the head is there, which vouches for
 *    all lines before it, and that the lines after it have good MACs;
 *  - the root key: also, that each line has a good MAC.
 *
 * A line "restarted" or "begun" says that the broker itself has noticed what was wrong before it.
 */
struct audit_walk {
    const struct secret *root;      /* NULL: not known */
    const struct audit_chain *head; /* NULL: not known */
    struct audit_chain chain;       /* after the last line */
    uint64_t key_seq;               /* the number of the line that chain.key is for */
    uint64_t jumped;                /* lines that keys were derived for without reading them */
    bool has_begun, is_torn, is_at_head;
    struct audit_line line; /* the last one, unless it is torn; points into its text */
    uint64_t ahead;         /* lines after the head */
    uint64_t restarts;
    struct error problem; /* the first one that no line explains; ERROR_NONE: there is none */
};

void audit_walk_start(struct audit_walk *walk, const struct secret *root,
                      const struct audit_chain *head);

void audit_walk_wipe(struct audit_walk *walk);

/* Goes on to the next line. Problems are no errors. */
MUST_USE bool audit_walk_line(struct audit_walk *walk, const struct audit_text *text,
                              struct error *err);

/* Goes through one file. A walk may go through several, the oldest first. *out_size: of the file.
 * *ends_line: the file is empty, or its last line has a line end. Problems are no errors. */
MUST_USE bool audit_walk_file(struct audit_walk *walk, int fd, uint64_t *out_size, bool *ends_line,
                              struct error *err);
