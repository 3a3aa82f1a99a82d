/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/sandbox.h"

#include "base/capabilities.h"
#include "base/syscalls.h"

/*
 * What each kept capability is for. SYS_ADMIN: mount, device-mapper, loop. SYS_RESOURCE: growing a
 * mounted ext4. DAC_OVERRIDE, FOWNER: kubelet's folders. MKNOD, CHOWN: device nodes. IPC_LOCK: key
 * memory. SYSLOG: /dev/kmsg. KILL, SETUID, SETGID: children of another user. SETPCAP: workers give up
 * more.
 */
#define KEPT                                                                             \
    (CAPABILITY(SYS_ADMIN) | CAPABILITY(SYS_RESOURCE) | CAPABILITY(DAC_OVERRIDE) |       \
     CAPABILITY(FOWNER) | CAPABILITY(CHOWN) | CAPABILITY(MKNOD) | CAPABILITY(IPC_LOCK) | \
     CAPABILITY(SYSLOG) | CAPABILITY(KILL) | CAPABILITY(SETUID) | CAPABILITY(SETGID) |   \
     CAPABILITY(SETPCAP))

/* Not Landlock: whoever has it cannot mount. Children that mount nothing have it (base/confine.h). */
bool sandbox_enter(bool *limited, struct error *err)
{
    return capabilities_keep(KEPT, err) && syscalls_prepare(SYSCALLS_TOOL, err) &&
           syscalls_prepare(SYSCALLS_PROBE, err) && syscalls_limit(SYSCALLS_ROOT, limited, err);
}
