/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/probe.h"

#include "base/log.h"
#include "blockd/filesystem.h"
#include "blockd/loop.h"
#include "blockd/operation.h"
#include "blockd/worker.h"
#include "crypt/control.h"
#include "crypt/table.h"

#include <stdio.h>
#include <string.h>

/* No volume has this id. */
#define PROBE_ID "//probe"

static bool has_target(const char *type)
{
    bool found = false;
    struct error ignored = ERROR_INIT;

    return table_find_target(type, &found, &ignored) && found;
}

static void note_missing(struct block_probe *probe, const char *what, const char *consequence)
{
    size_t used = strlen(probe->missing);

    (void)snprintf(probe->missing + used, sizeof(probe->missing) - used, "%s%s: %s",
                   used ? "; " : "", what, consequence);
}

/* What each mode needs above dm-crypt is asked for apart. Only a refusal counts as "no": when there is
 * no memory, or another program holds a device, the answer is not known. */
static bool find_mode(const struct worker *worker, enum integrity integrity,
                      const char *device_path, bool *out, struct error *err)
{
    struct volume_name name;
    struct error why = ERROR_INIT;

    if (!volume_name_make(worker->config->driver, PROBE_ID, &name, err))
        return false;
    *out = volume_probe(&name, integrity, device_path, &why);
    if (*out)
        return true;
    if (why.code == ERROR_ABORTED || why.code == ERROR_RESOURCE_EXHAUSTED) {
        *err = why;
        return error_wrap(err, "find out whether the kernel has %s", integrity_name(integrity));
    }
    log_debug("the kernel refuses a mode", TEXT("integrity", integrity_name(integrity)),
              ERROR_FIELDS(&why));
    return true;
}

bool operation_probe(struct worker *worker, struct block_result *out, struct error *err)
{
    struct block_probe *p = &out->probe;
    auto_loop struct loop_device device = LOOP_DEVICE_INIT;
    auto_close int control_fd = -1;
    struct error no_control = ERROR_INIT;

    /* Without it nothing below would be found: say that, and not everything else. */
    if (!control_open(&control_fd, &no_control)) {
        (void)snprintf(p->missing, sizeof(p->missing), "%.*s", (int)sizeof(p->missing) - 1,
                       no_control.text);
        return true;
    }
    if (!loop_attach_memory(VOLUME_PROBE_BYTES, &device, err))
        return error_wrap(err, "find out what the kernel has");
    p->thin = has_target("thin-pool");
    if (!find_mode(worker, INTEGRITY_NONE, device.path, &p->none, err) ||
        (p->thin && (!find_mode(worker, INTEGRITY_AEGIS128, device.path, &p->aegis128, err) ||
                     !find_mode(worker, INTEGRITY_HMAC_SHA256, device.path, &p->hmac_sha256, err))))
        return false;
    p->snapshot = has_target("snapshot");
    p->ext4 = filesystem_is_installed("ext4");
    p->xfs = filesystem_is_installed("xfs");
    if (!p->none)
        note_missing(p, "dm-crypt with aes-xts", "no volumes at all");
    if (!p->thin)
        note_missing(p, "dm-thin-pool", "no authenticated volumes");
    if (p->thin && !p->aegis128)
        note_missing(p, "aegis128 over dm-integrity", "no volumes with integrity=aegis128");
    if (p->thin && !p->hmac_sha256)
        note_missing(p, "authenc(hmac(sha256),xts(aes)) over dm-integrity",
                     "no volumes with integrity=hmac-sha256");
    if (!p->snapshot)
        note_missing(p, "dm-snapshot", "no read-only volumes");
    if (!p->ext4)
        note_missing(p, "e2fsprogs", "no ext4");
    if (!p->xfs)
        note_missing(p, "xfsprogs", "no xfs");
    return true;
}
