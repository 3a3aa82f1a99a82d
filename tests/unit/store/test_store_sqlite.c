/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_sqlite.h"
#include "tests/unit/broker/store_place.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* What only this store does: on a full disk, or nearly; and with its lock. */

enum { FIRST = 100, LAST = 300 };

static struct sqlite_store *sqlite_of(const struct store_place *place)
{
    return (struct sqlite_store *)(void *)place->store;
}

/* From now on the database cannot grow, so neither can it take over the log. The log itself can, as long
 * as it is smaller. */
static void stop_growth(const struct store_place *place)
{
    struct rlimit limit;
    struct stat st;
    char path[96];

    (void)signal(SIGXFSZ, SIG_IGN);
    (void)snprintf(path, sizeof(path), "%s/broker.db", place->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = (rlim_t)st.st_size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void allow_growth(void)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static int remove_place(void **state)
{
    allow_growth();
    return store_place_remove(state);
}

static struct record record_number(unsigned n)
{
    char id[16];

    (void)snprintf(id, sizeof(id), "v%u", n);
    struct record r = store_place_record("t", "d", id);

    r.key.id[0] = (uint8_t)n;
    return r;
}

static bool is_stored(const struct store_place *place, const char *id)
{
    struct record back;
    struct error err = ERROR_INIT;

    return store_place_get(place->store, id, &back, &err);
}

/* As after a swap that lost: the next one empties the log, if it can. */
static bool store_and_empty(const struct store_place *place, unsigned n, struct error *err)
{
    struct record r = record_number(n);

    sqlite_of(place)->must_checkpoint = true;
    return store_place_swap(place->store, &r, true, err);
}

/* Stores records until the log cannot be emptied any more; returns the number of the last one. */
static unsigned fill_up(const struct store_place *place)
{
    struct error err = ERROR_INIT;
    unsigned n = 1;

    while (n < FIRST) /* a database that is larger than the log of one change */
        assert_ok(store_and_empty(place, n++, &err));
    stop_growth(place);
    while (n < LAST && store_and_empty(place, n, &err) && !sqlite_of(place)->must_checkpoint)
        n++;
    if (!sqlite_of(place)->must_checkpoint || err.code != ERROR_NONE)
        fail_msg("record %u: %s", n, err.text);
    return n;
}

static void a_change_is_not_refused_because_the_log_cannot_be_emptied(void **state)
{
    struct store_place *place = *state;
    unsigned n = fill_up(place);
    char id[16];

    allow_growth();
    (void)snprintf(id, sizeof(id), "v%u", n);
    assert_true(is_stored(place, id));
    assert_false(store_place_reopen(place).is_changed);
}

/* The key is still in the log, and whoever destroyed it is not told that it is gone. */
static void a_key_is_not_destroyed_before_the_log_is_empty(void **state)
{
    struct store_place *place = *state;
    const struct store_head head = { .seq = 1, .len = 1 };
    struct record r = record_number(0);
    struct error err = ERROR_INIT;

    assert_ok(store_place_swap(place->store, &r, true, &err));
    (void)fill_up(place);
    r.phase = RECORD_ERASED;
    r.key = (struct record_key){ .generation = 0 };
    assert_refused(ERROR_UNAVAILABLE, store_place_swap(place->store, &r, false, &err));
    assert_contains(err.text, "the change is made, but the destroyed key may still be in a file");
    /* A repeated call changes nothing: it writes only its line in the audit log. */
    assert_refused(ERROR_UNAVAILABLE, place->store->ops->put_head(place->store, &head, &err));
    allow_growth();
    assert_ok(place->store->ops->put_head(place->store, &head, &err));
    assert_false(sqlite_of(place)->must_checkpoint);
    assert_false(store_place_reopen(place).is_changed);
}

static void a_full_disk_is_no_limit_of_the_caller(void **state)
{
    struct store_place *place = *state;
    struct record r = record_number(1);
    struct error err = ERROR_INIT;

    assert_int_equal(
        sqlite3_exec(sqlite_of(place)->db, "PRAGMA max_page_count = 1", NULL, NULL, NULL),
        SQLITE_OK); /* as many as there are */
    while (store_place_swap(place->store, &r, true, &err) && r.key.id[0] < 200)
        r = record_number(r.key.id[0] + 1u);
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    assert_contains(err.text, "full");
}

static bool has_gone(void *cookie)
{
    (void)cookie;
    return true;
}

static bool visit_none(void *cookie, const struct record *r)
{
    (void)cookie, (void)r;
    fail_msg("nobody waits for it");
    return false;
}

static void a_list_that_nobody_waits_for_ends(void **state)
{
    const struct store_place *place = *state;
    const struct store_filter filter = {
        .tenant = "t", .driver = "", .location = "", .source_volume_id = "", .has_gone = has_gone
    };
    struct record r = record_number(1);
    struct error err = ERROR_INIT;

    assert_ok(store_place_swap(place->store, &r, true, &err));
    assert_refused(ERROR_CANCELLED,
                   place->store->ops->list(place->store, &filter, visit_none, NULL, &err));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, store_place_sqlite, remove_place)

static uint64_t locked_memory(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/self/status", "re");

    assert_non_null(file);
    while (fgets(line, sizeof(line), file) && sscanf(line, "VmLck: %llu", &kib) != 1)
        continue;
    (void)fclose(file);
    return kib;
}

/* A broker that cannot open for another reason tries again, each second. */
static void unlocking_again_keeps_one_key(void **state)
{
    const struct store_place *place = *state;
    const uint64_t before = locked_memory();

    if (HAS_SANITIZER)
        skip_because("the sanitizer's mlock() does nothing");
    assert_true(before > 0);
    for (int i = 0; i < 10; i++)
        (void)store_place_unlock(place->store, 1);
    assert_int_equal(locked_memory(), before);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(a_change_is_not_refused_because_the_log_cannot_be_emptied),
        CASE(a_key_is_not_destroyed_before_the_log_is_empty),
        CASE(a_full_disk_is_no_limit_of_the_caller),
        CASE(a_list_that_nobody_waits_for_ends),
        CASE(unlocking_again_keeps_one_key),
    };

    return RUN_TESTS(tests);
}
