/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/worker_answers.h"

static bool give_record(void *cookie, const struct relay *relay, struct record *record,
                        struct error *err)
{
    struct worker_answers *a = cookie;

    if (!(a->renews ? a->keys->ops->renew : a->keys->ops->get)(a->keys, a->operation, a->volume_id,
                                                               relay, &a->record, err))
        return false;
    a->has_record = true;
    *record = a->record;
    return true;
}

static bool open_volume(void *cookie, const struct relay *relay,
                        const uint8_t public_key[static HPKE_PUBLIC_LEN], struct record *record,
                        struct sealed_secret *secret, struct error *err)
{
    struct worker_answers *a = cookie;
    const struct keys_open open = { a->volume_id, a->read_only, public_key, relay };

    if (!a->keys->ops->open(a->keys, a->operation, &open, &a->record, secret, err))
        return false;
    a->has_record = true;
    *record = a->record;
    return true;
}

/* A worker that closes a volume asks for a change without having opened the volume. Otherwise the
 * worker says which version its proof is for. */
static bool change_record(void *cookie, const struct relay *relay,
                          const struct record_change *change, struct record *record,
                          struct error *err)
{
    struct worker_answers *a = cookie;

    if (!a->has_record &&
        !a->keys->ops->get(a->keys, a->operation, a->volume_id, NULL, &a->record, err))
        return false;
    if (relay->question->expected_version > 0)
        a->record.version = relay->question->expected_version;
    a->has_record = a->keys->ops->change(a->keys, a->operation, relay, change, &a->record, err);
    if (!a->has_record) /* another call may have changed it: the next change reads it again */
        return false;
    *record = a->record;
    return true;
}

static bool give_evidence(void *cookie, const struct relay *relay,
                          const uint8_t broker_key_sha256[static KEY_SHA256_LEN],
                          struct broker_evidence *out, struct error *err)
{
    struct worker_answers *a = cookie;

    return a->keys->ops->evidence(a->keys, a->operation, relay, broker_key_sha256, out, err);
}

const struct block_hooks worker_answers_hooks = {
    .record = give_record,
    .open = open_volume,
    .change = change_record,
    .evidence = give_evidence,
};
