/* SPDX-License-Identifier: Apache-2.0 */
#include "record/check.h"
#include "record/layout.h"
#include "record/publication.h"
#include "tests/unit/broker/fixture.h"

/* Who has a volume published, and what follows from it for every other step. */

static struct error err;

/* A volume that moves, in a phase; nodes as in the record's list. */
static struct record moving(enum record_phase phase, const char *nodes)
{
    struct record r = fixture_record(phase);

    r.spec.needs_publication = true;
    r.published.epoch = 5;
    memcpy(r.published.nodes, nodes, strlen(nodes) + 1);
    return r;
}

static void leased(struct record *r, const char *node)
{
    r->lease = (struct record_lease){ .holder = fixture_holder(node, "b1"), .opened_ms = 1 };
}

static bool publish(struct record *r, const char *node_id, bool read_only, uint64_t epoch,
                    bool *changed)
{
    const struct publish_request request = { .node_id = node_id,
                                             .read_only = read_only,
                                             .expected_epoch = epoch };

    return record_publish(r, &request, changed, &err);
}

static bool unpublish(struct record *r, const char *node_id, uint64_t epoch, bool *changed)
{
    const struct unpublish_request request = { .node_id = node_id, .expected_epoch = epoch };

    return record_unpublish(r, &request, changed, &err);
}

#define REFUSED(code, r, what)                             \
    do {                                                   \
        const struct record before_ = *(r);                \
        assert_refused(code, what);                        \
        assert_memory_equal(&before_, r, sizeof(before_)); \
    } while (0)

static bool open_by(struct record *r, const char *node, bool read_only)
{
    const struct record_open_request request = { .holder = fixture_holder(node, "b1"),
                                                 .read_only = read_only,
                                                 .now_ms = NOW,
                                                 .format_ms = LIMIT };
    bool changed = false;

    err = (struct error)ERROR_INIT;
    return record_open(r, &request, &changed, &err);
}

static void expect_unpublished(struct record *r, const char *node, bool read_only, const char *why)
{
    REFUSED(ERROR_DENIED, r, open_by(r, node, read_only));
    assert_string_equal(err.reason, PUBLICATION_REASON);
    assert_contains(err.text, why);
}

static bool change_by(struct record *r, const struct record_change *change)
{
    const struct change_request request = { .change = change,
                                            .holder = fixture_holder("n1", "b1"),
                                            .expected_version = r->version,
                                            .now_ms = NOW };
    bool changed = false;

    err = (struct error)ERROR_INIT;
    return record_change(r, &request, &changed, &err);
}

static void a_publication_expects_the_epoch_or_the_same_publication(void **state UNUSED)
{
    struct record r = moving(RECORD_NEW, "");
    bool changed = false;

    REFUSED(ERROR_ABORTED, &r, publish(&r, "n1", false, 4, &changed));
    REFUSED(ERROR_ABORTED, &r, publish(&r, "n1", false, 6, &changed));
    assert_contains(err.text, "epoch 5, but the request expects 6");
    assert_ok(publish(&r, "n1", false, 5, &changed));
    assert_true(changed);
    assert_string_equal(r.published.nodes, "w:n1");
    assert_int_equal(r.published.epoch, 6);
    assert_ok(publish(&r, "n1", false, 5, &changed)); /* the answer was lost */
    assert_false(changed);
    assert_int_equal(r.published.epoch, 6);
    assert_ok(publish(&r, "n1", false, 6, &changed));
    assert_false(changed);
    REFUSED(ERROR_ALREADY_EXISTS, &r, publish(&r, "n1", true, 6, &changed));
    REFUSED(ERROR_ALREADY_EXISTS, &r, publish(&r, "n1", true, 5, &changed));
    REFUSED(ERROR_FAILED_PRECONDITION, &r, publish(&r, "n2", false, 6, &changed));
    REFUSED(ERROR_FAILED_PRECONDITION, &r, publish(&r, "n1~other", false, 6, &changed));
    assert_contains(err.text, "published to node n1 for writing");
}

static void what_cannot_be_published(void **state UNUSED)
{
    struct record r = moving(RECORD_READY, "");
    bool changed = false;

    r.spec.needs_publication = false;
    REFUSED(ERROR_FAILED_PRECONDITION, &r, publish(&r, "n1", false, 5, &changed));
    leased(&r, "n1"); /* of a volume that stays, only its node or an admin ends the lease */
    REFUSED(ERROR_FAILED_PRECONDITION, &r, unpublish(&r, "n1", 5, &changed));
    r = moving(RECORD_DELETING, "");
    REFUSED(ERROR_FAILED_PRECONDITION, &r, publish(&r, "n1", false, 5, &changed));
    assert_ok(unpublish(&r, "n1", 5, &changed));
    r = moving(RECORD_ERASED, "");
    REFUSED(ERROR_NOT_FOUND, &r, publish(&r, "n1", false, 5, &changed));
    REFUSED(ERROR_NOT_FOUND, &r, unpublish(&r, "n1", 5, &changed));
    r = moving(RECORD_READY, "");
    r.kind = RECORD_SNAPSHOT;
    REFUSED(ERROR_FAILED_PRECONDITION, &r, publish(&r, "n1", true, 5, &changed));
    r = moving(RECORD_READY, "");
    REFUSED(ERROR_INVALID_ARGUMENT, &r, publish(&r, "", false, 5, &changed));
    REFUSED(ERROR_INVALID_ARGUMENT, &r, publish(&r, "n1 w:n2", false, 5, &changed));
    REFUSED(ERROR_INVALID_ARGUMENT, &r, unpublish(&r, "n1 w:n2", 5, &changed));
}

static void taking_back_ends_what_the_node_holds(void **state UNUSED)
{
    struct record r = moving(RECORD_READY, "w:n1~i-1");
    bool changed = false;

    leased(&r, "n1");
    assert_ok(unpublish(&r, "n1~i-1", 5, &changed));
    assert_true(changed);
    assert_string_equal(r.published.nodes, "");
    assert_int_equal(r.lease.holder.node[0], 0);
    assert_int_equal(r.phase, RECORD_READY);
    assert_int_equal(r.published.epoch, 6);

    r = moving(RECORD_FORMATTING, "w:n1"); /* by n1 */
    assert_ok(unpublish(&r, "n1", 5, &changed));
    assert_int_equal(r.phase, RECORD_NEW);
    assert_int_equal(r.format.holder.node[0], 0);
    assert_int_equal(r.format.attempt, 1); /* the next one is another */
    assert_int_equal(r.format.deadline_ms, 0);

    r = moving(RECORD_READY, "r:n1 r:n2 r:n3");
    assert_ok(unpublish(&r, "", 5, &changed));
    assert_string_equal(r.published.nodes, "");
    r = moving(RECORD_FORMATTING, "w:n1");
    assert_ok(unpublish(&r, "", 5, &changed));
    assert_int_equal(r.phase, RECORD_NEW);
}

static bool retire(struct record *r, const char *node_id, uint64_t epoch, bool *changed)
{
    const struct unpublish_request request = { node_id, epoch, .retire = true };

    return record_unpublish(r, &request, changed, &err);
}

static void a_node_that_is_leaving_keeps_its_lease_and_gets_no_key(void **state UNUSED)
{
    const struct record_change opened = { .kind = RECORD_CHANGE_OPENED, .open_counter = 6 };
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED, .is_closed = true };
    struct record r = moving(RECORD_READY, "w:n1");
    bool changed = false;

    leased(&r, "n1");
    REFUSED(ERROR_ABORTED, &r, retire(&r, "n1", 4, &changed));
    assert_ok(retire(&r, "n2", 4, &changed));
    assert_false(changed);
    assert_ok(retire(&r, "n1", 5, &changed));
    assert_true(changed);
    assert_int_equal(r.published.epoch, 6);
    assert_string_equal(r.lease.holder.node, "n1");
    assert_ok(retire(&r, "n1", 5, &changed)); /* the answer was lost */
    assert_false(changed);
    expect_unpublished(&r, "n1", false, "is being detached from node n1");
    expect_unpublished(&r, "n1", true, "is being detached from node n1");
    expect_unpublished(&r, "n2", false, "not to node n2");
    REFUSED(ERROR_DENIED, &r, change_by(&r, &opened));
    REFUSED(ERROR_FAILED_PRECONDITION, &r, publish(&r, "n2", false, 6, &changed));
    REFUSED(ERROR_FAILED_PRECONDITION, &r, record_begin_delete(&r, NOW, &changed, &err));
    REFUSED(ERROR_ABORTED, &r, unpublish(&r, "n1", 5, &changed)); /* of a detach before */
    struct record stays = r;

    assert_ok(publish(&stays, "n1", false, 6, &changed));
    assert_ok(change_by(&stays, &opened));
    REFUSED(ERROR_ABORTED, &stays, unpublish(&stays, "n1", 6, &changed));
    assert_ok(change_by(&r, &closed)); /* it may still close */
    assert_ok(unpublish(&r, "n1", 6, &changed));
    assert_string_equal(r.published.nodes, "");
}

static void taking_back_leaves_other_nodes_alone(void **state UNUSED)
{
    static const char *const others[] = { "n2", "n", "n11", "n1~i", "n11~i" };
    bool changed = true;

    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct record r = moving(RECORD_READY, "w:n1~i-1");
        const struct record before = r;

        assert_ok(unpublish(&r, others[i], 5, &changed));
        assert_false(changed);
        assert_memory_equal(&r, &before, sizeof(r));
        if (strcmp(others[i], "n1~i") == 0)
            continue; /* another id of the node that formats */
        r = moving(RECORD_FORMATTING, "w:n1");
        assert_ok(unpublish(&r, others[i], 5, &changed));
        assert_int_equal(r.phase, RECORD_FORMATTING);
        assert_false(changed);
    }
}

/* The detach and its request were overtaken by the next publication to the same node. */
static void a_late_request_to_take_back_changes_nothing(void **state UNUSED)
{
    struct record r = moving(RECORD_READY, "w:n1");
    bool changed = true;

    assert_ok(unpublish(&r, "n1", 5, &changed));
    assert_ok(unpublish(&r, "n1", 5, &changed)); /* nothing to do */
    assert_false(changed);
    assert_ok(publish(&r, "n1", false, 6, &changed));
    leased(&r, "n1");
    for (uint64_t late = 0; late < 7; late++) {
        REFUSED(ERROR_ABORTED, &r, unpublish(&r, "n1", late, &changed));
        REFUSED(ERROR_ABORTED, &r, unpublish(&r, "", late, &changed));
    }
    r.published = (struct record_publications){ .epoch = 9 }; /* a lease alone is something, too */
    REFUSED(ERROR_ABORTED, &r, unpublish(&r, "n1", 5, &changed));
}

static void keys_go_to_nodes_that_have_it_published(void **state UNUSED)
{
    static const enum record_phase phases[] = { RECORD_NEW, RECORD_READY };

    for (size_t i = 0; i < ARRAY_LEN(phases); i++) {
        struct record r = moving(phases[i], "");

        expect_unpublished(&r, "n1", false, "v is not published to node n1: the controller must");
        r = moving(phases[i], "w:n1~i-1");
        expect_unpublished(&r, "n2", false, "published to node n1~i-1, not to node n2");
        expect_unpublished(&r, "n2", true, "published to node n1~i-1, not to node n2");
        expect_unpublished(&r, "n1~i-1", false, "not to node n1~i-1"); /* a name with a separator */
        expect_unpublished(&r, "", false, "not to node ");
        assert_ok(open_by(&r, "n1", false));
        r = moving(phases[i], "r:n2 r:n1");
        expect_unpublished(&r, "n1", false, "published to node n1 for reading only");
    }
    struct record r = moving(RECORD_READY, "r:n2 r:n1");

    assert_ok(open_by(&r, "n1", true));
    r = moving(RECORD_READY, "w:n1");
    assert_ok(open_by(&r, "n1", true));
    r = moving(RECORD_READY, ""); /* a volume that stays needs none */
    r.spec.needs_publication = false;
    assert_ok(open_by(&r, "n1", false));
    r = moving(RECORD_ERASED, "");
    REFUSED(ERROR_NOT_FOUND, &r, open_by(&r, "n1", false));
}

static void changes_come_from_nodes_that_have_it_published(void **state UNUSED)
{
    const struct record_change ready = { .kind = RECORD_CHANGE_READY, .attempt = 1 };
    const struct record_change opened = { .kind = RECORD_CHANGE_OPENED, .open_counter = 6 };
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED, .is_closed = true };
    struct record r = moving(RECORD_FORMATTING, "");
    struct record_change grown = { .kind = RECORD_CHANGE_GROWN,
                                   .size_bytes = r.spec.size_bytes,
                                   .mapping_bytes = r.spec.mapping_bytes,
                                   .device_bytes = r.spec.device_bytes + 4096 };

    REFUSED(ERROR_DENIED, &r, change_by(&r, &ready));
    assert_string_equal(err.reason, PUBLICATION_REASON);
    r = moving(RECORD_READY, "r:n1");
    leased(&r, "n1");
    REFUSED(ERROR_DENIED, &r, change_by(&r, &opened));
    REFUSED(ERROR_DENIED, &r, change_by(&r, &grown));
    /* done already, but the node must not go on with it */
    grown.device_bytes = r.spec.device_bytes;
    REFUSED(ERROR_DENIED, &r, change_by(&r, &grown));
    assert_ok(change_by(&r, &closed));
    r = moving(RECORD_READY, "w:n1");
    leased(&r, "n1");
    assert_ok(change_by(&r, &opened));
    r = moving(RECORD_FORMATTING, "w:n1");
    assert_ok(change_by(&r, &ready));
}

/* The node left behind: its requests of before, and what it sends when it is back. */
static void the_node_left_behind_is_refused(void **state UNUSED)
{
    const struct record_change opened = { .kind = RECORD_CHANGE_OPENED, .open_counter = 6 };
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED, .is_closed = true };
    const struct record_holder again = fixture_holder("n1", "b2");
    struct record r = moving(RECORD_READY, "w:n1");
    bool changed = false;

    leased(&r, "n1");
    assert_ok(unpublish(&r, "n1", 5, &changed));
    REFUSED(ERROR_DENIED, &r, change_by(&r, &opened));
    REFUSED(ERROR_FAILED_PRECONDITION, &r, change_by(&r, &closed));
    REFUSED(ERROR_DENIED, &r, record_take_over(&r, &again, &changed, &err));
    expect_unpublished(&r, "n1", false, "not published to node n1");
    assert_ok(publish(&r, "n2", false, 6, &changed));
    assert_ok(open_by(&r, "n2", false));
    REFUSED(ERROR_FAILED_PRECONDITION, &r, change_by(&r, &closed));
    REFUSED(ERROR_DENIED, &r, record_take_over(&r, &again, &changed, &err));
    assert_string_equal(r.lease.holder.node, "n2");
}

static void a_new_boot_takes_over_where_the_volume_is_published(void **state UNUSED)
{
    const struct record_holder again = fixture_holder("n1", "b2");
    struct record r = moving(RECORD_READY, "r:n1");
    bool changed = false;

    leased(&r, "n1");
    REFUSED(ERROR_DENIED, &r, record_take_over(&r, &again, &changed, &err));
    r = moving(RECORD_READY, "w:n1");
    leased(&r, "n1");
    assert_ok(record_take_over(&r, &again, &changed, &err));
    assert_string_equal(r.lease.holder.boot_id, "b2");
}

static void a_volume_is_not_deleted_where_it_is_published(void **state UNUSED)
{
    static const char *const lists[] = { "w:n1", "r:n1", "r:n1 r:n2" };
    bool changed = false;

    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        struct record r = moving(i == 0 ? RECORD_NEW : RECORD_READY, lists[i]);

        REFUSED(ERROR_FAILED_PRECONDITION, &r, record_begin_delete(&r, NOW, &changed, &err));
        assert_contains(err.text, "is published to node n1: detach it there first");
        assert_ok(unpublish(&r, "", 5, &changed));
        assert_ok(record_begin_delete(&r, NOW, &changed, &err));
    }
}

static void an_admin_frees_the_volume_of_a_lost_node_whole(void **state UNUSED)
{
    struct record r = moving(RECORD_READY, "w:n1");
    bool changed = false;

    leased(&r, "n1");
    assert_ok(record_release_lease(&r, &changed, &err));
    assert_true(changed);
    assert_string_equal(r.published.nodes, "");
    assert_int_equal(r.published.epoch, 6);
    assert_int_equal(r.lease.holder.node[0], 0);
    assert_ok(record_release_lease(&r, &changed, &err));
    assert_false(changed);
    r = moving(RECORD_FORMATTING, "w:n1");
    assert_ok(record_release_lease(&r, &changed, &err));
    assert_int_equal(r.phase, RECORD_NEW);
}

/* An id can be used again: by other drivers, too. */
static void epochs_go_on_when_an_id_is_used_again(void **state UNUSED)
{
    struct volume_spec spec = fixture_spec();
    struct record r = moving(RECORD_ERASED, "");
    bool changed = false;

    spec.needs_publication = true;
    assert_ok(record_create(&r, &spec, &fixture_fresh, &changed, &err));
    assert_int_equal(r.published.epoch, 6);
    REFUSED(ERROR_ABORTED, &r, publish(&r, "n1", false, 5, &changed));
    assert_ok(publish(&r, "n1", false, 6, &changed));
}

static void a_copy_is_published_nowhere_and_needs_it_as_its_source(void **state UNUSED)
{
    const struct record source = moving(RECORD_READY, "w:n1");
    const struct record_copy_request copy = { .source_version = 7,
                                              .kind = RECORD_VOLUME,
                                              .name = "copy",
                                              .location = "",
                                              .source_volume_id = "v" };
    struct record r = { .volume_id = "c" };
    bool fresh_key = false, changed = false;

    assert_ok(record_copy(&r, &source, &copy, &fixture_fresh, &fresh_key, &changed, &err));
    assert_true(r.spec.needs_publication);
    assert_string_equal(r.published.nodes, "");
    assert_int_equal(r.published.epoch, 0);
    r.version = 1;
    expect_unpublished(&r, "n1", false, "not published");
}

static void an_adopted_disk_may_be_as_old_as_the_lineage(void **state UNUSED)
{
    const struct record_adopt_request request = { .kind = RECORD_SNAPSHOT, .name = "s" };
    struct record like = moving(RECORD_READY, "w:n1");
    struct record r = { .volume_id = "c", .tenant = "t", .driver = "d" };

    like.is_closed = like.has_clean_hash = true;
    assert_ok(record_adopt(&r, &like, &request, &fixture_fresh, &err));
    r.version = 1;
    assert_ok(record_check(&r, &err));
    assert_int_equal(r.phase, RECORD_READY);
    assert_int_equal(r.kind, RECORD_SNAPSHOT);
    assert_int_equal(r.open_counter, 0);
    assert_true(r.origin.is_set);
    assert_int_equal(r.origin.counter_low, 0);
    assert_int_equal(r.origin.counter_high, 6);
    assert_memory_equal(r.origin.record_id, like.id, RECORD_ID_LEN);
    assert_memory_equal(&r.key, &like.key, sizeof(r.key));
    assert_false(r.is_closed || r.has_clean_hash);
    assert_string_equal(r.published.nodes, "");
    assert_string_equal(r.source_volume_id, "v");
    REFUSED(ERROR_ALREADY_EXISTS, &r, record_adopt(&r, &like, &request, &fixture_fresh, &err));
}

static void what_no_other_disk_can_be_like(void **state UNUSED)
{
    const struct record_adopt_request request = { .kind = RECORD_VOLUME, .name = "s" };
    static const struct {
        enum record_phase phase;
        enum error_code code;
    } rows[] = { { RECORD_NEW, ERROR_FAILED_PRECONDITION },
                 { RECORD_FORMATTING, ERROR_ABORTED },
                 { RECORD_DELETING, ERROR_FAILED_PRECONDITION },
                 { RECORD_ERASED, ERROR_NOT_FOUND } };
    struct record r = { .volume_id = "c" };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct record like = moving(rows[i].phase, "");

        REFUSED(rows[i].code, &r, record_adopt(&r, &like, &request, &fixture_fresh, &err));
    }
}

/* The node was made anew at the storage, and has another name there. */
static void the_lease_stays_while_the_node_has_the_volume_by_another_id(void **state UNUSED)
{
    struct record r = moving(RECORD_READY, "w:n1~new");
    bool changed = true;

    leased(&r, "n1");
    assert_ok(unpublish(&r, "n1~old", 5, &changed));
    assert_false(changed);
    assert_string_equal(r.lease.holder.node, "n1");
    assert_ok(unpublish(&r, "n1~new", 5, &changed));
    assert_true(changed);
    assert_string_equal(r.lease.holder.node, "");
}

static struct volume_spec old_spec(void)
{
    struct volume_spec spec = fixture_spec();

    spec.integrity = INTEGRITY_NONE;
    spec.backing = BACKING_DEVICE;
    spec.needs_publication = true;
    assert_ok(layout_plan_take_over(&spec, 2 * GIB, &err));
    return spec;
}

/* As the broker makes it. */
static struct record adopted_old(void)
{
    const struct volume_spec spec = old_spec();
    struct record r = { .volume_id = "c", .tenant = "t", .driver = "d" };

    assert_ok(record_adopt_old(&r, &spec, &fixture_fresh, NOW, &err));
    r.old_key.is_set = true;
    r.version = 1;
    assert_ok(record_check(&r, &err));
    assert_int_equal(r.phase, RECORD_NEW);
    return r;
}

static void an_old_volume_keeps_its_key_until_it_is_ready(void **state UNUSED)
{
    struct record r = adopted_old();
    struct record_change change = { .kind = RECORD_CHANGE_CLOSED, .attempt = 1 };
    struct change_request request = { .change = &change,
                                      .holder = fixture_holder("n1", "b1"),
                                      .expected_version = 1,
                                      .now_ms = NOW };
    bool changed = false;

    assert_ok(publish(&r, "n1", false, 0, &changed));
    assert_true(open_by(&r, "n1", false));
    assert_ok(record_change(&r, &request, &changed, &err)); /* given up */
    assert_true(r.phase == RECORD_NEW && r.old_key.is_set);
    assert_true(open_by(&r, "n1", false));
    change = (struct record_change){ .kind = RECORD_CHANGE_READY, .attempt = 2 };
    assert_ok(record_change(&r, &request, &changed, &err));
    assert_int_equal(r.phase, RECORD_READY);
    assert_false(r.old_key.is_set);
}

static void an_old_volume_is_adopted_again_until_a_node_is_at_it(void **state UNUSED)
{
    const struct volume_spec spec = old_spec();
    const struct record_fresh again = { .id = { 7 }, .key = { .id = { 7 }, .generation = 1 } };
    struct record r = adopted_old();
    bool changed = false;

    assert_ok(publish(&r, "n1", false, 0, &changed));
    assert_ok(record_adopt_old(&r, &spec, &again, NOW, &err));
    assert_memory_equal(r.id, again.id, RECORD_ID_LEN);
    assert_int_equal(r.key.id[0], 7);
    assert_false(r.old_key.is_set); /* the broker sets the new one */
    assert_int_equal(r.version, 1);
    assert_true(strcmp(r.published.nodes, "w:n1") == 0 && r.published.epoch == 1);
    r.old_key.is_set = true;
    assert_true(open_by(&r, "n1", false));
    uint64_t end = r.format.deadline_ms;
    REFUSED(ERROR_ABORTED, &r, record_adopt_old(&r, &spec, &again, end - 1, &err));
    assert_contains(err.text, "is being formatted by node n1");
    assert_ok(record_adopt_old(&r, &spec, &again, end, &err)); /* the node died at it */
    assert_true(r.phase == RECORD_NEW && r.format.attempt == 0);
    r.phase = RECORD_READY;
    REFUSED(ERROR_ALREADY_EXISTS, &r, record_adopt_old(&r, &spec, &again, NOW, &err));
    struct record fresh = moving(RECORD_NEW, "");
    REFUSED(ERROR_ALREADY_EXISTS, &fresh, record_adopt_old(&fresh, &spec, &again, NOW, &err));
}

static void nobody_else_makes_an_old_volume(void **state UNUSED)
{
    struct volume_spec spec = old_spec();
    struct record r = { .volume_id = "c" };
    bool changed = false;

    REFUSED(ERROR_INVALID_ARGUMENT, &r, record_create(&r, &spec, &fixture_fresh, &changed, &err));
    spec = fixture_spec();
    REFUSED(ERROR_INVALID_ARGUMENT, &r, record_adopt_old(&r, &spec, &fixture_fresh, NOW, &err));
    spec = old_spec();
    spec.backing = BACKING_FILE;
    REFUSED(ERROR_INVALID_ARGUMENT, &r, record_adopt_old(&r, &spec, &fixture_fresh, NOW, &err));
}

static void what_is_not_taken_over_yet_is_not_copied(void **state UNUSED)
{
    const struct record source = adopted_old();
    const struct record_copy_request copy = { .source_version = 1,
                                              .kind = RECORD_VOLUME,
                                              .name = "copy",
                                              .location = "",
                                              .source_volume_id = "c" };
    struct record r = { .volume_id = "d" };
    bool fresh_key = false, changed = false;

    REFUSED(ERROR_FAILED_PRECONDITION, &r,
            record_copy(&r, &source, &copy, &fixture_fresh, &fresh_key, &changed, &err));
    assert_contains(err.text, "stage it once for writing");
}

static void deletion_takes_the_old_key_along(void **state UNUSED)
{
    struct record r = adopted_old();
    bool changed = false;

    assert_ok(record_begin_delete(&r, NOW, &changed, &err));
    assert_ok(record_cancel_delete(&r, &changed, &err));
    assert_true(r.phase == RECORD_NEW && r.old_key.is_set);
    assert_ok(record_begin_delete(&r, NOW, &changed, &err));
    assert_ok(record_finish_delete(&r, &fixture_not_kept, &changed, &err));
    assert_false(r.old_key.is_set);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_lease_stays_while_the_node_has_the_volume_by_another_id),
        cmocka_unit_test(a_publication_expects_the_epoch_or_the_same_publication),
        cmocka_unit_test(what_cannot_be_published),
        cmocka_unit_test(taking_back_ends_what_the_node_holds),
        cmocka_unit_test(a_node_that_is_leaving_keeps_its_lease_and_gets_no_key),
        cmocka_unit_test(taking_back_leaves_other_nodes_alone),
        cmocka_unit_test(a_late_request_to_take_back_changes_nothing),
        cmocka_unit_test(keys_go_to_nodes_that_have_it_published),
        cmocka_unit_test(changes_come_from_nodes_that_have_it_published),
        cmocka_unit_test(the_node_left_behind_is_refused),
        cmocka_unit_test(a_new_boot_takes_over_where_the_volume_is_published),
        cmocka_unit_test(a_volume_is_not_deleted_where_it_is_published),
        cmocka_unit_test(an_admin_frees_the_volume_of_a_lost_node_whole),
        cmocka_unit_test(epochs_go_on_when_an_id_is_used_again),
        cmocka_unit_test(a_copy_is_published_nowhere_and_needs_it_as_its_source),
        cmocka_unit_test(an_adopted_disk_may_be_as_old_as_the_lineage),
        cmocka_unit_test(an_old_volume_keeps_its_key_until_it_is_ready),
        cmocka_unit_test(an_old_volume_is_adopted_again_until_a_node_is_at_it),
        cmocka_unit_test(nobody_else_makes_an_old_volume),
        cmocka_unit_test(what_is_not_taken_over_yet_is_not_copied),
        cmocka_unit_test(deletion_takes_the_old_key_along),
        cmocka_unit_test(what_no_other_disk_can_be_like),
    };

    return RUN_TESTS(tests);
}
