/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"

/*
 * One line of the audit log, and the keys of a chain of lines:
 *
 *   {"seq":7,"time":"...","prev":"SHA-256 of the line before","event":"call", ... ,"mac":"..."}
 *
 * The MAC is HMAC-SHA256 over all bytes before `,"mac"`. Each line has a key of its own: the key of
 * the next line is derived from it one-way, and then it is wiped. So who takes the broker's memory
 * and store gets no key of an earlier line. A chain has a random id, and its first line's key is
 * derived from a root key and that id.
 *
 * These events have the chain's id and the number of its first line, so that a file can be checked
 * alone: "begun", the first line of a chain; "rotated", the first line of a file that goes on where
 * another one ended; "restarted", the chain goes on, and what the file had before is not what the
 * broker wrote, or is lost.
 */
#define AUDIT_LINE_MAX     ((size_t)64 * 1024) /* bytes, with the line end */
#define AUDIT_HASH_TEXT    (2 * SHA256_LEN + 1)
#define AUDIT_CHAIN_ID_LEN 16

struct audit_chain {
    uint64_t seq;               /* of the last line; 0: there is none */
    char hash[AUDIT_HASH_TEXT]; /* SHA-256 of the last line, in hex */
    uint8_t id[AUDIT_CHAIN_ID_LEN];
    uint64_t first;      /* number of the chain's first line */
    struct secret key;   /* of the next line; empty: not known */
    struct secret after; /* of the line after it, while that is being derived */
};
void audit_chain_wipe(struct audit_chain *chain);
#define auto_audit_chain CLEANUP(audit_chain_wipe)

/* A chain without a line; the key is not known. */
struct audit_chain audit_chain_none(void);

/* root is derived from the master key, or from a key that is kept elsewhere: seal_derive with
 * SEAL_AUDIT_ROOT. Sets id, first and the key of the first line. */
MUST_USE bool audit_chain_begin(struct audit_chain *chain, const struct secret *root,
                                const uint8_t id[static AUDIT_CHAIN_ID_LEN], uint64_t first,
                                struct error *err);

/* Derives the key of the line after the next one. Then audit_chain_advance, which cannot fail, makes
 * it the next one's, and wipes the old key. */
MUST_USE bool audit_chain_derive(struct audit_chain *chain, struct error *err);
void audit_chain_advance(struct audit_chain *chain);

enum audit_event {
    AUDIT_OTHER,
    AUDIT_TORN, /* explains that the line before is only a part */
    AUDIT_BEGUN,
    AUDIT_ROTATED,
    AUDIT_RESTARTED
};

/* A line that was read. Points into the text. */
struct audit_line {
    uint64_t seq;
    enum audit_event event;
    const char *prev;               /* AUDIT_HASH_TEXT - 1 hex digits */
    const char *mac;                /* the same */
    size_t signed_len;              /* the bytes that the MAC covers */
    uint8_t id[AUDIT_CHAIN_ID_LEN]; /* of begun, rotated, restarted */
    uint64_t first;
};
/* False: no whole line. The text has no line end. Reads only what the broker writes. */
bool audit_line_read(const char *text, size_t len, struct audit_line *out);

/* Adds the MAC to a line, a JSON object of len bytes. RESOURCE_EXHAUSTED: more than size bytes. */
MUST_USE bool audit_line_sign(const struct audit_chain *chain, char *text, size_t *len, size_t size,
                              struct error *err);

/* *is_good: the line has the MAC of the chain's next line. */
MUST_USE bool audit_line_verify(const struct audit_chain *chain, const char *text,
                                const struct audit_line *line, bool *is_good, struct error *err);

MUST_USE bool audit_line_hash(const char *text, size_t len, char out[static AUDIT_HASH_TEXT],
                              struct error *err);
