/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/worker_answers.h"

static bool give_record(void *cookie, struct record *record, struct error *err)
{
    struct worker_answers *a = cookie;

    if (!a->keys->ops->get(a->keys, a->operation, a->volume_id, &a->record, err))
        return false;
    a->has_record = true;
    *record = a->record;
    return true;
}

static bool open_volume(void *cookie, const uint8_t public_key[static HPKE_PUBLIC_LEN],
                        struct record *record, struct sealed_secret *secret, struct error *err)
{
    struct worker_answers *a = cookie;

    if (!a->keys->ops->open(a->keys, a->operation, a->volume_id, a->read_only, public_key,
                            &a->record, secret, err))
        return false;
    a->has_record = true;
    *record = a->record;
    return true;
}

/* A worker that closes a volume asks for a change without having opened the volume. */
static bool change_record(void *cookie, const struct record_change *change, struct record *record,
                          struct error *err)
{
    struct worker_answers *a = cookie;

    if (!a->has_record && !a->keys->ops->get(a->keys, a->operation, a->volume_id, &a->record, err))
        return false;
    a->has_record = a->keys->ops->change(a->keys, a->operation, change, &a->record, err);
    if (!a->has_record) /* another call may have changed it: the next change reads it again */
        return false;
    *record = a->record;
    return true;
}

const struct block_hooks worker_answers_hooks = {
    .record = give_record,
    .open = open_volume,
    .change = change_record,
};
