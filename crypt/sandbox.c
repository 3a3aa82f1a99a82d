/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/sandbox.h"

#include <errno.h>
#include <sys/capability.h>
#include <sys/prctl.h>

/*
 * SYS_ADMIN: mount, device-mapper, loop. SYS_RESOURCE: growing a mounted ext4. DAC_OVERRIDE, FOWNER,
 * CHOWN: kubelet's folders. MKNOD: device nodes where /dev is static. IPC_LOCK: key memory.
 * SYSLOG: /dev/kmsg. KILL: workers' programs.
 */
static const cap_value_t kept[] = { CAP_SYS_ADMIN, CAP_SYS_RESOURCE, CAP_DAC_OVERRIDE,
                                    CAP_FOWNER,    CAP_CHOWN,        CAP_MKNOD,
                                    CAP_IPC_LOCK,  CAP_SYSLOG,       CAP_KILL };

static bool is_kept(cap_value_t capability)
{
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        if (kept[i] == capability)
            return true;
    }
    return false;
}

static void caps_drop(cap_t *caps)
{
    if (*caps)
        cap_free(*caps);
    *caps = NULL;
}

/* A program run by root gets what is in the bounding set, so that is where they must go from. */
bool sandbox_enter(struct error *err)
{
    CLEANUP(caps_drop) cap_t caps = cap_init();
    if (!caps)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory");
    for (cap_value_t c = 0; c < cap_max_bits(); c++) {
        if (!is_kept(c) && cap_drop_bound(c) != 0)
            return error_set_errno(err, errno, "give up capability %d (not root?)", c);
    }
    if (cap_set_flag(caps, CAP_PERMITTED, ARRAY_LEN(kept), kept, CAP_SET) != 0 ||
        cap_set_flag(caps, CAP_EFFECTIVE, ARRAY_LEN(kept), kept, CAP_SET) != 0 ||
        cap_set_proc(caps) != 0)
        return error_set_errno(err, errno, "give up capabilities (a needed one is missing)");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return error_set_errno(err, errno, "no new privileges");
    return true;
}
