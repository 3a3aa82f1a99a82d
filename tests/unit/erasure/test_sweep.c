/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "erasure/sweep.h"
#include "tests/unit/broker/fixture.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* Whose key is destroyed when, over the fixture's store and audit log. */

#define RETAINED 60000u /* how long keys are kept */

static struct fixture f;
static struct error err;
static struct retention_clock clock_of_one;
static struct sweep_state state_now;

static struct sweep_options options(void)
{
    return (struct sweep_options){ .store = f.broker.store,
                                   .keyring = f.broker.keyring,
                                   .audit = f.broker.audit,
                                   .replica = "a",
                                   .now_ms = f.broker.now_ms,
                                   .steady_ms = f.broker.steady_ms };
}

static int setup(void **state UNUSED)
{
    err = (struct error)ERROR_INIT;
    fixture_start(&f);
    clock_of_one = (struct retention_clock){ .has_seen = false };
    return 0;
}

static int teardown(void **state UNUSED)
{
    fixture_stop(&f);
    return 0;
}

static struct record stored(const char *id)
{
    const struct store_name names = { "t", "d", id };
    struct record r;

    assert_ok(f.broker.store->ops->get(f.broker.store, &names, &r, &err));
    return r;
}

static void put(struct record *r, bool is_new)
{
    struct store_key key = { .key = r->key };
    const struct store_change change = { .next = r,
                                         .expected_version = r->version,
                                         .new_key = is_new ? &key : NULL };

    r->version++;
    assert_ok(f.broker.store->ops->swap(f.broker.store, &change, &err));
}

/* Deletes a volume; its key is kept from now on. */
static struct record keep(const char *id, uint8_t number)
{
    struct record r = fixture_record(RECORD_DELETING);
    struct record_keeping keeping = { .for_ms = RETAINED, .now_ms = fixture_now_ms, .by = "admin" };
    bool changed = false;

    (void)snprintf(r.volume_id, sizeof(r.volume_id), "%s", id);
    r.id[5] = r.key.id[5] = number;
    r.version = 0;
    put(&r, true);
    assert_ok(retention_clock_bound(f.broker.store, &keeping.clock_ms, &err));
    assert_ok(record_finish_delete(&r, &keeping, &changed, &err));
    assert_int_equal(r.phase, RECORD_RETAINED);
    put(&r, false);
    return r;
}

static void look(void)
{
    const struct sweep_options o = options();

    assert_ok(sweep_look(&o, &clock_of_one, &state_now, &err));
}

static void pass(uint64_t ms)
{
    for (; ms > 0; ms -= ms < 20000 ? ms : 20000) {
        fixture_now_ms += ms < 20000 ? ms : 20000;
        look();
    }
}

static bool has_key(const struct record_key *key)
{
    struct store_key unused;

    return f.broker.store->ops->get_key(f.broker.store, key, &unused, &err);
}

static char *log_text(void)
{
    char *text = NULL;
    size_t len = 0;

    assert_ok(file_read(f.audit_path, 1 << 20, &text, &len, &err));
    return text;
}

static void a_key_is_kept_for_its_time_and_then_destroyed(void **state UNUSED)
{
    const struct record r = keep("v", 1);

    look();
    assert_true(state_now.waiting == 1 && state_now.oldest_ms == NOW);
    pass(RETAINED); /* and one step, by which another broker might be further */
    assert_int_equal(stored("v").phase, RECORD_RETAINED);
    assert_true(has_key(&r.key));
    pass(RETENTION_STEP_MAX_MS - 1);
    assert_true(has_key(&r.key));
    pass(1);
    const struct record gone = stored("v");

    assert_int_equal(gone.phase, RECORD_ERASED);
    assert_false(has_key(&r.key));
    assert_int_equal(gone.n_destroyed, 1);
    assert_string_equal(gone.destroyed[0].by, "end of retention, deleted by admin");
    assert_string_equal(gone.destroyed[0].replica, "a");
    assert_int_equal(gone.destroyed[0].audit_seq, fixture_audit_lines(&f));
    auto_free char *text = log_text();

    assert_contains(text, "\"event\":\"retention-over\"");
    assert_contains(text, "\"volume\":\"v\"");
    look();
    assert_true(state_now.waiting == 0 && state_now.oldest_ms == 0);
}

static void who_brings_it_back_in_time_keeps_the_key(void **state UNUSED)
{
    struct record r = keep("v", 1);
    bool changed = false;

    pass(RETAINED);
    assert_ok(record_undelete(&r, &changed, &err));
    put(&r, false);
    pass(10 * RETAINED);
    assert_int_equal(stored("v").phase, RECORD_READY);
    assert_true(has_key(&r.key));
}

/* The wall clock of a broker says nothing: here it is the one that people read. */
static uint64_t years_ahead(void)
{
    return UINT64_C(4102444800000);
}

static void a_wall_clock_that_is_far_ahead_destroys_nothing(void **state UNUSED)
{
    const struct record r = keep("v", 1);
    struct sweep_options o = options();

    o.now_ms = years_ahead;
    for (int i = 0; i < 3; i++)
        assert_ok(sweep_look(&o, &clock_of_one, &state_now, &err));
    assert_true(has_key(&r.key));
}

static void a_broker_that_was_away_counts_no_time(void **state UNUSED)
{
    const struct record r = keep("v", 1);

    look();
    fixture_now_ms += 1000 * RETAINED;
    look();
    look();
    assert_true(has_key(&r.key));
    clock_of_one.has_seen = false; /* it was started anew */
    look();
    assert_true(has_key(&r.key));
}

static void of_two_brokers_one_destroys(void **state UNUSED)
{
    struct retention_clock other = { .has_seen = false };
    const struct sweep_options o = options();

    (void)keep("v", 1);
    for (int i = 0; i < 10; i++) {
        assert_ok(sweep_look(&o, &other, &state_now, &err));
        pass(20000);
    }
    assert_int_equal(stored("v").phase, RECORD_ERASED);
    assert_int_equal(stored("v").n_destroyed, 1);
}

/* The list says that it is due, the record that it is not. */
static bool lying_list(struct store *store,
                       bool (*visit)(void *cookie, const struct store_retained *r), void *cookie,
                       struct error *problem)
{
    struct store_retained lie = { .tenant = "t", .driver = "d", .volume_id = "v", .due_ms = 1 };
    struct store_retained nobody = { .tenant = "t", .driver = "d", .volume_id = "nobody" };

    (void)store, (void)problem;
    return (visit(cookie, &lie) && visit(cookie, &nobody)) || true;
}

static void a_list_that_lies_destroys_nothing(void **state UNUSED)
{
    const struct record r = keep("v", 1);
    struct store_ops ops = *f.broker.store->ops;
    const struct store_ops *true_ops = f.broker.store->ops;

    ops.each_retained = lying_list;
    f.broker.store->ops = &ops;
    pass(40000);
    f.broker.store->ops = true_ops;
    assert_true(has_key(&r.key));
}

/* It may have been brought back after the backup: nobody knows. */
static void a_restored_record_waits_until_it_is_adopted(void **state UNUSED)
{
    struct record r = keep("v", 1);
    bool changed = false;

    r.restored.is_set = true;
    put(&r, false);
    pass(10 * RETAINED);
    assert_true(has_key(&r.key));
    assert_int_equal(state_now.waiting, 1);
    assert_ok(record_adopt_restored(&r, &changed, &err));
    put(&r, false);
    look();
    look();
    assert_false(has_key(&r.key));
}

/* More than are looked at at once, and those in front stay. */
static void what_stays_hides_nothing(void **state UNUSED)
{
    enum { N = 200, STAY = 100 };
    char id[8];
    unsigned left = 0;

    for (unsigned i = 0; i < N; i++) {
        (void)snprintf(id, sizeof(id), "v%03u", i);
        struct record r = keep(id, (uint8_t)(i + 1));

        r.restored.is_set = i < STAY;
        put(&r, false);
    }
    look();
    pass(RETAINED + RETENTION_STEP_MAX_MS);
    for (unsigned i = 0; i < N; i++) {
        (void)snprintf(id, sizeof(id), "v%03u", i);
        left += stored(id).phase == RECORD_RETAINED;
        assert_int_equal(stored(id).phase, i < STAY ? RECORD_RETAINED : RECORD_ERASED);
    }
    assert_int_equal(left, STAY);
}

/* The lines of an audit log are written to a descriptor; here it is one that takes none. */
static void without_its_line_no_key_is_destroyed(void **state UNUSED)
{
    const struct record r = keep("v", 1);
    const struct sweep_options o = options();
    const struct rlimit none = { 0, RLIM_INFINITY };

    look();
    pass(RETAINED);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    fixture_now_ms += 20000;
    assert_ok(sweep_look(&o, &clock_of_one, &state_now, &err));
    fixture_now_ms += 20000;
    bool ok = sweep_look(&o, &clock_of_one, &state_now, &err);
    const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &all), 0);
    assert_false(ok);
    assert_contains(err.text, "audit log");
    assert_true(has_key(&r.key));
}

static void the_thread_destroys_and_ends(void **state UNUSED)
{
    const struct sweep_options o = options();
    struct sweep *sweep = NULL;
    struct sweep_state told = { .waiting = 0 };

    (void)keep("v", 1);
    assert_ok(sweep_start(&o, &sweep, &err));
    for (int i = 0; i < 500 && told.waiting == 0; i++) {
        usleep(10000);
        sweep_state(sweep, &told);
    }
    assert_int_equal(told.waiting, 1);
    for (int i = 0; i < 5; i++) {
        fixture_now_ms += 20000;
        sweep_wake(sweep);
        usleep(50000);
    }
    sweep_stop(&sweep);
    assert_null(sweep);
    assert_int_equal(stored("v").phase, RECORD_ERASED);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(a_key_is_kept_for_its_time_and_then_destroyed),
        CASE(who_brings_it_back_in_time_keeps_the_key),
        CASE(a_wall_clock_that_is_far_ahead_destroys_nothing),
        CASE(a_broker_that_was_away_counts_no_time),
        CASE(of_two_brokers_one_destroys),
        CASE(a_list_that_lies_destroys_nothing),
        CASE(a_restored_record_waits_until_it_is_adopted),
        CASE(what_stays_hides_nothing),
        CASE(without_its_line_no_key_is_destroyed),
        CASE(the_thread_destroys_and_ends),
    };

    return RUN_TESTS(tests);
}
