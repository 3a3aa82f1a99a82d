/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "blockd/filesystem.h"
#include "blockd/operation.h"
#include "blockd/worker.h"

#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/if_alg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROC_CRYPTO_MAX (1u << 20)

/* Asks for the target's version. That makes the kernel load the target's module, as a use would
 * do. */
static bool has_target(int control_fd, const char *type)
{
    union {
        struct dm_ioctl head;
        char bytes[4096];
    } io = { .bytes = { 0 } };

    io.head.version[0] = DM_VERSION_MAJOR;
    io.head.data_size = sizeof(io);
    io.head.data_start = sizeof(io.head);
    (void)snprintf(io.head.name, sizeof(io.head.name), "%s", type);
    return ioctl(control_fd, DM_GET_TARGET_VERSION, &io) == 0;
}

/* Binding an AF_ALG socket loads modules and builds ciphers from templates. For kernels without
 * AF_ALG, /proc/crypto lists the ciphers that are loaded already. */
static bool has_cipher(const char *type, const char *name)
{
    struct sockaddr_alg address = { .salg_family = AF_ALG };

    (void)snprintf((char *)address.salg_type, sizeof(address.salg_type), "%s", type);
    (void)snprintf((char *)address.salg_name, sizeof(address.salg_name), "%s", name);
    auto_close int fd = socket(AF_ALG, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return true;

    auto_free char *text = NULL;
    size_t len = 0;
    struct error ignored = ERROR_INIT;
    char line[128];
    (void)snprintf(line, sizeof(line), ": %s\n", name);
    return file_read("/proc/crypto", PROC_CRYPTO_MAX, &text, &len, &ignored) &&
           strstr(text, line) != NULL;
}

static void note_missing(struct block_probe *probe, bool present, const char *what)
{
    size_t used = strlen(probe->missing);

    if (!present)
        (void)snprintf(probe->missing + used, sizeof(probe->missing) - used, "%s%s",
                       used ? "; " : "", what);
}

bool operation_probe(struct worker *worker, struct block_result *out, struct error *err)
{
    (void)worker;
    (void)err;
    struct block_probe *p = &out->probe;
    auto_close int control_fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
    p->crypt = control_fd >= 0 && has_target(control_fd, "crypt");
    p->integrity = control_fd >= 0 && has_target(control_fd, "integrity");
    p->thin = control_fd >= 0 && has_target(control_fd, "thin-pool");
    p->snapshot = control_fd >= 0 && has_target(control_fd, "snapshot");
    p->aegis128 = p->crypt && p->integrity && has_cipher("aead", "aegis128");
    p->hmac_sha256 =
        p->crypt && p->integrity && has_cipher("aead", "authenc(hmac(sha256),xts(aes))");
    p->ext4 = filesystem_is_installed("ext4");
    p->xfs = filesystem_is_installed("xfs");
    note_missing(p, p->crypt, "dm-crypt: no volumes at all");
    note_missing(p, p->integrity, "dm-integrity: no authenticated volumes");
    note_missing(p, p->thin, "dm-thin-pool: no authenticated volumes");
    note_missing(p, p->snapshot, "dm-snapshot: no read-only volumes");
    note_missing(p, p->aegis128, "aegis128");
    note_missing(p, p->hmac_sha256, "hmac(sha256) with xts(aes)");
    note_missing(p, p->ext4, "e2fsprogs");
    note_missing(p, p->xfs, "xfsprogs");
    return true;
}
