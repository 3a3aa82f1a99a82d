/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/kernel_log.h"

#include "base/macro.h"

#include <stdio.h>
#include <string.h>

/* Users may write to /dev/kmsg, too, but not with the kernel's facility (0). The number before the
 * first comma is facility * 8 + level. */
static bool is_from_kernel(const char *record)
{
    return record[0] >= '0' && record[0] <= '7' && record[1] == ',';
}

/* The kernel may put another word before the prefix ("trusted_key: " in 6.1). */
static const struct complaint {
    const char *prefix, *text;
} complaints[] = {
    { "device-mapper: crypt: ", "INTEGRITY AEAD ERROR" },
    { "device-mapper: integrity: ", "Checksum failed" },
};

/* The text is prefix, device, after, and somewhere in the rest the word. */
static const struct fault {
    const char *prefix, *after, *word;
    enum kernel_log_fault kind;
} faults[] = {
    { "XFS (", "): ", "hutting down filesystem", KERNEL_LOG_SHUT_DOWN },
    { "XFS (", "): ", "has been shut down", KERNEL_LOG_SHUT_DOWN },
    { "XFS (", "): ", "shutdown received", KERNEL_LOG_SHUT_DOWN },
    { "EXT4-fs (", "): ", "shut down requested", KERNEL_LOG_SHUT_DOWN },
    { "EXT4-fs (", "): ", "Remounting filesystem read-only", KERNEL_LOG_READ_ONLY },
    { "EXT4-fs error (device ", ")", "aborted journal", KERNEL_LOG_READ_ONLY },
    { "EXT4-fs error (device ", ")", "Journal has aborted", KERNEL_LOG_READ_ONLY },
    { "Aborting journal on device ", "-", "", KERNEL_LOG_READ_ONLY },
    { "EXT4-fs (", "): ", "potential data loss", KERNEL_LOG_WRITE_FAILED },
    { "EXT4-fs warning (device ", "): ", "writing to inode", KERNEL_LOG_WRITE_FAILED },
    { "XFS (", "): ", "error 28", KERNEL_LOG_WRITE_FAILED },
    { "Buffer I/O error on dev ", ", ", " page write", KERNEL_LOG_WRITE_FAILED },
    { "", ": ", "writeback error on inode", KERNEL_LOG_WRITE_FAILED },
    { "critical space allocation error, dev ", ", ", "(WRITE)", KERNEL_LOG_WRITE_FAILED },
    { "I/O error, dev ", ", ", "(WRITE)", KERNEL_LOG_WRITE_FAILED },
};

static size_t device_len(const char *name)
{
    size_t word = strncmp(name, "dm-", 3) == 0 ? 3 : strncmp(name, "loop", 4) == 0 ? 4 : 0;
    size_t digits = word ? strspn(name + word, "0123456789") : 0;

    return digits && word + digits < KERNEL_LOG_DEVICE_LEN ? word + digits : 0;
}

static bool is_fault(const struct fault *fault, const char *text,
                     char device[static KERNEL_LOG_DEVICE_LEN])
{
    if (strncmp(text, fault->prefix, strlen(fault->prefix)) != 0)
        return false;
    const char *name = text + strlen(fault->prefix);
    size_t len = device_len(name);
    if (!len || strncmp(name + len, fault->after, strlen(fault->after)) != 0 ||
        !strstr(name + len, fault->word))
        return false;
    (void)snprintf(device, KERNEL_LOG_DEVICE_LEN, "%.*s", (int)len, name);
    return true;
}

enum kernel_log_fault kernel_log_find_fault(const char *record,
                                            char device[static KERNEL_LOG_DEVICE_LEN])
{
    const char *text = strchr(record, ';');

    if (!text || !is_from_kernel(record))
        return KERNEL_LOG_NO_FAULT;
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        if (is_fault(&faults[i], text + 1, device))
            return faults[i].kind;
    }
    return KERNEL_LOG_NO_FAULT;
}

bool kernel_log_integrity_error(const char *record, char device[static KERNEL_LOG_DEVICE_LEN])
{
    const char *text = strchr(record, ';');

    if (!text || !is_from_kernel(record))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(complaints); i++) {
        const struct complaint *c = &complaints[i];
        const char *name = strstr(text, c->prefix);

        if (!name)
            continue;
        name += strlen(c->prefix);
        size_t len = strncmp(name, "dm-", 3) == 0 ? 3 + strspn(name + 3, "0123456789") : 0;
        if (len <= 3 || len >= KERNEL_LOG_DEVICE_LEN || strncmp(name + len, ": ", 2) != 0 ||
            strncmp(name + len + 2, c->text, strlen(c->text)) != 0)
            return false;
        (void)snprintf(device, KERNEL_LOG_DEVICE_LEN, "%.*s", (int)len, name);
        return true;
    }
    return false;
}
