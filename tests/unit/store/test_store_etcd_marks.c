/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store/etcd_place.h"

#include <stdio.h>

/* The heads of the audit logs of all replicas; for marks see test_store.c. */

struct seen_heads {
    char text[128];
    size_t n, limit;
};

static bool see_head(void *cookie, const char *replica, const struct store_head *head)
{
    struct seen_heads *seen = cookie;
    size_t used = strlen(seen->text);

    (void)snprintf(seen->text + used, sizeof(seen->text) - used, "%s=%u ", replica,
                   (unsigned)head->seq);
    return ++seen->n < seen->limit;
}

static void assert_heads(struct store *store, size_t limit, const char *wanted)
{
    struct seen_heads seen = { .limit = limit };
    struct error err = ERROR_INIT;

    assert_ok(store->ops->each_head(store, see_head, &seen, &err));
    assert_string_equal(seen.text, wanted);
}

static void each_replica_knows_the_heads_of_all(void **state)
{
    const struct store_place *place = *state;
    auto_store struct store *b = etcd_place_other("b", false);
    struct store_head head = { .seq = 1, .len = 1, .bytes = { 9 } };
    struct error err = ERROR_INIT;
    struct seen_heads seen = { .limit = 9 };

    assert_refused(ERROR_UNAVAILABLE, b->ops->each_head(b, see_head, &seen, &err)); /* locked */
    assert_heads(place->store, 9, "a=0 ");
    (void)store_place_unlock(b, 1);
    for (; head.seq < 40; head.seq++) /* in several slots */
        assert_ok(b->ops->put_head(b, &head, &err));
    head.seq = 7;
    assert_ok(place->store->ops->put_head(place->store, &head, &err));
    assert_heads(place->store, 9, "a=7 b=39 ");
    assert_heads(b, 9, "a=7 b=39 ");
    assert_heads(b, 1, "a=7 ");
    store_close(&b); /* a replica that is gone still has its head */
    assert_heads(place->store, 9, "a=7 b=39 ");
}

static void a_head_that_somebody_wrote_is_refused(void **state)
{
    const struct store_place *place = *state;
    struct store_head head = { .seq = 1, .len = 1, .bytes = { 9 } };
    struct seen_heads seen = { .limit = 9 };
    struct error err = ERROR_INIT;
    struct etcd_key key;
    static const uint8_t value[ETCD_SLOT_BYTES] = { 1 };

    assert_ok(place->store->ops->put_head(place->store, &head, &err));
    etcd_key_slot("z", 3, &key);
    etcd_place_put(&key, value, sizeof(value));
    assert_refused(ERROR_DATA_LOSS,
                   place->store->ops->each_head(place->store, see_head, &seen, &err));
    assert_contains(err.text, "replica z");
}

/* This process knows its own better than an etcd that was put back. */
static void slots_that_are_lost_do_not_make_a_head_older(void **state)
{
    const struct store_place *place = *state;
    struct store_head head = { .seq = 5, .len = 1, .bytes = { 9 } };
    struct error err = ERROR_INIT;
    struct etcd_key key;

    assert_ok(place->store->ops->put_head(place->store, &head, &err));
    for (size_t i = 0; i < ETCD_SLOTS; i++) {
        etcd_key_slot("a", i, &key);
        etcd_place_delete(&key);
    }
    assert_heads(place->store, 9, "a=5 ");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, etcd_place_open, etcd_place_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(each_replica_knows_the_heads_of_all),
        CASE(a_head_that_somebody_wrote_is_refused),
        CASE(slots_that_are_lost_do_not_make_a_head_older),
    };

    return etcd_place_run(tests, ARRAY_LEN(tests), ARRAY_LEN(tests));
}
