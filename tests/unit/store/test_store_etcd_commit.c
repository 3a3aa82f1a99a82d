/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "store/store_etcd.h"
#include "tests/unit/proto/relay.h"
#include "tests/unit/store/etcd_place.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

/* Changes whose answers do not come. */

struct lossy {
    struct relay *relay;
    struct store *store;
    pthread_t thread;
    struct etcd_key key; /* that the change writes */
    uint8_t value;
    void (*at_first)(struct relay *relay, int on); /* what happens between reading and the Txn */
    enum error_code then; /* what a second fill fails with; 0: it does not */
    unsigned n_fills;
    bool ok;
    uint64_t took_ms;
    struct error err;
};

static bool fill_lossy(struct etcd_store *s, struct etcd_commit *commit, struct etcd_txn *txn,
                       struct error *err)
{
    struct lossy *l = commit->cookie;

    (void)s;
    if (l->n_fills++ == 0)
        l->at_first(l->relay, 1);
    else if (l->then != ERROR_NONE)
        return error_set(err, l->then, "refused at the second time");
    etcd_then_put(txn, &l->key, &l->value, 1);
    return true;
}

static void *change_lossy(void *cookie)
{
    struct lossy *l = cookie;
    struct etcd_commit commit = { .fill = fill_lossy,
                                  .cookie = l,
                                  .until_ms = etcd_until(etcd_store_of(l->store)->client) };
    uint64_t began_ms = clock_now_ms();

    l->ok = etcd_commit(etcd_store_of(l->store), &commit, &l->err);
    l->took_ms = clock_now_ms() - began_ms;
    return NULL;
}

static void start_lossy_then(struct lossy *l, void (*at_first)(struct relay *relay, int on),
                             enum error_code then)
{
    const struct store_head head = { .seq = 1, .len = 1 };
    char spec[256], url[64];
    struct store_options options;
    struct error err = ERROR_INIT;

    *l = (struct lossy){ .relay = relay_start((uint16_t)etcd_place_port()),
                         .value = 'x',
                         .at_first = at_first,
                         .then = then };
    (void)snprintf(url, sizeof(url), "https://127.0.0.1:%u", relay_port(l->relay));
    options = etcd_place_options("lossy", url, spec);
    assert_ok(store_open(&options, &l->store, &err));
    (void)store_place_unlock(l->store, 1);
    assert_ok(l->store->ops->put_head(l->store, &head, &err));
    assert_true(etcd_key_text("mark", "lossy", &l->key));
    assert_int_equal(pthread_create(&l->thread, NULL, change_lossy, l), 0);
}

static void start_lossy(struct lossy *l, void (*at_first)(struct relay *relay, int on))
{
    start_lossy_then(l, at_first, ERROR_NONE);
}

static void end_lossy(struct lossy *l)
{
    store_close(&l->store);
    relay_stop(l->relay);
}

static void wait_until_applied(const struct lossy *l)
{
    const uint8_t *bytes = NULL;

    for (int i = 0; i < 1000; i++) {
        if (etcd_place_get(&l->key, &bytes) == 1)
            return;
        usleep(10000);
    }
    fail_msg("the change does not arrive");
}

static int64_t version_of(const struct etcd_key *key)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_range range = { .start = key, .limit = 1 };
    struct etcd_page page;
    struct error err = ERROR_INIT;

    assert_ok(
        etcd_range_ask(etcd_place_client(), &range, &arena, clock_now_ms() + 5000, &page, &err));
    assert_int_equal(page.n, 1);
    return page.response->kvs[0]->mod_revision - page.response->kvs[0]->create_revision;
}

static void a_change_whose_answer_is_lost_is_made_once(void **state)
{
    struct lossy l;

    (void)state;
    start_lossy(&l, relay_mute);
    wait_until_applied(&l);
    relay_mute(l.relay, 0);
    relay_cut(l.relay);
    pthread_join(l.thread, NULL);
    if (!l.ok)
        fail_msg("%s", l.err.text);
    assert_int_equal(l.n_fills, 1);
    assert_int_equal(version_of(&l.key), 0); /* written once */
    end_lossy(&l);
}

static void a_change_that_never_arrived_is_sent_again(void **state)
{
    struct lossy l;

    (void)state;
    start_lossy(&l, relay_freeze);
    usleep(300000);
    relay_cut(l.relay);
    relay_freeze(l.relay, 0);
    pthread_join(l.thread, NULL);
    if (!l.ok)
        fail_msg("%s", l.err.text);
    assert_true(l.n_fills >= 2);
    assert_int_equal(version_of(&l.key), 0);
    end_lossy(&l);
}

/* The first Txn may still arrive: a code that says "it was not made" would be a lie. */
static void an_error_after_a_lost_answer_decides_nothing(void **state)
{
    static const struct {
        enum error_code then, told;
    } rows[] = { { ERROR_RESOURCE_EXHAUSTED, ERROR_UNAVAILABLE },
                 { ERROR_DATA_LOSS, ERROR_UNAVAILABLE },
                 { ERROR_ABORTED, ERROR_ABORTED } };
    struct lossy l;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        start_lossy_then(&l, relay_freeze, rows[i].then);
        usleep(300000);
        relay_cut(l.relay);
        relay_freeze(l.relay, 0);
        pthread_join(l.thread, NULL);
        assert_false(l.ok);
        assert_int_equal(l.n_fills, 2);
        assert_int_equal(l.err.code, rows[i].told);
        assert_contains(l.err.text, "refused at the second time");
        end_lossy(&l);
    }
}

static void after_a_long_silence_it_is_not_known_what_became_of_a_change(void **state)
{
    struct store_place *place = *state;
    const struct store_head head = { .seq = 5, .len = 1 };
    struct store_head out;
    struct lossy l;
    struct record r;
    char port[16];
    struct error err = ERROR_INIT;

    start_lossy(&l, relay_mute);
    pthread_join(l.thread, NULL);
    assert_false(l.ok);
    assert_int_equal(l.err.code, ERROR_UNAVAILABLE);
    (void)snprintf(port, sizeof(port), "%u", relay_port(l.relay));
    assert_contains(l.err.text, port);
    assert_in_range(l.took_ms, 4000, 6500);
    assert_refused(ERROR_UNAVAILABLE, store_place_get(l.store, "v", &r, &err));
    relay_mute(l.relay, 0);
    relay_cut(l.relay);
    /* It was made: the next change by this slot takes that over. */
    assert_ok(l.store->ops->put_head(l.store, &head, &err));
    assert_ok(l.store->ops->get_head(l.store, &out, &err));
    assert_int_equal(out.seq, 5);
    r = etcd_place_put_new(l.store, "v");
    assert_false(store_place_reopen(place).is_changed);
    end_lossy(&l);
}

/* What etcd has not answered in time, it may do later: a change in a shard must not look like one that
 * somebody else made. */
static void a_server_that_stops_for_a_while_loses_no_change(void **state)
{
    struct store_place *place = *state;
    struct record r, back;
    struct error err = ERROR_INIT;
    pid_t waker;

    r = etcd_place_put_new(place->store, "v");
    for (int i = 0; i < 2; i++) {
        etcd_place_pause(true);
        waker = fork();
        if (waker == 0) {
            usleep(2500000);
            etcd_place_pause(false);
            _exit(0);
        }
        bool ok = store_place_swap(place->store, &r, false, &err);

        usleep(600000);
        etcd_place_pause(false);
        if (!ok)
            fail_msg("%s", err.text);
    }
    assert_ok(store_place_get(place->store, "v", &back, &err));
    assert_int_equal(back.version, 3);
    assert_false(store_place_reopen(place).is_changed);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, etcd_place_open, etcd_place_close)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(a_change_whose_answer_is_lost_is_made_once),
        CASE(a_change_that_never_arrived_is_sent_again),
        CASE(an_error_after_a_lost_answer_decides_nothing),
        CASE(after_a_long_silence_it_is_not_known_what_became_of_a_change),
        CASE(a_server_that_stops_for_a_while_loses_no_change),
    };

    return etcd_place_run(tests, ARRAY_LEN(tests), ARRAY_LEN(tests));
}
