/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "audit/audit_files.h"
#include "audit/audit_walk.h"

/*
 * Checks the logs of several brokers. How much it can say depends on what is known beforehand:
 *
 *  - nothing: hashes and numbers fit. That finds accidents. Whoever can write to the files can also
 *    compute all hashes anew, or leave lines out at the end;
 *  - where each log ended at some time (heads, from the brokers): the lines up to there are what
 *    this broker wrote, all of them;
 *  - the key that a log began with: each line was written by somebody who had the key of its time.
 *    It does not show that lines are missing at the end.
 */
#define AUDIT_REPLICA_MAX 63

struct audit_known_head {
    char replica[AUDIT_REPLICA_MAX + 1]; /* "": the one broker of a store */
    uint8_t id[AUDIT_CHAIN_ID_LEN];
    uint64_t seq; /* of the last line */
    char hash[AUDIT_HASH_TEXT];
    size_t log; /* out: which log has it; AUDIT_NO_FILE: none */
};

struct audit_log_report {
    size_t first_file; /* the others follow it */
    size_t n_files;
    char replica[AUDIT_REPLICA_MAX + 1]; /* as a line says; "": none does */
    bool has_id, has_start;              /* has_start: it begins where the chain does */
    uint8_t first_id[AUDIT_CHAIN_ID_LEN], id[AUDIT_CHAIN_ID_LEN]; /* of the first and last chain */
    uint64_t first_seq, last_seq;                                 /* 0: no line */
    uint64_t lines, torn;
    bool ends_torn;       /* a crash, or the broker was writing it */
    uint64_t restarts;    /* lines by which the broker says that it noticed a loss or change */
    bool has_macs;        /* each line's MAC was checked */
    size_t head;          /* the latest head in it; SIZE_MAX: none */
    uint64_t after_head;  /* lines */
    struct error problem; /* the first one; ERROR_NONE: there is none */
    const char *problem_path;
    uint64_t problem_number; /* of the line in that file, from 1 */
};

struct audit_verification {
    const struct secret *roots; /* keys that logs may have begun with (audit_root_derive) */
    size_t n_roots;
    struct audit_known_head *heads;
    size_t n_heads;
    struct audit_log_report *logs; /* out: as many as the files have */
    size_t n_logs;
};
void audit_verification_done(struct audit_verification *v); /* keys and heads are the caller's */
#define auto_audit_verification CLEANUP(audit_verification_done)

/* key: the master key, or the one of --audit-key. */
MUST_USE bool audit_root_derive(const struct secret *key, struct secret *out, struct error *err);

/* What is wrong with the logs is no error. */
MUST_USE bool audit_verify(struct audit_verification *v, const struct audit_files *set,
                           struct error *err);
