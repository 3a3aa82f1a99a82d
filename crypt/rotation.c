/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/rotation.h"

#include "base/fault.h"
#include "crypt/header.h"
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

/* Both copies are whole before one is overwritten. */
bool rotation_run(const struct rotation *rotation, int header_fd, const struct header_found *found,
                  struct error *err)
{
    return header_repair(rotation->raw_fd, header_fd, err) &&
           (found->is_next || write_new_header(rotation, header_fd, err)) &&
           write_state(rotation, err) && record_rotated(rotation, err);
}
