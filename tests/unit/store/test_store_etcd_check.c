/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_etcd.h"
#include "tests/unit/store/etcd_place.h"

#include <stdio.h>

/* Somebody writes to etcd who has not the master key. */

/* --- somebody else writes to etcd --- */

enum edit { EMPTY, SHORTER, LONGER, PROOF_CHANGED, RECORD_CHANGED, OTHERS, EDIT_COUNT };

static void edit(enum edit how, const struct etcd_kept *v, const struct etcd_kept *w)
{
    struct etcd_kept changed = *v;

    if (how == EMPTY)
        changed.len = 0;
    else if (how == SHORTER)
        changed.len--;
    else if (how == LONGER)
        changed.bytes[changed.len++] = 0;
    else if (how == PROOF_CHANGED)
        changed.bytes[3] ^= 1;
    else if (how == RECORD_CHANGED)
        changed.bytes[STORE_PROOF_LEN + 9] ^= 1;
    else
        changed = *w;
    changed.key = v->key;
    etcd_place_put_back(&changed);
}

static void no_changed_record_is_believed(void **state)
{
    struct store_place *place = *state;
    static struct etcd_kept v, w;
    static struct record r, back;
    struct etcd_key key;
    struct error err = ERROR_INIT;

    r = etcd_place_put_new(place->store, "v");
    (void)etcd_place_put_new(place->store, "w");
    etcd_place_record_key("v", &key);
    etcd_place_keep(&key, &v);
    etcd_place_record_key("w", &key);
    etcd_place_keep(&key, &w);
    for (enum edit how = EMPTY; how < EDIT_COUNT; how++) {
        unsigned long before = atomic_load(&place->store->refused);

        edit(how, &v, &w);
        assert_refused(ERROR_DATA_LOSS, store_place_get(place->store, "v", &back, &err));
        assert_contains(err.text, "record of volume v is damaged");
        assert_refused(ERROR_DATA_LOSS, store_place_swap(place->store, &r, false, &err));
        assert_int_equal(etcd_place_list(place->store), 1);
        assert_int_equal(atomic_load(&place->store->refused), before + 3);
        const struct store_check check = store_place_reopen(place);

        assert_int_equal(check.records, 2);
        assert_int_equal(check.damaged, 1);
        assert_true(check.is_changed);
        etcd_place_put_back(&v);
        assert_false(store_place_reopen(place).is_changed);
    }
}

static void a_record_that_is_put_back_or_taken_away_is_noticed(void **state)
{
    struct store_place *place = *state;
    static struct etcd_kept old, now;
    static struct record r, back;
    struct etcd_key key;
    struct error err = ERROR_INIT;

    r = etcd_place_put_new(place->store, "v");
    etcd_place_record_key("v", &key);
    etcd_place_keep(&key, &old);
    assert_ok(store_place_swap(place->store, &r, false, &err));
    etcd_place_keep(&key, &now);
    etcd_place_put_back(&old);
    struct store_check check = store_place_reopen(place);

    assert_int_equal(check.damaged, 0); /* it was good once */
    assert_true(check.is_changed);
    assert_ok(store_place_get(place->store, "v", &back, &err));
    assert_int_equal(back.version, 1);
    assert_true(store_place_reopen(place).is_changed); /* until a change is made over it */
    assert_ok(store_place_swap(place->store, &back, false, &err));
    assert_false(store_place_reopen(place).is_changed);
    etcd_place_delete(&key);
    check = store_place_reopen(place);
    assert_int_equal(check.records, 0);
    assert_true(check.is_changed);
}

/* The sum of the old records is good: the slots have seen that the shard was changed since. */
static void a_shard_that_is_put_back_whole_is_noticed(void **state)
{
    struct store_place *place = *state;
    static struct etcd_kept record, sum;
    static struct record r;
    struct etcd_key key;
    struct error err = ERROR_INIT;

    r = etcd_place_put_new(place->store, "v");
    etcd_place_record_key("v", &key);
    etcd_place_keep(&key, &record);
    etcd_place_sum_key("v", &key);
    etcd_place_keep(&key, &sum);
    assert_ok(store_place_swap(place->store, &r, false, &err));
    assert_false(store_place_reopen(place).is_changed);
    etcd_place_put_back(&record);
    etcd_place_put_back(&sum);
    const struct store_check check = store_place_reopen(place);

    assert_int_equal(check.damaged, 0);
    assert_true(check.is_changed);
}

/* With its slots, a replica loses its audit head: its audit log is ahead of that. */
static void with_the_slots_put_back_the_audit_head_is_old(void **state)
{
    struct store_place *place = *state;
    static struct etcd_kept kept[3];
    static struct record r;
    const struct store_head heads[] = { { .seq = 7, .len = 1, .bytes = { 7 } },
                                        { .seq = 8, .len = 1, .bytes = { 8 } } };
    struct store_head out;
    struct etcd_key key;
    struct error err = ERROR_INIT;

    r = etcd_place_put_new(place->store, "v");
    assert_ok(place->store->ops->put_head(place->store, &heads[0], &err));
    etcd_place_record_key("v", &key);
    etcd_place_keep(&key, &kept[0]);
    etcd_place_sum_key("v", &key);
    etcd_place_keep(&key, &kept[1]);
    etcd_key_slot("a", 0, &key);
    etcd_place_keep(&key, &kept[2]);
    r.version++;
    const struct store_change change = { .next = &r, .expected_version = 1, .head = &heads[1] };

    assert_ok(place->store->ops->swap(place->store, &change, &err));
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        etcd_place_put_back(&kept[i]);
    assert_false(store_place_reopen(place).is_changed);
    assert_ok(place->store->ops->get_head(place->store, &out, &err));
    assert_int_equal(out.seq, 7);
}

static void lost_and_changed_sums_and_slots_are_noticed(void **state)
{
    struct store_place *place = *state;
    struct etcd_key keys[2];

    (void)etcd_place_put_new(place->store, "v");
    etcd_place_sum_key("v", &keys[0]);
    etcd_key_slot("a", 0, &keys[1]);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        static struct etcd_kept kept, changed;

        etcd_place_keep(&keys[i], &kept);
        assert_true(kept.len > STORE_PROOF_LEN);
        for (int at = 0; at < kept.len; at += 7) {
            changed = kept;
            changed.bytes[at] ^= 0x10;
            etcd_place_put_back(&changed);
            assert_true(store_place_reopen(place).is_changed);
        }
        etcd_place_delete(&keys[i]);
        assert_true(store_place_reopen(place).is_changed);
        etcd_place_put_back(&kept);
        assert_false(store_place_reopen(place).is_changed);
    }
}

static void a_sum_that_changes_under_a_running_broker_stops_its_changes(void **state)
{
    struct store_place *place = *state;
    static struct etcd_kept old, now;
    static struct record r;
    struct etcd_key key;
    struct error err = ERROR_INIT;

    r = etcd_place_put_new(place->store, "v");
    etcd_place_sum_key("v", &key);
    etcd_place_keep(&key, &old);
    assert_ok(store_place_swap(place->store, &r, false, &err));
    etcd_place_keep(&key, &now);
    etcd_place_put_back(&old);
    assert_refused(ERROR_DATA_LOSS, store_place_swap(place->store, &r, false, &err));
    assert_contains(err.text, "restart the broker");
    now.bytes[20] ^= 1;
    etcd_place_put_back(&now);
    assert_refused(ERROR_DATA_LOSS, store_place_swap(place->store, &r, false, &err));
    now.bytes[20] ^= 1;
    etcd_place_put_back(&now);
    assert_ok(store_place_swap(place->store, &r, false, &err));
    etcd_place_put_back(&old);
    assert_true(store_place_reopen(place).is_changed);
    assert_ok(store_place_swap(place->store, &r, false, &err)); /* it has been told */
    assert_false(store_place_reopen(place).is_changed);
}

static void damaged_single_values_are_refused(void **state)
{
    const struct store_place *place = *state;
    const uint8_t mark[STORE_MARK_LEN] = { 1 };
    uint8_t out[STORE_MARK_LEN];
    uint64_t number = 0;
    struct record r;
    struct store_key wrapped;
    struct etcd_key key;
    struct error err = ERROR_INIT;

    r = etcd_place_put_new(place->store, "v");
    assert_true(etcd_key_text("mark", "m", &key));
    etcd_place_put(&key, "short", 5);
    assert_refused(ERROR_INTERNAL, place->store->ops->remember(place->store, "m", mark, out, &err));
    assert_true(etcd_key_text("highest", "h", &key));
    etcd_place_put(&key, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    assert_refused(ERROR_INTERNAL, place->store->ops->raise(place->store, "h", 1, &number, &err));
    assert_true(etcd_key_count("t", 0, &key));
    etcd_place_put(&key, "1", 1);
    assert_refused(ERROR_INTERNAL, place->store->ops->count(place->store, "t", &number, &err));
    etcd_key_of_key("key", &r.key, &key);
    etcd_place_put(&key, "short", 5);
    assert_refused(ERROR_INTERNAL,
                   place->store->ops->get_key(place->store, &r.key, &wrapped, &err));
    etcd_key_of_key("users", &r.key, &key);
    etcd_place_delete(&key);
    r.phase = RECORD_ERASED;
    r.key = (struct record_key){ .generation = 0 };
    assert_refused(ERROR_DATA_LOSS, store_place_swap(place->store, &r, false, &err));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, etcd_place_open, etcd_place_close)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(no_changed_record_is_believed),
        CASE(a_record_that_is_put_back_or_taken_away_is_noticed),
        CASE(a_shard_that_is_put_back_whole_is_noticed),
        CASE(with_the_slots_put_back_the_audit_head_is_old),
        CASE(lost_and_changed_sums_and_slots_are_noticed),
        CASE(a_sum_that_changes_under_a_running_broker_stops_its_changes),
        CASE(damaged_single_values_are_refused),
    };

    return etcd_place_run(tests, ARRAY_LEN(tests), ARRAY_LEN(tests));
}
