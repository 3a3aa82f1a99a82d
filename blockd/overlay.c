/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/overlay.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

bool overlay_make(uint64_t bytes, struct loop_device *out, struct error *err)
{
    auto_close int file = memfd_create("tdvol-overlay", MFD_CLOEXEC);

    if (file < 0 || ftruncate(file, (off_t)bytes) < 0)
        return error_set_errno(err, errno, "memory for the overlay");
    return loop_attach(file, false, out, err);
}
