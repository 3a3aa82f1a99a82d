/* SPDX-License-Identifier: Apache-2.0 */
#include "base/capabilities.h"

#include <errno.h>
#include <sys/capability.h>
#include <sys/prctl.h>

static void caps_drop(cap_t *caps)
{
    if (*caps)
        cap_free(*caps);
    *caps = NULL;
}

static bool has(cap_t held, cap_value_t capability)
{
    cap_flag_value_t value = CAP_CLEAR;

    return cap_get_flag(held, capability, CAP_PERMITTED, &value) == 0 && value == CAP_SET;
}

static bool limit_bounding(uint64_t set, struct error *err)
{
    for (cap_value_t c = 0; c < cap_max_bits(); c++) {
        if (!(set >> c & 1) && cap_get_bound(c) == 1 && cap_drop_bound(c) != 0)
            return error_set_errno(err, errno, "give up capability %d (not root?)", c);
    }
    return true;
}

/* Lacks the process a capability, the step that needs it fails and says so. */
bool capabilities_keep(uint64_t set, struct error *err)
{
    CLEANUP(caps_drop) cap_t wanted = cap_init();
    CLEANUP(caps_drop) cap_t held = cap_get_proc();

    if (!wanted || !held)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory");
    for (cap_value_t c = 0; c < cap_max_bits(); c++) {
        if ((set >> c & 1) && has(held, c) &&
            (cap_set_flag(wanted, CAP_PERMITTED, 1, &c, CAP_SET) != 0 ||
             cap_set_flag(wanted, CAP_EFFECTIVE, 1, &c, CAP_SET) != 0))
            return error_set_errno(err, errno, "choose capabilities");
    }
    if (has(held, CAP_SETPCAP) && !limit_bounding(set, err))
        return false;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        return error_set_errno(err, errno, "give up ambient capabilities");
    return cap_set_proc(wanted) == 0 || error_set_errno(err, errno, "give up capabilities");
}
