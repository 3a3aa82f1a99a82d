/* SPDX-License-Identifier: Apache-2.0 */
#include "store/keyring.h"
#include "tests/unit/base/secret_equal.h"
#include "tests/unit/broker/store_memory.h"
#include "tests/unit/broker/store_place.h"

#include <stdio.h>

/* The ring as brokers use it: changes of the master key and of the wrapping, by one or two brokers. The
 * store is in memory, and both share it: nothing tells one of a ring that the other has put. */

static struct store *store;
static struct secret one, two, three;
static struct keyring *a, *b;
static struct error err;
static const struct record_key key = { .id = { 1, 2, 3 }, .generation = 1 };

static int set_up(void **state UNUSED)
{
    err = (struct error)ERROR_INIT;
    assert_ok(store_memory_open(&store, &err));
    assert_ok(secret_random(&one, SEAL_KEY_LEN, &err));
    assert_ok(secret_random(&two, SEAL_KEY_LEN, &err));
    assert_ok(secret_random(&three, SEAL_KEY_LEN, &err));
    return 0;
}

static int tear_down(void **state UNUSED)
{
    keyring_free(&a);
    keyring_free(&b);
    secret_wipe(&one);
    secret_wipe(&two);
    secret_wipe(&three);
    store_close(&store);
    return 0;
}

static struct keyring *open_ring(const struct secret *master, const struct secret *old)
{
    struct keyring *k = NULL;

    assert_ok(keyring_open(store, master, old, &k, &err));
    return k;
}

static void assert_not_opened(const struct secret *master, const struct secret *old)
{
    struct keyring *k = NULL;

    assert_refused(ERROR_FAILED_PRECONDITION, keyring_open(store, master, old, &k, &err));
    assert_contains(err.text, "another master key");
    assert_null(k);
}

static struct keyring_state state_of(struct keyring *k)
{
    struct keyring_state state;

    keyring_state(k, &state);
    return state;
}

static struct store_key make(struct keyring *k, uint64_t *ring)
{
    struct store_key out;

    assert_ok(keyring_make(k, "t", &key, &out, ring, &err));
    return out;
}

static void assert_opens(struct keyring *k, const struct store_key *wrapped)
{
    auto_secret struct secret out = SECRET_INIT;

    err = (struct error)ERROR_INIT;
    assert_ok(keyring_unwrap(k, "t", wrapped, &out, &err));
    assert_int_equal(out.len, VOLUME_SECRET_LEN);
}

static void assert_closed(struct keyring *k, const struct store_key *wrapped)
{
    auto_secret struct secret out = SECRET_INIT;

    assert_refused(ERROR_DATA_LOSS, keyring_unwrap(k, "t", wrapped, &out, &err));
}

static void a_store_is_of_one_master_key(void **state UNUSED)
{
    a = open_ring(&one, NULL);
    assert_not_opened(&two, NULL);
    assert_not_opened(&two, &three);
    b = open_ring(&two, &one);
    assert_string_equal(state_of(a).master, state_of(b).master);
    assert_int_equal(state_of(a).version, 0);
}

static void a_new_wrapping_wraps_and_the_former_one_opens(void **state UNUSED)
{
    uint64_t ring = 9;

    a = open_ring(&one, NULL);
    struct store_key before = make(a, &ring);
    assert_int_equal(ring, 0);
    assert_ok(keyring_rotate(a, false, &err));
    struct store_key after = make(a, &ring);
    assert_int_equal(ring, 1);
    assert_int_equal(state_of(a).generation, 2);
    assert_true(state_of(a).has_former);
    assert_opens(a, &before);
    assert_opens(a, &after);
    assert_refused(ERROR_FAILED_PRECONDITION, keyring_rotate(a, false, &err));
    assert_contains(err.text, "still being wrapped");
    assert_refused(ERROR_ABORTED, keyring_drop_former(a, 0, &err));
    assert_ok(keyring_drop_former(a, 1, &err));
    assert_false(state_of(a).has_former);
    assert_closed(a, &before);
    assert_opens(a, &after);
    assert_refused(ERROR_ABORTED, keyring_drop_former(a, 2, &err));
    b = open_ring(&one, NULL); /* as after a restart */
    assert_opens(b, &after);
    assert_closed(b, &before);
}

static void another_broker_opens_what_was_wrapped_by_a_ring_that_it_has_not_seen(
    void **state UNUSED)
{
    uint64_t ring = 0;

    a = open_ring(&one, NULL);
    b = open_ring(&one, NULL);
    struct store_key old = make(b, &ring);
    assert_ok(keyring_rotate(a, false, &err));
    struct store_key wrapped = make(a, &ring);
    assert_int_equal(state_of(b).version, 0);
    assert_opens(b, &wrapped);
    assert_int_equal(state_of(b).version, 1);
    assert_ok(keyring_drop_former(b, 1, &err));
    assert_ok(keyring_refresh(a, &err));
    assert_closed(a, &old);
    assert_int_equal(state_of(a).version, 2);
}

static void of_two_that_make_a_wrapping_one_does(void **state UNUSED)
{
    a = open_ring(&one, NULL);
    b = open_ring(&one, NULL);
    assert_ok(keyring_rotate(a, false, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, keyring_rotate(b, false, &err));
    assert_int_equal(state_of(b).generation, 2);
}

/* At each step all brokers that are told to go on do. */
static void the_master_key_changes_while_brokers_go_on(void **state UNUSED)
{
    uint64_t ring = 0;

    a = open_ring(&one, NULL);
    struct store_key secret = make(a, &ring);
    assert_refused(ERROR_FAILED_PRECONDITION, keyring_rotate(a, true, &err));
    assert_contains(err.text, "is not being changed");
    b = open_ring(&two, &one);
    assert_ok(keyring_take_master(b, &err));
    assert_ok(keyring_take_master(b, &err)); /* a second time it changes nothing */
    assert_int_equal(state_of(b).version, 1);
    assert_true(state_of(b).has_old_master);
    assert_opens(b, &secret);
    assert_ok(keyring_refresh(a, &err)); /* with the former key alone */
    assert_opens(a, &secret);
    assert_refused(ERROR_FAILED_PRECONDITION, keyring_rotate(b, false, &err));
    assert_contains(err.text, "rotate-master");
    assert_refused(ERROR_FAILED_PRECONDITION, keyring_rotate(a, true, &err));
    assert_contains(err.text, "the former master key alone");
    keyring_free(&a);
    a = open_ring(&two, NULL); /* each of both opens it */
    keyring_free(&a);
    a = open_ring(&one, NULL);
    assert_ok(keyring_rotate(b, true, &err));
    assert_refused(ERROR_UNAVAILABLE, keyring_refresh(a, &err));
    assert_contains(err.text, "another broker has changed");
    assert_refused(ERROR_UNAVAILABLE, keyring_check(a, &err));
    assert_not_opened(&one, NULL);
    assert_opens(b, &secret);
    assert_ok(keyring_drop_former(b, 2, &err));
    assert_closed(b, &secret);
    assert_false(state_of(b).has_old_master);
    assert_ok(keyring_check(b, &err));
    keyring_free(&a);
    a = open_ring(&two, &one); /* the option that is not needed any more does no harm */
    assert_ok(keyring_take_master(a, &err));
    assert_int_equal(state_of(a).version, 3);
}

static void one_change_of_the_master_key_at_a_time(void **state UNUSED)
{
    b = open_ring(&one, NULL);
    a = open_ring(&two, &one);
    assert_ok(keyring_take_master(a, &err));
    keyring_free(&b);
    b = open_ring(&three, &two);
    assert_refused(ERROR_FAILED_PRECONDITION, keyring_take_master(b, &err));
    assert_contains(err.text, "has not ended");
    keyring_free(&b);
    b = open_ring(&two, NULL); /* one that lacks the old key cannot wrap for it */
    assert_ok(keyring_rotate(b, true, &err));
    assert_ok(keyring_drop_former(b, 2, &err));
    assert_not_opened(&one, NULL);
}

/* A new store has the new key. */
static void the_former_master_key_is_not_that_of_a_new_store(void **state UNUSED)
{
    a = open_ring(&two, &one);
    assert_ok(keyring_take_master(a, &err));
    assert_int_equal(state_of(a).version, 0);
    assert_not_opened(&one, NULL);
}

static void an_older_ring_stops_a_broker(void **state UNUSED)
{
    struct store_ring first, second;

    a = open_ring(&one, NULL);
    assert_ok(keyring_rotate(a, false, &err));
    assert_ok(store->ops->get_ring(store, &first, &err));
    assert_ok(keyring_drop_former(a, 1, &err));
    assert_ok(store->ops->get_ring(store, &second, &err));
    assert_ok(store_meet_ring(store, &second, &err));
    assert_refused(ERROR_UNAVAILABLE, store_meet_ring(store, &first, &err));
    assert_contains(err.text, "older ring");
    assert_refused(ERROR_UNAVAILABLE, keyring_check(a, &err));
    assert_ok(store_meet_ring(store, &second, &err));
    assert_ok(keyring_check(a, &err));
    second.version = 3; /* and no broker wrote this */
    assert_refused(ERROR_UNAVAILABLE, store_meet_ring(store, &second, &err));
}

/* --- keys in the store --- */

static struct record put_record(struct keyring *k, const char *id)
{
    struct record r = store_place_record("t", "d", id), next;
    struct store_key wrapped;
    uint64_t ring = 0;

    assert_ok(keyring_make(k, "t", &r.key, &wrapped, &ring, &err));
    next = r;
    next.version = 1;
    const struct store_change change = { .next = &next, .new_key = &wrapped, .ring = &ring };
    assert_ok(store->ops->swap(store, &change, &err));
    return next;
}

static void a_key_is_wrapped_anew_and_keeps_its_secret(void **state UNUSED)
{
    auto_secret struct secret before = SECRET_INIT, after = SECRET_INIT;
    bool changed = true;

    a = open_ring(&one, NULL);
    b = open_ring(&one, NULL);
    struct record r = put_record(a, "v");

    assert_ok(keyring_secret_of(a, &r, &before, &err));
    assert_ok(keyring_rewrap_key(a, &r, &changed, &err));
    assert_false(changed);
    assert_ok(keyring_rotate(a, false, &err));
    assert_ok(keyring_rewrap_key(a, &r, &changed, &err));
    assert_true(changed);
    assert_ok(keyring_rewrap_key(a, &r, &changed, &err));
    assert_false(changed);
    assert_ok(keyring_drop_former(a, 1, &err));
    assert_ok(keyring_secret_of(b, &r, &after, &err)); /* which knew the former ring alone */
    assert_true(secret_is_equal(&before, &after));
}

static void a_destroyed_key_is_not_wrapped_anew_and_a_foreign_one_is_refused(void **state UNUSED)
{
    auto_secret struct secret out = SECRET_INIT;
    bool changed = true;
    struct store_key wrapped;

    a = open_ring(&one, NULL);
    struct record r = put_record(a, "v"), foreign = r;

    assert_ok(keyring_rotate(a, false, &err));
    assert_ok(store->ops->get_key(store, &r.key, &wrapped, &err));
    const uint8_t bad[STORE_WRAPPED_LEN] = { 1 };
    (void)snprintf(foreign.tenant, sizeof(foreign.tenant), "u");
    assert_refused(ERROR_DATA_LOSS, keyring_rewrap_key(a, &foreign, &changed, &err));
    assert_ok(store->ops->rekey(store, &wrapped, bad, &err));
    assert_refused(ERROR_DATA_LOSS, keyring_rewrap_key(a, &r, &changed, &err));
    r.phase = RECORD_ERASED;
    r.key.generation = 0;
    assert_ok(store_place_swap(store, &r, false, &err));
    r.key.generation = 1;
    err = (struct error)ERROR_INIT;
    assert_ok(keyring_rewrap_key(a, &r, &changed, &err));
    assert_false(changed);
    assert_refused(ERROR_NOT_FOUND, keyring_secret_of(a, &r, &out, &err));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(a_store_is_of_one_master_key),
        CASE(a_new_wrapping_wraps_and_the_former_one_opens),
        CASE(another_broker_opens_what_was_wrapped_by_a_ring_that_it_has_not_seen),
        CASE(of_two_that_make_a_wrapping_one_does),
        CASE(the_master_key_changes_while_brokers_go_on),
        CASE(one_change_of_the_master_key_at_a_time),
        CASE(the_former_master_key_is_not_that_of_a_new_store),
        CASE(an_older_ring_stops_a_broker),
        CASE(a_key_is_wrapped_anew_and_keeps_its_secret),
        CASE(a_destroyed_key_is_not_wrapped_anew_and_a_foreign_one_is_refused),
    };

    return RUN_TESTS(tests);
}
