/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/worker_answers.h"

static bool keeper_open(void *cookie, const uint8_t public_key[static HPKE_PUBLIC_LEN],
                        struct volume_record *record, struct sealed_secret *secret,
                        struct error *err)
{
    struct worker_answers *keeper = cookie;

    if (!keys_open(keeper->keys, keeper->operation, keeper->volume_id, keeper->read_only,
                   public_key, &keeper->record, secret, err))
        return false;
    keeper->has_record = true;
    *record = keeper->record.volume;
    return true;
}

/* A worker that closes a volume asks for a change without having opened it. */
static bool keeper_change(void *cookie, const struct record_change *change,
                          struct volume_record *record, struct error *err)
{
    struct worker_answers *keeper = cookie;

    if (!keeper->has_record &&
        !keys_get(keeper->keys, keeper->operation, keeper->volume_id, &keeper->record, err))
        return false;
    keeper->has_record = true;
    if (!keys_change(keeper->keys, keeper->operation, change, &keeper->record, err)) {
        keeper->has_record = false; /* another may have changed it: read it again */
        return false;
    }
    *record = keeper->record.volume;
    return true;
}

const struct block_hooks worker_answers_hooks = { .open = keeper_open, .change = keeper_change };
