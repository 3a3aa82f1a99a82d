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

/* Only what we have can be kept; who lacks one fails where it is needed, and says so. */
static bool keep(cap_t wanted, cap_t held, cap_value_t capability, struct error *err)
{
    cap_flag_value_t value = CAP_CLEAR;
    if (cap_get_flag(held, capability, CAP_PERMITTED, &value) != 0)
        return error_set_errno(err, errno, "read capabilities");
    if (cap_set_flag(wanted, CAP_PERMITTED, 1, &capability, value) != 0 ||
        cap_set_flag(wanted, CAP_EFFECTIVE, 1, &capability, value) != 0)
        return error_set_errno(err, errno, "choose capabilities");
    return true;
}

/* A program run by root gets what is in the bounding set, so that is where they must go from. */
bool sandbox_enter(struct error *err)
{
    CLEANUP(caps_drop) cap_t wanted = cap_init();
    CLEANUP(caps_drop) cap_t held = cap_get_proc();
    if (!wanted || !held)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory");
    for (cap_value_t c = 0; c < cap_max_bits(); c++) {
        if (is_kept(c) && !keep(wanted, held, c, err))
            return false;
        if (!is_kept(c) && cap_drop_bound(c) != 0)
            return error_set_errno(err, errno, "give up capability %d (not root?)", c);
    }
    if (cap_set_proc(wanted) != 0)
        return error_set_errno(err, errno, "give up capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return error_set_errno(err, errno, "no new privileges");
    return true;
}
