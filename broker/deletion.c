/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "broker/copying.h"
#include "broker/handlers.h"
#include "erasure/clock.h"
#include "erasure/sweep.h"
#include "lifecycle/lifecycle.h"
#include "lifecycle/remains.h"
#include "proto/decode.h"
#include "record/encoding.h"
#include "store/keyring.h"

/* The calls by which records are deleted, brought back and erased; and the one that says what is left of their
 * secrets. */

static bool apply_begin_delete(struct judged_call *s, struct call_change *change, struct record *r,
                               bool *changed, struct error *err)
{
    (void)change;
    return record_begin_delete(r, s->now_ms + (uint64_t)judged_call_skew(s, r), changed, err);
}

static bool apply_cancel_delete(struct judged_call *s, struct call_change *change, struct record *r,
                                bool *changed, struct error *err)
{
    (void)s, (void)change;
    return record_cancel_delete(r, changed, err);
}

static bool apply_finish_delete(struct judged_call *s, struct call_change *change, struct record *r,
                                bool *changed, struct error *err)
{
    char by[DESTROYED_BY_MAX + 1];
    struct record_keeping keeping = { .for_ms = policy_retention_ms(s->broker->policy, r->tenant),
                                      .now_ms = s->now_ms,
                                      .by = by };

    (void)change;
    judged_call_name(s, by);
    return (keeping.for_ms == 0 ||
            retention_clock_bound(s->broker->store, &keeping.clock_ms, err)) &&
           record_finish_delete(r, &keeping, changed, err);
}

static bool apply_undelete(struct judged_call *s, struct call_change *change, struct record *r,
                           bool *changed, struct error *err)
{
    (void)s, (void)change;
    return record_undelete(r, changed, err);
}

static bool apply_erase(struct judged_call *s, struct call_change *change, struct record *r,
                        bool *changed, struct error *err)
{
    (void)s, (void)change;
    return record_erase_retained(r, changed, err);
}

static bool delete_step(struct judged_call *s, struct call_change change,
                        M(DeleteResponse) * response, struct error *err)
{
    const struct record *r = NULL;

    return judged_call_change(s, &change, &r, err) && answer_record(s, r, &response->record, err);
}

bool begin_delete(struct judged_call *s, struct rpc_call *call UNUSED,
                  const M(DeleteRequest) * request UNUSED, M(DeleteResponse) * response,
                  struct error *err)
{
    return delete_step(s, (struct call_change){ .apply = apply_begin_delete }, response, err);
}

bool cancel_delete(struct judged_call *s, struct rpc_call *call UNUSED,
                   const M(DeleteRequest) * request UNUSED, M(DeleteResponse) * response,
                   struct error *err)
{
    return delete_step(s, (struct call_change){ .apply = apply_cancel_delete }, response, err);
}

bool finish_delete(struct judged_call *s, struct rpc_call *call UNUSED,
                   const M(DeleteRequest) * request UNUSED, M(DeleteResponse) * response,
                   struct error *err)
{
    struct call_change change = { .apply = apply_finish_delete };
    const struct record *r = NULL;
    struct error problem = ERROR_INIT;

    if (!judged_call_change(s, &change, &r, err))
        return false;
    if (!copying_end_all(s->broker->store, r, &problem))
        log_warning("the end of a volume's copies was not noted", ERROR_FIELDS(&problem));
    if (s->broker->sweep && r->phase == RECORD_RETAINED)
        sweep_wake(s->broker->sweep);
    return answer_record(s, r, &response->record, err);
}

bool undelete_record(struct judged_call *s, struct rpc_call *call UNUSED,
                     const M(DeleteRequest) * request UNUSED, M(DeleteResponse) * response,
                     struct error *err)
{
    return delete_step(s, (struct call_change){ .apply = apply_undelete }, response, err);
}

bool erase_record(struct judged_call *s, struct rpc_call *call UNUSED,
                  const M(DeleteRequest) * request UNUSED, M(DeleteResponse) * response,
                  struct error *err)
{
    return delete_step(s, (struct call_change){ .apply = apply_erase }, response, err);
}

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

static bool tell_remaining(struct judged_call *s, const struct record *r, M(Retained) * out,
                           struct error *err)
{
    uint64_t clock_ms = 0;

    if (!retention_clock_bound(s->broker->store, &clock_ms, err))
        return false;
    out->remaining_ms = r->retained.due_ms > clock_ms ? r->retained.due_ms - clock_ms : 0;
    return true;
}

bool describe_record(struct judged_call *s, struct rpc_call *call,
                     const M(DescribeRecordRequest) * request, M(DescribeRecordResponse) * response,
                     struct error *err)
{
    struct record *r = NULL;

    if (!judged_call_read(s, request->volume_id, &r, err))
        return false;
    record_to_tell(s, r);
    if (!unpack(r, call->arena, &response->record, err))
        return false;
    if (r->phase == RECORD_RETAINED && !tell_remaining(s, r, response->record->retained, err))
        return false;
    for (uint32_t i = 0; i < r->n_destroyed; i++)
        if (!describe_one(s, r, &r->destroyed[i], response->record->destroyed[i], err))
            return false;
    return true;
}
