/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"
#include "lifecycle/lifecycle.h"
#include "record/ascii.h"

#include <string.h>

/* What a record remembers of the secrets that it has no more. */

static bool has_key(const struct record *r, const struct record_key *key)
{
    return r->key.generation == key->generation &&
           bytes_are_equal(r->key.id, key->id, RECORD_ID_LEN);
}

static bool lost(const struct record *before, const struct record *next)
{
    return before->version > 0 && before->key.generation != 0 && !has_key(next, &before->key);
}

static bool lost_next(const struct record *before, const struct record *next)
{
    return before->version > 0 && before->rotation.key.generation != 0 &&
           next->rotation.key.generation == 0 && !has_key(next, &before->rotation.key);
}

bool record_loses_secret(const struct record *before, const struct record *next)
{
    return lost(before, next) || lost_next(before, next);
}

/* The oldest entry makes room. */
static struct record_destroyed *add(struct record *r)
{
    if (r->n_destroyed == DESTROYED_MAX) {
        memmove(&r->destroyed[0], &r->destroyed[1], (DESTROYED_MAX - 1) * sizeof(r->destroyed[0]));
        r->n_destroyed--;
        r->destroyed_before++;
    }
    return &r->destroyed[r->n_destroyed++];
}

static void note(struct record *next, const struct record *before, const struct record_key *key,
                 bool has_recovery, const struct record_destruction *how)
{
    struct record_destroyed *out = add(next);

    *out = (struct record_destroyed){
        .key = *key,
        .made_ms = before->source_volume_id[0] != '\0' ? 0 : before->created_ms,
        .destroyed_ms = how->now_ms,
        .backup_ms = how->backup_ms,
        .wrapping = how->wrapping,
        .has_recovery = has_recovery,
    };
    ascii_put(out->by, sizeof(out->by), how->by);
    ascii_put(out->replica, sizeof(out->replica), how->replica ? how->replica : "");
}

void record_note_destroyed(struct record *next, const struct record *before,
                           const struct record_destruction *how)
{
    static const uint8_t none[SHA256_LEN];

    if (lost(before, next)) {
        note(next, before, &before->key,
             !bytes_are_equal(before->recovery.sha256, none, SHA256_LEN), how);
        next->destroyed[next->n_destroyed - 1].is_shared = how->is_shared;
    }
    /* Nobody shares a secret that is still the next one. */
    if (lost_next(before, next))
        note(next, before, &before->rotation.key,
             !bytes_are_equal(before->rotation.recovery_sha256, none, SHA256_LEN), how);
}

void record_note_line(struct record *next, uint64_t seq)
{
    for (uint32_t i = 0; i < next->n_destroyed; i++)
        if (next->destroyed[i].audit_seq == 0)
            next->destroyed[i].audit_seq = seq;
}
