/* SPDX-License-Identifier: Apache-2.0 */
#include "record/check.h"
#include "record/publication.h"
#include "tests/unit/broker/fixture.h"

/* Leases that are over when nobody renews them: who may have the volume next, and when. */

#define LEASE 60000ull

static struct error err;

/* Held by boot b1 of node n1. */
static struct record leased(uint64_t lease_ms)
{
    struct record r = fixture_record(RECORD_READY);

    r.spec.fencing = FENCING_SUSPEND;
    r.lease = (struct record_lease){ .holder = fixture_holder("n1", "b1"),
                                     .opened_ms = 1,
                                     .lease_ms = lease_ms };
    return r;
}

static bool open_by(struct record *r, const char *node, const char *boot_id, uint64_t lease_ms,
                    bool holder_is_silent)
{
    const struct record_open_request request = { .holder = fixture_holder(node, boot_id),
                                                 .now_ms = NOW,
                                                 .format_ms = LIMIT,
                                                 .lease_ms = lease_ms,
                                                 .holder_is_silent = holder_is_silent };
    bool changed = false;

    err = (struct error)ERROR_INIT;
    return record_open(r, &request, &changed, &err);
}

static bool renew(struct record *r, const char *node, const char *boot_id, uint64_t lease_ms,
                  bool *changed)
{
    const struct record_holder holder = fixture_holder(node, boot_id);

    err = (struct error)ERROR_INIT;
    return record_renew(r, &holder, lease_ms, changed, &err);
}

static void contest(struct record *r)
{
    bool changed = false;

    record_contest(r, &changed);
    assert_true(changed);
    r->version++;
    assert_ok(record_check(r, &err));
}

#define REFUSED(code, r, what)                             \
    do {                                                   \
        const struct record before_ = *(r);                \
        assert_refused(code, what);                        \
        assert_memory_equal(&before_, r, sizeof(before_)); \
    } while (0)

static void only_a_volume_that_is_fenced_gets_a_lease_with_an_end(void **state UNUSED)
{
    struct record r = fixture_record(RECORD_READY);

    assert_ok(open_by(&r, "n1", "b1", LEASE, false));
    assert_int_equal(r.lease.lease_ms, 0);
    r = leased(0);
    r.lease.holder.node[0] = '\0';
    assert_ok(open_by(&r, "n1", "b1", LEASE, false));
    assert_int_equal(r.lease.lease_ms, LEASE);
    assert_ok(record_check(&r, &err));
    r = leased(0);
    r.lease.holder.node[0] = '\0';
    assert_ok(open_by(&r, "n1", "b1", 0, false)); /* the policy says nothing */
    assert_int_equal(r.lease.lease_ms, 0);
}

static void a_new_volume_gets_its_lease_when_it_is_ready(void **state UNUSED)
{
    const struct record_change ready = { .kind = RECORD_CHANGE_READY,
                                         .attempt = 1,
                                         .header_digest = { 1 } };
    struct record r = fixture_record(RECORD_FORMATTING);
    const struct change_request request = { .change = &ready,
                                            .holder = fixture_holder("n1", "b1"),
                                            .expected_version = r.version,
                                            .now_ms = NOW,
                                            .lease_ms = LEASE };
    bool changed = false;

    r.spec.fencing = FENCING_SUSPEND;
    assert_ok(record_change(&r, &request, &changed, &err));
    assert_int_equal(r.lease.lease_ms, LEASE);
    assert_int_equal(r.lease.contested, 0);
}

static void another_node_waits_for_the_mark_and_for_silence(void **state UNUSED)
{
    struct record r = leased(LEASE);

    REFUSED(ERROR_ABORTED, &r, open_by(&r, "n2", "b2", LEASE, false));
    assert_string_equal(err.reason, LEASE_HELD_REASON);
    assert_contains(err.text, "lease of 60 s");
    /* Silence without a mark is none: the holder renews without a trace then. */
    REFUSED(ERROR_ABORTED, &r, open_by(&r, "n2", "b2", LEASE, true));
    contest(&r);
    REFUSED(ERROR_ABORTED, &r, open_by(&r, "n2", "b2", LEASE, false));
    assert_ok(open_by(&r, "n2", "b2", LEASE, true));
    assert_string_equal(r.lease.holder.node, "n2");
    assert_int_equal(r.lease.contested, 0);
}

static void a_lease_without_end_is_taken_from_nobody(void **state UNUSED)
{
    struct record r = leased(0);
    bool changed = true;

    record_contest(&r, &changed);
    assert_false(changed);
    REFUSED(ERROR_FAILED_PRECONDITION, &r, open_by(&r, "n2", "b2", LEASE, true));
    assert_contains(err.text, "tdvolctl volume release");
}

static void the_former_holder_gets_nothing_back(void **state UNUSED)
{
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED };
    struct record r = leased(LEASE);
    bool changed = false;

    contest(&r);
    assert_ok(open_by(&r, "n2", "b2", LEASE, true));
    r.version++;
    REFUSED(ERROR_FAILED_PRECONDITION, &r, renew(&r, "n1", "b1", LEASE, &changed));
    assert_string_equal(err.reason, LEASE_LOST_REASON);
    const struct change_request request = { .change = &closed,
                                            .holder = fixture_holder("n1", "b1"),
                                            .expected_version = r.version };
    REFUSED(ERROR_FAILED_PRECONDITION, &r, record_change(&r, &request, &changed, &err));
    REFUSED(ERROR_ABORTED, &r, open_by(&r, "n1", "b1", LEASE, true));
}

static void a_renewal_takes_the_mark_away(void **state UNUSED)
{
    struct record r = leased(LEASE);
    bool changed = true;

    assert_ok(renew(&r, "n1", "b1", LEASE, &changed));
    assert_false(changed); /* a volume that nobody else wants costs no write */
    contest(&r);
    const uint64_t first = r.lease.contested;
    record_contest(&r, &changed);
    assert_false(changed); /* a second one that waits does not begin anew */
    assert_ok(renew(&r, "n1", "b1", LEASE, &changed));
    assert_true(changed);
    r.version++;
    REFUSED(ERROR_ABORTED, &r, open_by(&r, "n2", "b2", LEASE, true));
    contest(&r);
    assert_true(r.lease.contested > first); /* another mark */
}

static void only_the_holder_renews(void **state UNUSED)
{
    static const enum record_phase others[] = { RECORD_NEW, RECORD_FORMATTING };
    struct record r = leased(LEASE);
    bool changed = false;

    REFUSED(ERROR_FAILED_PRECONDITION, &r, renew(&r, "n1", "b2", LEASE, &changed));
    REFUSED(ERROR_FAILED_PRECONDITION, &r, renew(&r, "n2", "b1", LEASE, &changed));
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        r = fixture_record(others[i]);
        REFUSED(ERROR_FAILED_PRECONDITION, &r, renew(&r, "n1", "b1", LEASE, &changed));
    }
    r = fixture_record(RECORD_ERASED);
    REFUSED(ERROR_NOT_FOUND, &r, renew(&r, "n1", "b1", LEASE, &changed));
    r = fixture_record(RECORD_READY); /* nobody has it, and no name is none */
    REFUSED(ERROR_FAILED_PRECONDITION, &r, renew(&r, "", "", LEASE, &changed));
}

static void a_lease_gets_longer_and_never_shorter_for_its_holder(void **state UNUSED)
{
    struct record r = leased(LEASE);
    bool changed = false;

    assert_ok(renew(&r, "n1", "b1", 2 * LEASE, &changed));
    assert_true(changed);
    assert_int_equal(r.lease.lease_ms, 2 * LEASE);
    assert_ok(renew(&r, "n1", "b1", LEASE, &changed));
    assert_false(changed);
    assert_ok(renew(&r, "n1", "b1", 0, &changed)); /* no end, from now on: for the next opening */
    assert_ok(open_by(&r, "n1", "b1", LEASE, false));
    assert_int_equal(r.lease.lease_ms, 2 * LEASE);
    /* A node has one boot at a time: what another boot was told counts no more. */
    assert_ok(open_by(&r, "n1", "b2", LEASE, false));
    assert_int_equal(r.lease.lease_ms, LEASE);
    r = leased(0);
    assert_ok(renew(&r, "n1", "b1", LEASE, &changed));
    assert_ok(open_by(&r, "n1", "b1", LEASE, false));
    assert_int_equal(r.lease.lease_ms, 0);
}

static bool unpublish(struct record *r, const char *node_id, bool retire, bool holder_is_silent)
{
    const struct unpublish_request request = { .node_id = node_id,
                                               .expected_epoch = r->published.epoch,
                                               .retire = retire,
                                               .holder_is_silent = holder_is_silent };
    bool changed = false;

    err = (struct error)ERROR_INIT;
    return record_unpublish(r, &request, &changed, &err);
}

static struct record moving(uint64_t lease_ms)
{
    struct record r = leased(lease_ms);

    r.spec.needs_publication = true;
    memcpy(r.published.nodes, "w:n1", sizeof("w:n1"));
    return r;
}

static void a_detach_ends_when_the_lease_is_over(void **state UNUSED)
{
    struct record r = moving(LEASE);
    bool changed = false;

    assert_ok(unpublish(&r, "n1", true, false));
    /* It is leaving: however often it asks, the lease will be over. */
    REFUSED(ERROR_DENIED, &r, renew(&r, "n1", "b1", LEASE, &changed));
    assert_string_equal(err.reason, PUBLICATION_REASON);
    REFUSED(ERROR_ABORTED, &r, unpublish(&r, "n1", false, false));
    assert_string_equal(err.reason, LEASE_HELD_REASON);
    REFUSED(ERROR_ABORTED, &r, unpublish(&r, "n1", false, true));
    contest(&r);
    REFUSED(ERROR_ABORTED, &r, unpublish(&r, "", false, false));
    assert_ok(unpublish(&r, "n1", false, true));
    assert_string_equal(r.published.nodes, "");
    assert_int_equal(r.lease.holder.node[0], 0);
    assert_int_equal(r.lease.lease_ms, 0);
    assert_ok(record_check(&r, &err));
}

static void a_detach_waits_for_no_other_lease(void **state UNUSED)
{
    struct record r = moving(0); /* the storage's detach is the end, as ever */

    assert_ok(unpublish(&r, "n1", false, false));
    r = moving(LEASE); /* the node has closed the volume */
    r.lease = (struct record_lease){ .opened_ms = 0 };
    assert_ok(unpublish(&r, "n1", false, false));
    r = moving(LEASE);
    assert_ok(unpublish(&r, "n2", false, false)); /* nothing is taken from n1 */
    assert_string_equal(r.lease.holder.node, "n1");
}

static void an_admin_waits_for_nothing(void **state UNUSED)
{
    struct record r = moving(LEASE);
    bool changed = false;

    assert_ok(record_release_lease(&r, &changed, &err));
    assert_int_equal(r.lease.holder.node[0], 0);
    r = leased(LEASE);
    assert_ok(record_release_lease(&r, &changed, &err));
    assert_int_equal(r.lease.holder.node[0], 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_a_volume_that_is_fenced_gets_a_lease_with_an_end),
        cmocka_unit_test(a_new_volume_gets_its_lease_when_it_is_ready),
        cmocka_unit_test(another_node_waits_for_the_mark_and_for_silence),
        cmocka_unit_test(a_lease_without_end_is_taken_from_nobody),
        cmocka_unit_test(the_former_holder_gets_nothing_back),
        cmocka_unit_test(a_renewal_takes_the_mark_away),
        cmocka_unit_test(only_the_holder_renews),
        cmocka_unit_test(a_lease_gets_longer_and_never_shorter_for_its_holder),
        cmocka_unit_test(a_detach_ends_when_the_lease_is_over),
        cmocka_unit_test(a_detach_waits_for_no_other_lease),
        cmocka_unit_test(an_admin_waits_for_nothing),
    };

    return RUN_TESTS(tests);
}
