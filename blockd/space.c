/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/space.h"

static const struct {
    enum backing_kind kind;
    const struct space *space;
} spaces[] = {
    { BACKING_FILE, &space_file },
    { BACKING_DEVICE, &space_device },
};

bool space_find(enum backing_kind kind, const struct space **out, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(spaces); i++) {
        if (spaces[i].kind == kind) {
            *out = spaces[i].space;
            return true;
        }
    }
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "the record names backing %u, which this version does not know",
                     (unsigned)kind);
}

void raw_device_release(struct raw_device *device)
{
    close_at(&device->fd);
}

const struct space *space_at(size_t i)
{
    return i < ARRAY_LEN(spaces) ? spaces[i].space : NULL;
}
