/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/broker/fixture.h"

/* ChangeRecord: each change by the right and the wrong holder, at the right and the wrong version,
 * in each phase, and once more after a lost answer. */

/* The change, and who asks for it. */
struct asked {
    struct record_change change;
    struct change_request request;
};

static struct asked make(enum record_change_kind kind)
{
    return (struct asked){
        .change = { .kind = kind,
                    .attempt = 1,
                    .header_digest = { 0xee },
                    .open_counter = 6,
                    .size_bytes = 2 * GIB,
                    .mapping_bytes = 2 * GIB + 18 * MIB,
                    .device_bytes = 2 * GIB + 64 * MIB },
        .request = { .holder = fixture_holder("n1", "b1"), .expected_version = 7, .now_ms = NOW },
    };
}

static bool ask(struct record *r, struct asked *a, bool *changed, struct error *err)
{
    a->request.change = &a->change;
    return record_change(r, &a->request, changed, err);
}

/* The record on which the change is allowed. */
static struct record ground(enum record_change_kind kind)
{
    struct record r =
        fixture_record(kind == RECORD_CHANGE_READY ? RECORD_FORMATTING : RECORD_READY);

    if (kind != RECORD_CHANGE_READY)
        r.lease.holder = fixture_holder("n1", "b1");
    if (kind == RECORD_CHANGE_NEXT_HEADER || kind == RECORD_CHANGE_ROTATED)
        r.rotation = (struct record_rotation){ .key = { .id = { 9 }, .generation = 2 },
                                               .secret_len = STORE_WRAPPED_LEN };
    if (kind == RECORD_CHANGE_ROTATED) {
        r.rotation.has_header = true;
        r.rotation.header_digest[0] = 0xee;
        r.rotation.recovery_sha256[0] = 0xcc;
    }
    return r;
}

static void each_change_happens_once_and_is_known_again(void **state)
{
    (void)state;
    for (int kind = RECORD_CHANGE_READY; kind < RECORD_CHANGE_KIND_COUNT; kind++) {
        struct record r = ground((enum record_change_kind)kind);
        struct asked change = make((enum record_change_kind)kind);
        struct error err = ERROR_INIT;
        bool changed = false;

        assert_ok(ask(&r, &change, &changed, &err));
        assert_true(changed);
        r.version = 8; /* stored, but the answer is lost: the same request comes again */
        struct record after = r;

        assert_ok(ask(&r, &change, &changed, &err));
        assert_false(changed);
        assert_memory_equal(&r, &after, sizeof(r));
    }
}

static void each_change_is_refused_for_others(void **state)
{
    (void)state;
    for (int kind = RECORD_CHANGE_READY; kind < RECORD_CHANGE_KIND_COUNT; kind++) {
        struct record r = ground((enum record_change_kind)kind), before = r;
        struct asked change = make((enum record_change_kind)kind);
        struct error err = ERROR_INIT;
        bool changed = false;

        change.request.holder = fixture_holder("n2", "b1");
        assert_refused(ERROR_FAILED_PRECONDITION, ask(&r, &change, &changed, &err));
        change.request.holder = fixture_holder("n1", "b2");
        assert_refused(ERROR_FAILED_PRECONDITION, ask(&r, &change, &changed, &err));
        change.request.holder = fixture_holder("", "");
        assert_refused(ERROR_FAILED_PRECONDITION, ask(&r, &change, &changed, &err));
        assert_memory_equal(&r, &before, sizeof(r));
    }
}

static void each_change_at_another_version_is_aborted(void **state)
{
    (void)state;
    for (int kind = RECORD_CHANGE_READY; kind < RECORD_CHANGE_KIND_COUNT; kind++) {
        struct record r = ground((enum record_change_kind)kind), before = r;
        struct asked change = make((enum record_change_kind)kind);
        struct error err = ERROR_INIT;
        bool changed = false;

        change.request.expected_version = 6;
        assert_refused(ERROR_ABORTED, ask(&r, &change, &changed, &err));
        change.request.expected_version = 8;
        assert_refused(ERROR_ABORTED, ask(&r, &change, &changed, &err));
        assert_memory_equal(&r, &before, sizeof(r));
    }
}

static void refuse_in_phase(enum record_change_kind kind, enum record_phase phase)
{
    struct asked change = make(kind);
    struct record r = fixture_record(phase), before = r;
    struct error err = ERROR_INIT;
    bool changed = false;

    assert_refused(phase == RECORD_ERASED ? ERROR_NOT_FOUND : ERROR_FAILED_PRECONDITION,
                   ask(&r, &change, &changed, &err));
    assert_memory_equal(&r, &before, sizeof(r));
}

static void each_change_in_a_wrong_phase_is_refused(void **state)
{
    static const enum record_phase right[RECORD_CHANGE_KIND_COUNT][3] = {
        [RECORD_CHANGE_READY] = { RECORD_FORMATTING },
        [RECORD_CHANGE_OPENED] = { RECORD_READY },
        [RECORD_CHANGE_CLOSED] = { RECORD_READY, RECORD_FORMATTING, RECORD_NEW },
        [RECORD_CHANGE_GROWN] = { RECORD_READY },
        [RECORD_CHANGE_NEXT_HEADER] = { RECORD_READY },
        [RECORD_CHANGE_ROTATED] = { RECORD_READY },
    };

    (void)state;
    for (int kind = RECORD_CHANGE_READY; kind < RECORD_CHANGE_KIND_COUNT; kind++)
        for (int phase = RECORD_NEW; phase <= RECORD_ERASED; phase++)
            if (phase != (int)right[kind][0] && phase != (int)right[kind][1] &&
                phase != (int)right[kind][2])
                refuse_in_phase((enum record_change_kind)kind, (enum record_phase)phase);
}

static void ready_takes_the_lease_and_the_digest(void **state)
{
    struct record r = ground(RECORD_CHANGE_READY);
    struct asked change = make(RECORD_CHANGE_READY);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    assert_ok(ask(&r, &change, &changed, &err));
    assert_int_equal(r.phase, RECORD_READY);
    assert_string_equal(r.lease.holder.node, "n1");
    assert_int_equal(r.lease.opened_ms, NOW);
    assert_int_equal(r.n_header_digests, 1);
    assert_int_equal(r.header_digests[0][0], 0xee);
    assert_string_equal(r.format.holder.node, "");
}

static void ready_says_for_which_certificate_the_header_has_a_token(void **state)
{
    struct record r = ground(RECORD_CHANGE_READY), without = r;
    struct asked change = make(RECORD_CHANGE_READY);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    without.recovery.sha256[0] = 9; /* of an incarnation before, or of an older attempt */
    assert_ok(ask(&without, &change, &changed, &err));
    assert_int_equal(without.recovery.sha256[0], 0);
    change.change.recovery_sha256[3] = 7;
    assert_ok(ask(&r, &change, &changed, &err));
    assert_memory_equal(r.recovery.sha256, change.change.recovery_sha256, SHA256_LEN);
    assert_int_equal(r.recovery.certificate_len, 0);
}

static void ready_of_an_old_attempt_or_too_late_is_aborted(void **state)
{
    struct record r = ground(RECORD_CHANGE_READY);
    struct asked change = make(RECORD_CHANGE_READY);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    change.change.attempt = 2;
    assert_refused(ERROR_ABORTED, ask(&r, &change, &changed, &err));
    change = make(RECORD_CHANGE_READY);
    change.request.now_ms = NOW + LIMIT;
    assert_refused(ERROR_ABORTED, ask(&r, &change, &changed, &err));
    assert_contains(err.text, "formatting took longer than allowed");
}

static void a_change_of_no_kind_is_refused(void **state)
{
    struct record r = fixture_record(RECORD_READY);
    struct asked change = make(0);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    assert_refused(ERROR_INVALID_ARGUMENT, ask(&r, &change, &changed, &err));
    change.change.kind = RECORD_CHANGE_KIND_COUNT;
    assert_refused(ERROR_INVALID_ARGUMENT, ask(&r, &change, &changed, &err));
    change.change.kind = (enum record_change_kind)UINT32_MAX;
    assert_refused(ERROR_INVALID_ARGUMENT, ask(&r, &change, &changed, &err));
}

static void the_open_counter_never_falls_and_never_jumps(void **state)
{
    static const struct {
        uint64_t counter;
        enum error_code code;
    } rows[] = {
        { 0, ERROR_FAILED_PRECONDITION },
        { 4, ERROR_FAILED_PRECONDITION },
        { 5, ERROR_NONE },
        { 6, ERROR_NONE },
        { 7, ERROR_FAILED_PRECONDITION },
        { UINT64_MAX, ERROR_FAILED_PRECONDITION },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct record r = ground(RECORD_CHANGE_OPENED);
        struct asked change = make(RECORD_CHANGE_OPENED);
        struct error err = ERROR_INIT;
        bool changed = false;

        r.has_clean_hash = true;
        change.change.open_counter = rows[i].counter;
        (void)!ask(&r, &change, &changed, &err);
        assert_int_equal(err.code, rows[i].code);
        if (err.code == ERROR_NONE) {
            assert_true(changed);
            assert_int_equal(r.open_counter, rows[i].counter);
            assert_false(r.has_clean_hash);
        }
    }
}

static void a_copy_may_follow_on_what_its_source_had_written(void **state)
{
    struct record r = ground(RECORD_CHANGE_OPENED);
    struct asked change = make(RECORD_CHANGE_OPENED);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    r.origin = (struct volume_origin){ .is_set = true, .counter_low = 5, .counter_high = 6 };
    change.change.open_counter = 8;
    assert_refused(ERROR_FAILED_PRECONDITION, ask(&r, &change, &changed, &err));
    change.change.open_counter = 7;
    assert_ok(ask(&r, &change, &changed, &err));
    assert_false(r.origin.is_set);
}

static void closing_gives_the_lease_back_with_its_hash(void **state)
{
    struct record r = ground(RECORD_CHANGE_CLOSED);
    struct asked change = make(RECORD_CHANGE_CLOSED);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    change.change.is_closed = change.change.has_clean_hash = true;
    change.change.clean_hash[0] = 0x77;
    assert_ok(ask(&r, &change, &changed, &err));
    assert_string_equal(r.lease.holder.node, "");
    assert_true(r.is_closed);
    assert_true(r.has_clean_hash);
    assert_int_equal(r.clean_hash[0], 0x77);
    r.version = 8;
    change.change.clean_hash[0] = 0x78; /* another close, not the same request */
    assert_refused(ERROR_ABORTED, ask(&r, &change, &changed, &err));
    change.request.expected_version = 8;
    assert_refused(ERROR_FAILED_PRECONDITION, ask(&r, &change, &changed, &err));
}

static void a_stage_that_failed_does_not_change_how_the_volume_ended(void **state)
{
    struct record r = ground(RECORD_CHANGE_CLOSED);
    struct asked change = make(RECORD_CHANGE_CLOSED);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    r.is_closed = r.has_clean_hash = true;
    r.clean_hash[0] = 0x77;
    assert_ok(ask(&r, &change, &changed, &err));
    assert_true(changed);
    assert_string_equal(r.lease.holder.node, "");
    assert_true(r.is_closed && r.has_clean_hash);
    assert_int_equal(r.clean_hash[0], 0x77);
    r.version++;
    assert_ok(ask(&r, &change, &changed, &err)); /* the answer was lost */
    assert_false(changed);
}

static void a_node_may_give_up_formatting(void **state)
{
    struct record r = fixture_record(RECORD_FORMATTING);
    struct asked change = make(RECORD_CHANGE_CLOSED);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    change.change.has_clean_hash = true;
    assert_refused(ERROR_INVALID_ARGUMENT, ask(&r, &change, &changed, &err));
    change.change.has_clean_hash = false;
    change.change.is_closed = true;
    assert_refused(ERROR_INVALID_ARGUMENT, ask(&r, &change, &changed, &err));
    change.change.is_closed = false;
    assert_ok(ask(&r, &change, &changed, &err));
    assert_int_equal(r.phase, RECORD_NEW);
    assert_string_equal(r.format.holder.node, "");
    assert_int_equal(r.format.attempt, 1); /* READY of an older worker must not match */
}

static void growth_makes_nothing_smaller(void **state)
{
    static struct asked bad[4];
    struct record r = ground(RECORD_CHANGE_GROWN);
    struct asked change = make(RECORD_CHANGE_GROWN);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = make(RECORD_CHANGE_GROWN);
    bad[0].change.size_bytes = GIB - 4096;
    bad[1].change.device_bytes = GIB;
    bad[2].change.mapping_bytes = GIB;
    bad[3].change.mapping_bytes += 4096; /* does not follow from the size */
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_INVALID_ARGUMENT, ask(&r, &bad[i], &changed, &err));
    assert_ok(ask(&r, &change, &changed, &err));
    assert_int_equal(r.spec.size_bytes, 2 * GIB);
    assert_int_equal(r.spec.mapping_bytes, 2 * GIB + 18 * MIB);
}

static void a_header_comes_on_record_beside_the_good_ones(void **state)
{
    struct record r = ground(RECORD_CHANGE_NEXT_HEADER), before = r;
    struct asked change = make(RECORD_CHANGE_NEXT_HEADER);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    change.change.recovery_sha256[0] = 0xcc;
    assert_ok(ask(&r, &change, &changed, &err));
    assert_true(r.rotation.has_header);
    assert_int_equal(r.rotation.header_digest[0], 0xee);
    assert_int_equal(r.rotation.recovery_sha256[0], 0xcc);
    assert_int_equal(r.key.generation, 1);
    assert_memory_equal(r.header_digests, before.header_digests, sizeof(r.header_digests));
    /* a worker that died before it wrote that header comes with another one */
    r.version = change.request.expected_version = 8;
    change.change.header_digest[0] = 0xdd;
    assert_ok(ask(&r, &change, &changed, &err));
    assert_true(changed);
    assert_int_equal(r.rotation.header_digest[0], 0xdd);
}

static void rotated_leaves_one_key_and_one_header(void **state)
{
    struct record r = ground(RECORD_CHANGE_ROTATED);
    struct asked change = make(RECORD_CHANGE_ROTATED);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    r.n_header_digests = 2; /* of a copy */
    assert_ok(ask(&r, &change, &changed, &err));
    assert_int_equal(r.key.generation, 2);
    assert_int_equal(r.key.id[0], 9);
    assert_int_equal(r.n_header_digests, 1);
    assert_int_equal(r.header_digests[0][0], 0xee);
    assert_int_equal(r.recovery.sha256[0], 0xcc);
    assert_int_equal(r.rotation.key.generation, 0);
    assert_int_equal(r.rotation.secret_len, 0);
    assert_false(r.rotation.has_header);
}

static void rotated_without_that_header_on_record_is_refused(void **state)
{
    struct record none = ground(RECORD_CHANGE_ROTATED), other = none, unwritten = none;
    struct asked change = make(RECORD_CHANGE_ROTATED), next = make(RECORD_CHANGE_NEXT_HEADER);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    none.rotation = (struct record_rotation){ .has_header = false };
    other.rotation.header_digest[5] = 1;
    unwritten.rotation.has_header = false;
    assert_refused(ERROR_FAILED_PRECONDITION, ask(&none, &change, &changed, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, ask(&none, &next, &changed, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, ask(&other, &change, &changed, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, ask(&unwritten, &change, &changed, &err));
    assert_int_equal(other.key.generation, 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_comes_on_record_beside_the_good_ones),
        cmocka_unit_test(rotated_leaves_one_key_and_one_header),
        cmocka_unit_test(rotated_without_that_header_on_record_is_refused),
        cmocka_unit_test(each_change_happens_once_and_is_known_again),
        cmocka_unit_test(each_change_is_refused_for_others),
        cmocka_unit_test(each_change_at_another_version_is_aborted),
        cmocka_unit_test(each_change_in_a_wrong_phase_is_refused),
        cmocka_unit_test(ready_takes_the_lease_and_the_digest),
        cmocka_unit_test(ready_says_for_which_certificate_the_header_has_a_token),
        cmocka_unit_test(ready_of_an_old_attempt_or_too_late_is_aborted),
        cmocka_unit_test(a_change_of_no_kind_is_refused),
        cmocka_unit_test(the_open_counter_never_falls_and_never_jumps),
        cmocka_unit_test(a_copy_may_follow_on_what_its_source_had_written),
        cmocka_unit_test(closing_gives_the_lease_back_with_its_hash),
        cmocka_unit_test(a_stage_that_failed_does_not_change_how_the_volume_ended),
        cmocka_unit_test(a_node_may_give_up_formatting),
        cmocka_unit_test(growth_makes_nothing_smaller),
    };

    return RUN_TESTS(tests);
}
