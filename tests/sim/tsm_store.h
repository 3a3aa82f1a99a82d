/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/quote.h"
#include "base/error.h"

#include <sys/types.h>

/*
 * The content of /sys/kernel/config/tsm/report in a TD, with the traps of configfs: written data
 * counts only when the file is closed, and only "generation" shows whether it was accepted; "outblob"
 * is made at the first read of an open file and then stays the same for this open file; a directory
 * is removed with its files. Errors are negative errno, as FUSE wants them.
 */
#define TSM_NAME_MAX    255u
#define TSM_OUTBLOB_MAX ((size_t)16 * 1024 * 1024)

/* Sets the fault, and how often it comes: "NAME" (until changed) or "NAME=COUNT". */
void tsm_print_faults(void);

struct tsm_options {
    /* The length of the quote in out, which has QUOTE_LEN_MAX bytes. */
    size_t (*quote)(void *cookie, const uint8_t report_data[static REPORT_DATA_LEN], bool debug,
                    uint8_t *out);
    void *cookie;
    uint64_t latency_ms; /* of each quote; other requests wait meanwhile, as in the kernel */
};

struct tsm;
struct tsm *tsm_new(const struct tsm_options *options); /* NULL: no memory */
void tsm_free(struct tsm *tsm);
MUST_USE bool tsm_set_fault(struct tsm *tsm, const char *text, size_t len, struct error *err);

/* A name below the root: a directory, or TSM_CONTROL. */
#define TSM_CONTROL ".control"
int tsm_mkdir(struct tsm *tsm, const char *name);
int tsm_rmdir(struct tsm *tsm, const char *name);
bool tsm_is_dir(struct tsm *tsm, const char *name);
/* Calls visit with each directory's name until it returns false. */
void tsm_walk(const struct tsm *tsm, bool (*visit)(void *cookie, const char *name), void *cookie);

/* The files of each directory, by number; name NULL past the end. Sizes are configfs's: always a
 * page for text and 0 for blobs. */
struct tsm_stat {
    const char *name;
    mode_t mode;
    off_t size;
};
struct tsm_stat tsm_attribute(size_t i);

/* An open file. dir is "" for TSM_CONTROL. access_mode is O_RDONLY, O_WRONLY or O_RDWR. */
struct tsm_file;
int tsm_open(struct tsm *tsm, const char *dir, const char *name, int access_mode,
             struct tsm_file **out);
int tsm_read(struct tsm_file *file, char *out, size_t len, off_t offset);
int tsm_write(struct tsm_file *file, const char *bytes, size_t len, off_t offset);
void tsm_release(struct tsm_file *file); /* stores what was written */
struct tsm_stat tsm_file_stat(const struct tsm_file *file);
