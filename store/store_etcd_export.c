/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_etcd.h"

#include <stdlib.h>
#include <string.h>

/* All that etcd holds, as it was at one revision. */

enum {
    PAGE_PAIRS = 1000, /* each question costs etcd a walk over all keys */
    MARK_NAME_MAX = 255,
};

struct exporting {
    struct etcd_store *s;
    const struct store_visitor *visitor;
    int64_t revision;
    const struct etcd_key *start; /* of what is visited */
    size_t n;
    struct record records[ETCD_OPS_MAX]; /* n of them, whose keys are asked for next */
};

/* Below start, at the export's revision. */
static bool each_pair(struct exporting *e, const struct etcd_key *start,
                      bool (*visit)(void *cookie, const struct etcd_pair *pair, struct error *err),
                      struct error *err)
{
    const struct etcd_range range = { .start = start,
                                      .limit = PAGE_PAIRS,
                                      .revision = e->revision };

    e->start = start;
    return etcd_each_pair(e->s->client, &range, visit, e, err);
}

/* --- records with their keys --- */

static bool give(struct exporting *e, const struct record *r, const struct etcd_pair *key,
                 struct error *err)
{
    struct store_key out = { .key = r->key };

    if (key->revision == 0 || key->value.len != STORE_WRAPPED_LEN)
        return store_refuse(&e->s->store, r->volume_id, "key", err);
    memcpy(out.wrapped, key->value.bytes, STORE_WRAPPED_LEN);
    return e->visitor->record(e->visitor->cookie, r, &out, err);
}

/* One question for the keys of several records. */
static bool give_all(struct exporting *e, struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_txn txn = { .arena = &arena };
    struct etcd_key keys[ETCD_OPS_MAX];
    struct etcd_result result;
    struct etcd_pair pair;

    if (e->n == 0)
        return true;
    for (size_t i = 0; i < e->n; i++) {
        etcd_key_of_key("key", &e->records[i].key, &keys[i]);
        etcd_then_get_at(&txn, &keys[i], e->revision);
    }
    if (!etcd_txn_ask(e->s->client, &txn, etcd_until(e->s->client), &result, err))
        return false;
    for (size_t i = 0; i < e->n; i++)
        if (!etcd_result_get(&result, i, &keys[i], &pair, err) ||
            !give(e, &e->records[i], &pair, err))
            return false;
    e->n = 0;
    return true;
}

static bool visit_record(void *cookie, const struct etcd_pair *pair, struct error *err)
{
    struct exporting *e = cookie;
    struct record *r = &e->records[e->n];
    struct etcd_bytes packed;

    if (!etcd_unpack(e->s, pair, r, &packed, err))
        return false;
    if (r->key.generation == 0)
        return e->visitor->record(e->visitor->cookie, r, NULL, err);
    e->n++;
    return e->n < ETCD_OPS_MAX || give_all(e, err);
}

/* --- marks --- */

static bool read_name(const struct etcd_key *start, const struct etcd_pair *pair,
                      char out[static MARK_NAME_MAX + 1], struct error *err)
{
    size_t len = pair->key.len - start->len;

    if (len == 0 || len > MARK_NAME_MAX)
        return error_set(err, ERROR_DATA_LOSS, "store: a mark has no good name");
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = pair->key.bytes[start->len + i];

        if (byte < ' ' || byte > '~')
            return error_set(err, ERROR_DATA_LOSS, "store: a mark has no good name");
        out[i] = (char)byte;
    }
    out[len] = '\0';
    return true;
}

static bool damaged(const char *name, struct error *err)
{
    return error_set(err, ERROR_DATA_LOSS, "store: mark %s is damaged", name);
}

static bool visit_mark(void *cookie, const struct etcd_pair *pair, struct error *err)
{
    struct exporting *e = cookie;
    char name[MARK_NAME_MAX + 1];

    if (!read_name(e->start, pair, name, err))
        return false;
    if (pair->value.len != STORE_MARK_LEN)
        return damaged(name, err);
    return e->visitor->mark(e->visitor->cookie, name, pair->value.bytes, err);
}

static bool visit_highest(void *cookie, const struct etcd_pair *pair, struct error *err)
{
    struct exporting *e = cookie;
    char name[MARK_NAME_MAX + 1];
    uint64_t value = 0;

    if (!read_name(e->start, pair, name, err))
        return false;
    if (!etcd_number_read(&pair->value, &value))
        return damaged(name, err);
    return e->visitor->highest(e->visitor->cookie, name, value, err);
}

static bool run(struct exporting *e, struct error *err)
{
    struct etcd_key records, marks, highest;

    etcd_key_records(&records);
    if (!etcd_key_text("mark", "", &marks) || !etcd_key_text("highest", "", &highest))
        return error_set(err, ERROR_INTERNAL, "store: marks have no key");
    return etcd_find_revision(e->s->client, &e->revision, err) &&
           each_pair(e, &records, visit_record, err) && give_all(e, err) &&
           each_pair(e, &marks, visit_mark, err) && each_pair(e, &highest, visit_highest, err);
}

bool etcd_store_export(struct store *store, const struct store_visitor *visitor, struct error *err)
{
    struct etcd_store *s = etcd_store_of(store);
    auto_free struct exporting *e = NULL;

    if (!etcd_check_unlocked(s, etcd_until(s->client), err))
        return false;
    e = calloc(1, sizeof(*e)); /* large */
    if (!e)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: out of memory");
    e->s = s;
    e->visitor = visitor;
    if (run(e, err))
        return true;
    /* A broker had etcd forget this revision. */
    if (err->code == ERROR_OUT_OF_RANGE)
        err->code = ERROR_ABORTED;
    return false;
}
