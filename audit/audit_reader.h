/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "audit/audit_line.h"

/*
 * Reads the lines of a log from front to back, in bounded memory, whatever the file holds. It ends
 * where the file ended when the reader was opened: a broker may be writing to it. A file that
 * becomes shorter meanwhile just ends earlier.
 */
struct audit_text {
    const char *bytes; /* without the line end; until the next line is read */
    size_t len;
    bool is_long;    /* longer than any line of the broker's; then bytes are only its end */
    bool has_end;    /* a line end follows */
    uint64_t number; /* of the line in its file, from 1 */
    char hash[AUDIT_HASH_TEXT];
};

struct audit_reader {
    int fd; /* of a regular file; the caller's */
    uint64_t size, offset, number;
    char *buffer;
    size_t at, filled;
};
#define AUDIT_READER_INIT \
    {                     \
        .fd = -1          \
    }

/* INVALID_ARGUMENT when it is no regular file. */
MUST_USE bool audit_reader_open(struct audit_reader *reader, int fd, struct error *err);
void audit_reader_close(struct audit_reader *reader); /* leaves the descriptor open */
#define auto_audit_reader CLEANUP(audit_reader_close)

/* *found: there was another line. */
MUST_USE bool audit_reader_next(struct audit_reader *reader, struct audit_text *out, bool *found,
                                struct error *err);
