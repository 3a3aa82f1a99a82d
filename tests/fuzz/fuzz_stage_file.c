/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "blockd/mount.h"
#include "blockd/stage_file.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A file of the state folder. It is large and mostly empty, so the input is a list of changes to a
 * good file: where (2 bytes), how many bytes (1), these bytes. The first byte says how much longer
 * (1 to 127) or shorter (129 to 255) than right the file is.
 */

static char folder[] = "/tmp/fuzz-stage-file.XXXXXX";
static struct volume_name name;
static char file[PATH_MAX];

static void tidy(void)
{
    (void)unlink(file);
    (void)rmdir(folder);
}

static void set_up(void)
{
    struct error err = ERROR_INIT;

    if (name.text[0])
        return;
    if (!mkdtemp(folder) || !volume_name_make("driver", "a", &name, &err))
        abort();
    (void)snprintf(file, sizeof(file), "%s/%s.volume", folder, name.text);
    (void)atexit(tidy);
}

/* Returns the file's length. */
static size_t make_file(const uint8_t *bytes, size_t len, uint8_t *out)
{
    const struct stage_file good = { .version = STAGE_FILE_VERSION,
                                     .complete = true,
                                     .volume_id = "a",
                                     .fs_type = "ext4",
                                     .staging_path = "/var/lib/kubelet/globalmount",
                                     .mount_flags = "noatime,discard",
                                     .has_closing = true };

    memcpy(out, &good, sizeof(good));
    for (size_t at = 1; at + 3 <= len;) {
        size_t to = ((size_t)bytes[at] << 8 | bytes[at + 1]) % sizeof(good), n = bytes[at + 2];

        at += 3;
        n = n < len - at ? n : len - at;
        n = n < sizeof(good) - to ? n : sizeof(good) - to;
        memcpy(out + to, bytes + at, n);
        at += n;
    }
    return (size_t)((ptrdiff_t)sizeof(good) + (int8_t)bytes[0]);
}

static void check_text(const char *text, size_t size)
{
    if (strnlen(text, size) == size)
        abort();
}

/* What was read is safe to act on. */
static void check(const struct stage_file *s)
{
    static struct mount_options options;
    const bool *const flags[] = { &s->complete, &s->read_only, &s->has_closing };
    struct error err = ERROR_INIT;

    check_text(s->volume_id, sizeof(s->volume_id));
    check_text(s->fs_type, sizeof(s->fs_type));
    check_text(s->staging_path, sizeof(s->staging_path));
    check_text(s->mount_flags, sizeof(s->mount_flags));
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (*(const uint8_t *)flags[i] > 1)
            abort();
    if (s->version != STAGE_FILE_VERSION)
        abort();
    (void)!mount_options_parse(s->mount_flags, &options, &err);
}

static bool visit(void *cookie, const struct volume_name *seen, const struct stage_file *staged,
                  struct error *err)
{
    (void)err;
    if (strcmp(seen->text, name.text) != 0)
        abort();
    check(staged);
    ++*(unsigned *)cookie;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static uint8_t content[sizeof(struct stage_file) + 128];
    static struct stage_file staged;
    struct error err = ERROR_INIT;
    bool found = false;
    unsigned seen = 0;

    if (len == 0)
        return 0;
    set_up();
    size_t content_len = make_file(bytes, len, content);
    auto_close int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || !fd_write_all(fd, content, content_len, &err))
        abort();
    bool ok = stage_file_read(folder, &name, &found, &staged, &err);
    if (ok && found) {
        /* NOLINTNEXTLINE(*-memory-comparison,*exp42*,*flp37*): the file is the struct's bytes */
        if (content_len != sizeof(staged) || memcmp(content, &staged, sizeof(staged)) != 0)
            abort();
        check(&staged);
    }
    bool each_ok = stage_file_each(folder, visit, &seen, &err);
    if (each_ok != ok || seen != (ok && found))
        abort();
    return 0;
}
