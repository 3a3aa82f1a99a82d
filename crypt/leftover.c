/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/leftover.h"

#include "base/fault.h"
#include "base/file.h"
#include "crypt/device.h"
#include "crypt/header.h"
#include "crypt/integrity.h"
#include "crypt/layer.h"
#include "crypt/luks.h"
#include "crypt/state_block.h"
#include "record/layout.h"

#include <string.h>

static bool used_before(const struct leftover *l, const char *why, struct error *err)
{
    return error_set_reason(
        err, ERROR_FAILED_PRECONDITION, "UsedBefore",
        "the key broker's record says that the volume is new, but the disk was formatted for it "
        "before, and %s: the broker's store is an old backup. It was not formatted. Restore the "
        "newest store, see docs/recovery.md; to give the data up: tdvolctl volume delete %s",
        why, l->record->volume_id);
}

static bool check_state(const struct leftover *l, struct error *err)
{
    auto_close int fd = -1;
    uint64_t bytes = 0;
    uint32_t slot = 0;
    struct state_block state;
    struct error why = ERROR_INIT;

    if (!device_open(layer_path(l->name, LAYER_CRYPT).text, false, &fd, &bytes, err))
        return false;
    if (!state_block_read(fd, l->state_key, NULL, &state, &slot, &why))
        return used_before(l, why.text, err);
    if (!bytes_are_equal(state.record_id, l->record->id, RECORD_ID_LEN) ||
        state.open_counter > l->record->open_counter)
        return used_before(l, "it was opened since", err);
    return true;
}

/* A header of which only the beginning was written. */
static bool is_torn(const struct error *err)
{
    return strcmp(err->reason, "HeaderChanged") == 0 || strcmp(err->reason, "KeyMismatch") == 0;
}

enum look_result { UNUSED_VOLUME, TORN, REFUSED };

/* What one copy shows. *err is set when it is not UNUSED_VOLUME. */
static enum look_result look(const struct leftover *l, off_t offset, struct error *err)
{
    struct layer_name crypt = layer_name(l->name, LAYER_CRYPT);
    struct layer_name bottom = layer_path(l->name, LAYER_BOTTOM);
    auto_close int header_fd = -1;
    struct error second = ERROR_INIT;

    if (!header_new(&header_fd, err) ||
        !header_read_copy(l->raw_fd, offset, &l->record->spec, header_fd, err))
        return is_torn(err) ? TORN : REFUSED;
    /* A volume that has grown since does not fit below this record. */
    if (!integrity_check_device(l->raw_fd, &l->record->spec, &second)) {
        (void)used_before(l, second.text, err);
        return REFUSED;
    }
    if (!luks_open(crypt.text, bottom.text, l->record, l->luks_key, header_fd, err))
        return is_torn(err) ? TORN : REFUSED;
    bool unused = check_state(l, err);
    bool removed = layers_remove(l->name, LAYER_CRYPT, LAYER_INTEGRITY, unused ? err : &second);
    return unused && removed ? UNUSED_VOLUME : REFUSED;
}

/* Copy B is written first. So when there is an A, one of the two is whole. When there is none, and
 * B is not whole, nobody can read what lies behind it. */
static bool check(const struct leftover *l, struct error *err)
{
    enum look_result result = TORN;

    if (l->found.header_b)
        result = look(l, LAYOUT_HEADER_B_OFFSET, err);
    if (result == TORN && l->found.header_a)
        result = look(l, LAYOUT_HEADER_A_OFFSET, err);
    if (result == TORN && l->found.header_a)
        return used_before(l, "neither of its headers opens", err);
    return result != REFUSED;
}

/* A before B, as they were written: at any moment what is left is what a format leaves. */
static bool erase(const struct leftover *l, struct error *err)
{
    static const off_t offsets[] = { LAYOUT_HEADER_A_OFFSET, LAYOUT_HEADER_B_OFFSET };

    for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
        FAULT_POINT("worker.format.erase");
        if (!device_write_zeros(l->raw_fd, (uint64_t)offsets[i], HEADER_PARSED_BYTES, err) ||
            !device_flush(l->raw_fd, err))
            return error_wrap(err, "erase the header of an unfinished format");
    }
    return true;
}

bool leftover_clear(const struct leftover *leftover, struct error *err)
{
    if (!leftover->found.header_a && !leftover->found.header_b)
        return true;
    return check(leftover, err) && erase(leftover, err);
}
