/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/rotation.h"

#include "base/fault.h"
#include "base/file.h"
#include "crypt/counting.h"
#include "crypt/device.h"
#include "crypt/header.h"
#include "crypt/layer.h"
#include "crypt/luks.h"
#include "crypt/recovery_token.h"
#include "record/recovery_certificate.h"

#include <string.h>

/* The former token holds the former passphrase, so there is a new one or none. */
static bool make_token(const struct rotation *r, struct recovery_token *out, struct error *err)
{
    const struct record_recovery *recovery = &r->record->recovery;
    struct recovery_certificate certificate;

    return recovery_certificate_read(recovery->certificate, recovery->certificate_len, &certificate,
                                     err) &&
           recovery_token_make(&certificate, &r->next->luks, out, err);
}

static bool make_header(const struct rotation *r, int header_fd, int *out_fd,
                        uint8_t recovery_sha256[static SHA256_LEN], struct error *err)
{
    const struct volume_spec *spec = &r->record->spec;
    bool has_token = r->record->recovery.certificate_len > 0;
    struct recovery_token token = { .cms_len = 0 };
    auto_close int fd = -1;

    if ((has_token && !make_token(r, &token, err)) || !header_new(&fd, err) ||
        !header_copy(header_fd, fd, err) ||
        !luks_change_passphrase(fd, spec, &r->keys->luks, &r->next->luks, err) ||
        !header_finish(fd, spec, has_token ? &token : NULL, err) ||
        !header_check(fd, spec, token.certificate_sha256, err))
        return error_wrap(err, "make a header for the next secret");
    memcpy(recovery_sha256, token.certificate_sha256, SHA256_LEN);
    *out_fd = TAKE_FD(fd);
    return true;
}

static bool record_header(const struct rotation *r, struct record_change *change, int header_fd,
                          struct error *err)
{
    FAULT_POINT("worker.rotate.record");
    change->kind = RECORD_CHANGE_NEXT_HEADER;
    return header_digest(header_fd, change->header_digest, err) &&
           r->keeper->change(r->keeper->cookie, change, r->record, err);
}

static bool write_new_header(const struct rotation *r, int former_fd, struct error *err)
{
    struct record_change change = { .kind = RECORD_CHANGE_NEXT_HEADER };
    auto_close int header_fd = -1;

    FAULT_POINT("worker.rotate.begin");
    return make_header(r, former_fd, &header_fd, change.recovery_sha256, err) &&
           record_header(r, &change, header_fd, err) && header_write(r->raw_fd, header_fd, err);
}

/* What it says stays the same. The copy that is written is the older one. */
static bool write_state(const struct rotation *r, struct error *err)
{
    for (uint32_t i = 0; i < STATE_BLOCK_COPIES; i++) {
        *r->state_slot = (*r->state_slot + 1) % STATE_BLOCK_COPIES;
        r->state->sequence++;
        FAULT_POINT("worker.rotate.state");
        if (!state_block_write(r->mapping_fd, &r->next->state, r->state, *r->state_slot, err))
            return false;
    }
    return true;
}

static bool record_rotated(const struct rotation *r, struct error *err)
{
    struct record_change change = { .kind = RECORD_CHANGE_ROTATED };

    memcpy(change.header_digest, r->record->rotation.header_digest, SHA256_LEN);
    FAULT_POINT("worker.rotate.confirm");
    if (!r->keeper->change(r->keeper->cookie, &change, r->record, err))
        return false;
    FAULT_POINT("worker.rotate.confirmed");
    return true;
}

/* The close comes after both copies that write_state() writes. */
static bool save_closing(const struct rotation *r, struct error *err)
{
    struct state_block last = *r->state;
    struct volume_closing closing = { .is_set = false };

    if (!r->saver)
        return true;
    last.sequence += STATE_BLOCK_COPIES;
    return closing_make(&last, &r->next->state, &closing, err) &&
           r->saver->save(r->saver->cookie, &closing, err);
}

/* Both copies are whole before one is overwritten. */
bool rotation_run(const struct rotation *rotation, int header_fd, const struct header_found *found,
                  struct error *err)
{
    return header_repair(rotation->raw_fd, header_fd, err) &&
           (found->is_next || write_new_header(rotation, header_fd, err)) &&
           save_closing(rotation, err) && write_state(rotation, err) &&
           record_rotated(rotation, err);
}

/* What is done to a volume that is open: its layers show the raw device and the state block. */
struct open_volume {
    int raw_fd, mapping_fd, header_fd;
    struct header_found found;
    struct state_block state;
    uint32_t state_slot;
};

static void open_volume_close(struct open_volume *o)
{
    close_at(&o->raw_fd);
    close_at(&o->mapping_fd);
    close_at(&o->header_fd);
}

static bool look(struct open_volume *o, const struct volume_name *name, const struct record *record,
                 const struct volume_keys *keys, const struct volume_keys *next, struct error *err)
{
    uint64_t bytes = 0;
    bool ahead = false;

    return device_open(layer_path(name, LAYER_BOTTOM).text, true, &o->raw_fd, &bytes, err) &&
           device_open(layer_path(name, LAYER_CRYPT).text, true, &o->mapping_fd, &bytes, err) &&
           header_new(&o->header_fd, err) &&
           header_read(o->raw_fd, record, o->header_fd, &o->found, err) &&
           state_block_read(o->mapping_fd, &keys->state, &next->state, &o->state, &o->state_slot,
                            err) &&
           state_block_check(&o->state, record, &ahead, err);
}

bool volume_rotate(const struct volume_name *name, const struct open_rotation *opening,
                   struct error *err)
{
    auto_volume_keys struct volume_keys keys = VOLUME_KEYS_INIT, next = VOLUME_KEYS_INIT;
    struct open_volume o CLEANUP(open_volume_close) = { -1, -1, -1, .state_slot = 0 };
    struct record *record = opening->record;

    if (!volume_keys_derive(&record->key, opening->secret, &keys, err) ||
        !volume_keys_derive(&record->rotation.key, opening->next_secret, &next, err) ||
        !look(&o, name, record, &keys, &next, err))
        return false;
    const struct rotation rotation = { .record = record,
                                       .keeper = opening->keeper,
                                       .raw_fd = o.raw_fd,
                                       .mapping_fd = o.mapping_fd,
                                       .keys = &keys,
                                       .next = &next,
                                       .state = &o.state,
                                       .state_slot = &o.state_slot,
                                       .saver = opening->saver };

    return rotation_run(&rotation, o.header_fd, &o.found, err);
}
