/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/creation.h"

#include "base/log.h"
#include "broker/copying.h"
#include "broker/handlers.h"
#include "broker/restored.h"
#include "lifecycle/lifecycle.h"
#include "record/encoding.h"
#include "record/old_key.h"
#include "record/sealing.h"
#include "store/keyring.h"

#include <assert.h>
#include <string.h>

/* The calls that make records: new ones, copies, and those of volumes that are there already. And the one that
 * makes another secret for a volume. */

/* Makes ids for a record, and a wrapped key. */
static bool make_fresh(struct judged_call *s, struct call_change *change, struct record_fresh *out,
                       struct store_key **key, struct error *err)
{
    *key = arena_alloc(s->call->arena, sizeof(**key));
    if (!*key)
        return arena_exhausted(err);
    out->now_ms = s->now_ms;
    out->key.generation = 1;
    change->has_ring = true;
    return random_bytes(out->id, sizeof(out->id), err) &&
           random_bytes(out->key.id, sizeof(out->key.id), err) &&
           keyring_make(s->broker->keyring, policy_rule_tenant(s->rule), &out->key, *key,
                        &change->ring, err);
}

/* Before a record gets the key of another one; after make_fresh(), which says on which ring it relies. */
static bool share_key(struct judged_call *s, const struct record *of, struct error *err)
{
    bool changed = false;

    return keyring_rewrap_key(s->broker->keyring, of, &changed, err);
}

/* Two calls at the same time may exceed the limit by one. That does no harm: the limit is
 * against floods. */
static bool check_room(const struct judged_call *s, const struct record *before, struct error *err)
{
    const struct policy_limits *limits = policy_rule_limits(s->rule);
    uint64_t limit = limits->records, n = 0;

    if (before->version > 0 && before->phase != RECORD_ERASED)
        return true;
    /* An erased record stays in the store and counts for no limit: what grows must be slow. */
    if (!judged_call_has_rate(s, "create", limits->creates_per_minute))
        return error_set(err, ERROR_RESOURCE_EXHAUSTED,
                         "the tenant makes more than %u volumes and snapshots a minute: try again "
                         "later",
                         limits->creates_per_minute);
    if (limit == 0)
        return true;
    if (!s->broker->store->ops->count(s->broker->store, policy_rule_tenant(s->rule), &n, err))
        return false;
    return n < limit ||
           error_set_reason(err, ERROR_RESOURCE_EXHAUSTED, RECORD_LIMIT_REASON,
                            "the tenant has %llu volumes and snapshots: its rule allows no more",
                            (unsigned long long)n);
}

/* First of all: of other errors a controller concludes that it may delete the disk. */
static bool check_restored(const struct judged_call *s, const struct record *before,
                           struct error *err)
{
    return (before->version > 0 && before->phase != RECORD_ERASED) ||
           restored_check_creation(s, err);
}

static bool apply_create(struct judged_call *s, struct call_change *change, struct record *r,
                         bool *changed, struct error *err)
{
    struct record_fresh fresh;
    struct store_key *key = NULL;

    if (!check_restored(s, r, err) || !check_room(s, r, err) ||
        !make_fresh(s, change, &fresh, &key, err) ||
        !record_create(r, change->request, &fresh, changed, err))
        return false;
    change->new_key = key;
    return true;
}

bool create_record(struct judged_call *s, struct rpc_call *call,
                   const M(CreateRecordRequest) * request, M(CreateRecordResponse) * response,
                   struct error *err)
{
    struct volume_spec spec;
    struct call_change change = { .apply = apply_create, .request = &spec, .creates = true };
    const struct record *r = NULL;

    (void)call;
    return volume_spec_decode(request->spec.data, request->spec.len, &spec, err) &&
           judged_call_change(s, &change, &r, err) && answer_record(s, r, &response->record, err);
}

static bool find_copied(struct judged_call *s, const char *volume_id, const struct record **out,
                        struct error *err)
{
    struct record *r = NULL;

    if (!judged_call_read(s, volume_id, &r, err))
        return false;
    *out = r;
    return judged_call_check_location(s, r, err);
}

static bool check_copy_name(M(Kind) kind, const char *name, struct error *err)
{
    if (kind != (M(Kind))RECORD_VOLUME && kind != (M(Kind))RECORD_SNAPSHOT)
        return error_set(err, ERROR_INVALID_ARGUMENT, "kind is missing or unknown");
    return name[0] != '\0' || error_set(err, ERROR_INVALID_ARGUMENT, "name is missing");
}

bool begin_copy(struct judged_call *s, struct rpc_call *call, const M(BeginCopyRequest) * request,
                M(BeginCopyResponse) * response, struct error *err)
{
    const struct record *source = NULL;

    (void)call;
    return check_copy_name(request->kind, request->name, err) && restored_check_creation(s, err) &&
           find_copied(s, request->volume_id, &source, err) && record_check_copyable(source, err) &&
           copying_begin(s->broker->store, source, (enum record_kind)request->kind, request->name,
                         &response->source_version, err) &&
           answer_record(s, source, &response->record, err);
}

bool end_copy(struct judged_call *s, struct rpc_call *call, const M(EndCopyRequest) * request,
              M(EndCopyResponse) * response, struct error *err)
{
    const struct record *source = NULL;

    (void)call, (void)response;
    if (!check_copy_name(request->kind, request->name, err))
        return false;
    if (!find_copied(s, request->volume_id, &source, err))
        return err->code == ERROR_NOT_FOUND; /* with the source, all of its copies have ended */
    return copying_end(s->broker->store, source, (enum record_kind)request->kind, request->name,
                       err);
}

/* No source is no error here: it may be deleted already when the client repeats a copy whose answer
 * was lost. */
static bool find_source(struct judged_call *s, struct record **out, struct error *err)
{
    struct record *source = arena_alloc(s->call->arena, sizeof(*source));

    *out = NULL;
    if (!source)
        return arena_exhausted(err);
    if (judged_call_find(s, s->source_volume_id, source, err))
        *out = source;
    else if (err->code != ERROR_NOT_FOUND)
        return false;
    return true;
}

static bool apply_copy(struct judged_call *s, struct call_change *change, struct record *r,
                       bool *changed, struct error *err)
{
    const M(CopyRecordRequest) *request = change->request;
    const struct record_copy_request copy = { .source_version = request->source_version,
                                              .kind = (enum record_kind)request->kind,
                                              .name = request->name,
                                              .location = request->location,
                                              .size_bytes = request->size_bytes,
                                              .workqueue = (enum workqueue)request->workqueue,
                                              .source_volume_id = request->source_volume_id };
    struct record_fresh fresh;
    struct record *source = NULL;
    struct store_key *key = NULL;
    bool uses_fresh_key = false;

    if (!check_restored(s, r, err) || !check_room(s, r, err) || !find_source(s, &source, err) ||
        (source && !judged_call_check_location(s, source, err)) ||
        !make_fresh(s, change, &fresh, &key, err) || (source && !share_key(s, source, err)) ||
        !record_copy(r, source, &copy, &fresh, &uses_fresh_key, changed, err))
        return false;
    change->new_key = uses_fresh_key ? key : NULL;
    change->must_still_be = source;
    return true;
}

bool copy_record(struct judged_call *s, struct rpc_call *call, const M(CopyRecordRequest) * request,
                 M(CopyRecordResponse) * response, struct error *err)
{
    struct call_change change = { .apply = apply_copy, .request = request, .creates = true };
    const struct record *r = NULL;
    struct error problem = ERROR_INIT;

    (void)call;
    if (request->source_volume_id[0] == '\0')
        return error_set(err, ERROR_INVALID_ARGUMENT, "source_volume_id is missing");
    if (!judged_call_change(s, &change, &r, err))
        return false;
    if (change.must_still_be &&
        !copying_end(s->broker->store, change.must_still_be, r->kind, request->name, &problem))
        log_warning("the end of a copy was not noted", ERROR_FIELDS(&problem));
    return answer_record(s, r, &response->record, err);
}

static bool check_blank(const M(AdoptRecordRequest) * request, struct error *err)
{
    if (request->kind != (M(Kind))RECORD_VOLUME)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "only a volume can be blank: name what the snapshot is like");
    return request->name[0] == '\0' ||
           error_set(err, ERROR_INVALID_ARGUMENT, "name is only for a volume that is like another");
}

static bool adopt_blank(const M(AdoptRecordRequest) * request, struct record *r,
                        const struct record_fresh *fresh, struct error *err)
{
    struct volume_spec spec;
    bool changed = false;

    return record_check_vacant(r, err) &&
           volume_spec_decode(request->spec.data, request->spec.len, &spec, err) &&
           check_blank(request, err) && record_create(r, &spec, fresh, &changed, err);
}

/* The old key is wrapped with the secret that was just made for the record. */
static bool adopt_old(struct judged_call *s, const M(AdoptRecordRequest) * request,
                      struct record *r, const struct record_fresh *fresh,
                      const struct store_key *key, struct error *err)
{
    const ProtobufCBinaryData *given = &request->old_key;
    auto_secret struct secret secret = SECRET_INIT, passphrase = SECRET_INIT;
    uint64_t judged_ms = s->now_ms + (uint64_t)judged_call_skew(s, r);
    struct volume_spec spec;

    if (given->len > OLD_KEY_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "old_key has more than %d bytes",
                         OLD_KEY_MAX);
    if (!volume_spec_decode(request->spec.data, request->spec.len, &spec, err) ||
        !check_blank(request, err) || !record_adopt_old(r, &spec, fresh, judged_ms, err) ||
        !keyring_unwrap(s->broker->keyring, policy_rule_tenant(s->rule), key, &secret, err) ||
        !secret_alloc(&passphrase, given->len, err))
        return false;
    memcpy(passphrase.bytes, given->data, given->len);
    return old_key_wrap(r, &secret, &passphrase, err);
}

static bool adopt_like(struct judged_call *s, const M(AdoptRecordRequest) * request,
                       struct record *r, const struct record *like,
                       const struct record_fresh *fresh, struct error *err)
{
    const struct record_adopt_request adopt = { .kind = (enum record_kind)request->kind,
                                                .name = request->name };

    if (!like)
        return error_set(err, ERROR_NOT_FOUND, "there is no volume or snapshot %s", request->like);
    if (request->spec.len > 0 || request->old_key.len > 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "spec and old_key are not for a volume that is like another");
    return judged_call_check_location(s, like, err) && record_adopt(r, like, &adopt, fresh, err);
}

static bool apply_adopt(struct judged_call *s, struct call_change *change, struct record *r,
                        bool *changed, struct error *err)
{
    const M(AdoptRecordRequest) *request = change->request;
    bool is_blank = request->like[0] == '\0';
    struct record_fresh fresh;
    struct record *like = NULL;
    struct store_key *key = NULL;

    if (!check_room(s, r, err) || !make_fresh(s, change, &fresh, &key, err) ||
        (!is_blank && !find_source(s, &like, err)) || (like && !share_key(s, like, err)))
        return false;
    bool adopted = !is_blank                  ? adopt_like(s, request, r, like, &fresh, err)
                   : request->old_key.len > 0 ? adopt_old(s, request, r, &fresh, key, err)
                                              : adopt_blank(request, r, &fresh, err);
    if (!adopted)
        return false;
    change->new_key = is_blank ? key : NULL;
    change->must_still_be = like;
    *changed = true;
    return true;
}

bool adopt_record(struct judged_call *s, struct rpc_call *call,
                  const M(AdoptRecordRequest) * request, M(AdoptRecordResponse) * response,
                  struct error *err)
{
    struct call_change change = { .apply = apply_adopt, .request = request, .creates = true };
    const struct record *r = NULL;

    (void)call;
    return judged_call_change(s, &change, &r, err) && answer_record(s, r, &response->record, err);
}

/* --- another secret --- */

static_assert(NEXT_SECRET_MAX >= STORE_WRAPPED_LEN && NEXT_SECRET_MAX >= SEALED_SECRET_LEN,
              "room for both forms of the next secret");

static bool find_key(const struct record *r, struct store_key *out, struct error *err)
{
    if (r->rotation.secret_len != STORE_WRAPPED_LEN)
        return error_set(err, ERROR_DATA_LOSS, "the next secret of %s is not in the record",
                         r->volume_id);
    out->key = r->rotation.key;
    memcpy(out->wrapped, r->rotation.secret, STORE_WRAPPED_LEN);
    return true;
}

bool rotation_secret(const struct judged_call *s, const struct record *r, struct secret *out,
                     struct error *err)
{
    struct store_key key;

    return find_key(r, &key, err) && keyring_unwrap(s->broker->keyring, r->tenant, &key, out, err);
}

bool rotation_seal(const struct judged_call *s, const struct record *r,
                   const uint8_t public_key[static HPKE_PUBLIC_LEN], struct record *told,
                   struct error *err)
{
    auto_secret struct secret plain = SECRET_INIT;
    struct record as_next = *r;
    struct sealed_secret sealed;

    if (r->rotation.key.generation == 0)
        return true;
    as_next.key = r->rotation.key;
    if (!rotation_secret(s, r, &plain, err) ||
        !secret_seal(&as_next, &plain, public_key, &sealed, err))
        return false;
    told->rotation.secret_len = sizeof(sealed.bytes);
    memcpy(told->rotation.secret, sealed.bytes, sizeof(sealed.bytes));
    return true;
}

bool rotation_key(const struct judged_call *s, const struct record *r, const struct store_key **out,
                  struct error *err)
{
    struct store_key *key = NULL;

    *out = NULL;
    if (r->rotation.key.generation == 0)
        return true;
    key = arena_alloc(s->call->arena, sizeof(*key));
    if (!key)
        return arena_exhausted(err);
    *out = key;
    return find_key(r, key, err);
}

/* Who may open a volume may have its secret changed while its own node has it open for writing: that node
 * has the secret, and is the one that writes the header. */
static bool may_rotate(const struct judged_call *s, const struct record *r)
{
    return policy_may(s->rule, POLICY_ROTATE) ||
           (r->lease.holder.node[0] != '\0' &&
            policy_has_node(s->rule, &s->caller.who, r->lease.holder.node));
}

/* The secret is made even when the record has a rotation already: record_rotate() decides. */
static bool apply_rotate(struct judged_call *s, struct call_change *change, struct record *r,
                         bool *changed, struct error *err)
{
    struct store_key next = { .key = { .generation = r->key.generation + 1 } };

    if (!may_rotate(s, r))
        return judged_call_deny(s,
                                "the rule does not allow rotate, and no node of it has the volume "
                                "open for writing",
                                err);
    change->has_ring = true;
    return random_bytes(next.key.id, RECORD_ID_LEN, err) &&
           keyring_make(s->broker->keyring, r->tenant, &next.key, &next, &change->ring, err) &&
           record_rotate(r, &next, changed, err);
}

bool rotate_key(struct judged_call *s, struct rpc_call *call, const M(RotateKeyRequest) * request,
                M(RotateKeyResponse) * response, struct error *err)
{
    struct call_change change = { .apply = apply_rotate };
    const struct record *r = NULL;

    (void)call, (void)request;
    return judged_call_change(s, &change, &r, err) && answer_record(s, r, &response->record, err);
}
