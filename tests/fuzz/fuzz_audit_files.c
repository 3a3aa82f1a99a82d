/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_merge.h"
#include "audit/audit_verify.h"
#include "base/file.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * Files that somebody says are audit logs: the input is cut into up to four at each byte 0. Whatever
 * they hold, they are ordered, checked and merged: each line is given out once, and each file is in one
 * log or a copy.
 */
enum { FILES = 4 };

static char folder[] = "/tmp/fuzz-audit-files.XXXXXX";

static void path_of(unsigned i, char out[static 64])
{
    (void)snprintf(out, 64, "%s/%u", folder, i);
}

static void tidy(void)
{
    char path[64];

    for (unsigned i = 0; i < FILES; i++) {
        path_of(i, path);
        (void)unlink(path);
    }
    (void)rmdir(folder);
}

/* Returns how many lines they have. */
static size_t write_files(const uint8_t *bytes, size_t len)
{
    struct error err = ERROR_INIT;
    size_t lines = 0;
    char path[64];

    for (unsigned i = 0; i < FILES; i++) {
        const uint8_t *end = i + 1 < FILES && len > 0 ? memchr(bytes, 0, len) : NULL;
        size_t part = end ? (size_t)(end - bytes) : len;

        path_of(i, path);
        auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        if (fd < 0 || !fd_write_all(fd, bytes, part, &err))
            abort();
        for (size_t at = 0; at < part; at++)
            lines += bytes[at] == '\n' || at + 1 == part;
        bytes += part + (end ? 1 : 0);
        len -= part + (end ? 1 : 0);
    }
    return lines;
}

static void ignore(void *cookie, const char *text)
{
    (void)cookie, (void)text;
}

/* How many lines the files have that are no copies. */
static size_t count_lines(const struct audit_files *set)
{
    struct error err = ERROR_INIT;
    struct audit_text text;
    bool found = true;
    size_t n = 0;

    for (size_t i = 0; i < set->n; i++) {
        auto_audit_reader struct audit_reader reader = AUDIT_READER_INIT;

        if (set->files[i].is_copy == set->files[i].is_taken)
            abort();
        if (set->files[i].is_copy)
            continue;
        if (!audit_reader_open(&reader, set->files[i].fd, &err))
            abort();
        for (found = true; found; n += found)
            if (!audit_reader_next(&reader, &text, &found, &err))
                abort();
    }
    return n;
}

static void check(const struct audit_files *set, size_t lines)
{
    struct audit_known_head head = { .seq = 1 };
    auto_audit_verification struct audit_verification v = { .heads = &head, .n_heads = 1 };
    auto_audit_merge struct audit_merge *merge = NULL;
    struct audit_entry entry;
    struct error err = ERROR_INIT;
    size_t n = count_lines(set), verified = 0, merged = 0;

    if (n > lines || !audit_verify(&v, set, &err) || !audit_merge_new(set, &merge, &err))
        abort();
    for (size_t i = 0; i < v.n_logs; i++)
        verified += v.logs[i].lines + v.logs[i].torn;
    for (bool found = true; found; merged += found)
        if (!audit_merge_next(merge, &entry, &found, &err))
            abort();
    if (verified != n || merged != n || head.log != AUDIT_NO_FILE)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static bool is_made;
    auto_audit_files struct audit_files set = { .n = 0 };
    const struct audit_teller teller = { .tell = ignore };
    struct error err = ERROR_INIT;

    if (!is_made && (!mkdtemp(folder) || atexit(tidy) != 0))
        abort();
    is_made = true;
    size_t lines = write_files(bytes, len);

    if (!audit_files_add(&set, folder, &err)) {
        if (err.code != ERROR_INVALID_ARGUMENT) /* one looks compressed */
            abort();
        return 0;
    }
    if (!audit_files_order(&set, &teller, &err))
        abort();
    check(&set, lines);
    return 0;
}
