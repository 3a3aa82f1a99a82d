/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/activate.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/secret.h"
#include "crypt/bottom.h"
#include "crypt/counting.h"
#include "crypt/device.h"
#include "crypt/grow.h"
#include "crypt/header.h"
#include "crypt/integrity.h"
#include "crypt/leftover.h"
#include "crypt/luks.h"
#include "crypt/map.h"
#include "crypt/old_header.h"
#include "crypt/pool.h"
#include "crypt/recovery_token.h"
#include "crypt/rotation.h"
#include "crypt/signature.h"
#include "crypt/state_block.h"
#include "crypt/take_over.h"
#include "crypt/volume_keys.h"
#include "record/check.h"
#include "record/layout.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define OVERLAY_BASE_BYTES (128ull << 20)

/* The state of one activation while the layers are put up. */
struct activation {
    const struct volume_name *name;
    const struct volume_opening *opening;
    struct record *record;
    const struct record_keeper *keeper;
    struct volume_keys keys, next_keys; /* those of next_secret, if there is a rotation */
    const struct secret *luks_key, *state_key;
    bool read_only;
    const char *raw_name;
    int raw_fd;
    dev_t raw;
    struct layer_name bottom_path, crypt_name;
    int mapping_fd, map_fd;
    dev_t mapping;
    uint64_t map_data_bytes; /* 0 while the volume is formatted */
    struct state_block state;
    uint32_t state_slot;
    struct recovery_token token; /* of a header that is made here */
    bool has_token;
};

static bool is_authenticated(const struct activation *a)
{
    return a->record->spec.integrity != INTEGRITY_NONE;
}

static bool is_rotation(const struct activation *a)
{
    return a->record->rotation.key.generation != 0;
}

static bool is_recovery(const struct activation *a)
{
    return a->opening->recovery_key != NULL;
}

bool volume_prepare(struct error *err)
{
    auto_close int header_fd = -1;

    return header_new(&header_fd, err) && luks_prepare(header_fd, err);
}

uint64_t volume_overlay_bytes(const struct volume_spec *spec)
{
    return OVERLAY_BASE_BYTES + 2 * (uint64_t)spec->journal_sectors * SECTOR_BYTES;
}

static bool raw_open(struct activation *a, struct error *err)
{
    uint64_t bytes = 0, needed = a->record->spec.device_bytes;
    struct stat st;

    if (!device_open(a->opening->device_path, !a->read_only, &a->raw_fd, &bytes, err))
        return false;
    if (fstat(a->raw_fd, &st) < 0)
        return error_set(err, ERROR_INTERNAL, "stat %s", a->raw_name);
    a->raw = st.st_rdev;
    if (bytes < needed)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "%s has %" PRIu64 " bytes, the volume needs %" PRIu64, a->raw_name, bytes,
                         needed);
    return true;
}

static bool bottom_up(struct activation *a, struct error *err)
{
    return a->read_only
               ? bottom_overlay_up(a->name, a->raw, &a->record->spec, a->opening->overlay_path, err)
               : bottom_window_up(a->name, a->raw, a->record->spec.device_bytes, err);
}

/* Opens the mapping, and checks that it has exactly the recorded size. */
static bool mapping_open(struct activation *a, struct error *err)
{
    struct table_info info;
    uint64_t bytes = 0;

    if (!layer_info(a->name, LAYER_CRYPT, &info, err) ||
        !device_open(layer_path(a->name, LAYER_CRYPT).text, true, &a->mapping_fd, &bytes, err))
        return false;
    a->mapping = info.number;
    if (bytes == a->record->spec.mapping_bytes)
        return true;
    return error_set_reason(err, ERROR_DATA_LOSS, "HeaderChanged",
                            "the mapping has %" PRIu64 " bytes, the record says %" PRIu64, bytes,
                            a->record->spec.mapping_bytes);
}

static void state_fill(struct state_block *state, const struct record *record)
{
    memcpy(state->record_id, record->id, RECORD_ID_LEN);
}

static bool count_open(struct activation *a, bool ahead, struct error *err)
{
    struct counting c = {
        .mapping_fd = a->mapping_fd,
        .key = a->state_key,
        .keeper = a->keeper,
        .record = a->record,
        .state = &a->state,
        .slot = a->state_slot,
    };

    if (ahead && !count_record(&c, a->state.open_counter, err))
        return false;
    state_fill(&a->state, a->record);
    return count_state(&c, err);
}

static bool map_open(struct activation *a, struct error *err)
{
    uint64_t bytes = 0;

    return pool_map_up(a->name, a->record->spec.size_bytes, a->mapping, err) &&
           device_open(layer_path(a->name, LAYER_MAP).text, true, &a->map_fd, &bytes, err);
}

/* Nobody writes to the map after a clean close. If it differs, the host changed it. */
static bool check_clean_hash(struct activation *a, struct error *err)
{
    uint8_t hash[SHA256_LEN];

    if (!a->record->has_clean_hash)
        return true;
    if (!map_hash(a->map_fd, hash, err))
        return false;
    if (bytes_are_equal(hash, a->record->clean_hash, SHA256_LEN))
        return true;
    return error_set_reason(err, ERROR_DATA_LOSS, "MapChanged",
                            "the map of written blocks is not what it was when the volume was "
                            "closed");
}

static bool check_map(struct activation *a, struct error *err)
{
    struct map_info map;

    if (!is_authenticated(a))
        return true;
    if (!map_open(a, err) || !map_check(a->map_fd, &map, err) || !check_clean_hash(a, err))
        return false;
    a->map_data_bytes = map.data_bytes;
    return !map.needs_check || pool_map_repair(a->name, err);
}

static bool open_mapping(struct activation *a, int header_fd, bool is_next, struct error *err)
{
    const struct secret *luks_key = is_next ? &a->next_keys.luks : a->luks_key;

    return bottom_up(a, err) &&
           luks_open(a->crypt_name.text, a->bottom_path.text, a->record, luks_key, header_fd,
                     err) &&
           mapping_extend(a->name, &a->record->spec, err) && mapping_open(a, err);
}

static bool put_up_pool(struct activation *a, struct error *err)
{
    return !is_authenticated(a) ||
           pool_up(a->name, a->record->spec.size_bytes, a->mapping, a->map_data_bytes, err);
}

/* Both copies of the header become the one that was checked. The old header of a volume that was taken
 * over is still there when no copy A was written. */
static bool repair_headers(const struct activation *a, int header_fd, struct error *err)
{
    return (!a->record->spec.taken_over || old_header_erase(a->raw_fd, err)) &&
           header_repair(a->raw_fd, header_fd, err);
}

/* A recovery has no key to check the state block with. */
static bool check_state(struct activation *a, bool *ahead, struct error *err)
{
    if (is_recovery(a))
        return state_block_peek(a->mapping_fd, &a->state) || true;
    return state_block_read(a->mapping_fd, a->state_key,
                            is_rotation(a) ? &a->next_keys.state : NULL, &a->state, &a->state_slot,
                            err) &&
           state_block_check(&a->state, a->record, ahead, err);
}

static bool rotate(struct activation *a, int header_fd, const struct header_found *found,
                   struct error *err)
{
    const struct rotation rotation = {
        .record = a->record,
        .keeper = a->keeper,
        .raw_fd = a->raw_fd,
        .mapping_fd = a->mapping_fd,
        .keys = &a->keys,
        .next = &a->next_keys,
        .state = &a->state,
        .state_slot = &a->state_slot,
    };

    if (!is_rotation(a))
        return true;
    if (!rotation_run(&rotation, header_fd, found, err))
        return false;
    a->luks_key = &a->next_keys.luks;
    a->state_key = &a->next_keys.state;
    return true;
}

/* Writes what each opening for writing writes. The record forgets the hash of the map before the map can
 * change. */
static bool begin_writing(struct activation *a, const struct header_found *found, bool ahead,
                          int header_fd, struct error *err)
{
    if (a->read_only || is_recovery(a))
        return true;
    return (!found->needs_repair || repair_headers(a, header_fd, err)) &&
           rotate(a, header_fd, found, err) && count_open(a, ahead, err);
}

static bool open_volume(struct activation *a, struct error *err)
{
    struct header_found found = { .is_next = false };
    bool ahead = false;
    auto_close int header_fd = -1;

    if (!header_new(&header_fd, err) ||
        !header_read(a->raw_fd, a->record, header_fd, &found, err) ||
        !integrity_check_device(a->raw_fd, &a->record->spec, err) ||
        !open_mapping(a, header_fd, found.is_next, err) || !check_state(a, &ahead, err) ||
        !check_map(a, err))
        return false;
    return begin_writing(a, &found, ahead, header_fd, err) && put_up_pool(a, err);
}

static bool write_reserved(struct activation *a, uint64_t filesystem_bytes, struct error *err)
{
    FAULT_POINT("worker.format.reserved");
    if (!device_write_zeros(a->mapping_fd, 0, LAYOUT_RESERVED_BYTES, err))
        return false;
    a->state = (struct state_block){ .open_counter = a->record->open_counter,
                                     .filesystem_bytes = filesystem_bytes };
    state_fill(&a->state, a->record);
    for (a->state_slot = 0; a->state_slot < STATE_BLOCK_COPIES; a->state_slot++) {
        a->state.sequence++;
        if (!state_block_write(a->mapping_fd, a->state_key, &a->state, a->state_slot, err))
            return false;
    }
    a->state_slot = STATE_BLOCK_COPIES - 1;
    return true;
}

static bool record_ready(struct activation *a, int header_fd, struct error *err)
{
    struct record_change change = {
        .kind = RECORD_CHANGE_READY,
        .attempt = a->record->format.attempt,
    };

    if (!header_digest(header_fd, change.header_digest, err))
        return false;
    memcpy(change.recovery_sha256, a->token.certificate_sha256, SHA256_LEN);
    FAULT_POINT("worker.format.ready");
    return a->keeper->change(a->keeper->cookie, &change, a->record, err);
}

/* Check that what libcryptsetup and the kernel wrote is what every later open will demand. Other
 * versions of them may write another format, and the volume could never be opened again. */
static bool check_format(const struct activation *a, int header_fd, struct error *err)
{
    struct error why = ERROR_INIT;

    if (header_check(header_fd, &a->record->spec, a->token.certificate_sha256, &why) &&
        integrity_check_device(a->raw_fd, &a->record->spec, &why))
        return true;
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "this kernel or libcryptsetup writes another format than layout version 1 "
                     "demands: %s",
                     why.text);
}

static bool make_pool(struct activation *a, struct error *err)
{
    struct map_info map;

    return !is_authenticated(a) || (map_open(a, err) && pool_map_clear(a->map_fd, err) &&
                                    put_up_pool(a, err) && map_check(a->map_fd, &map, err));
}

static const struct recovery_token *wanted_token(const struct activation *a)
{
    return a->has_token ? &a->token : NULL;
}

/* Encrypts the passphrase to the recovery certificate that the record comes with, if any. */
static bool make_token(struct activation *a, struct error *err)
{
    const struct record_recovery *recovery = &a->record->recovery;
    struct recovery_certificate certificate;

    a->has_token = recovery->certificate_len > 0;
    return !a->has_token ||
           (recovery_certificate_read(recovery->certificate, recovery->certificate_len,
                                      &certificate, err) &&
            recovery_token_make(&certificate, a->luks_key, &a->token, err));
}

static bool format_mapping(struct activation *a, int header_fd, struct error *err)
{
    const char *bottom = a->bottom_path.text;

    FAULT_POINT("worker.format.integrity");
    return luks_make_header(bottom, a->record, NULL, a->luks_key, header_fd, err) &&
           header_finish(header_fd, &a->record->spec, wanted_token(a), err) &&
           (!luks_mode_of(a->record->spec.integrity)->stand_in_cipher ||
            integrity_format(a->name, a->raw_fd, &a->record->spec, err)) &&
           luks_open(a->crypt_name.text, bottom, a->record, a->luks_key, header_fd, err);
}

static bool clear_leftover(struct activation *a, struct error *err)
{
    struct leftover leftover = { .name = a->name,
                                 .raw_fd = a->raw_fd,
                                 .record = a->record,
                                 .luks_key = a->luks_key,
                                 .state_key = a->state_key };

    return signature_check(a->raw_fd, a->raw_name, a->record, &leftover.found, err) &&
           leftover_clear(&leftover, err);
}

static bool format_volume(struct activation *a, struct error *err)
{
    auto_close int header_fd = -1;

    if (!make_token(a, err) || !bottom_up(a, err) || !clear_leftover(a, err) ||
        !header_new(&header_fd, err))
        return false;
    /* The headers come last: with a whole header there is a state block, too (crypt/leftover.h). */
    if (!format_mapping(a, header_fd, err) || !check_format(a, header_fd, err) ||
        !mapping_open(a, err) || !write_reserved(a, 0, err) || !make_pool(a, err) ||
        !device_flush(a->mapping_fd, err) || !header_write(a->raw_fd, header_fd, err))
        return false;
    /* The map is on the disk before the record says READY. After READY a missing map means damage,
     * not a new volume. The device is exposed after count_open() only. */
    return record_ready(a, header_fd, err) && count_open(a, false, err);
}

/* Order: crypt/take_over.h. */
static bool take_over_volume(struct activation *a, struct error *err)
{
    auto_close int header_fd = -1;
    uint64_t filesystem_bytes = 0;
    const struct take_over take_over = { .name = a->name,
                                         .raw_fd = a->raw_fd,
                                         .record = a->record,
                                         .secret = a->opening->secret,
                                         .luks_key = a->luks_key,
                                         .token = a->record->recovery.certificate_len > 0
                                                      ? &a->token
                                                      : NULL };

    if (!make_token(a, err) || !bottom_up(a, err) || !header_new(&header_fd, err) ||
        !take_over_open(&take_over, header_fd, err) || !check_format(a, header_fd, err) ||
        !mapping_open(a, err) ||
        !take_over_check_content(a->mapping_fd, &a->record->spec, &filesystem_bytes, err) ||
        !write_reserved(a, filesystem_bytes, err) || !device_flush(a->mapping_fd, err) ||
        !header_write_b(a->raw_fd, header_fd, err))
        return false;
    return record_ready(a, header_fd, err) && repair_headers(a, header_fd, err) &&
           count_open(a, false, err);
}

/* A file system replays its journal even when it is mounted read-only. Its device must be writable:
 * the writes go to the overlay. */
static bool exposed_read_only(const struct activation *a)
{
    return a->read_only && a->record->spec.fs_type[0] == '\0' && !is_recovery(a);
}

static bool expose(struct activation *a, struct error *err)
{
    auto_free struct table *table = NULL;

    if (!table_new(&table, err) || !exposed_table(a->name, &a->record->spec, table, err))
        return false;
    FAULT_POINT("worker.open.expose");
    return table_create(layer_name(a->name, LAYER_TOP).text, table, exposed_read_only(a), err);
}

static bool check_request(const struct activation *a, struct error *err)
{
    const struct record *record = a->record;
    struct table_info top;

    if (!layer_info(a->name, LAYER_TOP, &top, err))
        return false;
    if (top.exists)
        return error_set(err, ERROR_ALREADY_EXISTS, "%s is active already", a->name->text);
    if (record->spec.layout_version != LAYOUT_VERSION)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the volume has layout version %" PRIu32 ": use a tdvol that knows it",
                         record->spec.layout_version);
    if (!luks_mode_of(record->spec.integrity) ||
        (record->spec.sector_bytes != VOLUME_SECTOR_BYTES && !record->spec.taken_over))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the record names an unknown integrity mode");
    if (record->phase == RECORD_FORMATTING && !a->read_only)
        return true;
    if (record->phase != RECORD_READY)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the volume was never opened for writing, or it is being deleted");
    return record_check(record, err);
}

static bool activate(struct activation *a, struct error *err)
{
    if (!raw_open(a, err))
        return false;
    bool up = a->record->phase != RECORD_FORMATTING ? open_volume(a, err)
              : a->record->spec.taken_over          ? take_over_volume(a, err)
                                                    : format_volume(a, err);
    return up && expose(a, err);
}

static bool derive_keys(struct activation *a, struct error *err)
{
    const struct volume_opening *opening = a->opening;

    a->luks_key = opening->recovery_key ? opening->recovery_key : &a->keys.luks;
    a->state_key = &a->keys.state;
    if (is_recovery(a))
        return true;
    if (is_rotation(a) && (!opening->next_secret || opening->next_secret->len == 0))
        return error_set(err, ERROR_INTERNAL, "the next secret of the volume is missing");
    return volume_keys_derive(&a->record->key, opening->secret, &a->keys, err) &&
           (!is_rotation(a) ||
            volume_keys_derive(&a->record->rotation.key, opening->next_secret, &a->next_keys, err));
}

static bool activate_once(struct activation *a, struct volume_closing *closing, struct error *err)
{
    *closing = (struct volume_closing){ .is_set = false };
    return activate(a, err) &&
           (a->read_only || is_recovery(a) || closing_make(&a->state, a->state_key, closing, err));
}

bool volume_activate(const struct volume_name *name, const struct volume_opening *opening,
                     struct volume_device *out, struct volume_closing *closing, struct error *err)
{
    struct activation a = {
        .name = name,
        .opening = opening,
        .record = opening->record,
        .keeper = opening->keeper,
        .keys = VOLUME_KEYS_INIT,
        .next_keys = VOLUME_KEYS_INIT,
        .read_only = opening->overlay_path != NULL,
        .raw_name = opening->device_name ? opening->device_name : opening->device_path,
        .raw_fd = -1,
        .bottom_path = layer_path(name, LAYER_BOTTOM),
        .crypt_name = layer_name(name, LAYER_CRYPT),
        .mapping_fd = -1,
        .map_fd = -1,
    };

    /* Layers without an exposed device are left over from an attempt that died: remove them. */
    bool ok = check_request(&a, err) && layers_remove(name, LAYER_TOP, LAYER_BOTTOM, err);
    if (!ok)
        return false;
    ok = derive_keys(&a, err) && activate_once(&a, closing, err);
    volume_keys_wipe(&a.keys);
    volume_keys_wipe(&a.next_keys);
    close_at(&a.map_fd);
    close_at(&a.mapping_fd);
    close_at(&a.raw_fd);
    if (!ok) {
        struct error second = ERROR_INIT;

        if (!layers_remove(name, LAYER_TOP, LAYER_BOTTOM, &second))
            return error_wrap(err, "%s (some layers stay: %s)", a.name->text, second.text);
        return false;
    }
    bool found = false;
    if (!volume_find(name, &found, out, err) || !found)
        return error_wrap(err, "the volume vanished after it was exposed");
    out->read_only = a.read_only;
    out->filesystem_bytes = a.state.filesystem_bytes;
    return true;
}
