/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit.h"
#include "base/file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/broker/store_memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * An audit log. The first byte says what the rest is: the file's bytes; or three texts that are
 * logged, and one change to the file. Every log can be continued, and what is wrong with it is then
 * explained in it. Every changed byte is noticed at the next start.
 */

enum { LINES = 3, FILE_MAX = 65536 };

static char path[] = "/tmp/fuzz-audit.XXXXXX";
static struct secret key;

static void tidy(void)
{
    (void)unlink(path);
    secret_wipe(&key);
}

static void write_bytes(const void *bytes, size_t len)
{
    auto_close int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    struct error err = ERROR_INIT;

    if (fd < 0 || !fd_write_all(fd, bytes, len, &err))
        abort();
}

/* Starts a broker's log and writes one line. Returns whether something was wrong with the file. */
static bool continue_log(struct store *store, const char *text)
{
    const struct audit_options options = { path, store, &key, &key };
    auto_audit struct audit *audit = NULL;
    struct error err = ERROR_INIT;
    char trouble[AUDIT_TROUBLE_LEN];

    if (!audit_open(&options, &audit, &err) ||
        !audit_write(audit, &TEXT("event", text), 1, NULL, &err))
        abort();
    audit_trouble(audit, trouble);
    return trouble[0] != '\0';
}

static uint64_t check(void)
{
    const char *const paths[] = { path };
    struct audit_report report = { .lines = 0 };
    struct error err = ERROR_INIT;

    if (!audit_check(paths, 1, &key, &report, &err))
        abort();
    return report.lines;
}

static void any_file(struct store *store, const uint8_t *bytes, size_t len)
{
    const char *const paths[] = { path };
    struct audit_report report;
    struct error err = ERROR_INIT;

    write_bytes(bytes, len);
    if (!audit_check(paths, 1, NULL, &report, &err) && err.code != ERROR_DATA_LOSS)
        abort();
    if (continue_log(store, "next") != (len > 0))
        abort();
    uint64_t before = check();

    if (continue_log(store, "next") || check() != before + 1)
        abort();
}

/* where: 2 bytes, with: 1 byte, and the texts. */
static void changed_file(struct store *store, const uint8_t *bytes, size_t len)
{
    struct error err = ERROR_INIT;
    auto_free char *log = NULL;
    size_t log_len = 0;

    if (len < 3)
        return;
    write_bytes("", 0);
    for (size_t i = 0, at = 3, part = (len - 3) / LINES; i < LINES; i++, at += part) {
        char text[256];

        (void)snprintf(text, sizeof(text), "x%.*s", (int)part, (const char *)bytes + at);
        if (continue_log(store, text))
            abort();
    }
    if (check() != LINES + 1 || !file_read(path, FILE_MAX, &log, &log_len, &err))
        abort();
    size_t where = (size_t)(bytes[0] << 8 | bytes[1]) % (log_len - 1);
    if ((uint8_t)log[where] == bytes[2])
        return;
    log[where] = (char)bytes[2];
    write_bytes(log, log_len);
    if (!continue_log(store, "next"))
        abort();
    (void)check();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static bool is_made;
    auto_store struct store *store = NULL;
    struct error err = ERROR_INIT;

    if (len == 0 || len > FILE_MAX / 2)
        return 0;
    if (!is_made) {
        auto_close int fd = mkostemp(path, O_CLOEXEC);

        if (fd < 0 || atexit(tidy) != 0 || !secret_random(&key, 32, &err))
            abort();
        is_made = true;
    }
    if (!store_memory_open(&store, &err))
        abort();
    if (bytes[0] % 2 == 0)
        any_file(store, bytes + 1, len - 1);
    else
        changed_file(store, bytes + 1, len - 1);
    return 0;
}
