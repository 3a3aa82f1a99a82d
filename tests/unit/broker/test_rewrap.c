/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "broker/rewrap.h"
#include "record/encoding.h"
#include "store/keyring.h"
#include "tests/unit/broker/fixture.h"
#include "tests/unit/broker/store_place.h"

#include <stdio.h>
#include <time.h>

#include "keybroker.pb-c.h"

#define M(name) Tdvol__Keybroker__V1__##name

/* All secrets of a store, under a new wrapping; and the call that asks for it. The tests start the thread. */

static struct fixture f;
static struct arena arena;
static struct error err;
static struct store_ops faulty;
static bool (*real_walk)(struct store *store, const struct store_name *after, struct record *out,
                         bool *found, struct error *err);
static int walks_that_fail;

static bool walk(struct store *store, const struct store_name *after, struct record *out,
                 bool *found, struct error *e)
{
    if (walks_that_fail > 0 && walks_that_fail-- > 0)
        return error_set(e, ERROR_DATA_LOSS, "a record is damaged");
    return real_walk(store, after, out, found, e);
}

static int set_up(void **state UNUSED)
{
    err = (struct error)ERROR_INIT;
    walks_that_fail = 0;
    fixture_start(&f);
    arena = (struct arena){ .limit = 1 << 22 };
    faulty = *f.broker.store->ops;
    real_walk = faulty.walk;
    faulty.walk = walk;
    f.broker.store->ops = &faulty;
    return 0;
}

static int tear_down(void **state UNUSED)
{
    rewrap_stop(&f.broker.rewrap);
    arena_wipe(&arena);
    fixture_stop(&f);
    return 0;
}

static struct keyring_state ring(void)
{
    struct keyring_state state;

    keyring_state(f.broker.keyring, &state);
    return state;
}

static void wait_for_end(void)
{
    const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
    uint64_t until_ms = clock_now_ms() + 20000;

    while (ring().has_former) {
        assert_true(clock_now_ms() < until_ms);
        (void)nanosleep(&pause, NULL);
    }
}

static void start(void)
{
    assert_ok(rewrap_start(&f.broker, f.broker.audit, &f.broker.rewrap, &err));
}

/* With a key of its own; next: and a next secret in the record. */
static struct record put_record(const char *id, bool next)
{
    struct record r = store_place_record("one", "d", id);
    struct store_key key, coming = { .key = { .id = { 5 }, .generation = 2 } };
    uint64_t version = 0;

    (void)snprintf((char *)r.key.id, sizeof(r.key.id), "%s", id);
    assert_ok(keyring_make(f.broker.keyring, "one", &r.key, &key, &version, &err));
    if (next) {
        assert_ok(keyring_make(f.broker.keyring, "one", &coming.key, &coming, &version, &err));
        r.rotation = (struct record_rotation){ .key = coming.key, .secret_len = STORE_WRAPPED_LEN };
        memcpy(r.rotation.secret, coming.wrapped, STORE_WRAPPED_LEN);
    }
    r.version = 1;
    const struct store_change change = { .next = &r, .new_key = &key };
    assert_ok(f.broker.store->ops->swap(f.broker.store, &change, &err));
    return r;
}

static struct record stored(const char *id)
{
    const struct store_name name = { "one", "d", id };
    struct record r;

    assert_ok(f.broker.store->ops->get(f.broker.store, &name, &r, &err));
    return r;
}

/* With the one wrapping that is left. */
static void assert_opens(const struct record *r)
{
    auto_secret struct secret own = SECRET_INIT, next = SECRET_INIT;
    struct store_key key = { .key = r->rotation.key };

    assert_false(ring().has_former);
    assert_ok(keyring_secret_of(f.broker.keyring, r, &own, &err));
    memcpy(key.wrapped, r->rotation.secret, STORE_WRAPPED_LEN);
    if (key.key.generation > 0)
        assert_ok(keyring_unwrap(f.broker.keyring, "one", &key, &next, &err));
}

static void all_secrets_are_wrapped_anew_then_the_former_wrapping_is_dropped(void **state UNUSED)
{
    struct record with = put_record("a", true), without = put_record("b", false);
    uint64_t lines = fixture_audit_lines(&f);

    start();
    assert_ok(keyring_rotate(f.broker.keyring, false, &err));
    wait_for_end();
    with = stored("a");
    assert_opens(&with);
    assert_int_equal(with.version, 2); /* the record itself has the next secret */
    without = stored("b");
    assert_opens(&without);
    assert_int_equal(without.version, 1);
    rewrap_stop(&f.broker.rewrap);
    assert_int_equal(fixture_audit_lines(&f), lines + 1); /* "wrapped-anew" */
}

/* The thread was killed, and what it had done stays. */
static void a_walk_that_did_not_end_is_begun_again(void **state UNUSED)
{
    struct record r = put_record("a", true);
    bool changed = false;

    (void)put_record("b", false);
    assert_ok(keyring_rotate(f.broker.keyring, false, &err));
    assert_ok(keyring_rewrap_key(f.broker.keyring, &r, &changed, &err));
    assert_true(changed);
    start();
    wait_for_end();
    r = stored("a");
    assert_opens(&r);
    r = stored("b");
    assert_opens(&r);
}

/* With a record that cannot be read, nothing is dropped: it may come back from a backup. */
static void while_a_record_is_damaged_the_former_wrapping_stays(void **state UNUSED)
{
    const struct timespec pause = { .tv_nsec = 100 * 1000 * 1000 };
    struct rewrap_state work;

    (void)put_record("a", false);
    walks_that_fail = 1000;
    start();
    assert_ok(keyring_rotate(f.broker.keyring, false, &err));
    rewrap_begin(f.broker.rewrap);
    do {
        (void)nanosleep(&pause, NULL);
        rewrap_state(f.broker.rewrap, &work);
    } while (work.problem.code == ERROR_NONE);
    assert_contains(work.problem.text, "a record is damaged");
    assert_true(ring().has_former);
    walks_that_fail = 0;
    rewrap_begin(f.broker.rewrap);
    wait_for_end();
    rewrap_stop(&f.broker.rewrap);
    struct record r = stored("a");
    assert_opens(&r);
}

static void a_secret_that_nothing_opens_keeps_the_former_wrapping(void **state UNUSED)
{
    const uint8_t bad[STORE_WRAPPED_LEN] = { 1 };
    const struct timespec pause = { .tv_nsec = 100 * 1000 * 1000 };
    struct record r = put_record("a", false);
    struct store *store = f.broker.store;
    struct rewrap_state work;
    struct store_key key;

    assert_ok(store->ops->get_key(store, &r.key, &key, &err));
    assert_ok(store->ops->rekey(store, &key, bad, &err));
    start();
    assert_ok(keyring_rotate(f.broker.keyring, false, &err));
    rewrap_begin(f.broker.rewrap);
    do {
        (void)nanosleep(&pause, NULL);
        rewrap_state(f.broker.rewrap, &work);
    } while (work.problem.code == ERROR_NONE);
    assert_contains(work.problem.text, "volume a");
    assert_true(ring().has_former);
}

/* --- the call --- */

static const void *rotate(const char *client, bool drops_old_master)
{
    M(RotateWrappingRequest) request = TDVOL__KEYBROKER__V1__ROTATE_WRAPPING_REQUEST__INIT;

    request.drops_old_master = drops_old_master;
    return fixture_call(&f, &arena, client, "RotateWrapping", &request.base, &err);
}

static const M(GetStatusResponse) * status(void)
{
    static const M(GetStatusRequest) request = TDVOL__KEYBROKER__V1__GET_STATUS_REQUEST__INIT;
    const void *answer = fixture_call(&f, &arena, "node", "GetStatus", &request.base, &err);

    assert_non_null(answer);
    return answer;
}

static void the_keys_are_changed_by_who_may_administer_and_unseal(void **state UNUSED)
{
    static const char *const others[] = { "node", "admin", "rotator", "controller" };

    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        assert_null(rotate(others[i], false));
        assert_int_equal(err.code, ERROR_DENIED);
    }
    assert_int_equal(ring().version, 0);
    assert_int_equal(status()->wrapping_generation, 1);
    const M(RotateWrappingResponse) *r = rotate("keeper", false);
    assert_non_null(r);
    assert_int_equal(r->generation, 2);
    assert_int_equal(status()->wrapping_generation, 2);
    assert_true(status()->wrapping_anew);
    assert_int_equal(strlen(status()->master_key), 16);
    assert_null(rotate("keeper", false));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    start();
    wait_for_end();
    assert_false(status()->wrapping_anew);
    assert_null(rotate("keeper", true));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    assert_contains(err.text, "--old-master-key");
}

/* --- a copy, while secrets are being wrapped anew --- */

/* The copy's names come before the source's: a walk that has passed them would miss the shared key, when the
 * source is deleted before the walk gets there. */
static void a_copy_never_carries_a_key_that_is_still_wrapped_with_the_former_wrapping(
    void **state UNUSED)
{
    static char driver[] = "d", source[] = "z", copy[] = "a", name[] = "copy";
    M(CopyRecordRequest) request = TDVOL__KEYBROKER__V1__COPY_RECORD_REQUEST__INIT;
    struct record r = put_record("z", false);
    uint8_t wrapped[STORE_WRAPPED_LEN];
    struct store_key key;
    bool changed = true;

    assert_ok(keyring_rotate(f.broker.keyring, false, &err));
    request.driver = driver;
    request.volume_id = copy;
    request.source_volume_id = source;
    request.kind = (M(Kind))RECORD_VOLUME;
    request.name = name;
    request.source_version = r.version;
    assert_non_null(fixture_call(&f, &arena, "node", "CopyRecord", &request.base, &err));
    assert_ok(f.broker.store->ops->get_key(f.broker.store, &r.key, &key, &err));
    assert_ok(keyring_rewrap(f.broker.keyring, "one", &key, wrapped, &changed, &err));
    assert_false(changed);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(all_secrets_are_wrapped_anew_then_the_former_wrapping_is_dropped),
        CASE(a_walk_that_did_not_end_is_begun_again),
        CASE(while_a_record_is_damaged_the_former_wrapping_stays),
        CASE(a_secret_that_nothing_opens_keeps_the_former_wrapping),
        CASE(the_keys_are_changed_by_who_may_administer_and_unseal),
        CASE(a_copy_never_carries_a_key_that_is_still_wrapped_with_the_former_wrapping),
    };

    return RUN_TESTS(tests);
}
