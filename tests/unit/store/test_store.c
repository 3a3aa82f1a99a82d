/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "record/encoding.h"
#include "tests/unit/broker/store_place.h"
#include "tests/unit/store/etcd_place.h"

#include <dirent.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void a_record_comes_back_as_it_was(void **state)
{
    const struct store_place *place = *state;
    struct record r = store_place_record("t", "d", "v"), back;
    struct error err = ERROR_INIT;

    r.has_clean_hash = true;
    r.clean_hash[3] = 9;
    r.lease.holder = fixture_holder("n1", "b1");
    r.lease.opened_ms = 77;
    r.format.holder = fixture_holder("n2", "b2");
    r.format.attempt = 3;
    r.format.deadline_ms = 99;
    r.origin = (struct volume_origin){ .is_set = true, .record_id = { 4 }, .counter_high = 1 };
    (void)snprintf(r.source_volume_id, sizeof(r.source_volume_id), "source");
    assert_ok(store_place_swap(place->store, &r, true, &err));
    assert_ok(store_place_get(place->store, "v", &back, &err));
    static struct encoded stored, wanted; /* structs may differ in bytes that belong to no field */
    record_encode(&back, &stored);
    record_encode(&r, &wanted);
    assert_int_equal(stored.len, wanted.len);
    assert_memory_equal(stored.bytes, wanted.bytes, wanted.len);
}

static void what_is_not_there_is_not_found(void **state)
{
    const struct store_place *place = *state;
    struct record r = store_place_record("t", "d", "v"), back;
    struct store_name names[] = { { "u", "d", "v" }, { "t", "e", "v" }, { "t", "d", "w" } };
    struct error err = ERROR_INIT;

    assert_ok(store_place_swap(place->store, &r, true, &err));
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_refused(ERROR_NOT_FOUND,
                       place->store->ops->get(place->store, &names[i], &back, &err));
}

static void a_swap_at_another_version_is_aborted(void **state)
{
    const struct store_place *place = *state;
    static struct record r, stale, back; /* large for a stack */
    struct error err = ERROR_INIT;

    r = stale = store_place_record("t", "d", "v");
    assert_ok(store_place_swap(place->store, &r, true, &err));
    assert_refused(ERROR_ABORTED,
                   store_place_swap(place->store, &stale, false, &err)); /* expects no record */
    stale = r;
    assert_ok(store_place_swap(place->store, &r, false, &err));
    assert_refused(ERROR_ABORTED, store_place_swap(place->store, &stale, false, &err));
    stale.version = 99;
    assert_refused(ERROR_ABORTED, store_place_swap(place->store, &stale, false, &err));
    stale = store_place_record("t", "d", "other");
    stale.version = 1;
    assert_refused(ERROR_ABORTED,
                   store_place_swap(place->store, &stale, false, &err)); /* was never stored */
    assert_ok(store_place_get(place->store, "v", &back, &err));
    assert_int_equal(back.version, 2);
}

static void a_copy_whose_source_changed_is_aborted_whole(void **state)
{
    const struct store_place *place = *state;
    static struct record source, copy, seen, back; /* large for a stack */
    struct store_change change = { .next = &copy, .must_still_be = &seen };
    struct error err = ERROR_INIT;

    source = store_place_record("t", "d", "v");
    copy = store_place_record("t", "d", "copy");
    assert_ok(store_place_swap(place->store, &source, true, &err));
    seen = source;
    assert_ok(store_place_swap(place->store, &source, false, &err));
    copy.version = 1;
    assert_refused(ERROR_ABORTED, place->store->ops->swap(place->store, &change, &err));
    assert_refused(ERROR_NOT_FOUND, store_place_get(place->store, "copy", &back, &err));
    seen = source;
    assert_ok(place->store->ops->swap(place->store, &change, &err));
}

static void erase(struct store *store, struct record *r)
{
    struct error err = ERROR_INIT;

    r->phase = RECORD_ERASED;
    r->key = (struct record_key){ .generation = 0 };
    assert_ok(store_place_swap(store, r, false, &err));
}

static void a_record_that_takes_another_key_drops_its_former_one(void **state)
{
    const struct store_place *place = *state;
    struct record r = store_place_record("t", "d", "v"), copy = store_place_record("t", "d", "w");
    const struct record_key first = r.key, second = { .id = { 0xcc }, .generation = 2 };
    struct store_key unused;
    struct error err = ERROR_INIT;

    assert_ok(store_place_swap(place->store, &r, true, &err));
    assert_ok(store_place_swap(place->store, &copy, false, &err));
    r.key = second;
    assert_ok(store_place_swap(place->store, &r, true, &err));
    assert_ok(place->store->ops->get_key(place->store, &first, &unused, &err)); /* the copy's */
    assert_ok(place->store->ops->get_key(place->store, &second, &unused, &err));
}

static void a_key_lives_as_long_as_its_last_record(void **state)
{
    const struct store_place *place = *state;
    struct record r = store_place_record("t", "d", "v"),
                  copy = store_place_record("t", "d", "copy");
    const struct record_key key = r.key;
    struct store_key out;
    struct error err = ERROR_INIT;

    assert_ok(store_place_swap(place->store, &r, true, &err));
    assert_ok(store_place_swap(place->store, &copy, false, &err));
    erase(place->store, &r);
    assert_ok(place->store->ops->get_key(place->store, &key, &out, &err));
    assert_int_equal(out.wrapped[0], 0xa0);
    erase(place->store, &copy);
    assert_refused(ERROR_NOT_FOUND, place->store->ops->get_key(place->store, &key, &out, &err));
}

struct seen {
    char ids[256];
    size_t n, limit;
    uint8_t last[RECORD_ID_LEN];
};

static bool note(void *cookie, const struct record *r)
{
    struct seen *seen = cookie;
    size_t len = strlen(seen->ids);

    if (seen->n == seen->limit)
        return false;
    (void)snprintf(seen->ids + len, sizeof(seen->ids) - len, "%s/%s ", r->driver, r->volume_id);
    memcpy(seen->last, r->id, RECORD_ID_LEN);
    seen->n++;
    return true;
}

static void lists_are_in_order_by_filter_and_in_pages(void **state)
{
    const struct store_place *place = *state;
    static const char *const ids[][3] = {
        { "t", "d", "b" },  { "t", "d", "a" }, { "u", "d", "x" },
        { "t", "e", "a2" }, { "t", "d", "c" }, { "t", "c", "z" }
    };
    struct store_filter filter = {
        .tenant = "t", .driver = "", .location = "", .source_volume_id = ""
    };
    struct seen all = { .limit = 99 }, page = { .limit = 2 }, rest = { .limit = 99 };
    struct record r;
    struct error err = ERROR_INIT;
    uint64_t count = 0;

    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        r = store_place_record(ids[i][0], ids[i][1], ids[i][2]);
        r.key.id[5] = (uint8_t)i;
        if (i == 1)
            (void)snprintf(r.spec.location, sizeof(r.spec.location), "n1");
        if (i == 4) {
            r.kind = RECORD_SNAPSHOT;
            (void)snprintf(r.source_volume_id, sizeof(r.source_volume_id), "b");
        }
        assert_ok(store_place_swap(place->store, &r, true, &err));
    }
    assert_ok(place->store->ops->list(place->store, &filter, note, &all, &err));
    assert_string_equal(all.ids, "c/z d/a d/b d/c e/a2 ");
    assert_ok(place->store->ops->count(place->store, "t", &count, &err));
    assert_int_equal(count, 5);
    assert_ok(place->store->ops->list(place->store, &filter, note, &page, &err));
    assert_string_equal(page.ids, "c/z d/a ");
    r = store_place_record("t", "d", "a"); /* erased between the pages: the token stays valid */
    r.version = 1;
    r.key.id[5] = 1;
    erase(place->store, &r);
    assert_ok(place->store->ops->count(place->store, "t", &count, &err));
    assert_int_equal(count, 4); /* without the erased one */
    assert_ok(place->store->ops->count(place->store, "nobody", &count, &err));
    assert_int_equal(count, 0);
    filter.after = page.last;
    assert_ok(place->store->ops->list(place->store, &filter, note, &rest, &err));
    assert_string_equal(rest.ids, "d/b d/c e/a2 ");
    filter.after = (const uint8_t *)"never seen  16 b";
    assert_refused(ERROR_ABORTED,
                   place->store->ops->list(place->store, &filter, note, &rest, &err));
    filter.after = NULL;
    filter.driver = "d";
    all = (struct seen){ .limit = 99 };
    assert_ok(place->store->ops->list(place->store, &filter, note, &all, &err));
    assert_string_equal(all.ids, "d/b d/c "); /* d/a is erased */
    filter.kind = RECORD_SNAPSHOT;
    filter.source_volume_id = "b";
    all = (struct seen){ .limit = 99 };
    assert_ok(place->store->ops->list(place->store, &filter, note, &all, &err));
    assert_string_equal(all.ids, "d/c ");
    filter = (struct store_filter){
        .tenant = "t", .driver = "", .location = "n2", .source_volume_id = ""
    };
    all = (struct seen){ .limit = 99 };
    assert_ok(place->store->ops->list(place->store, &filter, note, &all, &err));
    assert_string_equal(all.ids, "");
}

static void raised_marks_never_fall(void **state)
{
    static const struct {
        const char *name;
        uint64_t value, highest;
    } steps[] = { { "a", 0, 0 },
                  { "a", 7, 7 },
                  { "a", 3, 7 },
                  { "b", 5, 5 },
                  { "a", 8, 8 },
                  { "b", 5, 5 },
                  { "c", STORE_MARK_MAX, STORE_MARK_MAX } };
    const struct store_place *place = *state;
    struct error err = ERROR_INIT;
    uint64_t out = 99;

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        assert_ok(
            place->store->ops->raise(place->store, steps[i].name, steps[i].value, &out, &err));
        assert_int_equal(out, steps[i].highest);
    }
    out = 99;
    assert_refused(ERROR_OUT_OF_RANGE,
                   place->store->ops->raise(place->store, "a", STORE_MARK_MAX + 1ull, &out, &err));
    assert_int_equal(out, 99);
}

static void raised_marks_are_there_after_a_restart(void **state)
{
    struct store_place *place = *state;
    struct error err = ERROR_INIT;
    uint64_t out = 0;

    assert_ok(place->store->ops->raise(place->store, "a", 41, &out, &err));
    (void)store_place_reopen(place);
    assert_ok(place->store->ops->raise(place->store, "a", 2, &out, &err));
    assert_int_equal(out, 41);
}

static void the_first_mark_stays(void **state)
{
    const struct store_place *place = *state;
    const uint8_t one[STORE_MARK_LEN] = { 1 }, two[STORE_MARK_LEN] = { 2 };
    uint8_t out[STORE_MARK_LEN] = { 0 };
    struct error err = ERROR_INIT;

    assert_ok(place->store->ops->remember(place->store, "m", one, out, &err));
    assert_memory_equal(out, one, sizeof(out));
    assert_ok(place->store->ops->remember(place->store, "m", two, out, &err));
    assert_memory_equal(out, one, sizeof(out));
    assert_ok(place->store->ops->remember(place->store, "n", two, out, &err));
    assert_memory_equal(out, two, sizeof(out));
}

static void marks_are_forgotten_by_their_prefix(void **state)
{
    static const char *const names[] = { "c:1:a", "c:1:b", "c:2:a", "c:1", "d" };
    const struct store_place *place = *state;
    const uint8_t one[STORE_MARK_LEN] = { 1 }, two[STORE_MARK_LEN] = { 2 };
    uint8_t out[STORE_MARK_LEN] = { 0 };
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_ok(place->store->ops->remember(place->store, names[i], one, out, &err));
    assert_ok(place->store->ops->forget(place->store, "c:1:", &err));
    assert_ok(place->store->ops->forget(place->store, "nothing", &err));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_ok(place->store->ops->remember(place->store, names[i], two, out, &err));
        assert_memory_equal(out, i < 2 ? two : one, sizeof(out));
    }
    assert_ok(place->store->ops->forget(place->store, "c:2:a", &err));
    assert_ok(place->store->ops->remember(place->store, "c:2:a", two, out, &err));
    assert_memory_equal(out, two, sizeof(out));
}

#define THREADS 2
#define ROUNDS  100

struct racer {
    struct store *store;
    pthread_barrier_t *barrier;
    int won;
};

/* Each thread swaps the version that it sees at the start of the round. */
static void *race(void *cookie)
{
    struct racer *racer = cookie;

    for (int i = 0; i < ROUNDS; i++) {
        struct record r;
        struct error err = ERROR_INIT;

        if (!store_place_get(racer->store, "v", &r, &err))
            return NULL;
        pthread_barrier_wait(racer->barrier);
        if (store_place_swap(racer->store, &r, false, &err))
            racer->won++;
        else if (err.code != ERROR_ABORTED)
            return NULL;
        pthread_barrier_wait(racer->barrier);
    }
    return NULL;
}

static void of_two_who_swap_at_once_one_wins(void **state)
{
    const struct store_place *place = *state;
    struct record r = store_place_record("t", "d", "v");
    pthread_t threads[THREADS];
    struct racer racers[THREADS];
    pthread_barrier_t barrier;
    struct error err = ERROR_INIT;

    assert_ok(store_place_swap(place->store, &r, true, &err));
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        racers[i] = (struct racer){ place->store, &barrier, 0 };
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
    assert_int_equal(racers[0].won + racers[1].won, ROUNDS);
    assert_ok(store_place_get(place->store, "v", &r, &err));
    assert_int_equal(r.version, 1 + ROUNDS);
}

/* --- only SQLite --- */

static bool is_in_files(const char *dir, const void *bytes, size_t len)
{
    DIR *folder = opendir(dir);
    const struct dirent *entry;
    bool found = false;

    if (!folder) {
        fail_msg("%s", dir);
        return false;
    }
    while ((entry = readdir(folder))) {
        struct error err = ERROR_INIT;
        auto_free char *content = NULL;
        size_t content_len = 0;
        char path[512];

        (void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        if (file_read(path, 16 << 20, &content, &content_len, &err) &&
            memmem(content, content_len, bytes, len))
            found = true;
    }
    closedir(folder);
    return found;
}

static void of_an_erased_key_nothing_is_left_in_any_file(void **state)
{
    const struct store_place *place = *state;
    struct record r = store_place_record("t", "d", "v");
    uint8_t wrapped[8];
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < sizeof(wrapped); i++)
        wrapped[i] = (uint8_t)(0xa0 + i);
    assert_ok(store_place_swap(place->store, &r, true, &err));
    assert_true(is_in_files(place->dir, wrapped, sizeof(wrapped)));
    erase(place->store, &r);
    assert_false(is_in_files(place->dir, wrapped, sizeof(wrapped)));
}

/* The key stays, because a copy uses it; the next secret was in the record alone. */
static void of_an_erased_next_secret_nothing_is_left_in_any_file(void **state)
{
    const struct store_place *place = *state;
    struct record r = store_place_record("t", "d", "v"), copy = store_place_record("t", "d", "w");
    struct error err = ERROR_INIT;

    r.rotation = (struct record_rotation){ .key = { .generation = 2 },
                                           .secret_len = STORE_WRAPPED_LEN,
                                           .secret = "next secret" };
    assert_ok(store_place_swap(place->store, &r, true, &err));
    assert_ok(store_place_swap(place->store, &copy, false, &err));
    assert_true(is_in_files(place->dir, "next secret", 11));
    r.rotation = (struct record_rotation){ .secret_len = 0 };
    erase(place->store, &r);
    assert_false(is_in_files(place->dir, "next secret", 11));
}

static void records_are_there_after_a_restart(void **state)
{
    struct store_place *place = *state;
    struct record r = store_place_record("t", "d", "v"), back;
    struct error err = ERROR_INIT;

    assert_ok(store_place_swap(place->store, &r, true, &err));
    (void)store_place_reopen(place);
    assert_ok(place->store && store_place_get(place->store, "v", &back, &err));
    assert_memory_equal(&back, &r, sizeof(r));
}

static void a_second_broker_on_the_store_is_refused(void **state)
{
    const struct store_place *place = *state;
    auto_store struct store *second = NULL;
    struct error err = ERROR_INIT;

    assert_refused(ERROR_FAILED_PRECONDITION, store_sqlite_open(place->dir, &second, &err));
    assert_contains(err.text, "another broker");
    assert_contains(err.text, place->dir);
}

static void an_unknown_schema_is_refused_naming_both_versions(void **state)
{
    struct store_place *place = *state;
    sqlite3 *db = NULL;
    char path[96];
    struct error err = ERROR_INIT;

    store_close(&place->store);
    (void)snprintf(path, sizeof(path), "%s/broker.db", place->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 7", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_refused(ERROR_FAILED_PRECONDITION, store_sqlite_open(place->dir, &place->store, &err));
    assert_contains(err.text, "schema version 7");
    assert_contains(err.text, "versions 2 and 3");
}

static void what_is_no_database_is_refused(void **state)
{
    struct store_place *place = *state;
    char path[96];
    struct error err = ERROR_INIT;

    store_close(&place->store);
    (void)snprintf(path, sizeof(path), "%s/broker.db", place->dir);
    assert_ok(file_write(path, 0600, "this is no database, not even nearly one", 40, &err));
    assert_refused(ERROR_INTERNAL, store_sqlite_open(place->dir, &place->store, &err));
}

static void heads_never_go_back(void **state)
{
    struct store_place *place = *state;
    struct record r = store_place_record("t", "d", "v"), next;
    struct store_head head = { .seq = 7, .len = 3, .bytes = { 1, 2, 3 } }, out;
    const struct store_head late = { .seq = 5, .len = 1 };
    const struct store_key key = { .key = r.key };
    const struct store_change change = { .next = &next, .new_key = &key, .head = &late };
    struct error err = ERROR_INIT;

    assert_ok(place->store->ops->get_head(place->store, &out, &err));
    assert_int_equal(out.seq, 0);
    assert_ok(place->store->ops->put_head(place->store, &head, &err));
    next = r;
    next.version = 1;
    assert_ok(place->store->ops->swap(place->store, &change, &err));
    if (place->open)
        assert_false(store_place_reopen(place).is_changed);
    assert_ok(place->store->ops->get_head(place->store, &out, &err));
    assert_int_equal(out.seq, 7);
    assert_int_equal(out.len, 3);
    assert_memory_equal(out.bytes, head.bytes, 3);
    head.seq = 8;
    assert_ok(place->store->ops->put_head(place->store, &head, &err));
    assert_ok(place->store->ops->get_head(place->store, &out, &err));
    assert_int_equal(out.seq, 8);
}

#define BOTH(name)                                                            \
    { "memory: " #name, name, store_place_memory, store_place_remove, NULL }, \
    {                                                                         \
        "sqlite: " #name, name, store_place_sqlite, store_place_remove, NULL  \
    }
#define ETCD(name)                                                    \
    {                                                                 \
        "etcd: " #name, name, etcd_place_open, etcd_place_close, NULL \
    }
#define SQLITE(name) cmocka_unit_test_setup_teardown(name, store_place_sqlite, store_place_remove)

static void a_store_is_found_by_the_word_before_the_colon(void **state)
{
    static const char *const bad[] = { "",           "sqlite", "sqlite:", "sqlit:/x",
                                       "sqlite3:/x", ":/x",    "memory:x" };
    const struct store_place *place = *state;
    struct store *second = NULL;
    struct store_options options = { .spec = NULL };
    char spec[96];
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        options.spec = bad[i];
        assert_refused(ERROR_INVALID_ARGUMENT, store_open(&options, &second, &err));
        assert_contains(err.text, "sqlite:FOLDER");
        assert_contains(err.text, "etcd:https://HOST:PORT");
        assert_null(store_folder(bad[i]));
    }
    (void)snprintf(spec, sizeof(spec), "sqlite:%s", place->dir);
    options.spec = spec;
    assert_refused(ERROR_FAILED_PRECONDITION,
                   store_open(&options, &second, &err)); /* the first one is open */
    assert_contains(err.text, place->dir);
    assert_string_equal(store_folder(spec), place->dir);
    assert_null(store_folder("etcd:https://a:1"));
    options.replica = "a";
    assert_refused(ERROR_INVALID_ARGUMENT, store_open(&options, &second, &err));
    assert_contains(err.text, "--replica is for a store in etcd");
}

static void a_store_in_etcd_needs_all_of_its_options(void **state)
{
    static const struct {
        struct store_options options;
        const char *wanted;
    } cases[] = {
        { { "etcd:https://a:1", NULL, "c", "k", "r", false }, "--store-ca" },
        { { "etcd:https://a:1", "a", NULL, "k", "r", false }, "--store-cert" },
        { { "etcd:https://a:1", "a", "c", NULL, "r", false }, "--store-key" },
        { { "etcd:https://a:1", "a", "c", "k", NULL, false }, "--replica" },
        { { "etcd:https://a:1", "a", "c", "k", "", false }, "--replica" },
        { { "etcd:https://a:1", "a", "c", "k", "a/b", false }, "other characters" },
        { { "etcd:http://a:1", "a", "c", "k", "r", false }, "\"http://a:1\" is not https://" },
        { { "etcd:https://a", "a", "c", "k", "r", false }, "is not https://HOST:PORT" },
        { { "etcd:https://a:1/x", "a", "c", "k", "r", false }, "is not https://HOST:PORT" },
        { { "etcd:https://a:1,https://b:0", "a", "c", "k", "r", false }, "\"https://b:0\"" },
        { { "etcd:,", "a", "c", "k", "r", false }, "no member" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct store *store = NULL;
        struct error err = ERROR_INIT;

        assert_refused(ERROR_INVALID_ARGUMENT, store_open(&cases[i].options, &store, &err));
        assert_contains(err.text, cases[i].wanted);
        assert_null(store);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        BOTH(a_record_comes_back_as_it_was),
        BOTH(what_is_not_there_is_not_found),
        BOTH(a_swap_at_another_version_is_aborted),
        BOTH(a_copy_whose_source_changed_is_aborted_whole),
        BOTH(a_key_lives_as_long_as_its_last_record),
        BOTH(a_record_that_takes_another_key_drops_its_former_one),
        BOTH(lists_are_in_order_by_filter_and_in_pages),
        BOTH(the_first_mark_stays),
        BOTH(marks_are_forgotten_by_their_prefix),
        BOTH(raised_marks_never_fall),
        BOTH(of_two_who_swap_at_once_one_wins),
        SQLITE(of_an_erased_key_nothing_is_left_in_any_file),
        SQLITE(of_an_erased_next_secret_nothing_is_left_in_any_file),
        SQLITE(records_are_there_after_a_restart),
        SQLITE(raised_marks_are_there_after_a_restart),
        SQLITE(a_second_broker_on_the_store_is_refused),
        SQLITE(a_store_is_found_by_the_word_before_the_colon),
        SQLITE(an_unknown_schema_is_refused_naming_both_versions),
        SQLITE(what_is_no_database_is_refused),
        BOTH(heads_never_go_back),
        cmocka_unit_test(a_store_in_etcd_needs_all_of_its_options),
#define ETCD_CASES 14 /* the last ones, which need a server */
        ETCD(a_record_comes_back_as_it_was),
        ETCD(what_is_not_there_is_not_found),
        ETCD(a_swap_at_another_version_is_aborted),
        ETCD(a_copy_whose_source_changed_is_aborted_whole),
        ETCD(a_key_lives_as_long_as_its_last_record),
        ETCD(a_record_that_takes_another_key_drops_its_former_one),
        ETCD(lists_are_in_order_by_filter_and_in_pages),
        ETCD(the_first_mark_stays),
        ETCD(marks_are_forgotten_by_their_prefix),
        ETCD(raised_marks_never_fall),
        ETCD(of_two_who_swap_at_once_one_wins),
        ETCD(records_are_there_after_a_restart),
        ETCD(raised_marks_are_there_after_a_restart),
        ETCD(heads_never_go_back),
    };

    return etcd_place_run(tests, ARRAY_LEN(tests), ETCD_CASES);
}
