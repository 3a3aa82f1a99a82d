/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/broker/store_place.h"

#include <sqlite3.h>
#include <stdio.h>

/* Somebody writes to the store's files who has not the master key. */

/* Opens the database as somebody else would, without the broker. */
static void edit(struct store_place *place, const char *sql)
{
    sqlite3 *db = NULL;
    char path[96], *why = NULL;

    store_close(&place->store);
    (void)snprintf(path, sizeof(path), "%s/broker.db", place->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", sql, why);
    sqlite3_close(db);
}

static void assert_refused_record(const struct store_place *place, const char *tenant,
                                  const char *volume_id)
{
    const struct store_name name = { tenant, "d", volume_id };
    unsigned long before = atomic_load(&place->store->refused);
    struct record r;
    struct error err = ERROR_INIT;

    assert_refused(ERROR_DATA_LOSS, place->store->ops->get(place->store, &name, &r, &err));
    assert_contains(err.text, volume_id);
    assert_contains(err.text, "restore the store from a backup");
    assert_int_equal(atomic_load(&place->store->refused), before + 1);
}

/* v of tenant t and w of tenant u have keys of their own. */
static void put_two(struct store_place *place, struct record *v, struct record *w)
{
    struct error err = ERROR_INIT;

    *v = store_place_record("t", "d", "v");
    *w = store_place_record("u", "d", "w");
    w->key.id[0] ^= 1;
    assert_ok(store_place_swap(place->store, v, true, &err));
    assert_ok(store_place_swap(place->store, w, true, &err));
}

static void no_changed_column_of_a_record_is_believed(void **state)
{
    static const char exchange[] = "UPDATE record SET (packed, proof) = "
                                   "(SELECT packed, proof FROM record WHERE volume_id = 'w') "
                                   "WHERE volume_id = 'v'";
    static const char *const edits[] = {
        "UPDATE record SET tenant = 'u' WHERE volume_id = 'v'",
        "UPDATE record SET record_id = zeroblob(16) WHERE volume_id = 'v'",
        "UPDATE record SET version = 2 WHERE volume_id = 'v'",
        "UPDATE record SET phase = 2 WHERE volume_id = 'v'",
        "UPDATE record SET kind = 2 WHERE volume_id = 'v'",
        "UPDATE record SET location = 'n9' WHERE volume_id = 'v'",
        "UPDATE record SET source_volume_id = 'w' WHERE volume_id = 'v'",
        "UPDATE record SET key_id=(SELECT key_id FROM record WHERE volume_id='w') WHERE volume_id='v'",
        "UPDATE record SET generation = NULL, key_id = NULL WHERE volume_id = 'v'",
        "UPDATE record SET proof = zeroblob(32) WHERE volume_id = 'v'",
        "UPDATE record SET proof = x'' WHERE volume_id = 'v'",
        "UPDATE record SET packed = x'' WHERE volume_id = 'v'",
        "UPDATE record SET packed = CAST(packed || x'00' AS BLOB) WHERE volume_id = 'v'",
        "UPDATE record SET packed=(SELECT packed FROM record WHERE volume_id='w') WHERE volume_id='v'",
        exchange,
    };

    for (size_t i = 0; i < ARRAY_LEN(edits); i++) {
        struct store_place *place = *state;
        static struct record v, w, next;
        struct error err = ERROR_INIT;
        char back[128];

        if (i == 0)
            put_two(place, &v, &w);
        edit(place, "CREATE TABLE old AS SELECT * FROM record");
        edit(place, edits[i]);
        const struct store_check check = store_place_reopen(place);

        assert_int_equal(check.records, 2);
        assert_int_equal(check.damaged, 1);
        assert_true(check.is_changed);
        assert_contains(check.first_damage.text, "volume v");
        assert_refused_record(place, i == 0 ? "u" : "t", "v");
        next = store_place_record(i == 0 ? "u" : "t", "d", "v");
        next.version = 1;
        assert_refused(ERROR_DATA_LOSS, store_place_swap(place->store, &next, false, &err));
        (void)snprintf(back, sizeof(back),
                       "DELETE FROM record; INSERT INTO record SELECT * FROM old; DROP TABLE old");
        edit(place, back);
        assert_false(store_place_reopen(place).is_changed);
    }
}

static void a_record_that_is_put_back_or_taken_away_is_noticed(void **state)
{
    static const char keep[] = "CREATE TABLE old AS SELECT * FROM record WHERE volume_id = 'v'";
    struct store_place *place = *state;
    static struct record v, w, r;
    struct error err = ERROR_INIT;

    put_two(place, &v, &w);
    edit(place, keep);
    assert_false(store_place_reopen(place).is_changed);
    assert_ok(store_place_swap(place->store, &v, false, &err));
    edit(place, "DELETE FROM record WHERE volume_id = 'v'; INSERT INTO record SELECT * FROM old");
    struct store_check check = store_place_reopen(place);

    assert_int_equal(check.damaged, 0); /* it was good once */
    assert_true(check.is_changed);
    assert_ok(store_place_get(place->store, "v", &r, &err));
    assert_int_equal(r.version, 1);
    assert_ok(
        store_place_swap(place->store, &r, false, &err)); /* the next change is told no more */
    assert_false(store_place_reopen(place).is_changed);
    edit(place, "DELETE FROM record WHERE volume_id = 'v'");
    check = store_place_reopen(place);
    assert_true(check.is_changed);
    assert_int_equal(check.records, 1);
    edit(place, "DELETE FROM state");
    assert_true(store_place_reopen(place).is_changed);
}

static void what_another_key_wrote_is_refused(void **state)
{
    struct store_place *place = *state;
    struct record v, w;
    struct error err = ERROR_INIT;

    put_two(place, &v, &w);
    store_close(&place->store);
    assert_ok(store_sqlite_open(place->dir, &place->store, &err));
    assert_refused(ERROR_UNAVAILABLE, store_place_get(place->store, "v", &w, &err));
    assert_refused(ERROR_UNAVAILABLE, store_place_swap(place->store, &v, false, &err));
    const struct store_check check = store_place_unlock(place->store, 2);

    assert_int_equal(check.damaged, 2);
    assert_refused_record(place, "t", "v");
}

static void a_head_that_was_put_back_is_noticed(void **state)
{
    struct store_place *place = *state;
    struct store_head head = { .seq = 7, .len = 1, .bytes = { 1 } };
    struct record v, w;
    struct error err = ERROR_INIT;

    put_two(place, &v, &w);
    assert_ok(place->store->ops->put_head(place->store, &head, &err));
    edit(place, "UPDATE state SET seq = 6");
    assert_true(store_place_reopen(place).is_changed);
    edit(place, "UPDATE state SET seq = 7, head = x'02'");
    assert_true(store_place_reopen(place).is_changed);
    edit(place, "UPDATE state SET head = x'01'");
    assert_false(store_place_reopen(place).is_changed);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, store_place_sqlite, store_place_remove)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(no_changed_column_of_a_record_is_believed),
        CASE(a_record_that_is_put_back_or_taken_away_is_noticed),
        CASE(what_another_key_wrote_is_refused),
        CASE(a_head_that_was_put_back_is_noticed),
    };

    return RUN_TESTS(tests);
}
