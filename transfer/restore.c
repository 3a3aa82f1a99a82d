/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/restore.h"

#include "base/fault.h"
#include "lifecycle/lifecycle.h"
#include "record/encoding.h"
#include "store/keyring.h"
#include "transfer/marks.h"

#include <stdlib.h>
#include <string.h>

#define PROGRESS_RECORDS 1000
#define SOURCE_MARK      "restore-source" /* of remember: the MAC of the backup */

struct restoring {
    const struct restoration *restoration;
    struct backup_reader *reader;
    struct ring ring;         /* of the backup, and so of the target */
    struct store_ring stored; /* the same, wrapped; version 0: it follows from the master key */
    struct store *target;
    bool has_ring; /* the target has it already */
    uint64_t epoch_ms;
    bool is_new; /* nothing was written to the target before */
    struct restoration_report report;
    uint64_t seen; /* records of the step that goes on */
    const char *step;
    struct record wanted, there;
};

static void count(struct restoring *j)
{
    const struct restoration *r = j->restoration;

    j->seen++;
    if (r->progress && j->seen % PROGRESS_RECORDS == 0)
        r->progress(r->cookie, j->step, j->seen);
}

/* What belongs to the other store, or to calls that nobody repeats. */
static bool is_left_out(const char *mark)
{
    static const char *const names[] = { KEYRING_MASTER_MARK, SOURCE_MARK, MIGRATED_MARK,
                                         RESTORING_MARK, RESTORED_MARK };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(mark, names[i]) == 0)
            return true;
    return strncmp(mark, "copy:", strlen("copy:")) == 0; /* broker/copying.h */
}

static bool visit(struct restoring *j, const char *step, const struct store_visitor *visitor,
                  struct error *err)
{
    struct backup_counts counts;

    j->seen = 0;
    j->step = step;
    if (!backup_visit(j->reader, visitor, &j->report.head, &counts, err))
        return false;
    j->report.records = counts.records;
    return true;
}

/* --- before anything is written --- */

static bool check_record(void *cookie, const struct record *r, const struct store_key *key,
                         struct error *err)
{
    struct restoring *j = cookie;

    (void)key;
    count(j);
    j->wanted = *r;
    return record_restore(&j->wanted, j->epoch_ms, err);
}

static bool check_mark(void *cookie, const char *name, const uint8_t mark[static STORE_MARK_LEN],
                       struct error *err)
{
    (void)cookie, (void)name, (void)mark, (void)err;
    return true;
}

static bool check_highest(void *cookie, const char *name, uint64_t value, struct error *err)
{
    (void)cookie;
    return value <= STORE_MARK_MAX ||
           error_set(err, ERROR_DATA_LOSS, "the backup's mark %s is too large", name);
}

/* Without the ring nothing in the backup could be opened, nor the store be unlocked. */
static bool read_ring(struct restoring *j, struct error *err)
{
    const struct secret *master = j->restoration->master;

    if (!visit(j, "read", NULL, err))
        return false;
    backup_get_ring(&j->report.head, &j->stored);
    return j->stored.version == 0 ? ring_of_master(master, &j->ring, err)
                                  : ring_decode(&j->stored, master, &j->ring, err);
}

static bool check_backup(struct restoring *j, struct error *err)
{
    const struct store_visitor visitor = { check_record, check_mark, check_highest, j };

    if (!visit(j, "checked", &visitor, err))
        return false;
    return j->epoch_ms > j->report.head.created_ms ||
           error_set(
               err, ERROR_FAILED_PRECONDITION,
               "the backup is of a later time than this machine's clock shows: set the clock, "
               "and try again");
}

/* --- the target --- */

static bool not_empty(struct error *err)
{
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "the store is not empty: a backup is restored into a new one alone");
}

static bool refuse_record(void *cookie, const struct record *r, const struct store_key *key,
                          struct error *err)
{
    (void)cookie, (void)r, (void)key;
    return not_empty(err);
}

static bool refuse_mark(void *cookie, const char *name, const uint8_t mark[static STORE_MARK_LEN],
                        struct error *err)
{
    (void)cookie, (void)mark;
    return is_left_out(name) || not_empty(err);
}

static bool refuse_highest(void *cookie, const char *name, uint64_t value, struct error *err)
{
    (void)cookie, (void)name;
    return value == 0 || not_empty(err);
}

static bool check_empty(struct restoring *j, struct error *err)
{
    const struct store_visitor visitor = { refuse_record, refuse_mark, refuse_highest, NULL };
    struct store_head head;

    return j->target->ops->export(j->target, &visitor, err) &&
           j->target->ops->get_head(j->target, &head, err) && (head.seq == 0 || not_empty(err));
}

static bool is_etcd(const struct restoring *j)
{
    return strcmp(j->target->ops->name, "etcd") == 0;
}

/* A ring that is there belongs to what is there: it is never replaced. */
static bool check_ring(struct restoring *j, struct error *err)
{
    struct store_ring there;

    if (!j->target->ops->get_ring(j->target, &there, err))
        return false;
    j->has_ring = there.version != 0;
    return !j->has_ring ||
           (there.version == j->stored.version && there.len == j->stored.len &&
            bytes_are_equal(there.bytes, j->stored.bytes, there.len)) ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "the store has other keys than the backup: a backup is restored into a new "
                     "store alone");
}

static bool unlock_target(struct restoring *j, struct store_check *check, struct error *err)
{
    auto_ring struct ring copy = { .version = 0 }; /* the store takes the key */

    return check_ring(j, err) && ring_copy(&j->ring, &copy, err) &&
           j->target->ops->unlock(j->target, &copy.records, check, err);
}

static bool open_target(struct restoring *j, struct store_check *check, struct error *err)
{
    struct store_options options = j->restoration->to;

    options.is_migration = true;
    store_close(&j->target);
    if (!store_open(&options, &j->target, err) || !unlock_target(j, check, err))
        return false;
    return (check->damaged == 0 && !check->is_changed) ||
           error_set(
               err, ERROR_FAILED_PRECONDITION,
               "something else than the restore wrote to the store: empty it, and start again");
}

/* Whether this is the first run, or a later one. In etcd the store's format closes it to a later one. */
static bool read_progress(struct restoring *j, struct error *err)
{
    uint64_t began = 0, ended = 0;

    if (!j->target->ops->raise(j->target, RESTORING_MARK, 0, &began, err) ||
        !j->target->ops->raise(j->target, RESTORED_MARK, 0, &ended, err))
        return false;
    j->is_new = began == 0;
    j->epoch_ms = j->is_new ? j->restoration->now_ms : began;
    if (j->is_new)
        return check_empty(j, err);
    return is_etcd(j) || ended < began ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "a backup was restored into the store already: start the broker with it");
}

/* The store is empty: nothing in it is of another ring. Before all else, so that at each moment whoever has
 * the master key has the keys of what is there. */
static bool put_keys(struct restoring *j, struct error *err)
{
    if (j->stored.version == 0)
        return keyring_claim(j->target, j->restoration->master, err);
    if (!j->has_ring && !j->target->ops->put_ring(j->target, &j->stored, 0, err))
        return false;
    FAULT_POINT("broker.restore.keys");
    return true;
}

/* From now on the store is this backup's, and closed to brokers. */
static bool claim(struct restoring *j, struct error *err)
{
    uint8_t source[STORE_MARK_LEN];
    uint64_t began = 0;

    if (!j->target->ops->remember(j->target, SOURCE_MARK, backup_mac(j->reader), source, err))
        return false;
    if (!bytes_are_equal(source, backup_mac(j->reader), STORE_MARK_LEN))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "another backup is being restored into the store: go on with that one, or "
                         "empty the store");
    if (!j->target->ops->raise(j->target, RESTORING_MARK, j->epoch_ms, &began, err))
        return false;
    FAULT_POINT("broker.restore.begun");
    return true;
}

/* --- writing --- */

/* *there: the target has the key; then it must be the same. */
static bool check_key(struct restoring *j, const struct store_key *key, bool *there,
                      struct error *err)
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
                     "the store has another key for volume %s: empty it, and start again",
                     j->wanted.volume_id);
}

/* Into j->there; version 0: the target has no such record. */
static bool find(struct restoring *j, struct error *err)
{
    const struct record *r = &j->wanted;
    const struct store_name name = { r->tenant, r->driver, r->volume_id };
    struct error why = ERROR_INIT;

    if (j->target->ops->get(j->target, &name, &j->there, &why))
        return true;
    j->there.version = 0;
    if (why.code == ERROR_NOT_FOUND)
        return true;
    *err = why;
    return false;
}

/* What is wanted of a record of the backup, and what the store has of it and its key, which may be NULL. */
static bool look(struct restoring *j, const struct record *r, const struct store_key *key,
                 bool *has_key, struct error *err)
{
    j->wanted = *r;
    if (!record_restore(&j->wanted, j->epoch_ms, err) || !find(j, err) ||
        (key && !check_key(j, key, has_key, err)))
        return false;
    count(j);
    return true;
}

static bool write_record(void *cookie, const struct record *r, const struct store_key *key,
                         struct error *err)
{
    struct restoring *j = cookie;
    bool has_key = false;

    if (!look(j, r, key, &has_key, err))
        return false;
    if (j->there.version > 0)
        return record_is_equal(&j->there, &j->wanted) ||
               error_set(err, ERROR_FAILED_PRECONDITION,
                         "the store has another record of volume %s: empty it, and start again",
                         r->volume_id);
    const struct store_change change = { .next = &j->wanted,
                                         .expected_version = 0,
                                         .new_key = key && !has_key ? key : NULL };

    if (!j->target->ops->swap(j->target, &change, err))
        return false;
    j->report.written++;
    FAULT_POINT("broker.restore.record");
    return true;
}

static bool write_mark(void *cookie, const char *name, const uint8_t mark[static STORE_MARK_LEN],
                       struct error *err)
{
    struct restoring *j = cookie;
    uint8_t stored[STORE_MARK_LEN];

    return is_left_out(name) || j->target->ops->remember(j->target, name, mark, stored, err);
}

static bool write_highest(void *cookie, const char *name, uint64_t value, struct error *err)
{
    struct restoring *j = cookie;
    uint64_t highest = 0;

    return is_left_out(name) || j->target->ops->raise(j->target, name, value, &highest, err);
}

/* The audit log of the broker that made the backup goes on. Others begin anew: the store says so. */
static bool write_head(struct restoring *j, struct error *err)
{
    const struct backup_head *from = &j->report.head;
    const char *replica = j->restoration->to.replica ? j->restoration->to.replica : "";
    struct store_head head = { .seq = from->audit_seq, .len = from->audit_len };

    if (head.seq == 0 ||
        (is_etcd(j) && from->replica[0] != '\0' && strcmp(from->replica, replica) != 0))
        return true;
    memcpy(head.bytes, from->audit_head, sizeof(head.bytes));
    return j->target->ops->put_head(j->target, &head, err);
}

/* That a key was there when the backup was made is as old as the backup. */
static bool note_backup(struct restoring *j, struct error *err)
{
    uint64_t highest = 0;

    return j->target->ops->raise(j->target, BACKUP_MARK, j->report.head.created_ms, &highest, err);
}

static bool write_all(struct restoring *j, struct error *err)
{
    const struct store_visitor visitor = { write_record, write_mark, write_highest, j };

    if (!visit(j, "written", &visitor, err) || !write_head(j, err) || !note_backup(j, err))
        return false;
    FAULT_POINT("broker.restore.written");
    return true;
}

/* --- comparing --- */

static bool compare_record(void *cookie, const struct record *r, const struct store_key *key,
                           struct error *err)
{
    struct restoring *j = cookie;
    bool has_key = false;

    if (!look(j, r, key, &has_key, err))
        return false;
    return (record_is_equal(&j->there, &j->wanted) && (!key || has_key)) ||
           error_set(err, ERROR_INTERNAL, "the store has not the record of volume %s of the backup",
                     r->volume_id);
}

/* Opened anew, all of the store is checked as a broker does at its start. */
static bool compare_all(struct restoring *j, struct error *err)
{
    const struct store_visitor visitor = { compare_record, check_mark, check_highest, j };
    struct store_check check;

    if (!open_target(j, &check, err))
        return false;
    if (j->stored.version != 0 && !j->has_ring)
        return error_set(err, ERROR_INTERNAL, "the store has not the keys of the backup");
    if (check.records != j->report.records)
        return error_set(err, ERROR_INTERNAL, "the store has %llu records, the backup %llu",
                         (unsigned long long)check.records, (unsigned long long)j->report.records);
    return visit(j, "compared", &visitor, err);
}

static bool end(struct restoring *j, struct error *err)
{
    uint64_t ended = 0;

    if (!j->target->ops->raise(j->target, RESTORED_MARK, j->epoch_ms, &ended, err))
        return false;
    FAULT_POINT("broker.restore.ended");
    return !is_etcd(j) || store_etcd_end_migration(j->target, err);
}

static bool run(struct restoring *j, struct error *err)
{
    const struct restoration *r = j->restoration;
    struct store_check check;

    if (!backup_reader_new(r->path, r->master, &j->reader, err))
        return false;
    if (!read_ring(j, err))
        return error_wrap(err, "%s", r->path);
    if (!open_target(j, &check, err) || !read_progress(j, err))
        return error_wrap(err, "%s", r->to.spec);
    return check_backup(j, err) && put_keys(j, err) && claim(j, err) && write_all(j, err) &&
           compare_all(j, err) && end(j, err);
}

bool restore(const struct restoration *restoration, struct restoration_report *out,
             struct error *err)
{
    auto_free struct restoring *job = calloc(1, sizeof(*job)); /* large */

    if (!job)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    job->restoration = restoration;
    bool ok = run(job, err);

    backup_reader_free(&job->reader);
    store_close(&job->target);
    ring_wipe(&job->ring);
    *out = job->report;
    return ok;
}
