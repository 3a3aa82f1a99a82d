/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <linux/capability.h>

/* Linux capabilities of the calling process, as a set of bits. For processes without threads. */
#define CAPABILITY(name) (UINT64_C(1) << CAP_##name)

/* Keeps those in the set that the process has, in its permitted and effective sets, and gives up all
 * others for good, also for the programs that it runs. The bounding set can be changed only with
 * CAP_SETPCAP: without it, it stays, and no_new_privs must be set. */
MUST_USE bool capabilities_keep(uint64_t set, struct error *err);
