/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/broker/store_memory.h"

#include "lifecycle/lifecycle.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* For tests: arrays that are searched from the start. */
#define MARK_NAME_BYTES 128
#define MARK_COUNT      320

struct mark {
    char name[MARK_NAME_BYTES];
    uint8_t value[STORE_MARK_LEN];
    uint64_t highest;
};

struct memory_store {
    struct store store;
    pthread_mutex_t lock;
    struct record *records; /* in the order of tenant, driver, volume id */
    size_t n_records;
    struct store_key *keys;
    size_t n_keys;
    struct store_head head;
    struct mark marks[MARK_COUNT];
    size_t n_marks;
    struct store_ring ring;
};

static struct memory_store *locked(struct store *store)
{
    struct memory_store *s = (struct memory_store *)(void *)store;

    pthread_mutex_lock(&s->lock);
    return s;
}

static void unlock(struct memory_store **s)
{
    pthread_mutex_unlock(&(*s)->lock);
}
#define auto_unlock CLEANUP(unlock)

static int compare(const struct record *r, const char *tenant, const char *driver,
                   const char *volume_id)
{
    int order = strcmp(r->tenant, tenant);

    if (order == 0)
        order = strcmp(r->driver, driver);
    return order == 0 ? strcmp(r->volume_id, volume_id) : order;
}

/* The index of the record, or the index at which it would be inserted. */
static size_t place(const struct memory_store *s, const char *tenant, const char *driver,
                    const char *volume_id)
{
    size_t i = 0;

    while (i < s->n_records && compare(&s->records[i], tenant, driver, volume_id) < 0)
        i++;
    return i;
}

static struct record *find(struct memory_store *s, const char *tenant, const char *driver,
                           const char *volume_id)
{
    size_t i = place(s, tenant, driver, volume_id);

    return i < s->n_records && compare(&s->records[i], tenant, driver, volume_id) == 0
               ? &s->records[i]
               : NULL;
}

static bool key_is_equal(const struct record_key *a, const struct record_key *b)
{
    return a->generation == b->generation && memcmp(a->id, b->id, RECORD_ID_LEN) == 0;
}

/* Nobody else writes to the memory of a test: there is nothing to prove. */
static bool memory_unlock(struct store *store, struct secret *key, struct store_check *out,
                          struct error *err)
{
    auto_unlock struct memory_store *s = locked(store);

    (void)err;
    secret_wipe(key);
    *out = (struct store_check){ .records = s->n_records };
    return true;
}

static bool memory_get_head(struct store *store, struct store_head *out, struct error *err)
{
    auto_unlock struct memory_store *s = locked(store);

    (void)err;
    *out = s->head;
    return true;
}

static void keep_later(struct memory_store *s, const struct store_head *head)
{
    if (head && head->seq > s->head.seq)
        s->head = *head;
}

static bool memory_put_head(struct store *store, const struct store_head *head, struct error *err)
{
    auto_unlock struct memory_store *s = locked(store);

    (void)err;
    keep_later(s, head);
    return true;
}

static bool memory_get(struct store *store, const struct store_name *name, struct record *out,
                       struct error *err)
{
    auto_unlock struct memory_store *s = locked(store);
    const struct record *r = find(s, name->tenant, name->driver, name->volume_id);

    if (!r)
        return error_set(err, ERROR_NOT_FOUND, "there is no volume or snapshot %s",
                         name->volume_id);
    *out = *r;
    return true;
}

static bool check_version(struct memory_store *s, const struct record *r, uint64_t expected,
                          struct error *err)
{
    const struct record *old = find(s, r->tenant, r->driver, r->volume_id);

    return (old ? old->version : 0) == expected ||
           error_set(err, ERROR_ABORTED, "%s was changed by another call: try again", r->volume_id);
}

/* Makes room for one more record and key, so that a swap cannot fail half-way. */
static bool reserve(struct memory_store *s, struct error *err)
{
    struct record *records = realloc(s->records, (s->n_records + 1) * sizeof(*records));

    if (!records)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: out of memory");
    s->records = records;
    struct store_key *keys = realloc(s->keys, (s->n_keys + 1) * sizeof(*keys));

    if (!keys)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: out of memory");
    s->keys = keys;
    return true;
}

static void put_record(struct memory_store *s, const struct record *next)
{
    size_t i = place(s, next->tenant, next->driver, next->volume_id);

    if (!find(s, next->tenant, next->driver, next->volume_id)) {
        memmove(&s->records[i + 1], &s->records[i], (s->n_records - i) * sizeof(*s->records));
        s->n_records++;
    }
    s->records[i] = *next;
}

static bool is_used(const struct memory_store *s, const struct record_key *key)
{
    for (size_t i = 0; i < s->n_records; i++)
        if (key_is_equal(&s->records[i].key, key))
            return true;
    return false;
}

static void drop_unused_keys(struct memory_store *s)
{
    for (size_t i = s->n_keys; i-- > 0;)
        if (!is_used(s, &s->keys[i].key))
            s->keys[i] = s->keys[--s->n_keys];
}

static bool memory_swap(struct store *store, const struct store_change *change, struct error *err)
{
    auto_unlock struct memory_store *s = locked(store);
    const struct record *other = change->must_still_be;

    if (change->ring && *change->ring != s->ring.version)
        return store_ring_changed(err);
    if ((other && !check_version(s, other, other->version, err)) ||
        !check_version(s, change->next, change->expected_version, err) || !reserve(s, err))
        return false;
    put_record(s, change->next);
    if (change->new_key)
        s->keys[s->n_keys++] = *change->new_key;
    drop_unused_keys(s);
    keep_later(s, change->head);
    return true;
}

static bool is_wanted(const struct record *r, const struct store_filter *filter)
{
    return strcmp(r->tenant, filter->tenant) == 0 && record_is_gone(r) == filter->is_gone &&
           (filter->driver[0] == '\0' || strcmp(r->driver, filter->driver) == 0) &&
           (filter->location[0] == '\0' || strcmp(r->spec.location, filter->location) == 0) &&
           (filter->source_volume_id[0] == '\0' ||
            strcmp(r->source_volume_id, filter->source_volume_id) == 0) &&
           (filter->kind == 0 || r->kind == filter->kind);
}

static bool memory_list(struct store *store, const struct store_filter *filter,
                        bool (*visit)(void *cookie, const struct record *r), void *cookie,
                        struct error *err)
{
    auto_unlock struct memory_store *s = locked(store);
    size_t i = 0;

    if (filter->after) {
        while (i < s->n_records && (strcmp(s->records[i].tenant, filter->tenant) != 0 ||
                                    memcmp(s->records[i].id, filter->after, RECORD_ID_LEN) != 0))
            i++;
        if (i++ == s->n_records)
            return error_set(err, ERROR_ABORTED, "page_token is not known: start the list again");
    }
    for (; i < s->n_records; i++)
        if (is_wanted(&s->records[i], filter) && !visit(cookie, &s->records[i]))
            break;
    return true;
}

static bool memory_count(struct store *store, const char *tenant, uint64_t *out, struct error *err)
{
    auto_unlock struct memory_store *s = locked(store);
    uint64_t n = 0;

    (void)err;
    for (size_t i = 0; i < s->n_records; i++)
        n += strcmp(s->records[i].tenant, tenant) == 0 && !record_is_gone(&s->records[i]);
    *out = n;
    return true;
}

static bool memory_get_key(struct store *store, const struct record_key *key, struct store_key *out,
                           struct error *err)
{
    auto_unlock struct memory_store *s = locked(store);

    for (size_t i = 0; i < s->n_keys; i++)
        if (key_is_equal(&s->keys[i].key, key)) {
            *out = s->keys[i];
            return true;
        }
    return error_set(err, ERROR_NOT_FOUND, "the key was destroyed");
}

/* Memory has no past. */
static bool memory_find_remains(struct store *store, const struct record_key *key,
                                struct store_remains *out, struct error *err UNUSED)
{
    auto_unlock struct memory_store *s = locked(store);

    *out = (struct store_remains){ .users = 0 };
    for (size_t i = 0; i < s->n_records; i++)
        out->users += key_is_equal(&s->records[i].key, key);
    return true;
}

static bool memory_each_retained(struct store *store,
                                 bool (*visit)(void *cookie, const struct store_retained *r),
                                 void *cookie, struct error *err UNUSED)
{
    auto_unlock struct memory_store *s = locked(store);

    for (size_t i = 0; i < s->n_records; i++) {
        const struct store_retained r = store_retained_of(&s->records[i]);

        if (s->records[i].phase == RECORD_RETAINED && !visit(cookie, &r))
            break;
    }
    return true;
}

/* Finds or makes the mark of a name. NULL when there is no room. */
static struct mark *mark_of(struct memory_store *s, const char *name, bool *is_new,
                            struct error *err)
{
    for (size_t i = 0; i < s->n_marks; i++)
        if (strcmp(s->marks[i].name, name) == 0)
            return &s->marks[i];
    if (s->n_marks == MARK_COUNT) {
        (void)error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: too many marks");
        return NULL;
    }
    struct mark *mark = &s->marks[s->n_marks];
    if (!record_text(mark->name, MARK_NAME_BYTES, "mark", name, err))
        return NULL;
    s->n_marks++;
    *is_new = true;
    return mark;
}

static bool memory_remember(struct store *store, const char *name,
                            const uint8_t mark[static STORE_MARK_LEN],
                            uint8_t out[static STORE_MARK_LEN], struct error *err)
{
    auto_unlock struct memory_store *s = locked(store);
    bool is_new = false;
    struct mark *found = mark_of(s, name, &is_new, err);

    if (!found)
        return false;
    if (is_new)
        memcpy(found->value, mark, STORE_MARK_LEN);
    memcpy(out, found->value, STORE_MARK_LEN);
    return true;
}

static bool memory_forget(struct store *store, const char *prefix, struct error *err UNUSED)
{
    auto_unlock struct memory_store *s = locked(store);
    size_t n = 0;

    for (size_t i = 0; i < s->n_marks; i++)
        if (strncmp(s->marks[i].name, prefix, strlen(prefix)) != 0)
            s->marks[n++] = s->marks[i];
    s->n_marks = n;
    return true;
}

static bool memory_raise(struct store *store, const char *name, uint64_t value, uint64_t *out,
                         struct error *err)
{
    auto_unlock struct memory_store *s = locked(store);
    bool is_new = false;

    if (value > STORE_MARK_MAX)
        return error_set(err, ERROR_OUT_OF_RANGE, "store: mark %s is too large", name);
    struct mark *found = mark_of(s, name, &is_new, err);
    if (!found)
        return false;
    if (value > found->highest)
        found->highest = value;
    *out = found->highest;
    return true;
}

static bool memory_walk(struct store *store, const struct store_name *after, struct record *out,
                        bool *found, struct error *err UNUSED)
{
    auto_unlock struct memory_store *s = locked(store);
    size_t i = place(s, after->tenant, after->driver, after->volume_id);

    if (find(s, after->tenant, after->driver, after->volume_id))
        i++;
    *found = i < s->n_records;
    if (*found)
        *out = s->records[i];
    return true;
}

static bool memory_rekey(struct store *store, const struct store_key *from,
                         const uint8_t wrapped[static STORE_WRAPPED_LEN], struct error *err)
{
    auto_unlock struct memory_store *s = locked(store);

    for (size_t i = 0; i < s->n_keys; i++)
        if (key_is_equal(&s->keys[i].key, &from->key) &&
            memcmp(s->keys[i].wrapped, from->wrapped, STORE_WRAPPED_LEN) == 0) {
            memcpy(s->keys[i].wrapped, wrapped, STORE_WRAPPED_LEN);
            return true;
        }
    return store_ring_changed(err);
}

static bool memory_get_ring(struct store *store, struct store_ring *out, struct error *err UNUSED)
{
    auto_unlock struct memory_store *s = locked(store);

    *out = s->ring;
    return true;
}

static bool memory_put_ring(struct store *store, const struct store_ring *next, uint64_t expected,
                            struct error *err)
{
    auto_unlock struct memory_store *s = locked(store);

    if (s->ring.version != expected)
        return store_ring_changed(err);
    s->ring = *next;
    return true;
}

static void memory_close(struct store *store)
{
    struct memory_store *s = (struct memory_store *)(void *)store;

    free(s->records);
    free(s->keys);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static const struct store_ops memory_ops = {
    .name = "memory",
    .unlock = memory_unlock,
    .get_head = memory_get_head,
    .put_head = memory_put_head,
    .get = memory_get,
    .swap = memory_swap,
    .list = memory_list,
    .count = memory_count,
    .get_key = memory_get_key,
    .find_remains = memory_find_remains,
    .each_retained = memory_each_retained,
    .remember = memory_remember,
    .forget = memory_forget,
    .raise = memory_raise,
    .walk = memory_walk,
    .rekey = memory_rekey,
    .get_ring = memory_get_ring,
    .put_ring = memory_put_ring,
    .close = memory_close,
};

bool store_memory_open(struct store **out, struct error *err)
{
    struct memory_store *s = calloc(1, sizeof(*s));

    if (!s)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: out of memory");
    s->store.ops = &memory_ops;
    pthread_mutex_init(&s->lock, NULL);
    *out = &s->store;
    return true;
}
