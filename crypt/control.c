/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/control.h"

#include "base/file.h"
#include "base/option.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define FOLDER     "/dev/mapper"
#define CONTROL    FOLDER "/control"
#define MISC_MAJOR 10

bool control_find_minor(const char *misc, unsigned *out)
{
    while (*misc) {
        size_t len = strcspn(misc, "\n");
        const char *number = misc + strspn(misc, " ");
        size_t digits = strspn(number, "0123456789");
        char text[16];
        uint64_t value = 0;

        (void)snprintf(text, sizeof(text), "%.*s", (int)digits, number);
        static const char rest[] = " device-mapper";
        if (strncmp(number + digits, rest, strlen(rest)) == 0 &&
            number + digits + strlen(rest) == misc + len && parse_u64(text, &value) &&
            value <= UINT16_MAX) {
            *out = (unsigned)value;
            return true;
        }
        misc += len + (misc[len] == '\n');
    }
    return false;
}

static bool is_in_kernel(unsigned *minor_number)
{
    auto_free char *misc = NULL;
    size_t len = 0;
    struct error ignored = ERROR_INIT;

    return file_read("/proc/misc", 65536, &misc, &len, &ignored) &&
           control_find_minor(misc, minor_number);
}

bool control_open(int *out_fd, struct error *err)
{
    unsigned minor_number = 0;
    int fd = open(CONTROL, O_RDWR | O_CLOEXEC);

    if (fd < 0 && (errno == ENOENT || errno == ENXIO || errno == ENODEV)) {
        if (!is_in_kernel(&minor_number))
            return error_set(err, ERROR_FAILED_PRECONDITION,
                             "the kernel has no device-mapper, which all volumes need: load it on "
                             "the node (modprobe dm-mod) and start the plugin again");
        if ((mkdir(FOLDER, 0755) == 0 || errno == EEXIST) &&
            (mknod(CONTROL, S_IFCHR | 0600, makedev(MISC_MAJOR, minor_number)) == 0 ||
             errno == EEXIST))
            fd = open(CONTROL, O_RDWR | O_CLOEXEC);
    }
    if (fd >= 0) {
        *out_fd = fd;
        return true;
    }
    int code = errno;
    error_set_errno(err, code,
                    "open " CONTROL " (character device 10, minor number as in /proc/misc)");
    err->code = ERROR_FAILED_PRECONDITION;
    return error_wrap(err, "device-mapper cannot be used, and all volumes need it");
}
