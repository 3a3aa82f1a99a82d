/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "audit/audit_reader.h"

/*
 * The files of the logs of several brokers, in any order, brought into order: each log is the files
 * of one broker, the oldest first. What links two files is in their lines alone: the first line of
 * one has the hash of the last line of the other. Names and times say nothing.
 */
#define AUDIT_FILES_MAX 1000
#define AUDIT_NO_FILE   SIZE_MAX

struct audit_file {
    char *path;
    int fd;
    uint64_t size; /* when it was added */
    /* What its first line says. */
    bool has_first;             /* it is whole, and one of a broker */
    struct audit_line first;    /* without the texts it points to */
    char prev[AUDIT_HASH_TEXT]; /* of its first line */
    char first_hash[AUDIT_HASH_TEXT], last_hash[AUDIT_HASH_TEXT]; /* of these lines; "": none */
    size_t before, next; /* the files that it follows and that follow it; AUDIT_NO_FILE */
    bool is_copy;        /* another file has all its lines */
    bool is_taken;       /* part of a log */
};

struct audit_files {
    struct audit_file *files;
    size_t n;
    size_t *logs; /* the first file of each log */
    size_t n_logs;
};
void audit_files_close(struct audit_files *set);
#define auto_audit_files CLEANUP(audit_files_close)

/* Adds a file, or all files of a folder; those whose names begin with a dot are left out. A file that
 * is there already is not added again. INVALID_ARGUMENT: a compressed file, or too many files. */
MUST_USE bool audit_files_add(struct audit_files *set, const char *path, struct error *err);

/* Makes the logs. tell gets each thing that no honest broker leaves: two files that begin with the
 * same line and then differ, or that go on from the same line. */
struct audit_teller {
    void (*tell)(void *cookie, const char *text);
    void *cookie;
};
MUST_USE bool audit_files_order(struct audit_files *set, const struct audit_teller *teller,
                                struct error *err);
