/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/state_block.h"

#include "base/file.h"
#include "crypt/device.h"

#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define STATE_MAGIC "tdvol st"

/* The on-disk form, little-endian. Bytes without a name are zero. */
struct disk_state {
    char magic[8];
    uint32_t layout_version, is_closed;
    uint64_t sequence, open_counter, filesystem_bytes;
    uint8_t record_id[RECORD_ID_LEN];
};

struct disk_block {
    struct disk_state state;
    uint8_t padding[LAYOUT_STATE_BYTES - sizeof(struct disk_state) - SHA256_LEN];
    uint8_t mac[SHA256_LEN];
};
_Static_assert(sizeof(struct disk_block) == LAYOUT_STATE_BYTES, "one block, without holes");
#define MAC_OFFSET (LAYOUT_STATE_BYTES - SHA256_LEN)

bool state_block_encode(const struct state_block *state, const struct secret *key, uint8_t *out,
                        struct error *err)
{
    struct disk_block block = {
        .state = {
            .layout_version = htole32(LAYOUT_VERSION),
            .is_closed = htole32(state->is_closed ? 1 : 0),
            .sequence = htole64(state->sequence),
            .open_counter = htole64(state->open_counter),
            .filesystem_bytes = htole64(state->filesystem_bytes),
        },
    };

    memcpy(block.state.magic, STATE_MAGIC, sizeof(block.state.magic));
    memcpy(block.state.record_id, state->record_id, RECORD_ID_LEN);
    if (!hmac_sha256(key, &block, MAC_OFFSET, block.mac, err))
        return false;
    memcpy(out, &block, sizeof(block));
    return true;
}

static bool state_damaged(struct error *err, const char *what)
{
    return error_set_reason(err, ERROR_DATA_LOSS, "StateDamaged", "state block: %s", what);
}

static bool take_fields(const struct disk_block *block, struct state_block *out, struct error *err)
{
    uint32_t version = le32toh(block->state.layout_version);

    if (strncmp(block->state.magic, STATE_MAGIC, sizeof(block->state.magic)) != 0)
        return state_damaged(err, "it has no state in it");
    if (version != LAYOUT_VERSION)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the volume has layout version %" PRIu32 ": use a tdvol that knows it",
                         version);
    struct state_block state = {
        .sequence = le64toh(block->state.sequence),
        .open_counter = le64toh(block->state.open_counter),
        .filesystem_bytes = le64toh(block->state.filesystem_bytes),
        .is_closed = block->state.is_closed != 0,
    };
    memcpy(state.record_id, block->state.record_id, RECORD_ID_LEN);
    *out = state;
    return true;
}

bool state_block_decode(const uint8_t *bytes, const struct secret *key, struct state_block *out,
                        struct error *err)
{
    struct disk_block block;
    uint8_t mac[SHA256_LEN];

    memcpy(&block, bytes, sizeof(block));
    if (!hmac_sha256(key, &block, MAC_OFFSET, mac, err))
        return false;
    if (!bytes_are_equal(mac, block.mac, SHA256_LEN))
        return state_damaged(err, "it was changed, or another key wrote it");
    return take_fields(&block, out, err);
}
static off_t copy_offset(uint32_t slot)
{
    return slot == 0 ? (off_t)LAYOUT_STATE_A_OFFSET : (off_t)LAYOUT_STATE_B_OFFSET;
}

/* *err is of the former key: only it knows blocks of other versions. */
static bool decode_by_either(const uint8_t *block, const struct secret *key,
                             const struct secret *next_key, struct state_block *out,
                             struct error *err)
{
    struct error unused = ERROR_INIT;

    return (next_key && state_block_decode(block, next_key, out, &unused)) ||
           state_block_decode(block, key, out, err);
}

bool state_block_read(int mapping_fd, const struct secret *key, const struct secret *next_key,
                      struct state_block *out, uint32_t *out_slot, struct error *err)
{
    auto_free uint8_t *block = NULL;

    if (!device_buffer(LAYOUT_STATE_BYTES, &block, err))
        return false;
    bool found = false;
    struct error why = ERROR_INIT;
    struct state_block best = { .sequence = 0 };
    for (uint32_t slot = 0; slot < 2; slot++) {
        struct state_block state;

        /* One copy may be torn or unreadable: then the other one is used. */
        if (!fd_pread_all(mapping_fd, block, LAYOUT_STATE_BYTES, copy_offset(slot), &why) ||
            !decode_by_either(block, key, next_key, &state, &why))
            continue;
        if (!found || state.sequence > best.sequence) {
            best = state;
            *out_slot = slot;
        }
        found = true;
    }
    if (!found && why.code == ERROR_FAILED_PRECONDITION) {
        *err = why;
        return false;
    }
    if (!found)
        return state_damaged(err, "neither copy is valid");
    *out = best;
    return true;
}

bool state_block_peek(int mapping_fd, struct state_block *out)
{
    auto_free uint8_t *bytes = NULL;
    bool found = false;
    struct error why = ERROR_INIT;

    if (!device_buffer(LAYOUT_STATE_BYTES, &bytes, &why))
        return false;
    for (uint32_t slot = 0; slot < 2; slot++) {
        struct disk_block block;
        struct state_block state;

        if (!fd_pread_all(mapping_fd, bytes, LAYOUT_STATE_BYTES, copy_offset(slot), &why))
            continue;
        memcpy(&block, bytes, sizeof(block));
        if (!take_fields(&block, &state, &why) || (found && state.sequence <= out->sequence))
            continue;
        *out = state;
        found = true;
    }
    return found;
}

bool state_block_put(int mapping_fd, const uint8_t *block, uint32_t slot, struct error *err)
{
    auto_free uint8_t *aligned = NULL;

    if (!device_buffer(LAYOUT_STATE_BYTES, &aligned, err))
        return false;
    memcpy(aligned, block, LAYOUT_STATE_BYTES);
    if (!fd_pwrite_all(mapping_fd, aligned, LAYOUT_STATE_BYTES, copy_offset(slot), err) ||
        !device_flush(mapping_fd, err))
        return error_wrap(err, "write the state block");
    return true;
}

bool state_block_write(int mapping_fd, const struct secret *key, const struct state_block *state,
                       uint32_t slot, struct error *err)
{
    uint8_t block[LAYOUT_STATE_BYTES];

    return state_block_encode(state, key, block, err) &&
           state_block_put(mapping_fd, block, slot, err);
}

static bool is_record(const uint8_t *a, const uint8_t *b)
{
    return bytes_are_equal(a, b, RECORD_ID_LEN);
}

bool state_block_check(const struct state_block *state, const struct record *record, bool *ahead,
                       struct error *err)
{
    uint64_t counter = state->open_counter;
    uint64_t low = record->open_counter, high = record->open_counter;

    if (!is_record(state->record_id, record->id)) {
        if (!record->origin.is_set || !is_record(state->record_id, record->origin.record_id)) {
            return error_set_reason(err, ERROR_DATA_LOSS, "WrongVolume",
                                    "the disk belongs to another volume of this lineage");
        }
        low = record->origin.counter_low;
        high = record->origin.counter_high;
        *ahead = false;
    } else {
        if (record->restored.is_set)
            low = record->restored.counter_low;
        *ahead = counter == high + 1;
    }
    /* The disk may be one ahead: the worker writes the counter to the disk before it is
     * recorded. */
    bool fits = counter >= low && counter - low <= high - low + 1;
    bool is_older = record->is_closed && !state->is_closed && counter == low;
    if (fits && !is_older)
        return true;
    if (is_older)
        return error_set_reason(err, ERROR_DATA_LOSS, "RolledBack",
                                "the disk has an old state: the volume was closed, but the disk "
                                "does not say so: it is a copy from before the close");
    return error_set_reason(err, ERROR_DATA_LOSS, "RolledBack",
                            "the disk has an old state: opened %" PRIu64
                            " times, the record says %" PRIu64,
                            counter, high);
}
