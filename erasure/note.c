/* SPDX-License-Identifier: Apache-2.0 */
#include "erasure/note.h"

#include "base/digest.h"
#include "lifecycle/lifecycle.h"
#include "transfer/marks.h"

#include <stdio.h>

bool erasure_note(const struct erasure_place *place, const char *by, const struct record *before,
                  struct record *next, struct error *err)
{
    struct store *store = place->store;
    struct record_destruction how = { .by = by,
                                      .replica = place->replica,
                                      .now_ms = place->now_ms };
    struct store_remains remains = { .users = 0 };
    struct keyring_state ring;

    if (!record_loses_secret(before, next))
        return true;
    if (!store->ops->find_remains(store, &before->key, &remains, err) ||
        !store->ops->raise(store, BACKUP_MARK, 0, &how.backup_ms, err))
        return false;
    keyring_state(place->keyring, &ring);
    how.wrapping = ring.generation;
    how.is_shared = remains.users > 1;
    record_note_destroyed(next, before, &how);
    return true;
}

/* Those whose line is not written yet. */
void erasure_text(const struct record *next, char out[static ERASURE_TEXT_LEN])
{
    char id[2 * RECORD_ID_LEN + 1];
    size_t len = 0;

    out[0] = '\0';
    for (uint32_t i = 0; i < next->n_destroyed && len + 1 < ERASURE_TEXT_LEN; i++) {
        const struct record_destroyed *lost = &next->destroyed[i];

        if (lost->audit_seq != 0)
            continue;
        hex_encode(lost->key.id, RECORD_ID_LEN, id);
        int n = snprintf(out + len, ERASURE_TEXT_LEN - len, "%s%s/%u", len > 0 ? " " : "", id,
                         lost->key.generation);

        len += n > 0 ? (size_t)n : 0;
    }
}
