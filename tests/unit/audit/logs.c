/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/audit/logs.h"

#include "audit/audit_head.h"
#include "base/file.h"
#include "tests/unit/broker/store_memory.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void logs_setup(struct logs *logs)
{
    struct error err = ERROR_INIT;

    (void)snprintf(logs->dir, sizeof(logs->dir), "/tmp/tdvol-logs-XXXXXX");
    assert_non_null(mkdtemp(logs->dir));
    logs->key = (struct secret)SECRET_INIT;
    assert_ok(secret_random(&logs->key, 32, &err));
}

void logs_teardown(struct logs *logs)
{
    auto_dir DIR *dir = opendir(logs->dir);
    const struct dirent *entry = NULL;

    while (dir && (entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.')
            logs_remove(logs, entry->d_name);
    assert_int_equal(rmdir(logs->dir), 0);
    secret_wipe(&logs->key);
}

const char *logs_path(const struct logs *logs, const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s", logs->dir, name);
    return path;
}

static bool keep_head(void *cookie, const char *replica, const struct audit_chain *head)
{
    struct audit_chain *out = cookie;

    assert_string_equal(replica, "");
    *out = *head;
    out->key = out->after = (struct secret)SECRET_INIT; /* the caller's */
    return true;
}

void logs_write(const struct logs *logs, const char *name, const char *const *values, size_t n,
                struct audit_chain *head)
{
    auto_store struct store *store = NULL;
    auto_audit struct audit *audit = NULL;
    struct error err = ERROR_INIT;
    unsigned parts = 0;

    assert_ok(store_memory_open(&store, &err));
    auto_free char *path = strdup(logs_path(logs, name)); /* audit keeps the pointer */

    assert_non_null(path);
    const struct audit_options options = {
        .path = path, .store = store, .head_key = &logs->key, .root = &logs->key, .replica = name
    };

    assert_ok(audit_open(&options, &audit, &err));
    for (size_t i = 0; i < n; i++) {
        const struct log_field fields[] = { TEXT("event", values[i]), TEXT("volume", values[i]) };

        if (strcmp(values[i], "|") == 0) {
            char part[64];

            (void)snprintf(part, sizeof(part), "%s.%u", name, ++parts);
            assert_int_equal(rename(logs_path(logs, name), logs_path(logs, part)), 0);
            assert_ok(audit_reopen(audit, &err));
        } else {
            assert_ok(audit_write(audit, fields, ARRAY_LEN(fields), NULL, &err));
        }
    }
    const struct audit_head_visitor visitor = { .visit = keep_head, .cookie = head };

    if (head)
        assert_ok(audit_heads_each(store, &logs->key, &visitor, &err));
}

char *logs_read(const struct logs *logs, const char *name, size_t *len)
{
    struct error err = ERROR_INIT;
    char *text = NULL;

    assert_ok(file_read(logs_path(logs, name), 1 << 20, &text, len, &err));
    return text;
}

void logs_put(const struct logs *logs, const char *name, const void *bytes, size_t len)
{
    auto_close int fd = open(logs_path(logs, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct error err = ERROR_INIT;

    assert_true(fd >= 0);
    assert_ok(fd_write_all(fd, bytes, len, &err));
}

void logs_remove(const struct logs *logs, const char *name)
{
    assert_int_equal(unlink(logs_path(logs, name)), 0);
}

size_t logs_line(const char *text, unsigned number)
{
    const char *at = text;

    for (unsigned i = 0; i < number; i++)
        at = strchr(at, '\n') + 1;
    return (size_t)(at - text);
}
