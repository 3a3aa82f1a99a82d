/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/counting.h"

#include "base/fault.h"
#include "crypt/device.h"
#include "crypt/layer.h"
#include "crypt/volume_keys.h"

/* Less than any volume has, and not 0: the next mount makes the file system longer if it can. */
#define FILESYSTEM_UNKNOWN_BYTES 1u

bool count_record(const struct counting *c, uint64_t counter, struct error *err)
{
    FAULT_POINT("worker.open.record");
    const struct record_change change = { .kind = RECORD_CHANGE_OPENED, .open_counter = counter };
    return c->keeper->change(c->keeper->cookie, &change, c->record, err);
}

static bool write_other_copy(struct counting *c, struct error *err)
{
    c->slot = (c->slot + 1) % STATE_BLOCK_COPIES;
    c->state->sequence++;
    FAULT_POINT("worker.open.state");
    return state_block_write(c->mapping_fd, c->key, c->state, c->slot, err);
}

/* Write the state to one copy on the disk, then to the record: so the two counters differ by at
 * most one. Then write the other copy, too. If it kept the old state, losing the newer copy later
 * would look like a rollback of the volume. */
bool count_state(struct counting *c, struct error *err)
{
    c->state->open_counter = c->record->open_counter + 1;
    c->state->is_closed = false;
    return write_other_copy(c, err) && count_record(c, c->state->open_counter, err) &&
           write_other_copy(c, err);
}

/* Until the close nothing else changes the state block. */
bool closing_make(const struct state_block *state, const struct secret *key,
                  struct volume_closing *out, struct error *err)
{
    struct state_block closed = *state;

    closed.sequence++;
    closed.is_closed = true;
    out->is_set = state_block_encode(&closed, key, out->block, err);
    return out->is_set;
}

static bool note_filesystem(const struct volume_name *name, struct record *record,
                            const struct secret *secret, const struct record_keeper *keeper,
                            uint64_t filesystem_bytes, struct volume_closing *closing,
                            struct error *err)
{
    auto_volume_keys struct volume_keys keys = VOLUME_KEYS_INIT;
    auto_close int fd = -1;
    uint64_t bytes = 0;
    struct state_block state;
    struct counting c = { .key = &keys.state, .keeper = keeper, .record = record, .state = &state };

    if (!volume_keys_derive(&record->key, secret, &keys, err) ||
        !device_open(layer_path(name, LAYER_CRYPT).text, true, &fd, &bytes, err) ||
        !state_block_read(fd, &keys.state, NULL, &state, &c.slot, err))
        return false;
    c.mapping_fd = fd;
    state.filesystem_bytes = filesystem_bytes;
    FAULT_POINT("worker.format.filesystem-made");
    return count_state(&c, err) && closing_make(&state, &keys.state, closing, err);
}

bool volume_filesystem_made(const struct volume_name *name, struct record *record,
                            const struct secret *secret, const struct record_keeper *keeper,
                            struct volume_closing *closing, struct error *err)
{
    return note_filesystem(name, record, secret, keeper, record->spec.size_bytes, closing, err);
}

bool volume_filesystem_brought(const struct volume_name *name, struct record *record,
                               const struct secret *secret, const struct record_keeper *keeper,
                               struct volume_closing *closing, struct error *err)
{
    return note_filesystem(name, record, secret, keeper, FILESYSTEM_UNKNOWN_BYTES, closing, err);
}
