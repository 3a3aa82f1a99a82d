/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "record/check.h"
#include "store/store_etcd.h"

#include <string.h>

#define PAGE_RECORDS 200 /* of a list, in one question to etcd */
#define PAGE_KEYS    2   /* that begin pages, up to which one question goes */

/* --- one record --- */

static bool refuse(struct etcd_store *s, const struct etcd_bytes *key, struct error *err)
{
    const uint8_t *volume_id = key->bytes;
    char text[VOLUME_ID_MAX + 1];
    size_t len = 0;

    for (size_t i = 0; i < key->len; i++)
        if (key->bytes[i] == '\0')
            volume_id = key->bytes + i + 1;
    while (volume_id + len < key->bytes + key->len && len < VOLUME_ID_MAX) {
        text[len] = (char)(volume_id[len] >= ' ' && volume_id[len] <= '~' ? volume_id[len] : '?');
        len++;
    }
    text[len] = '\0';
    return store_refuse(&s->store, text, "record", err);
}

/* The key under which the record lies must say what the record says. */
static bool is_in_place(const struct etcd_bytes *key, const struct record *r)
{
    const struct store_name name = { r->tenant, r->driver, r->volume_id };
    struct etcd_key wanted;

    return etcd_key_record(&name, &wanted) && etcd_key_is(&wanted, key);
}

bool etcd_unpack(struct etcd_store *s, const struct etcd_pair *pair, struct record *out,
                 struct etcd_bytes *packed, struct error *err)
{
    const struct etcd_bytes *value = &pair->value;
    uint8_t proof[STORE_PROOF_LEN];

    if (value->len < STORE_PROOF_LEN || value->len > ETCD_RECORD_MAX)
        return refuse(s, &pair->key, err);
    *packed = (struct etcd_bytes){ value->bytes + STORE_PROOF_LEN, value->len - STORE_PROOF_LEN };
    if (!proof_of_record(&s->key, packed->bytes, packed->len, proof, err))
        return false;
    if (!bytes_are_equal(proof, value->bytes, STORE_PROOF_LEN))
        return refuse(s, &pair->key, err);
    if (!record_decode(packed->bytes, packed->len, out, err) || !record_check(out, err)) {
        if (err->code == ERROR_FAILED_PRECONDITION)
            return error_wrap(err, "a stored record");
        err->code = ERROR_INTERNAL;
        return error_wrap(err, "a stored record is damaged");
    }
    return is_in_place(&pair->key, out) || refuse(s, &pair->key, err);
}

bool etcd_store_get(struct store *store, const struct store_name *name, struct record *out,
                    struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_store *s = etcd_store_of(store);
    uint64_t until_ms = etcd_until(s->client);
    struct etcd_key key;
    struct etcd_pair pair = { .revision = 0 };
    struct etcd_bytes packed;

    if (!etcd_check_unlocked(s, until_ms, err))
        return false;
    if (etcd_key_record(name, &key) && !etcd_get(s->client, &key, &arena, until_ms, &pair, err))
        return false;
    if (pair.revision == 0)
        return error_set(err, ERROR_NOT_FOUND, "there is no volume or snapshot %s",
                         name->volume_id);
    return etcd_unpack(s, &pair, out, &packed, err);
}

bool etcd_store_walk(struct store *store, const struct store_name *after, struct record *out,
                     bool *found, struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_store *s = etcd_store_of(store);
    uint64_t until_ms = etcd_until(s->client);
    struct etcd_key start, from;
    const struct etcd_range range = { .start = &start, .from = &from, .limit = 1 };
    struct etcd_bytes packed;
    struct etcd_page page;

    if (!etcd_check_unlocked(s, until_ms, err))
        return false;
    etcd_key_records(&start);
    from = start;
    if (after->tenant[0] != '\0') {
        if (!etcd_key_record(after, &from) || from.len == ETCD_KEY_MAX)
            return error_set(err, ERROR_INTERNAL, "store: the names of a record are too long");
        from.bytes[from.len++] = '\0'; /* the next key that is possible */
    }
    if (!etcd_range_ask(s->client, &range, &arena, until_ms, &page, err))
        return false;
    *found = page.n > 0;
    if (!*found)
        return true;
    const struct etcd_pair pair = etcd_page_at(&page, 0);

    return etcd_unpack(s, &pair, out, &packed, err);
}

bool etcd_store_get_key(struct store *store, const struct record_key *key, struct store_key *out,
                        struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_store *s = etcd_store_of(store);
    uint64_t until_ms = etcd_until(s->client);
    struct etcd_pair pair;
    struct etcd_key name;

    etcd_key_of_key("key", key, &name);
    if (!etcd_check_ready(s, until_ms, err) ||
        !etcd_get(s->client, &name, &arena, until_ms, &pair, err))
        return false;
    if (pair.revision == 0)
        return error_set(err, ERROR_NOT_FOUND, "the key was destroyed");
    if (pair.value.len != STORE_WRAPPED_LEN)
        return error_set(err, ERROR_INTERNAL,
                         "store: a stored value is damaged: it has the wrong length");
    out->key = *key;
    memcpy(out->wrapped, pair.value.bytes, STORE_WRAPPED_LEN);
    return true;
}

/* The history has a key that was destroyed at this revision as long as the revision before can be asked for. */
static bool find_in_past(struct etcd_store *s, const struct record_key *key, int64_t destroyed_at,
                         uint64_t until_ms, bool *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_key start;
    const struct etcd_range range = { .start = &start, .limit = 1, .revision = destroyed_at - 1 };
    struct etcd_page page = { .n = 0 };

    etcd_key_of_key("key", key, &start);
    *out = etcd_range_ask(s->client, &range, &arena, until_ms, &page, err);
    if (!*out && err->code != ERROR_OUT_OF_RANGE)
        return false;
    *err = (struct error)ERROR_INIT;
    return true;
}

bool etcd_store_find_remains(struct store *store, const struct record_key *key,
                             struct store_remains *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_store *s = etcd_store_of(store);
    uint64_t until_ms = etcd_until(s->client), users = 0;
    bool in_past = true;
    struct etcd_pair pair;
    struct etcd_key name;

    etcd_key_of_key("users", key, &name);
    if (!etcd_check_ready(s, until_ms, err) ||
        !etcd_get(s->client, &name, &arena, until_ms, &pair, err))
        return false;
    if (pair.revision > 0 && !etcd_number_read(&pair.value, &users))
        return error_set(err, ERROR_INTERNAL, "store: the number of users of a key is damaged");
    if (users > 0)
        in_past = false;
    else if (pair.revision > 1 && !find_in_past(s, key, pair.revision, until_ms, &in_past, err))
        return false;
    *out = (struct store_remains){ .users = users,
                                   .in_past = in_past,
                                   .revision = (uint64_t)pair.revision };
    return true;
}

/* --- lists --- */

struct retained_walk {
    bool (*visit)(void *cookie, const struct store_retained *r);
    void *cookie;
    bool is_over;
};

/* What no broker wrote is no record's. */
static bool visit_retained(void *cookie, const struct etcd_pair *pair, struct error *err UNUSED)
{
    struct retained_walk *w = cookie;
    struct store_retained r;

    if (!w->is_over && etcd_retained_read(&pair->key, &pair->value, &r))
        w->is_over = !w->visit(w->cookie, &r);
    return true;
}

bool etcd_store_each_retained(struct store *store,
                              bool (*visit)(void *cookie, const struct store_retained *r),
                              void *cookie, struct error *err)
{
    struct etcd_store *s = etcd_store_of(store);
    struct retained_walk w = { visit, cookie, false };
    struct etcd_key start;
    const struct etcd_range range = { .start = &start, .limit = PAGE_RECORDS };

    return etcd_check_unlocked(s, etcd_until(s->client), err) &&
           (etcd_key_text("retained", "", &start) ||
            error_set(err, ERROR_INTERNAL, "store: RETAINED records have no key")) &&
           etcd_each_pair(s->client, &range, visit_retained, &w, err);
}

static bool fits(const struct store_filter *filter, const struct record *r)
{
    return record_is_gone(r) == filter->is_gone && (filter->kind == 0 || r->kind == filter->kind) &&
           (filter->location[0] == '\0' || strcmp(r->spec.location, filter->location) == 0) &&
           (filter->source_volume_id[0] == '\0' ||
            strcmp(r->source_volume_id, filter->source_volume_id) == 0);
}

struct list {
    struct etcd_store *s;
    const struct store_filter *filter;
    bool (*visit)(void *cookie, const struct record *r);
    void *cookie;
    uint32_t limit; /* of the next question */
    bool is_over;
};

static bool visit_page(struct list *l, const struct etcd_page *page, struct error *err)
{
    struct record r = { .version = 0 };
    struct etcd_bytes packed;

    for (size_t i = 0; i < page->n && !l->is_over; i++) {
        struct etcd_pair pair = etcd_page_at(page, i);
        struct error damage = ERROR_INIT;

        if (etcd_unpack(l->s, &pair, &r, &packed, &damage)) {
            l->is_over = fits(l->filter, &r) && !l->visit(l->cookie, &r);
        } else if (damage.code == ERROR_DATA_LOSS) { /* a list is for all the others */
            log_error("a list leaves out a damaged record", ERROR_FIELDS(&damage));
        } else {
            *err = damage;
            return false;
        }
    }
    return true;
}

/* The key after that of the record with which the last page ended. */
static bool find_position(struct etcd_store *s, const struct store_filter *filter,
                          uint64_t until_ms, struct etcd_key *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_pair pair = { .revision = 0 };
    struct etcd_names names;
    struct etcd_key key;

    if (etcd_key_id(filter->tenant, filter->after, &key) &&
        !etcd_get(s->client, &key, &arena, until_ms, &pair, err))
        return false;
    if (pair.revision > 0 && etcd_names_read(&pair.value, &names)) {
        const struct store_name name = { filter->tenant, names.driver, names.volume_id };

        if (etcd_key_record(&name, out)) {
            out->bytes[out->len++] = '\0';
            return true;
        }
    }
    return error_set(err, ERROR_ABORTED, "page_token is not known: start the list again");
}

static bool is_before(const struct etcd_key *a, const struct etcd_key *b)
{
    size_t len = a->len < b->len ? a->len : b->len;
    int order = memcmp(a->bytes, b->bytes, len);

    return order < 0 || (order == 0 && a->len < b->len);
}

/* Where a question ends that begins at from. *is_last: at the end of the list. */
static bool find_end(struct etcd_store *s, const struct store_filter *filter,
                     const struct etcd_key *from, struct etcd_key *out, bool *is_last,
                     struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_key start, next;
    const struct etcd_range range = {
        .start = &start, .from = &next, .limit = PAGE_KEYS, .keys_only = true
    };
    struct etcd_page page;

    if (!etcd_key_tenant("page", filter->tenant, filter->driver, &start) ||
        !etcd_key_page(from, &next))
        return error_set(err, ERROR_INTERNAL, "store: a list has no end");
    next.bytes[next.len++] = '\0'; /* after from */
    if (!etcd_range_ask(s->client, &range, &arena, etcd_until(s->client), &page, err))
        return false;
    *is_last = page.n < PAGE_KEYS;
    if (*is_last)
        return true;
    const struct etcd_pair last = etcd_page_at(&page, page.n - 1);

    return etcd_key_of_page(&last.key, out) ||
           error_set(err, ERROR_INTERNAL, "store: a list has no end");
}

/* One question; from becomes where the next one begins. */
static bool list_some(struct list *l, const struct etcd_key *start, struct etcd_key *from,
                      struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_key end;
    struct etcd_range range = { .start = start, .from = from, .limit = l->limit };
    struct etcd_page page;
    bool is_last = false;

    l->limit = PAGE_RECORDS; /* the filter may leave out most of them */
    if (!find_end(l->s, l->filter, from, &end, &is_last, err))
        return false;
    if (!is_last)
        range.end = &end;
    if (!etcd_range_ask(l->s->client, &range, &arena, etcd_until(l->s->client), &page, err) ||
        !visit_page(l, &page, err))
        return false;
    if (page.more)
        return etcd_page_next(&page, from, err);
    l->is_over |= is_last;
    *from = end;
    return true;
}

bool etcd_store_list(struct store *store, const struct store_filter *filter,
                     bool (*visit)(void *cookie, const struct record *r), void *cookie,
                     struct error *err)
{
    struct etcd_store *s = etcd_store_of(store);
    uint32_t wanted = filter->wanted;
    struct list l = {
        s, filter, visit, cookie, wanted > 0 && wanted < PAGE_RECORDS ? wanted : PAGE_RECORDS, false
    };
    struct etcd_key start, from, position, end;

    if (!etcd_check_unlocked(s, etcd_until(s->client), err))
        return false;
    if (!etcd_key_tenant("record", filter->tenant, filter->driver, &start))
        return true; /* names that no record can have */
    from = start;
    etcd_key_end(&start, &end);
    if (filter->after) {
        if (!find_position(s, filter, etcd_until(s->client), &position, err))
            return false;
        /* A driver's records may begin after the position. */
        if (is_before(&from, &position))
            from = position;
    }
    /* Most of what is read may be ERASED, and then the walk is longer than anybody waits. */
    while (!l.is_over && is_before(&from, &end))
        if (!store_check_wanted(filter, err) || !list_some(&l, &start, &from, err))
            return false;
    return true;
}

bool etcd_store_count(struct store *store, const char *tenant, uint64_t *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_store *s = etcd_store_of(store);
    uint64_t until_ms = etcd_until(s->client), sum = 0, n = 0;
    struct etcd_key start;
    const struct etcd_range range = { .start = &start, .limit = ETCD_SHARDS };
    struct etcd_page page = { .n = 0 };

    if (!etcd_check_ready(s, until_ms, err))
        return false;
    if (etcd_key_tenant("count", tenant, "", &start) &&
        !etcd_range_ask(s->client, &range, &arena, until_ms, &page, err))
        return false;
    for (size_t i = 0; i < page.n; i++) {
        const struct etcd_pair pair = etcd_page_at(&page, i);

        if (!etcd_number_read(&pair.value, &n) || n > INT64_MAX / ETCD_SHARDS)
            return error_set(err, ERROR_INTERNAL, "store: the count of records is damaged");
        sum += n;
    }
    *out = sum;
    return true;
}
