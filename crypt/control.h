/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/* Opens /dev/mapper/control, and makes that node when the kernel has device-mapper, but neither udev
 * nor the kernel made it. FAILED_PRECONDITION says in one sentence what is missing and what to do. */
MUST_USE bool control_open(int *out_fd, struct error *err);

/* The minor number of device-mapper in the text of /proc/misc. */
bool control_find_minor(const char *misc, unsigned *out);
