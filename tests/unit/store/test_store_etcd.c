/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "store/store_etcd.h"
#include "tests/unit/store/etcd_place.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

/* What only the store over etcd has; see also test_store.c. */

/* --- pages --- */

enum { MANY = 300, PAGE = 7 };

struct walk {
    unsigned n, on_page; /* records so far; still wanted on this page */
    uint8_t last[RECORD_ID_LEN];
    bool is_ordered;
};

static void name_of(unsigned i, char out[static 16])
{
    (void)snprintf(out, 16, "v%05u", i);
}

static bool step(void *cookie, const struct record *r)
{
    struct walk *w = cookie;
    char wanted[16];

    name_of(w->n++, wanted);
    w->is_ordered &= strcmp(r->volume_id, wanted) == 0;
    memcpy(w->last, r->id, RECORD_ID_LEN);
    return --w->on_page > 0;
}

static void assert_pages(struct store *store, unsigned page_size)
{
    struct store_filter filter = {
        .tenant = "t", .driver = "", .location = "", .source_volume_id = ""
    };
    struct walk w = { .is_ordered = true };
    unsigned before = 0;
    struct error err = ERROR_INIT;

    do {
        before = w.n;
        w.on_page = page_size;
        assert_ok(store->ops->list(store, &filter, step, &w, &err));
        filter.after = w.last;
        filter.driver = w.n % 2 == 0 ? "" : "d";
        filter.wanted = w.n % 3 == 0 ? 1 : w.n % 3 == 1 ? page_size : 0; /* too few do no harm */
    } while (w.n > before);
    assert_true(w.is_ordered);
    assert_int_equal(w.n, MANY);
}

static bool is_page(const char *volume_id)
{
    struct etcd_key record, page;
    const uint8_t *ignored = NULL;

    etcd_place_record_key(volume_id, &record);
    assert_true(etcd_key_page(&record, &page));
    return etcd_place_get(&page, &ignored) >= 0;
}

static bool has_gone(void *cookie)
{
    unsigned *asked = cookie;

    return ++*asked == 2;
}

/* No record is of this kind, so nothing is visited: as when all were ERASED. */
static void assert_list_ends(struct store *store)
{
    unsigned asked = 0;
    const struct store_filter filter = { .tenant = "t",
                                         .driver = "",
                                         .location = "",
                                         .source_volume_id = "",
                                         .kind = RECORD_SNAPSHOT,
                                         .has_gone = has_gone,
                                         .cookie = &asked };
    struct error err = ERROR_INIT;

    assert_refused(ERROR_CANCELLED, store->ops->list(store, &filter, step, NULL, &err));
    assert_int_equal(asked, 2);
}

/* Also when somebody has removed or added keys that begin pages. */
static void pages_have_all_records_in_order(void **state)
{
    const struct store_place *place = *state;
    unsigned n_pages = 0;
    char name[16];
    struct etcd_key record, page;

    for (unsigned i = 0; i < MANY; i++) {
        name_of(i, name);
        (void)etcd_place_put_new(place->store, name);
        n_pages += is_page(name);
    }
    assert_in_range(n_pages, 1, MANY / 8);
    assert_pages(place->store, PAGE);
    assert_pages(place->store, MANY + 1);
    for (unsigned i = 0; i < MANY; i++) {
        name_of(i, name);
        etcd_place_record_key(name, &record);
        assert_true(etcd_key_page(&record, &page));
        etcd_place_delete(&page);
    }
    assert_pages(place->store, PAGE);
    assert_pages(place->store, MANY + 1);
    for (unsigned i = 0; i < MANY; i += 2) {
        name_of(i, name);
        etcd_place_record_key(name, &record);
        assert_true(etcd_key_page(&record, &page));
        etcd_place_put(&page, "x", 1);
    }
    assert_pages(place->store, PAGE);
    assert_pages(place->store, MANY + 1);
    assert_list_ends(place->store);
}

/* --- several brokers --- */

static void replicas_see_each_other_and_have_heads_of_their_own(void **state)
{
    const struct store_place *place = *state;
    auto_store struct store *b = etcd_place_other("b", false);
    const struct store_head head = { .seq = 9, .len = 1, .bytes = { 9 } };
    struct store_head out;
    struct record r, seen;
    uint64_t n = 0;
    struct error err = ERROR_INIT;

    assert_refused(ERROR_UNAVAILABLE, store_place_get(b, "v", &seen, &err)); /* locked */
    assert_int_equal(store_place_unlock(b, 1).records, 0);
    r = etcd_place_put_new(place->store, "v");
    assert_ok(store_place_get(b, "v", &seen, &err));
    assert_ok(store_place_swap(b, &seen, false, &err));
    assert_refused(ERROR_ABORTED, store_place_swap(place->store, &r, false, &err));
    assert_ok(b->ops->put_head(b, &head, &err));
    assert_ok(place->store->ops->get_head(place->store, &out, &err));
    assert_int_equal(out.seq, 0);
    store_close(&b);
    b = etcd_place_other("b", false);
    assert_false(store_place_unlock(b, 1).is_changed);
    assert_ok(b->ops->get_head(b, &out, &err));
    assert_int_equal(out.seq, 9);
    seen.phase = RECORD_ERASED;
    seen.key.generation = 0;
    assert_ok(place->store->ops->count(place->store, "t", &n, &err));
    assert_int_equal(n, 1);
    assert_ok(store_place_swap(b, &seen, false, &err));
    assert_ok(place->store->ops->count(place->store, "t", &n, &err));
    assert_int_equal(n, 0);
}

static void a_second_process_of_a_replica_stops_the_first(void **state)
{
    const struct store_place *place = *state;
    struct store *first = place->store;
    const struct store_head head = { .seq = 9, .len = 1 };
    auto_store struct store *second = etcd_place_other("a", false);
    const uint8_t mark[STORE_MARK_LEN] = { 1 };
    uint8_t out[STORE_MARK_LEN];
    uint64_t number = 0;
    struct record r;
    struct error err = ERROR_INIT;

    r = etcd_place_put_new(first, "v");
    assert_ok(store_place_swap(first, &r, false, &err)); /* the second one is locked yet */
    (void)store_place_unlock(second, 1);
    assert_refused(ERROR_UNAVAILABLE, first->ops->put_head(first, &head, &err));
    assert_contains(err.text, "another process serves as replica a");
    assert_refused(ERROR_UNAVAILABLE, store_place_swap(first, &r, false, &err));
    assert_refused(ERROR_UNAVAILABLE, store_place_get(first, "v", &r, &err));
    assert_refused(ERROR_UNAVAILABLE, first->ops->remember(first, "m", mark, out, &err));
    assert_refused(ERROR_UNAVAILABLE, first->ops->raise(first, "m", 1, &number, &err));
    assert_refused(ERROR_UNAVAILABLE, first->ops->forget(first, "m", &err));
    assert_ok(store_place_swap(second, &r, false, &err));
    assert_ok(second->ops->put_head(second, &head, &err));
}

#define REPLICAS 3
#define ROUNDS   40

struct racer {
    struct store *store;
    pthread_barrier_t *barrier;
    int won;
    bool is_whole;
};

static void *race(void *cookie)
{
    struct racer *racer = cookie;

    for (int i = 0; i < ROUNDS; i++) {
        struct record r;
        struct error err = ERROR_INIT;
        bool has_read = store_place_get(racer->store, "v", &r, &err);

        pthread_barrier_wait(racer->barrier);
        if (has_read && store_place_swap(racer->store, &r, false, &err))
            racer->won++;
        else if (err.code != ERROR_ABORTED)
            racer->is_whole = false;
        pthread_barrier_wait(racer->barrier);
    }
    return NULL;
}

static void of_replicas_that_swap_at_once_one_wins(void **state)
{
    static const char *const names[REPLICAS] = { "b", "c", "d" };
    struct store_place *place = *state;
    pthread_t threads[REPLICAS];
    struct racer racers[REPLICAS];
    pthread_barrier_t barrier;
    int won = 0;
    struct record r;
    struct error err = ERROR_INIT;

    (void)etcd_place_put_new(place->store, "v");
    pthread_barrier_init(&barrier, NULL, REPLICAS);
    for (int i = 0; i < REPLICAS; i++) {
        racers[i] = (struct racer){ etcd_place_other(names[i], false), &barrier, 0, true };
        (void)store_place_unlock(racers[i].store, 1);
    }
    for (int i = 0; i < REPLICAS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    for (int i = 0; i < REPLICAS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(racers[i].is_whole);
        won += racers[i].won;
        store_close(&racers[i].store);
    }
    pthread_barrier_destroy(&barrier);
    assert_int_equal(won, ROUNDS);
    assert_ok(store_place_get(place->store, "v", &r, &err));
    assert_int_equal(r.version, 1 + ROUNDS);
    assert_false(store_place_reopen(place).is_changed);
}

/* More threads than slots, in few shards and in all of them. */
static void *create_many(void *cookie)
{
    struct racer *racer = cookie;

    for (int i = 0; i < 4; i++) {
        struct record r;
        struct store_head head = { .seq = (uint64_t)(100 * racer->won + i), .len = 1 };
        struct error err = ERROR_INIT;
        char name[16];

        (void)snprintf(name, sizeof(name), "v%d-%d", racer->won, i);
        r = store_place_record("t", "d", name);
        (void)snprintf((char *)r.key.id, sizeof(r.key.id), "k%d", racer->won);
        if (!store_place_swap(racer->store, &r, i == 0, &err) ||
            !racer->store->ops->put_head(racer->store, &head, &err)) {
            print_message("# %s\n", err.text);
            racer->is_whole = false;
        }
    }
    return NULL;
}

static void changes_at_once_are_all_made(void **state)
{
    enum { THREADS = ETCD_SLOTS + 8 };
    struct store_place *place = *state;
    pthread_t threads[THREADS];
    struct racer racers[THREADS];
    struct store_head head;
    uint64_t n = 0;
    struct error err = ERROR_INIT;

    for (int i = 0; i < THREADS; i++) {
        racers[i] = (struct racer){ place->store, NULL, i, true };
        assert_int_equal(pthread_create(&threads[i], NULL, create_many, &racers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(racers[i].is_whole);
    }
    const struct store_check check = store_place_reopen(place);

    assert_false(check.is_changed);
    assert_int_equal(check.records, 4 * THREADS);
    assert_int_equal(etcd_place_list(place->store), 4 * THREADS);
    assert_ok(place->store->ops->count(place->store, "t", &n, &err));
    assert_int_equal(n, 4 * THREADS);
    assert_ok(place->store->ops->get_head(place->store, &head, &err));
    assert_int_equal(head.seq, 100 * (THREADS - 1) + 3);
}

static void a_broker_may_unlock_again(void **state)
{
    const struct store_place *place = *state;
    struct record r;
    struct error err = ERROR_INIT;

    r = etcd_place_put_new(place->store, "v");
    assert_false(store_place_unlock(place->store, 1).is_changed);
    assert_ok(store_place_swap(place->store, &r, false, &err));
}

/* --- members --- */

static void the_next_member_is_asked(void **state)
{
    const struct store_place *place = *state;
    char spec[256], members[160];
    auto_store struct store *b = NULL;
    struct record r;
    struct error err = ERROR_INIT;

    (void)etcd_place_put_new(place->store, "v");
    (void)snprintf(members, sizeof(members),
                   "https://127.0.0.1:1,https://localhost:%u,https://127.0.0.1:1",
                   etcd_place_port());
    const struct store_options options = etcd_place_options("b", members, spec);

    assert_ok(store_open(&options, &b, &err));
    (void)store_place_unlock(b, 1);
    assert_ok(store_place_get(b, "v", &r, &err));
    assert_ok(store_place_swap(b, &r, false, &err));
}

static void a_wrong_certificate_is_refused_on_both_sides(void **state)
{
    static const struct {
        const char *ca, *certificate, *key;
    } cases[] = { { "ca.crt", "other.crt", "other.key" },
                  { "other.crt", "client.crt", "client.key" } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char spec[256], port[16];
        struct store_options options = etcd_place_options("b", NULL, spec);
        auto_store struct store *b = NULL;
        uint64_t out = 0;
        struct error err = ERROR_INIT;

        options.ca = etcd_place_file(cases[i].ca);
        options.certificate = etcd_place_file(cases[i].certificate);
        options.key = etcd_place_file(cases[i].key);
        assert_ok(store_open(&options, &b, &err));
        assert_refused(ERROR_UNAVAILABLE, b->ops->raise(b, "m", 1, &out, &err));
        (void)snprintf(port, sizeof(port), "%u", etcd_place_port());
        assert_contains(err.text, port);
        print_message("# %s\n", err.text);
    }
}

static void missing_and_mixed_up_files_are_refused(void **state)
{
    char spec[256];
    struct store_options options = etcd_place_options("b", NULL, spec);
    struct store *b = NULL;
    struct error err = ERROR_INIT;

    (void)state;
    options.key = etcd_place_file("nothing.key");
    assert_refused(ERROR_NOT_FOUND, store_open(&options, &b, &err));
    assert_contains(err.text, "nothing.key");
    options.key = etcd_place_file("other.key");
    assert_refused(ERROR_INVALID_ARGUMENT, store_open(&options, &b, &err));
    assert_contains(err.text, "--store-cert, --store-key");
    options.key = etcd_place_file("client.key");
    options.ca = etcd_place_file("client.key");
    assert_refused(ERROR_INVALID_ARGUMENT, store_open(&options, &b, &err));
    assert_contains(err.text, "--store-ca");
}

/* --- history --- */

enum { COMPACT_MS = 1500 };

static void a_destroyed_key_leaves_the_history(void **state)
{
    const struct store_place *place = *state;
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_store *s = etcd_store_of(place->store);
    struct record r;
    struct etcd_key key;
    struct etcd_range range = { .start = &key, .limit = 1 };
    struct etcd_page page;
    struct store_remains remains;
    struct error err = ERROR_INIT;

    pthread_mutex_lock(&s->lock);
    s->compact_age_ms = COMPACT_MS;
    pthread_mutex_unlock(&s->lock);
    r = etcd_place_put_new(place->store, "v");
    const struct record_key destroyed = r.key;
    uint64_t began_ms = clock_now_ms();

    etcd_key_of_key("key", &r.key, &key);
    assert_ok(
        etcd_range_ask(etcd_place_client(), &range, &arena, clock_now_ms() + 5000, &page, &err));
    assert_int_equal(page.n, 1);
    range.revision = page.revision;
    r.phase = RECORD_ERASED;
    r.key = (struct record_key){ .generation = 0 };
    assert_ok(store_place_swap(place->store, &r, false, &err));
    assert_ok(place->store->ops->find_remains(place->store, &destroyed, &remains, &err));
    assert_true(remains.users == 0 && remains.in_past); /* for COMPACT_MS */
    assert_true(remains.revision > (uint64_t)range.revision);
    for (int i = 0; i < 1000; i++) {
        err = (struct error)ERROR_INIT;
        if (!etcd_range_ask(etcd_place_client(), &range, &arena, clock_now_ms() + 5000, &page,
                            &err))
            break;
        usleep(10000);
    }
    assert_int_equal(err.code, ERROR_OUT_OF_RANGE); /* compacted */
    /* Another broker had that long to read all records. */
    assert_in_range(clock_now_ms() - began_ms, COMPACT_MS, 10 * COMPACT_MS);
    const uint64_t revision = remains.revision;

    assert_ok(place->store->ops->find_remains(place->store, &destroyed, &remains, &err));
    assert_true(remains.users == 0 && !remains.in_past && remains.revision == revision);
    const struct record_key never = { .id = { 0x77 }, .generation = 3 };

    assert_ok(place->store->ops->find_remains(place->store, &never, &remains, &err));
    assert_true(remains.users == 0 && remains.in_past && remains.revision == 0); /* not known */
}

/* Line 4096 is of a swap that failed: no Txn has its head. */
static void earlier_heads_are_forgotten_after_4096_lines_whatever_became_of_them(void **state)
{
    static const uint64_t lines[] = { 1, 4095, 4097, 4098 };
    const struct store_place *place = *state;
    struct etcd_store *s = etcd_store_of(place->store);
    int64_t wanted[ARRAY_LEN(lines)];
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        const struct store_head head = { .seq = lines[i], .len = 1 };

        assert_ok(place->store->ops->put_head(place->store, &head, &err));
        pthread_mutex_lock(&s->lock);
        wanted[i] = s->compact_at;
        pthread_mutex_unlock(&s->lock);
    }
    assert_int_equal(wanted[1], wanted[0]);
    assert_true(wanted[2] > wanted[1]);
    assert_int_equal(wanted[3], wanted[2]);
}

/* --- the format --- */

static void a_store_of_another_format_is_refused(void **state)
{
    static const struct {
        const char *text, *wanted;
    } cases[] = { { "3 ready", "\"3 ready\"" },
                  { "", "format \"\"" },
                  { "1 readyx", "\"1 readyx\"" },
                  { "1 migrating", "migration" },
                  { "\x01\xff", "\"?\?\"" } };
    struct etcd_key key;

    (void)state;
    etcd_key_format(&key);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_store struct store *b = etcd_place_other("b", false);
        uint64_t out = 0;
        struct error err = ERROR_INIT;

        etcd_place_put(&key, cases[i].text, strlen(cases[i].text));
        assert_refused(ERROR_FAILED_PRECONDITION, b->ops->raise(b, "m", 1, &out, &err));
        assert_contains(err.text, cases[i].wanted);
    }
}

static void a_store_without_its_format_is_not_taken_for_a_new_one(void **state)
{
    const struct store_place *place = *state;
    struct etcd_key key;
    uint64_t out = 0;
    struct record r;
    struct error err = ERROR_INIT;

    r = etcd_place_put_new(place->store, "v");
    etcd_key_format(&key);
    etcd_place_delete(&key);
    assert_refused(ERROR_UNAVAILABLE, store_place_swap(place->store, &r, false, &err));
    assert_contains(err.text, "restart it");
    auto_store struct store *b = etcd_place_other("b", false);

    assert_refused(ERROR_FAILED_PRECONDITION, b->ops->raise(b, "m", 1, &out, &err));
    assert_contains(err.text, "not tdvol/format");
}

static void a_migration_is_closed_to_brokers_until_it_ends(void **state)
{
    struct store_place *place = *state;
    auto_store struct store *target = NULL;
    struct etcd_key key;
    uint64_t out = 0;
    struct error err = ERROR_INIT;

    store_close(&place->store);
    target = etcd_place_other("a", true);
    assert_refused(ERROR_FAILED_PRECONDITION, target->ops->raise(target, "m", 1, &out, &err));
    assert_contains(err.text, "already holds"); /* a store of brokers */
    store_close(&target);
    assert_int_equal(etcd_place_open((void **)&place), 0); /* empties it, and makes a store */
    store_close(&place->store);
    etcd_key_format(&key);
    etcd_place_delete(&key);
    etcd_key_replica("a", &key);
    etcd_place_delete(&key);
    target = etcd_place_other("a", true);
    assert_ok(target->ops->raise(target, "m", 1, &out, &err));
    (void)store_place_unlock(target, 1);
    (void)etcd_place_put_new(target, "v");
    place->store = etcd_place_other("b", false);
    assert_refused(ERROR_FAILED_PRECONDITION,
                   place->store->ops->raise(place->store, "m", 1, &out, &err));
    assert_contains(err.text, "migration");
    assert_ok(store_etcd_end_migration(target, &err));
    assert_ok(place->store->ops->raise(place->store, "m", 1, &out, &err));
    const struct store_check check = store_place_unlock(place->store, 1);

    assert_int_equal(check.records, 1);
    assert_false(check.is_changed);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, etcd_place_open, etcd_place_close)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(pages_have_all_records_in_order),
        CASE(replicas_see_each_other_and_have_heads_of_their_own),
        CASE(a_second_process_of_a_replica_stops_the_first),
        CASE(a_broker_may_unlock_again),
        CASE(of_replicas_that_swap_at_once_one_wins),
        CASE(changes_at_once_are_all_made),
        CASE(the_next_member_is_asked),
        CASE(a_wrong_certificate_is_refused_on_both_sides),
        CASE(missing_and_mixed_up_files_are_refused),
        CASE(a_destroyed_key_leaves_the_history),
        CASE(earlier_heads_are_forgotten_after_4096_lines_whatever_became_of_them),
        CASE(a_store_of_another_format_is_refused),
        CASE(a_store_without_its_format_is_not_taken_for_a_new_one),
        CASE(a_migration_is_closed_to_brokers_until_it_ends),
    };

    return etcd_place_run(tests, ARRAY_LEN(tests), ARRAY_LEN(tests));
}
