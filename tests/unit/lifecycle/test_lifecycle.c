/* SPDX-License-Identifier: Apache-2.0 */
#include "record/check.h"
#include "tests/unit/broker/fixture.h"

/* Every request in every phase: when it must succeed, and when it must be refused. */

enum event { CREATE, CREATE_OTHER, COPY_TO, OPEN, OPEN_READ_ONLY, BEGIN, CANCEL, FINISH, RELEASE };

static bool apply(struct record *r, enum event event, bool *changed, struct error *err)
{
    struct volume_spec spec = fixture_spec();
    struct record_open_request open = { .holder = fixture_holder("n2", "b2"),
                                        .now_ms = NOW,
                                        .format_ms = LIMIT };
    struct record source = fixture_record(RECORD_READY);
    struct record_copy_request copy = { .source_version = 7,
                                        .kind = RECORD_VOLUME,
                                        .name = "copy",
                                        .location = "",
                                        .source_volume_id = "source" };
    bool fresh_key;

    switch (event) {
    case CREATE_OTHER:
        spec.size_bytes -= 4096;
        return record_create(r, &spec, &fixture_fresh, changed, err);
    case CREATE:
        return record_create(r, &spec, &fixture_fresh, changed, err);
    case COPY_TO:
        return record_copy(r, &source, &copy, &fixture_fresh, &fresh_key, changed, err);
    case OPEN_READ_ONLY:
        open.read_only = true;
        return record_open(r, &open, changed, err);
    case OPEN:
        return record_open(r, &open, changed, err);
    case BEGIN:
        return record_begin_delete(r, NOW, changed, err);
    case CANCEL:
        return record_cancel_delete(r, changed, err);
    case FINISH:
        return record_finish_delete(r, &fixture_not_kept, changed, err);
    case RELEASE:
    default:
        return record_release_lease(r, changed, err);
    }
}

enum {
    NONE = 0,
    NEW = RECORD_NEW,
    FMT = RECORD_FORMATTING,
    RDY = RECORD_READY,
    DEL = RECORD_DELETING,
    ERA = RECORD_ERASED
};
static const struct {
    int phase; /* NONE: there is no record */
    enum event event;
    enum error_code code;
    int next; /* phase after success */
    bool changed;
} transitions[] = {
    { NONE, CREATE, ERROR_NONE, NEW, true },
    { NEW, CREATE, ERROR_NONE, NEW, false },
    { FMT, CREATE, ERROR_NONE, FMT, false },
    { RDY, CREATE, ERROR_NONE, RDY, false },
    { DEL, CREATE, ERROR_ABORTED, 0, false },
    { ERA, CREATE, ERROR_NONE, NEW, true },
    { NEW, CREATE_OTHER, ERROR_ALREADY_EXISTS, 0, false },
    { FMT, CREATE_OTHER, ERROR_ALREADY_EXISTS, 0, false },
    { RDY, CREATE_OTHER, ERROR_ALREADY_EXISTS, 0, false },
    { DEL, CREATE_OTHER, ERROR_ABORTED, 0, false },
    { ERA, CREATE_OTHER, ERROR_NONE, NEW, true },
    { NONE, COPY_TO, ERROR_NONE, RDY, true },
    { NEW, COPY_TO, ERROR_ALREADY_EXISTS, 0, false },
    { FMT, COPY_TO, ERROR_ALREADY_EXISTS, 0, false },
    { RDY, COPY_TO, ERROR_ALREADY_EXISTS, 0, false },
    { DEL, COPY_TO, ERROR_ABORTED, 0, false },
    { ERA, COPY_TO, ERROR_NONE, RDY, true },
    { NONE, OPEN, ERROR_NOT_FOUND, 0, false },
    { NEW, OPEN, ERROR_NONE, FMT, true },
    { FMT, OPEN, ERROR_ABORTED, 0, false }, /* another node formats it */
    { RDY, OPEN, ERROR_NONE, RDY, true },
    { DEL, OPEN, ERROR_FAILED_PRECONDITION, 0, false },
    { ERA, OPEN, ERROR_NOT_FOUND, 0, false },
    { NONE, OPEN_READ_ONLY, ERROR_NOT_FOUND, 0, false },
    { NEW, OPEN_READ_ONLY, ERROR_FAILED_PRECONDITION, 0, false },
    { FMT, OPEN_READ_ONLY, ERROR_FAILED_PRECONDITION, 0, false },
    { RDY, OPEN_READ_ONLY, ERROR_NONE, RDY, false },
    { DEL, OPEN_READ_ONLY, ERROR_FAILED_PRECONDITION, 0, false },
    { ERA, OPEN_READ_ONLY, ERROR_NOT_FOUND, 0, false },
    { NONE, BEGIN, ERROR_NOT_FOUND, 0, false },
    { NEW, BEGIN, ERROR_NONE, DEL, true },
    { FMT, BEGIN, ERROR_FAILED_PRECONDITION, 0, false },
    { RDY, BEGIN, ERROR_NONE, DEL, true },
    { DEL, BEGIN, ERROR_NONE, DEL, false },
    { ERA, BEGIN, ERROR_NOT_FOUND, 0, false },
    { NONE, CANCEL, ERROR_NOT_FOUND, 0, false },
    { NEW, CANCEL, ERROR_NONE, NEW, false },
    { FMT, CANCEL, ERROR_NONE, FMT, false },
    { RDY, CANCEL, ERROR_NONE, RDY, false },
    { DEL, CANCEL, ERROR_NONE, RDY, true },
    { ERA, CANCEL, ERROR_NOT_FOUND, 0, false },
    { NONE, FINISH, ERROR_NOT_FOUND, 0, false },
    { NEW, FINISH, ERROR_FAILED_PRECONDITION, 0, false },
    { FMT, FINISH, ERROR_FAILED_PRECONDITION, 0, false },
    { RDY, FINISH, ERROR_FAILED_PRECONDITION, 0, false },
    { DEL, FINISH, ERROR_NONE, ERA, true },
    { ERA, FINISH, ERROR_NOT_FOUND, 0, false },
    { NONE, RELEASE, ERROR_NOT_FOUND, 0, false },
    { NEW, RELEASE, ERROR_NONE, NEW, false },
    { FMT, RELEASE, ERROR_NONE, FMT, false },
    { RDY, RELEASE, ERROR_NONE, RDY, false },
    { DEL, RELEASE, ERROR_NONE, DEL, false },
    { ERA, RELEASE, ERROR_NOT_FOUND, 0, false },
};

static void each_request_in_each_phase_does_what_the_table_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(transitions); i++) {
        struct record before = transitions[i].phase == NONE
                                   ? (struct record){ .volume_id = "v" }
                                   : fixture_record((enum record_phase)transitions[i].phase);
        struct record r = before;
        struct error err = ERROR_INIT;
        bool changed = !transitions[i].changed;
        bool ok = apply(&r, transitions[i].event, &changed, &err);

        if (err.code != transitions[i].code || ok != (transitions[i].code == ERROR_NONE))
            fail_msg("row %zu: %s: %s", i, error_code_name(err.code), err.text);
        if (!ok)
            assert_memory_equal(&r, &before, sizeof(r));
        if (ok && ((int)r.phase != transitions[i].next || changed != transitions[i].changed))
            fail_msg("row %zu: phase %s, changed %d", i, record_phase_name(r.phase), changed);
    }
}

static void an_erased_id_starts_anew_with_a_new_id_and_key(void **state)
{
    struct record r = fixture_record(RECORD_ERASED);
    struct volume_spec spec = fixture_spec();
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    assert_ok(record_create(&r, &spec, &fixture_fresh, &changed, &err));
    assert_memory_equal(r.id, fixture_fresh.id, RECORD_ID_LEN);
    assert_memory_equal(r.key.id, fixture_fresh.key.id, RECORD_ID_LEN);
    assert_int_equal(r.version, 7); /* the swap needs the stored one */
    assert_int_equal(r.open_counter, 0);
}

static void a_bad_spec_is_refused(void **state)
{
    struct error err = ERROR_INIT;
    struct volume_spec good = fixture_spec();
    struct volume_spec bad[12];
    bool changed = false;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = good;
    bad[0].name[0] = '\0';
    bad[1].integrity = 0;
    bad[2].integrity = 4;
    bad[3].provisioning = 0;
    bad[4].provisioning = 3;
    bad[5].discard = true;
    bad[6].sector_bytes = 512;
    bad[7].size_bytes = 0;
    bad[8].mapping_bytes = bad[8].size_bytes;
    bad[9].device_bytes = bad[9].mapping_bytes - 1;
    bad[10].device_bytes = UINT64_MAX;
    bad[11].size_bytes = UINT64_MAX;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct record r = { .volume_id = "v" };

        assert_refused(ERROR_INVALID_ARGUMENT,
                       record_create(&r, &bad[i], &fixture_fresh, &changed, &err));
    }
    good.layout_version = 2;
    assert_refused(ERROR_FAILED_PRECONDITION, volume_spec_check(&good, &err));
    assert_contains(err.text, "layout version 2");
    assert_contains(err.text, "version 1");
}

/* --- opening --- */

static bool open_by(struct record *r, const char *node, const char *boot_id, uint64_t now_ms,
                    struct error *err)
{
    struct record_open_request open = { .holder = fixture_holder(node, boot_id),
                                        .now_ms = now_ms,
                                        .format_ms = LIMIT };
    bool changed = false;

    return record_open(r, &open, &changed, err) && changed;
}

static void the_same_boot_takes_its_format_over(void **state)
{
    struct record r = fixture_record(RECORD_FORMATTING);
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(open_by(&r, "n1", "b1", NOW + 1, &err));
    assert_int_equal(r.format.attempt, 2);
    assert_int_equal(r.format.deadline_ms, NOW + 1 + LIMIT);
}

static void another_boot_or_node_waits_for_the_deadline(void **state)
{
    struct record r = fixture_record(RECORD_FORMATTING);
    struct error err = ERROR_INIT;

    (void)state;
    assert_refused(ERROR_ABORTED, open_by(&r, "n1", "b2", NOW, &err));
    assert_refused(ERROR_ABORTED, open_by(&r, "n2", "b1", NOW + LIMIT - 1, &err));
    assert_contains(err.text, "node n1");
    assert_contains(err.text, "1 s more");
    assert_ok(open_by(&r, "n2", "b1", NOW + LIMIT, &err));
    assert_string_equal(r.format.holder.node, "n2");
    assert_int_equal(r.format.attempt, 2);
}

static void a_volume_open_elsewhere_is_refused_with_the_way_out(void **state)
{
    struct record r = fixture_record(RECORD_READY);
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(open_by(&r, "n1", "b1", NOW, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, open_by(&r, "n2", "b1", NOW, &err));
    assert_contains(err.text, "node n1 since 1970-");
    assert_contains(err.text, "tdvolctl volume release v");
    assert_ok(open_by(&r, "n1", "b2", NOW + 1, &err)); /* the node was restarted */
    assert_string_equal(r.lease.holder.boot_id, "b2");
    assert_int_equal(r.lease.opened_ms, NOW + 1);
}

static void reading_needs_no_lease(void **state)
{
    struct record r = fixture_record(RECORD_READY);
    struct record_open_request open = { .holder = fixture_holder("n2", "b2"), .read_only = true };
    struct error err = ERROR_INIT;
    bool changed = true;

    (void)state;
    assert_ok(open_by(&r, "n1", "b1", NOW, &err));
    assert_ok(record_open(&r, &open, &changed, &err));
    assert_false(changed);
    assert_string_equal(r.lease.holder.node, "n1");
}

static void a_snapshot_opens_read_only_alone(void **state)
{
    struct record r = fixture_record(RECORD_READY);
    struct record_open_request open = { .holder = fixture_holder("n2", "b2"), .read_only = true };
    struct error err = ERROR_INIT;
    bool changed = true;

    (void)state;
    r.kind = RECORD_SNAPSHOT;
    assert_refused(ERROR_FAILED_PRECONDITION, open_by(&r, "n1", "b1", NOW, &err));
    assert_ok(record_open(&r, &open, &changed, &err));
}

/* --- deleting --- */

static void a_volume_in_use_is_not_deleted(void **state)
{
    struct record r = fixture_record(RECORD_READY);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    assert_ok(open_by(&r, "n1", "b1", NOW, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, record_begin_delete(&r, NOW, &changed, &err));
    assert_contains(err.text, "n1");
    assert_ok(record_release_lease(&r, &changed, &err));
    assert_true(changed);
    assert_ok(record_begin_delete(&r, NOW, &changed, &err));
}

static void a_cancelled_deletion_puts_the_phase_back(void **state)
{
    struct record ready = fixture_record(RECORD_READY), fresh = fixture_record(RECORD_NEW);
    struct record late = fixture_record(RECORD_FORMATTING);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    assert_ok(record_begin_delete(&ready, NOW, &changed, &err));
    assert_ok(record_cancel_delete(&ready, &changed, &err));
    assert_int_equal(ready.phase, RECORD_READY);
    assert_ok(record_begin_delete(&fresh, NOW, &changed, &err));
    assert_ok(record_cancel_delete(&fresh, &changed, &err));
    assert_int_equal(fresh.phase, RECORD_NEW);
    assert_ok(record_begin_delete(&late, NOW + LIMIT, &changed, &err));
    assert_ok(record_cancel_delete(&late, &changed, &err));
    assert_int_equal(late.phase, RECORD_NEW); /* was never READY */
}

static void an_erased_record_has_no_key_and_no_header(void **state)
{
    struct record r = fixture_record(RECORD_DELETING);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    assert_ok(record_finish_delete(&r, &fixture_not_kept, &changed, &err));
    assert_int_equal(r.key.generation, 0);
    assert_int_equal(r.n_header_digests, 0);
}

/* --- copies --- */

static const struct record_copy_request snapshot_request = { .source_version = 7,
                                                             .kind = RECORD_SNAPSHOT,
                                                             .name = "snap",
                                                             .location = "n1",
                                                             .source_volume_id = "v" };

static bool copy_of(const struct record *source, struct record *out, bool *fresh_key,
                    struct error *err)
{
    bool changed = false;

    *out = (struct record){ .tenant = "t", .driver = "d", .volume_id = "s" };
    return record_copy(out, source, &snapshot_request, &fixture_fresh, fresh_key, &changed, err) &&
           changed;
}

static void a_copy_may_be_larger_and_never_smaller(void **state)
{
    struct record source = fixture_record(RECORD_READY), copy = { .tenant = "t" };
    struct record_copy_request larger = snapshot_request;
    struct error err = ERROR_INIT;
    bool fresh_key = false, changed = false;

    (void)state;
    larger.size_bytes = GIB - 4096;
    assert_refused(ERROR_OUT_OF_RANGE, record_copy(&copy, &source, &larger, &fixture_fresh,
                                                   &fresh_key, &changed, &err));
    larger.size_bytes = 3 * GIB;
    assert_ok(record_copy(&copy, &source, &larger, &fixture_fresh, &fresh_key, &changed, &err));
    assert_int_equal(copy.spec.size_bytes, 3 * GIB);
    assert_int_equal(copy.spec.mapping_bytes, 3 * GIB + 18 * MIB);
    assert_true(copy.spec.device_bytes > copy.spec.mapping_bytes);
    assert_int_equal(copy.spec.journal_sectors, source.spec.journal_sectors);
}

static void a_copy_may_have_a_workqueue_of_its_own(void **state UNUSED)
{
    struct record source = fixture_record(RECORD_READY), copy = { .tenant = "t" };
    struct record_copy_request request = snapshot_request;
    struct error err = ERROR_INIT;
    bool fresh_key = false, changed = false;

    source.spec.workqueue = WORKQUEUE_ON;
    request.workqueue = WORKQUEUE_OFF;
    assert_ok(record_copy(&copy, &source, &request, &fixture_fresh, &fresh_key, &changed, &err));
    assert_int_equal(copy.spec.workqueue, WORKQUEUE_OFF);
    copy.version = 1;
    request.workqueue = WORKQUEUE_AUTO;
    assert_refused(ERROR_ALREADY_EXISTS, record_copy(&copy, &source, &request, &fixture_fresh,
                                                     &fresh_key, &changed, &err));
    request.workqueue = (enum workqueue)(WORKQUEUE_OFF + 1);
    assert_refused(ERROR_INVALID_ARGUMENT, record_copy(&copy, &source, &request, &fixture_fresh,
                                                       &fresh_key, &changed, &err));
    assert_ok(copy_of(&source, &copy, &fresh_key, &err)); /* says nothing */
    assert_int_equal(copy.spec.workqueue, WORKQUEUE_ON);
}

static void a_copy_opens_like_its_source(void **state UNUSED)
{
    struct record source = fixture_record(RECORD_READY), copy;
    struct error err = ERROR_INIT;
    bool fresh_key = true;

    source.recovery.sha256[9] = source.has_clean_hash = true;
    source.lease.holder = fixture_holder("n1", "b1");
    assert_ok(copy_of(&source, &copy, &fresh_key, &err));
    assert_false(fresh_key);
    assert_int_equal(copy.phase, RECORD_READY);
    assert_int_equal(copy.kind, RECORD_SNAPSHOT);
    assert_memory_equal(&copy.key, &source.key, sizeof(copy.key));
    assert_memory_equal(copy.header_digests[0], source.header_digests[0], SHA256_LEN);
    assert_memory_equal(&copy.recovery, &source.recovery, sizeof(copy.recovery));
    assert_int_equal(copy.open_counter, 5);
    assert_true(copy.origin.is_set);
    assert_memory_equal(copy.origin.record_id, source.id, RECORD_ID_LEN);
    assert_int_equal(copy.origin.counter_low, 5);
    assert_int_equal(copy.origin.counter_high, 6);
    assert_string_equal(copy.lease.holder.node, "");
    assert_false(copy.has_clean_hash);
    assert_memory_equal(copy.id, fixture_fresh.id, RECORD_ID_LEN);
    assert_string_equal(copy.spec.name, "snap");
    assert_string_equal(copy.spec.location, "n1");
    assert_string_equal(copy.source_volume_id, "v");
}

static void a_copy_of_a_closed_volume_is_closed(void **state UNUSED)
{
    struct record source = fixture_record(RECORD_READY), copy;
    struct error err = ERROR_INIT;
    bool fresh_key = true;

    source.is_closed = source.has_clean_hash = true;
    source.clean_hash[3] = 7;
    source.lease = (struct record_lease){ .opened_ms = 0 };
    assert_ok(copy_of(&source, &copy, &fresh_key, &err));
    assert_true(copy.is_closed && copy.has_clean_hash && copy.clean_hash[3] == 7);
    source.lease.holder = (struct record_holder){ "n1", "b1" }; /* a stage has begun */
    assert_ok(copy_of(&source, &copy, &fresh_key, &err));
    assert_false(copy.is_closed || copy.has_clean_hash);
}

static void a_copy_of_an_unopened_copy_keeps_the_first_origin(void **state)
{
    struct record source = fixture_record(RECORD_READY), copy;
    struct error err = ERROR_INIT;
    bool fresh_key = true;

    (void)state;
    source.origin = (struct volume_origin){
        .is_set = true, .record_id = { 0xcc }, .counter_low = 3, .counter_high = 4
    };
    assert_ok(copy_of(&source, &copy, &fresh_key, &err));
    assert_memory_equal(&copy.origin, &source.origin, sizeof(copy.origin));
    source.lease.holder = fixture_holder("n1", "b1"); /* its disk may hold either block */
    assert_refused(ERROR_ABORTED, copy_of(&source, &copy, &fresh_key, &err));
}

static void a_copy_of_a_volume_never_written_gets_its_own_key(void **state)
{
    struct record source = fixture_record(RECORD_NEW), copy;
    struct error err = ERROR_INIT;
    bool fresh_key = false;

    (void)state;
    assert_ok(copy_of(&source, &copy, &fresh_key, &err));
    assert_true(fresh_key);
    assert_int_equal(copy.phase, RECORD_NEW);
    assert_memory_equal(&copy.key, &fixture_fresh.key, sizeof(copy.key));
    assert_false(copy.origin.is_set);
}

static void a_source_that_is_not_at_rest_is_not_copied(void **state)
{
    static const struct {
        enum record_phase phase;
        enum error_code code;
    } rows[] = { { RECORD_FORMATTING, ERROR_ABORTED },
                 { RECORD_DELETING, ERROR_FAILED_PRECONDITION },
                 { RECORD_ERASED, ERROR_NOT_FOUND } };
    struct error err = ERROR_INIT;
    struct record copy, source;
    bool fresh_key = false;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        source = fixture_record(rows[i].phase);
        assert_refused(rows[i].code, copy_of(&source, &copy, &fresh_key, &err));
    }
    source = fixture_record(RECORD_READY);
    source.version = 8;
    assert_refused(ERROR_ABORTED, copy_of(&source, &copy, &fresh_key, &err));
    assert_contains(err.text, "changed while it was copied");
    assert_refused(ERROR_NOT_FOUND, copy_of(NULL, &copy, &fresh_key, &err));
}

static void a_copy_asked_for_again_is_found_even_when_the_source_is_gone(void **state)
{
    struct record source = fixture_record(RECORD_READY), copy;
    struct record_copy_request other = snapshot_request;
    struct error err = ERROR_INIT;
    bool fresh_key = false, changed = true;

    (void)state;
    assert_ok(copy_of(&source, &copy, &fresh_key, &err));
    copy.version = 1;
    assert_ok(
        record_copy(&copy, NULL, &snapshot_request, &fixture_fresh, &fresh_key, &changed, &err));
    assert_false(changed);
    other.kind = RECORD_VOLUME;
    assert_refused(ERROR_ALREADY_EXISTS,
                   record_copy(&copy, &source, &other, &fixture_fresh, &fresh_key, &changed, &err));
    other = snapshot_request;
    other.source_volume_id = "w";
    assert_refused(ERROR_ALREADY_EXISTS,
                   record_copy(&copy, &source, &other, &fixture_fresh, &fresh_key, &changed, &err));
    other = snapshot_request;
    other.name = "";
    copy.version = 0;
    assert_refused(ERROR_INVALID_ARGUMENT,
                   record_copy(&copy, &source, &other, &fixture_fresh, &fresh_key, &changed, &err));
}

static void a_copy_is_not_taken_for_a_blank_volume(void **state)
{
    struct record source = fixture_record(RECORD_READY), copy;
    struct volume_spec spec = fixture_spec();
    struct error err = ERROR_INIT;
    bool fresh_key = false, changed = false;

    (void)state;
    assert_ok(copy_of(&source, &copy, &fresh_key, &err));
    copy.version = 1;
    copy.kind = RECORD_VOLUME;
    copy.spec = spec;
    assert_refused(ERROR_ALREADY_EXISTS,
                   record_create(&copy, &spec, &fixture_fresh, &changed, &err));
}

/* --- a node that went down with a volume open --- */

static void the_same_node_takes_its_lease_over_after_a_boot(void **state)
{
    struct record r = fixture_record(RECORD_READY);
    const struct record_holder holder = fixture_holder("n1", "b2");
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    r.lease.holder = fixture_holder("n1", "b1");
    assert_ok(record_take_over(&r, &holder, &changed, &err));
    assert_true(changed);
    assert_string_equal(r.lease.holder.boot_id, "b2");
    assert_ok(record_take_over(&r, &holder, &changed, &err)); /* the answer was lost */
    assert_false(changed);
}

static void a_format_of_a_former_boot_is_taken_over_as_a_new_attempt(void **state)
{
    struct record r = fixture_record(RECORD_FORMATTING);
    const struct record_holder holder = fixture_holder("n1", "b2");
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    assert_ok(record_take_over(&r, &holder, &changed, &err));
    assert_true(changed);
    assert_string_equal(r.format.holder.boot_id, "b2");
    assert_int_equal(r.format.attempt, 2); /* late requests of the earlier boot fail */
}

static void nobody_takes_over_what_another_node_holds_or_none(void **state)
{
    const struct record_holder other = fixture_holder("n2", "b1");
    struct error err = ERROR_INIT;

    (void)state;
    for (int phase = RECORD_NEW; phase <= RECORD_ERASED; phase++) {
        for (int held = 0; held <= 1; held++) {
            struct record r = fixture_record((enum record_phase)phase);
            bool changed = false;

            if (held && phase == RECORD_READY)
                r.lease.holder = fixture_holder("n1", "b1");
            struct record before = r;

            assert_refused(phase == RECORD_ERASED ? ERROR_NOT_FOUND : ERROR_FAILED_PRECONDITION,
                           record_take_over(&r, &other, &changed, &err));
            assert_memory_equal(&r, &before, sizeof(r));
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_request_in_each_phase_does_what_the_table_says),
        cmocka_unit_test(an_erased_id_starts_anew_with_a_new_id_and_key),
        cmocka_unit_test(a_bad_spec_is_refused),
        cmocka_unit_test(the_same_boot_takes_its_format_over),
        cmocka_unit_test(another_boot_or_node_waits_for_the_deadline),
        cmocka_unit_test(a_volume_open_elsewhere_is_refused_with_the_way_out),
        cmocka_unit_test(reading_needs_no_lease),
        cmocka_unit_test(a_snapshot_opens_read_only_alone),
        cmocka_unit_test(a_volume_in_use_is_not_deleted),
        cmocka_unit_test(a_cancelled_deletion_puts_the_phase_back),
        cmocka_unit_test(an_erased_record_has_no_key_and_no_header),
        cmocka_unit_test(a_copy_may_have_a_workqueue_of_its_own),
        cmocka_unit_test(a_copy_opens_like_its_source),
        cmocka_unit_test(a_copy_may_be_larger_and_never_smaller),
        cmocka_unit_test(a_copy_of_a_closed_volume_is_closed),
        cmocka_unit_test(a_copy_of_an_unopened_copy_keeps_the_first_origin),
        cmocka_unit_test(a_copy_of_a_volume_never_written_gets_its_own_key),
        cmocka_unit_test(a_source_that_is_not_at_rest_is_not_copied),
        cmocka_unit_test(a_copy_asked_for_again_is_found_even_when_the_source_is_gone),
        cmocka_unit_test(a_copy_is_not_taken_for_a_blank_volume),
        cmocka_unit_test(the_same_node_takes_its_lease_over_after_a_boot),
        cmocka_unit_test(a_format_of_a_former_boot_is_taken_over_as_a_new_attempt),
        cmocka_unit_test(nobody_takes_over_what_another_node_holds_or_none),
    };

    return RUN_TESTS(tests);
}
