/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "broker/audit.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * An audit log. The first byte says what the rest is: the file's bytes; or three texts that are
 * logged, and one change to the file. A log that was accepted can be continued. A changed line before
 * the last one is noticed.
 */

enum { LINES = 3, FILE_MAX = 65536 };

static char path[] = "/tmp/fuzz-audit.XXXXXX";

static void tidy(void)
{
    (void)unlink(path);
}

static void write_bytes(const void *bytes, size_t len)
{
    auto_close int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    struct error err = ERROR_INIT;

    if (fd < 0 || !fd_write_all(fd, bytes, len, &err))
        abort();
}

static bool continue_log(const char *text)
{
    auto_audit struct audit *audit = NULL;
    struct error err = ERROR_INIT;

    if (!audit_open(path, &audit, &err))
        return false;
    if (!audit_write(audit, &TEXT("event", text), 1, &err))
        abort();
    return true;
}

static void any_file(const uint8_t *bytes, size_t len)
{
    struct error err = ERROR_INIT;
    uint64_t before = 0, after = 0;

    write_bytes(bytes, len);
    if (!audit_check(path, &before, &err)) {
        (void)continue_log("next");
        return;
    }
    if (!continue_log("next") || !audit_check(path, &after, &err) || after <= before)
        abort();
}

/* where: 2 bytes, with: 1 byte, and the texts. */
static void changed_file(const uint8_t *bytes, size_t len)
{
    struct error err = ERROR_INIT;
    auto_free char *log = NULL;
    size_t log_len = 0, n = 0;
    uint64_t lines = 0;

    if (len < 3)
        return;
    write_bytes("", 0);
    for (size_t i = 0, at = 3, part = (len - 3) / LINES; i < LINES; i++, at += part) {
        char text[256];

        (void)snprintf(text, sizeof(text), "%.*s", (int)part, (const char *)bytes + at);
        if (!continue_log(text))
            abort();
    }
    if (!audit_check(path, &lines, &err) || lines != LINES ||
        !file_read(path, FILE_MAX, &log, &log_len, &err))
        abort();
    /* without the last line and the line end before it: the end of a log may be torn */
    for (size_t i = 0; i + 1 < log_len; i++)
        n = log[i] == '\n' ? i : n;
    if (n == 0)
        abort();
    size_t where = (size_t)(bytes[0] << 8 | bytes[1]) % n;
    if ((uint8_t)log[where] == bytes[2])
        return;
    log[where] = (char)bytes[2];
    write_bytes(log, log_len);
    if (audit_check(path, &lines, &err) || err.code != ERROR_DATA_LOSS)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static bool is_made;

    if (len == 0 || len > FILE_MAX / 2)
        return 0;
    if (!is_made) {
        auto_close int fd = mkostemp(path, O_CLOEXEC);

        if (fd < 0 || atexit(tidy) != 0)
            abort();
        is_made = true;
    }
    if (bytes[0] % 2 == 0)
        any_file(bytes + 1, len - 1);
    else
        changed_file(bytes + 1, len - 1);
    return 0;
}
