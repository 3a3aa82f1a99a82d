/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/migrate.h"

#include "base/fault.h"
#include "record/encoding.h"
#include "store/keyring.h"
#include "transfer/marks.h"

#include <string.h>

#define PROGRESS_RECORDS 1000

struct job {
    const struct store_migration *migration;
    struct store *source, *target;
    struct keyring *keyring; /* of the source, and so of the target */
    struct store_ring ring;  /* likewise */
    struct migration_report report;
    uint64_t seen; /* records of the step that goes on */
    const char *step;
    struct record there; /* what the target has */
};

static struct store_name name_of(const struct record *r)
{
    return (struct store_name){ r->tenant, r->driver, r->volume_id };
}

static void count(struct job *j)
{
    const struct store_migration *m = j->migration;

    j->seen++;
    if (m->progress && j->seen % PROGRESS_RECORDS == 0)
        m->progress(m->cookie, j->step, j->seen);
}

/* *there: the target has the key; then it must be the same. */
static bool check_key(struct job *j, const struct record *r, const struct store_key *key,
                      bool *there, struct error *err)
{
    struct store_key stored;
    struct error why = ERROR_INIT;

    *there = j->target->ops->get_key(j->target, &key->key, &stored, &why);
    if (!*there && why.code != ERROR_NOT_FOUND) {
        *err = why;
        return false;
    }
    return !*there || bytes_are_equal(stored.wrapped, key->wrapped, STORE_WRAPPED_LEN) ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "the target has another key for volume %s: empty it, and start again",
                     r->volume_id);
}

/* version 0: the target has no such record. */
static bool find(struct job *j, const struct record *r, struct record *out, struct error *err)
{
    const struct store_name name = name_of(r);
    struct error why = ERROR_INIT;

    if (j->target->ops->get(j->target, &name, out, &why))
        return true;
    out->version = 0;
    if (why.code == ERROR_NOT_FOUND)
        return true;
    *err = why;
    return false;
}

static bool put(struct job *j, const struct record *r, uint64_t expected,
                const struct store_key *key, struct error *err)
{
    const struct store_change change = { .next = r, .expected_version = expected, .new_key = key };

    if (!j->target->ops->swap(j->target, &change, err))
        return false;
    j->report.copied++;
    FAULT_POINT("broker.migrate.record");
    return true;
}

static bool copy_record(void *cookie, const struct record *r, const struct store_key *key,
                        struct error *err)
{
    struct job *j = cookie;
    struct record *there = &j->there;
    bool has_key = false;

    if (!find(j, r, there, err) || (key && !check_key(j, r, key, &has_key, err)))
        return false;
    count(j);
    if (there->version > 0 && record_is_equal(there, r))
        return true;
    if (there->version >= r->version)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the target has another record of volume %s, which is not older: empty "
                         "it, and start again",
                         r->volume_id);
    return put(j, r, there->version, key && !has_key ? key : NULL, err);
}

static bool copy_mark(void *cookie, const char *name, const uint8_t mark[static STORE_MARK_LEN],
                      struct error *err)
{
    struct job *j = cookie;
    uint8_t stored[STORE_MARK_LEN];

    if (!j->target->ops->remember(j->target, name, mark, stored, err))
        return false;
    if (bytes_are_equal(stored, mark, STORE_MARK_LEN))
        return true;
    /* It was forgotten and remembered anew since an earlier run. */
    return j->target->ops->forget(j->target, name, err) &&
           j->target->ops->remember(j->target, name, mark, stored, err);
}

static bool copy_highest(void *cookie, const char *name, uint64_t value, struct error *err)
{
    struct job *j = cookie;
    uint64_t highest = 0;

    /* The target was not migrated. */
    return strcmp(name, MIGRATED_MARK) == 0 ||
           j->target->ops->raise(j->target, name, value, &highest, err);
}

static bool copy_head(struct job *j, struct error *err)
{
    struct store_head head;

    return j->source->ops->get_head(j->source, &head, err) &&
           (head.seq == 0 || j->target->ops->put_head(j->target, &head, err));
}

static bool copy_all(struct job *j, struct error *err)
{
    const struct store_visitor visitor = { copy_record, copy_mark, copy_highest, j };

    j->seen = 0;
    j->step = "copied";
    if (!j->source->ops->export(j->source, &visitor, err) || !copy_head(j, err))
        return false;
    j->report.records = j->seen;
    return true;
}

/* --- comparing --- */

static bool differs(const char *what, const char *name, struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "the target has not the %s %s of the source", what, name);
}

static bool compare_record(void *cookie, const struct record *r, const struct store_key *key,
                           struct error *err)
{
    struct job *j = cookie;
    struct record *there = &j->there;
    bool has_key = false;

    if (!find(j, r, there, err) || (key && !check_key(j, r, key, &has_key, err)))
        return false;
    count(j);
    if (!record_is_equal(there, r) || (key && !has_key))
        return differs(key && !has_key ? "key of volume" : "record of volume", r->volume_id, err);
    return true;
}

static bool compare_mark(void *cookie, const char *name, const uint8_t mark[static STORE_MARK_LEN],
                         struct error *err)
{
    struct job *j = cookie;
    uint8_t stored[STORE_MARK_LEN];

    return j->target->ops->remember(j->target, name, mark, stored, err) &&
           (bytes_are_equal(stored, mark, STORE_MARK_LEN) || differs("mark", name, err));
}

static bool compare_highest(void *cookie, const char *name, uint64_t value, struct error *err)
{
    struct job *j = cookie;
    uint64_t highest = 0;

    if (strcmp(name, MIGRATED_MARK) == 0)
        return true;
    return j->target->ops->raise(j->target, name, 0, &highest, err) &&
           (highest >= value || differs("mark", name, err));
}

static bool compare_all(struct job *j, struct error *err)
{
    const struct store_visitor visitor = { compare_record, compare_mark, compare_highest, j };
    struct store_head head, stored;

    j->seen = 0;
    j->step = "compared";
    if (!j->source->ops->export(j->source, &visitor, err) ||
        !j->source->ops->get_head(j->source, &head, err) ||
        !j->target->ops->get_head(j->target, &stored, err))
        return false;
    return (head.seq == stored.seq && head.len == stored.len &&
            bytes_are_equal(head.bytes, stored.bytes, head.len)) ||
           differs("head of", "the audit log", err);
}

/* --- stores --- */

static bool open_source(struct job *j, struct error *err)
{
    const struct store_migration *m = j->migration;
    struct store_check check;

    if (!store_open(&m->from, &j->source, err))
        return false;
    if (strcmp(j->source->ops->name, "sqlite") != 0)
        return error_set(err, ERROR_UNIMPLEMENTED, "a store of the kind %s is not migrated",
                         j->source->ops->name);
    if (!keyring_unlock_store(j->source, m->master, NULL, &j->keyring, &check, err) ||
        !j->source->ops->get_ring(j->source, &j->ring, err))
        return false;
    return (check.damaged == 0 && !check.is_changed) ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "the store was changed by something else than its broker%s%s: look into it, "
                     "or restore it from a backup, before you migrate it",
                     check.damaged > 0 ? ": " : "", check.first_damage.text);
}

/* The target has no ring yet, or this one. */
static bool unlock_target(struct job *j, struct store_check *check, struct error *err)
{
    auto_secret struct secret key = SECRET_INIT;
    struct store_ring ring;

    if (!j->target->ops->get_ring(j->target, &ring, err) ||
        !keyring_store_key(j->keyring, &key, err) ||
        !j->target->ops->unlock(j->target, &key, check, err))
        return false;
    if (ring.version == 0)
        return j->ring.version == 0 || j->target->ops->put_ring(j->target, &j->ring, 0, err);
    return (ring.version == j->ring.version && ring.len == j->ring.len &&
            bytes_are_equal(ring.bytes, j->ring.bytes, ring.len)) ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "the source's keys were changed since the migration began: empty the target, "
                     "and start again");
}

static bool open_target(struct job *j, uint64_t records, struct error *err)
{
    struct store_options options = j->migration->to;
    struct store_check check;
    uint64_t restored_ms = 0;

    options.is_migration = true;
    store_close(&j->target);
    if (!store_open(&options, &j->target, err))
        return false;
    if (strcmp(j->target->ops->name, "etcd") != 0)
        return error_set(err, ERROR_UNIMPLEMENTED,
                         "nothing is migrated into a store of the kind %s", j->target->ops->name);
    if (!unlock_target(j, &check, err))
        return false;
    if (!marks_read_restored(j->target, &restored_ms, err)) /* it is half of a backup */
        return false;
    if (check.damaged > 0 || check.is_changed)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "something else than the migration wrote to the target: empty it, and "
                         "start again");
    return records == UINT64_MAX || check.records == records ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "the target has %llu records, the source %llu: empty the target, and start "
                     "again",
                     (unsigned long long)check.records, (unsigned long long)records);
}

/* First the source is closed, then the target opened. */
static bool hand_over(struct job *j, struct error *err)
{
    uint64_t ignored = 0;

    if (!j->source->ops->raise(j->source, MIGRATED_MARK, 1, &ignored, err))
        return false;
    FAULT_POINT("broker.migrate.source-closed");
    return store_etcd_end_migration(j->target, err);
}

/* A source that was moved long ago, which nobody has destroyed, has old records with good proofs. After
 * the hand-over began, only its own target may still be opened: that has all of them. */
static bool check_source_in_use(struct job *j, struct error *err)
{
    uint64_t moved = 0;
    struct error why = ERROR_INIT;

    if (!j->source->ops->raise(j->source, MIGRATED_MARK, 0, &moved, err))
        return false;
    if (moved == 0 || compare_all(j, &why))
        return true;
    if (why.code != ERROR_INTERNAL && why.code != ERROR_FAILED_PRECONDITION) {
        *err = why;
        return false;
    }
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "it was migrated to another store, which is in use since: start the brokers "
                     "with that one (%s)",
                     why.text);
}

static bool run(struct job *j, struct error *err)
{
    if (!open_source(j, err))
        return error_wrap(err, "source");
    if (!open_target(j, UINT64_MAX, err))
        return error_wrap(err, "target");
    if (!check_source_in_use(j, err))
        return error_wrap(err, "source");
    if (!copy_all(j, err))
        return false;
    FAULT_POINT("broker.migrate.copied");
    /* Opened anew, all of it is checked as a broker does at its start. */
    if (!open_target(j, j->report.records, err))
        return error_wrap(err, "target");
    return compare_all(j, err) && hand_over(j, err);
}

bool migrate(const struct store_migration *migration, struct migration_report *out,
             struct error *err)
{
    struct job job = { .migration = migration };
    bool ok = run(&job, err);

    store_close(&job.source);
    store_close(&job.target);
    keyring_free(&job.keyring);
    *out = job.report;
    return ok;
}
