/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/lifecycle.h"
#include "record/check.h"
#include "tests/unit/csi/fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The keys of the fake: a broker in memory. It changes records by the real broker's own code
 * (lifecycle/lifecycle.h), so it checks what the real one checks: versions, phases, holders with their
 * boot. As the real one does for an attested node, it seals to one key only.
 */

#define NOW_MS    1700000000123
#define FORMAT_MS 600000

static struct fake *fake_of(struct keys *keys)
{
    return ((struct fake_keys *)(void *)keys)->fake;
}

static struct fake_record *free_record(struct fake *f)
{
    for (size_t i = 0; i < FAKE_MAX; i++)
        if (!f->records[i].is_present)
            return &f->records[i];
    abort(); /* a test with more records than the fake has room for */
}

/* A place for a record, with its names; *r is not in use yet. */
static struct fake_record *named(struct fake *f, const char *id)
{
    struct fake_record *r = fake_record(f, id);

    if (r)
        return r;
    r = free_record(f);
    *r = (struct fake_record){ .is_present = false };
    (void)snprintf(r->id, sizeof(r->id), "%s", id);
    (void)snprintf(r->record.volume_id, sizeof(r->record.volume_id), "%s", id);
    (void)snprintf(r->record.driver, sizeof(r->record.driver), "%s", f->plugin.driver);
    (void)snprintf(r->record.tenant, sizeof(r->record.tenant), "tenant");
    return r;
}

static void commit(struct fake_record *r, bool changed)
{
    r->is_present = true;
    r->record.version += changed;
}

static struct record_holder holder_of(const struct fake *f)
{
    struct record_holder holder = { .node = "" };

    (void)snprintf(holder.node, sizeof(holder.node), "%s", f->plugin.node_id);
    (void)snprintf(holder.boot_id, sizeof(holder.boot_id), "%s", f->boot_id);
    return holder;
}

/* Every node reaches the space of another driver. */
static const char *location_of(const struct fake *f)
{
    return f->plugin.upstream ? "" : f->plugin.node_id;
}

static bool is_erased(const struct fake *f, const char *id)
{
    for (size_t i = 0; i < FAKE_MAX; i++)
        if (strcmp(f->records[i].id, id) == 0 && f->records[i].record.phase == RECORD_ERASED)
            return true;
    return false;
}

static bool missing(const char *id, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "there is no volume or snapshot %s", id);
}

/* Records that leave the fake pass the plugin's own check. */
static bool give(const struct fake_record *r, struct record *out, struct error *err)
{
    *out = r->record;
    if (out->format.deadline_ms > NOW_MS)
        out->format.remaining_ms = out->format.deadline_ms - NOW_MS;
    return record_check(out, err);
}

static bool keep(struct fake_record *r, bool changed, struct record *out, struct error *err)
{
    commit(r, changed);
    return give(r, out, err);
}

/* --- each call: counted, and made to fail where a test says so --- */

struct call {
    struct fake *f;
    const char *name;
    bool is_faulty, is_done;
};

static struct call begin(struct keys *keys, const char *name, struct error *err)
{
    struct call c = { .f = fake_of(keys), .name = name };

    fake_work(c.f, true);
    pthread_mutex_lock(&c.f->lock);
    fake_note(c.f, name);
    if (c.f->asked)
        c.f->asked(c.f, name);
    c.is_faulty = fake_is_faulty(c.f, name, err);
    return c;
}

/* Whether the fake is to do the work: also when only its answer gets lost. */
static bool happens(const struct call *c)
{
    return !c->is_faulty || c->f->fault.is_lost;
}

static bool end(struct call *c, bool done, struct error *err)
{
    struct fake_fault *fault = &c->f->fault;

    if (c->is_faulty)
        error_set(err, fault->code, "%s failed", c->name);
    if (c->is_faulty && fault->reason)
        error_reason(err, fault->reason);
    if (c->is_faulty && fault->is_single)
        fault->at = NULL;
    pthread_mutex_unlock(&c->f->lock);
    fake_work(c->f, false);
    return done && !c->is_faulty;
}

/* --- the operations --- */

static bool fake_status(struct keys *keys, const char *operation UNUSED, struct error *err)
{
    struct call c = begin(keys, "GetStatus", err);

    return end(&c, true, err);
}

static struct record_fresh fresh(struct fake *f)
{
    uint8_t number = (uint8_t)++f->n_made;

    return (struct record_fresh){ .id = { 0xa0, number },
                                  .key = { .id = { 0xb0, number }, .generation = 1 },
                                  .now_ms = NOW_MS };
}

static bool create(struct fake *f, const char *id, const struct volume_spec *spec,
                   struct record *out, struct error *err)
{
    struct fake_record *r = named(f, id);
    const struct record_fresh made = fresh(f);
    bool changed = false;

    if (spec->location[0] != '\0' && strcmp(spec->location, f->plugin.node_id) != 0)
        return error_set(err, ERROR_DENIED, "the space is on another node");
    return record_create(&r->record, spec, &made, &changed, err) && keep(r, changed, out, err);
}

static bool fake_create_record(struct keys *keys, const char *operation UNUSED,
                               const char *volume_id, const struct volume_spec *spec,
                               struct record *out, struct error *err)
{
    struct call c = begin(keys, "CreateRecord", err);

    return end(&c, happens(&c) && create(c.f, volume_id, spec, out, err), err);
}

static bool begin_copy(struct fake *f, const char *source_id, const struct keys_copy *wanted,
                       struct record *out, struct error *err)
{
    const struct fake_record *source = fake_record(f, source_id);
    struct fake_copying *c = fake_copying(f, source_id, wanted);

    if (!source || source->record.phase == RECORD_ERASED)
        return missing(source_id, err);
    if (!c) {
        c = fake_copying(f, "", wanted);
        if (!c)
            abort(); /* a test with more copies than the fake has room for */
        *c = (struct fake_copying){ .kind = wanted->kind, .version = source->record.version };
        (void)snprintf(c->source, sizeof(c->source), "%s", source_id);
        (void)snprintf(c->name, sizeof(c->name), "%s", wanted->name);
    }
    if (!give(source, out, err))
        return false;
    out->version = c->version;
    return true;
}

static bool fake_begin_copy(struct keys *keys, const char *operation UNUSED, const char *source_id,
                            const struct keys_copy *wanted, struct record *source,
                            struct error *err)
{
    struct call c = begin(keys, "BeginCopy", err);

    return end(&c, happens(&c) && begin_copy(c.f, source_id, wanted, source, err), err);
}

static bool fake_end_copy(struct keys *keys, const char *operation UNUSED, const char *source_id,
                          const struct keys_copy *wanted, struct error *err)
{
    struct call c = begin(keys, "EndCopy", err);

    if (happens(&c))
        fake_end_copying(c.f, source_id, wanted);
    return end(&c, true, err);
}

static bool copy(struct fake *f, const struct keys_copy *wanted, struct record *out,
                 struct error *err)
{
    const struct fake_record *source = fake_record(f, wanted->source->volume_id);
    struct fake_record *r = named(f, wanted->id);
    const struct record_fresh made = fresh(f);
    const struct record_copy_request request = { .source_version = wanted->source->version,
                                                 .kind = wanted->kind,
                                                 .name = wanted->name,
                                                 .location = location_of(f),
                                                 .size_bytes = wanted->size_bytes,
                                                 .workqueue = wanted->workqueue,
                                                 .source_volume_id = wanted->source->volume_id };
    bool uses_fresh_key = false, changed = false;

    if (!record_copy(&r->record, source ? &source->record : NULL, &request, &made, &uses_fresh_key,
                     &changed, err))
        return false;
    commit(r, changed);
    fake_end_copying(f, wanted->source->volume_id, wanted);
    return give(r, out, err);
}

static bool fake_copy(struct keys *keys, const char *operation UNUSED,
                      const struct keys_copy *wanted, struct record *out, struct error *err)
{
    struct call c = begin(keys, "CopyRecord", err);

    return end(&c, happens(&c) && copy(c.f, wanted, out, err), err);
}

/* Signs the answer to a worker, as the real broker does; subject: what was asked with. */
static void sign(const struct fake *f, enum answer_kind kind, const struct relay *relay,
                 const void *subject, size_t subject_len, const struct record *record,
                 const struct sealed_secret *secret)
{
    struct encoded encoded;

    if (!relay)
        return;
    const struct answer_question question =
        broker_end_question(kind, relay->question->nonce, subject, subject_len);

    record_encode(record, &encoded);
    broker_end_sign(&f->broker, &question, &encoded, secret, relay->signature);
}

static bool get(struct fake *f, const char *volume_id, const struct relay *relay,
                struct record *out, struct error *err)
{
    const struct fake_record *r = fake_record(f, volume_id);

    if (!r) {
        missing(volume_id, err);
        return is_erased(f, volume_id) && error_reason(err, RECORD_ERASED_REASON);
    }
    if (!give(r, out, err))
        return false;
    sign(f, ANSWER_RECORD, relay, NULL, 0, out, NULL);
    return true;
}

static bool fake_get(struct keys *keys, const char *operation UNUSED, const char *volume_id,
                     const struct relay *relay, struct record *out, struct error *err)
{
    struct call c = begin(keys, "GetRecord", err);

    return end(&c, happens(&c) && get(c.f, volume_id, relay, out, err), err);
}

static bool is_listed(const struct fake *f, const struct fake_record *r,
                      const struct keys_list *list)
{
    return r->is_present && r->record.kind == list->kind &&
           (location_of(f)[0] == '\0' || strcmp(r->record.spec.location, f->plugin.node_id) == 0) &&
           (list->source_id[0] == '\0' || strcmp(list->source_id, r->record.source_volume_id) == 0);
}

/* The page token is the number of the record to go on with. */
static bool list_page(struct fake *f, const struct keys_list *list,
                      char next[static KEYS_TOKEN_MAX + 1], struct error *err)
{
    size_t i = 0, n = 0, limit = list->page_size > 0 && list->page_size < 3 ? list->page_size : 3;
    struct record record;

    if (list->token[0] != '\0' && sscanf(list->token, "at-%zu", &i) != 1)
        return error_set(err, ERROR_ABORTED, "page_token is not known");
    next[0] = '\0';
    for (; i < FAKE_MAX; i++) {
        if (!is_listed(f, &f->records[i], list))
            continue;
        if (n++ == limit) {
            (void)snprintf(next, KEYS_TOKEN_MAX + 1, "at-%zu", i);
            return true;
        }
        if (!give(&f->records[i], &record, err))
            return false;
        fake_work(f, false);
        bool taken = list->each(list->cookie, &record, err);
        fake_work(f, true);
        if (!taken)
            return false;
    }
    return true;
}

static bool fake_list(struct keys *keys, const char *operation UNUSED, const struct keys_list *list,
                      char next[static KEYS_TOKEN_MAX + 1], struct error *err)
{
    struct call c = begin(keys, "ListRecords", err);

    return end(&c, happens(&c) && list_page(c.f, list, next, err), err);
}

static bool open_volume(struct fake *f, const struct keys_open *open, struct record *out,
                        const struct sealed_secret *secret, struct error *err)
{
    struct fake_record *r = fake_record(f, open->volume_id);
    const struct record_open_request request = { .holder = holder_of(f),
                                                 .read_only = open->read_only,
                                                 .now_ms = NOW_MS,
                                                 .format_ms = FORMAT_MS };
    bool changed = false;

    if (memcmp(open->public_key, f->sealing_public_key, HPKE_PUBLIC_LEN) != 0) {
        error_set(err, ERROR_DENIED, "the sealing key is not the attested one");
        return error_reason(err, "SealingKey");
    }
    if (!r)
        return missing(open->volume_id, err);
    if (!record_open(&r->record, &request, &changed, err))
        return false;
    commit(r, changed);
    if (!give(r, out, err))
        return false;
    sign(f, open->read_only ? ANSWER_OPEN_READ_ONLY : ANSWER_OPEN, open->relay, open->public_key,
         HPKE_PUBLIC_LEN, out, secret);
    return true;
}

static bool fake_open(struct keys *keys, const char *operation UNUSED, const struct keys_open *open,
                      struct record *out, struct sealed_secret *secret, struct error *err)
{
    struct call c = begin(keys, "OpenVolume", err);

    *secret = (struct sealed_secret){ .bytes = { 0 } };
    return end(&c, happens(&c) && open_volume(c.f, open, out, secret, err), err);
}

static bool change_record(struct fake *f, const struct relay *relay,
                          const struct record_change *change, struct record *record,
                          struct error *err)
{
    struct fake_record *r = fake_record(f, record->volume_id);
    const struct change_request request = { .change = change,
                                            .holder = holder_of(f),
                                            .expected_version = record->version,
                                            .now_ms = NOW_MS };
    const uint8_t *proof = relay && relay->question->has_proof ? relay->question->proof : NULL;
    struct encoded encoded;
    bool changed = false;

    if (!r)
        return missing(record->volume_id, err);
    if (!broker_end_accepts(f->secret, &r->record, record->version, change, proof, err) ||
        !record_change(&r->record, &request, &changed, err))
        return false;
    commit(r, changed);
    if (!give(r, record, err))
        return false;
    record_change_encode(change, &encoded);
    sign(f, ANSWER_CHANGE, relay, encoded.bytes, encoded.len, record, NULL);
    return true;
}

static bool fake_change(struct keys *keys, const char *operation UNUSED, const struct relay *relay,
                        const struct record_change *change, struct record *record,
                        struct error *err)
{
    struct call c = begin(keys, "ChangeRecord", err);

    return end(&c, happens(&c) && change_record(c.f, relay, change, record, err), err);
}

static bool take_over(struct fake *f, const char *volume_id, struct record *out, struct error *err)
{
    struct fake_record *r = fake_record(f, volume_id);
    const struct record_holder holder = holder_of(f);
    bool changed = false;

    if (!r)
        return missing(volume_id, err);
    if (!record_take_over(&r->record, &holder, &changed, err))
        return false;
    commit(r, changed);
    return give(r, out, err);
}

static bool renew(struct fake *f, const char *volume_id, const struct relay *relay,
                  struct record *out, struct error *err)
{
    struct fake_record *r = fake_record(f, volume_id);
    const struct record_holder holder = holder_of(f);
    bool changed = false;

    if (!r)
        return missing(volume_id, err);
    if (!record_renew(&r->record, &holder, 0, &changed, err))
        return false;
    commit(r, changed);
    if (!give(r, out, err))
        return false;
    sign(f, ANSWER_RENEW, relay, NULL, 0, out, NULL);
    return true;
}

static bool fake_renew(struct keys *keys, const char *operation UNUSED, const char *volume_id,
                       const struct relay *relay, struct record *out, struct error *err)
{
    struct call c = begin(keys, "RenewLease", err);

    return end(&c, happens(&c) && renew(c.f, volume_id, relay, out, err), err);
}

static bool fake_take_over(struct keys *keys, const char *operation UNUSED, const char *volume_id,
                           struct record *out, struct error *err)
{
    struct call c = begin(keys, "TakeOverLease", err);

    return end(&c, happens(&c) && take_over(c.f, volume_id, out, err), err);
}

static const struct record_keeping not_kept = { .by = "" };

static bool remove_step(struct fake *f, const char *volume_id, enum keys_deletion step,
                        struct error *err)
{
    struct fake_record *r = fake_record(f, volume_id);
    bool changed = false;

    if (!r)
        return missing(volume_id, err);
    bool done = step == KEYS_BEGIN_DELETE ? record_begin_delete(&r->record, NOW_MS, &changed, err)
                : step == KEYS_CANCEL_DELETE
                    ? record_cancel_delete(&r->record, &changed, err)
                    : record_finish_delete(&r->record, &not_kept, &changed, err);
    if (!done)
        return false;
    commit(r, changed);
    r->is_present = r->record.phase != RECORD_ERASED;
    return true;
}

static bool fake_remove(struct keys *keys, const char *operation UNUSED, const char *volume_id,
                        enum keys_deletion step, struct error *err)
{
    static const char *const names[] = { [KEYS_BEGIN_DELETE] = "BeginDelete",
                                         [KEYS_CANCEL_DELETE] = "CancelDelete",
                                         [KEYS_FINISH_DELETE] = "FinishDelete" };
    struct call c = begin(keys, names[step], err);

    return end(&c, happens(&c) && remove_step(c.f, volume_id, step, err), err);
}

static bool fake_find(struct keys *keys, const char *operation UNUSED, const char *const *ids,
                      size_t n,
                      bool (*each)(void *cookie, const struct record *r, struct error *err),
                      void *cookie, struct error *err)
{
    struct call c = begin(keys, "ListRecords", err);
    bool ok = happens(&c);
    struct record record;

    for (size_t i = 0; ok && i < n; i++) {
        const struct fake_record *r = fake_record(c.f, ids[i]);

        if (!r)
            continue;
        ok = give(r, &record, err);
        fake_work(c.f, false);
        ok = ok && each(cookie, &record, err);
        fake_work(c.f, true);
    }
    return end(&c, ok, err);
}

static bool rotate(struct fake *f, const char *volume_id, struct record *out, struct error *err)
{
    static const struct store_key next = { .key = { .id = { 9 }, .generation = 2 } };
    struct fake_record *r = fake_record(f, volume_id);
    bool changed = false;

    return (r || missing(volume_id, err)) && record_rotate(&r->record, &next, &changed, err) &&
           keep(r, changed, out, err);
}

static bool fake_rotate(struct keys *keys, const char *operation UNUSED, const char *volume_id,
                        struct record *out, struct error *err)
{
    struct call c = begin(keys, "RotateKey", err);

    return end(&c, happens(&c) && rotate(c.f, volume_id, out, err), err);
}

static bool publish(struct fake *f, const struct publish_request *request, struct record *record,
                    struct error *err)
{
    struct fake_record *r = fake_record(f, record->volume_id);
    bool changed = false;

    return (r || missing(record->volume_id, err)) &&
           record_publish(&r->record, request, &changed, err) && keep(r, changed, record, err);
}

static bool fake_publish(struct keys *keys, const char *operation UNUSED, const char *node_id,
                         bool read_only, struct record *record, struct error *err)
{
    const struct publish_request request = { .node_id = node_id,
                                             .read_only = read_only,
                                             .expected_epoch = record->published.epoch };
    struct call c = begin(keys, "PublishRecord", err);

    return end(&c, happens(&c) && publish(c.f, &request, record, err), err);
}

static bool unpublish(struct fake *f, const struct unpublish_request *request,
                      struct record *record, struct error *err)
{
    struct fake_record *r = fake_record(f, record->volume_id);
    bool changed = false;

    return (r || missing(record->volume_id, err)) &&
           record_unpublish(&r->record, request, &changed, err) && keep(r, changed, record, err);
}

static bool take_back(struct keys *keys, const char *name, const char *node_id, bool retire,
                      struct record *record, struct error *err)
{
    const struct unpublish_request request = { .node_id = node_id,
                                               .expected_epoch = record->published.epoch,
                                               .retire = retire };
    struct call c = begin(keys, name, err);

    return end(&c, happens(&c) && unpublish(c.f, &request, record, err), err);
}

static bool fake_retire(struct keys *keys, const char *operation UNUSED, const char *node_id,
                        struct record *record, struct error *err)
{
    return take_back(keys, "RetireRecord", node_id, true, record, err);
}

static bool fake_unpublish(struct keys *keys, const char *operation UNUSED, const char *node_id,
                           struct record *record, struct error *err)
{
    return take_back(keys, "UnpublishRecord", node_id, false, record, err);
}

const struct keys_ops fake_keys_ops = {
    .status = fake_status,
    .create = fake_create_record,
    .copy = fake_copy,
    .begin_copy = fake_begin_copy,
    .end_copy = fake_end_copy,
    .get = fake_get,
    .list = fake_list,
    .open = fake_open,
    .change = fake_change,
    .renew = fake_renew,
    .take_over = fake_take_over,
    .remove = fake_remove,
    .find = fake_find,
    .rotate = fake_rotate,
    .publish = fake_publish,
    .retire = fake_retire,
    .unpublish = fake_unpublish,
};
