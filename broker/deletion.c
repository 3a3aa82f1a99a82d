/* SPDX-License-Identifier: Apache-2.0 */

#include "broker/handlers.h"
#include "lifecycle/lifecycle.h"
#include "lifecycle/remains.h"
#include "proto/decode.h"
#include "record/encoding.h"
#include "store/keyring.h"

/* --- telling --- */

/* The same record as a message. */
static bool unpack(const struct record *r, struct arena *arena, M(Record) * *out, struct error *err)
{
    static const struct rpc_limits limits = { .message_bytes = 2 * RECORD_ENCODED_MAX,
                                              .string_bytes = RECORD_PUBLISHED_MAX + 1,
                                              .map_bytes = 4096 };
    ProtobufCMessage *message = NULL;
    struct encoded encoded;

    record_encode(r, &encoded);
    if (!rpc_decode(&tdvol__keybroker__v1__record__descriptor, &limits,
                    (struct rpc_bytes){ encoded.bytes, encoded.len }, arena, &message, err))
        return false;
    *out = (void *)message;
    return true;
}

static bool tell_remains(const struct remains *rows, struct arena *arena, M(Destroyed) * out,
                         struct error *err)
{
    M(Remains) **list = arena_alloc(arena, REMAINS_ROWS * sizeof(*list));

    if (!list)
        return arena_exhausted(err);
    for (size_t i = 0; i < REMAINS_ROWS; i++) {
        M(Remains) *row = arena_alloc(arena, sizeof(*row));

        if (!row)
            return arena_exhausted(err);
        tdvol__keybroker__v1__remains__init(row);
        row->place = (M(RemainsPlace))rows[i].place;
        row->state = (M(RemainsState))rows[i].state;
        row->text = arena_strdup(arena, rows[i].text);
        if (!row->text)
            return arena_exhausted(err);
        list[i] = row;
    }
    out->remains = list;
    out->n_remains = REMAINS_ROWS;
    return true;
}

static bool describe_one(struct judged_call *s, const struct record *r,
                         const struct record_destroyed *of, M(Destroyed) * out, struct error *err)
{
    struct store *store = s->broker->store;
    struct remains_facts facts = { .store = store->ops->name, .is_erased = r->key.generation == 0 };
    struct remains rows[REMAINS_ROWS];
    struct keyring_state ring;

    if (!store->ops->find_remains(store, &of->key, &facts.key, err))
        return false;
    keyring_state(s->broker->keyring, &ring);
    facts.wrapping = ring.generation;
    facts.has_former = ring.has_former;
    remains_find(of, &facts, rows);
    out->users = facts.key.users;
    return tell_remains(rows, s->call->arena, out, err);
}

/* What only the store and the worker may see. */
static void leave_out_secrets(struct record *r)
{
    r->rotation.secret_len = 0;
    r->old_key = (struct record_old_key){ .is_set = false };
}

bool describe_record(struct judged_call *s, struct rpc_call *call,
                     const M(DescribeRecordRequest) * request, M(DescribeRecordResponse) * response,
                     struct error *err)
{
    struct record *r = arena_alloc(call->arena, sizeof(*r));

    if (!r)
        return arena_exhausted(err);
    if (!judged_call_find(s, request->volume_id, r, err))
        return false;
    s->record = r;
    leave_out_secrets(r);
    if (!unpack(r, call->arena, &response->record, err))
        return false;
    for (uint32_t i = 0; i < r->n_destroyed; i++)
        if (!describe_one(s, r, &r->destroyed[i], response->record->destroyed[i], err))
            return false;
    return true;
}
