/* SPDX-License-Identifier: Apache-2.0 */
#include "record/check.h"
#include "record/layout.h"
#include "tests/unit/record/sample.h"
#include "tests/unit/test.h"

static void a_sound_record_is_one_in_every_phase(void **state)
{
    struct record r = sample_record();
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(record_check(&r, &err));
    r.phase = RECORD_DELETING;
    assert_ok(record_check(&r, &err));
    r.n_header_digests = 0;
    for (int phase = RECORD_NEW; phase <= RECORD_FORMATTING; phase++) {
        r.phase = (enum record_phase)phase;
        assert_ok(record_check(&r, &err));
    }
    r.phase = RECORD_ERASED;
    r.key = (struct record_key){ .generation = 0 };
    assert_ok(record_check(&r, &err));
}

/* A lease that is over by itself is for holders that stop in time. */
static void what_a_lease_may_say(void **state UNUSED)
{
    struct record sound = sample_record();
    static struct record bad[7];
    struct error err = ERROR_INIT;

    sound.spec.fencing = FENCING_SUSPEND;
    sound.lease.lease_ms = RECORD_LEASE_MIN_MS;
    assert_ok(record_check(&sound, &err));
    sound.lease.contested = sound.version;
    assert_ok(record_check(&sound, &err));
    sound.lease.lease_ms = RECORD_LEASE_MAX_MS;
    assert_ok(record_check(&sound, &err));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = sound;
    bad[0].lease.lease_ms++;
    bad[1].lease.lease_ms = RECORD_LEASE_MIN_MS - 1;
    bad[2].lease.lease_ms = UINT64_MAX;
    bad[3].spec.fencing = FENCING_NONE;
    bad[4].lease.holder.node[0] = '\0';
    bad[5].lease.contested++;
    bad[6].lease.lease_ms = 0; /* nobody can wait for the end of a lease without one */
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_refused(ERROR_INVALID_ARGUMENT, record_check(&bad[i], &err));
        assert_contains(err.text, i < 5 ? "lease.lease_ms" : "lease.contested");
    }
}

static void each_wrong_field_of_a_record_is_named(void **state)
{
    static struct record bad[25];
    static const char *const named[ARRAY_LEN(bad)] = {
        "volume_id",
        "kind",
        "phase",
        "version",
        "key.generation",
        "digest",
        "no attempt",
        "counter_high",
        "key.generation",
        "open_counter",
        "counter_high",
        "remaining_ms",
        "remaining_ms",
        "header_digests",
        "published.nodes",
        "published.nodes",
        "published.nodes",
        "recovery.certificate",
        "recovery.certificate",
        "restored.counter_low",
        "destroyed",
        "destroyed",
        "destroyed.generation",
        "retained.due_ms",
        "retained.due_ms",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = sample_record();
    bad[0].volume_id[0] = '\0';
    bad[1].kind = 3;
    bad[2].phase = RECORD_RETAINED + 1;
    bad[3].version = 0;
    bad[4].key.generation = 0;
    bad[5].n_header_digests = 0;
    bad[6].phase = RECORD_FORMATTING;
    bad[6].format.attempt = 0;
    bad[7].origin.counter_low = 15;
    bad[8].phase = RECORD_ERASED; /* but it still has a key */
    bad[9].open_counter = RECORD_COUNTER_MAX + 1;
    bad[10].origin.counter_high = UINT64_MAX;
    bad[11].format.remaining_ms = RECORD_FORMAT_MS_MAX + 1;
    bad[12].format.remaining_ms = UINT64_MAX;
    bad[13].n_header_digests = RECORD_DIGESTS_MAX + 1;
    memcpy(bad[14].published.nodes, "w:n1 w:n2", sizeof("w:n1 w:n2"));
    memcpy(bad[15].published.nodes, "n1", sizeof("n1"));
    for (size_t i = 0; i < RECORD_PUBLISHED_MAX; i++)
        bad[16].published.nodes[i] = 'w';
    bad[17].recovery.certificate_len = 1; /* it is READY, with nothing to format */
    bad[18].phase = RECORD_FORMATTING;
    bad[18].recovery.certificate_len = RECOVERY_CERTIFICATE_MAX + 1;
    bad[19].restored.counter_low = bad[19].open_counter + 1;
    bad[20].n_destroyed = DESTROYED_MAX + 1;
    bad[21].destroyed_before = 1; /* there is room for it */
    bad[22].n_destroyed = 1;
    bad[23].phase = RECORD_RETAINED;
    bad[24].retained.due_ms = 1; /* of a READY one */
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;

        assert_refused(ERROR_INVALID_ARGUMENT, record_check(&bad[i], &err));
        assert_contains(err.text, named[i]);
    }
}

static struct record in_rotation(void)
{
    struct record r = sample_record();

    r.phase = RECORD_READY;
    r.rotation =
        (struct record_rotation){ .key = { .id = { 7 }, .generation = r.key.generation + 1 },
                                  .has_header = true,
                                  .secret_len = NEXT_SECRET_MAX };
    return r;
}

static void a_rotation_belongs_to_a_ready_volume(void **state)
{
    static struct record bad[7];
    struct record good = in_rotation();
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(record_check(&good, &err));
    good.phase = RECORD_DELETING;
    assert_ok(record_check(&good, &err));
    good.phase = RECORD_READY;
    good.recovery.certificate_len = 1;
    assert_ok(record_check(&good, &err));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = in_rotation();
    bad[0].kind = RECORD_SNAPSHOT;
    bad[1].phase = RECORD_FORMATTING;
    bad[2].rotation.key.generation = bad[2].key.generation;
    bad[3].rotation.secret_len = NEXT_SECRET_MAX + 1;
    bad[4].rotation.key.generation = 0;
    bad[5].rotation = (struct record_rotation){ .has_header = true };
    bad[6].rotation = (struct record_rotation){ .secret_len = 1 };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_refused(ERROR_INVALID_ARGUMENT, record_check(&bad[i], &err));
        assert_contains(err.text, "rotation");
    }
}

static void a_record_in_use_takes_its_next_key_and_no_other(void **state)
{
    struct record first = in_rotation(), later = first, other = first;
    struct error err = ERROR_INIT;

    (void)state;
    later.key = first.rotation.key;
    later.rotation = (struct record_rotation){ .has_header = false };
    assert_ok(record_continues(&first, &later, &err));
    assert_refused(ERROR_INTERNAL, record_continues(&later, &first, &err)); /* not back */
    other.key.generation = first.rotation.key.generation;
    assert_refused(ERROR_INTERNAL, record_continues(&first, &other, &err));
    first.rotation = (struct record_rotation){ .has_header = false };
    assert_refused(ERROR_INTERNAL, record_continues(&first, &later, &err));
}

static void each_wrong_field_of_a_spec_is_refused(void **state)
{
    static struct volume_spec bad[31];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = sample_record().spec;
    bad[0].name[0] = '\0';
    bad[1].integrity = 0;
    bad[2].integrity = 4;
    bad[3].provisioning = 0;
    bad[4].provisioning = 3;
    bad[5].discard = true; /* not allowed with integrity */
    bad[6].sector_bytes = 512;
    bad[7].backing = 0;
    bad[8].backing = 3;
    bad[9].size_bytes = 0;
    bad[10].size_bytes += 512;
    bad[11].size_bytes = VOLUME_SIZE_MAX + 4096;
    bad[12].size_bytes = UINT64_MAX - 4095;
    bad[13].mapping_bytes = bad[13].size_bytes;
    bad[14].mapping_bytes = UINT64_MAX;
    bad[15].device_bytes = bad[15].mapping_bytes;
    bad[16].device_bytes = UINT64_MAX;
    bad[17].device_bytes = 0;
    bad[18].fs_type[0] = 'X';
    bad[19].fs_type[1] = '\0';
    bad[20].mapping_bytes += LAYOUT_BLOCK_BYTES;
    bad[21].workqueue = 0;
    bad[22].workqueue = 4;
    bad[23].no_journal = true;
    bad[23].integrity = INTEGRITY_NONE;
    bad[24].journal_sectors = LAYOUT_JOURNAL_SECTORS_MAX + 1;
    bad[25].journal_sectors = UINT32_MAX;
    bad[26].interleave_sectors = 1;
    bad[27].interleave_sectors = LAYOUT_INTERLEAVE_SECTORS * 2;
    bad[28].interleave_sectors = UINT32_MAX;
    bad[29].integrity = INTEGRITY_NONE; /* with a journal */
    bad[30].fencing = (enum fencing)2;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;

        assert_refused(ERROR_INVALID_ARGUMENT, volume_spec_check(&bad[i], &err));
    }
}

static void what_is_taken_over_has_no_integrity_and_is_a_device(void **state)
{
    struct volume_spec spec = { .name = "n",
                                .provisioning = PROVISIONING_THICK,
                                .workqueue = WORKQUEUE_AUTO,
                                .integrity = INTEGRITY_NONE,
                                .backing = BACKING_DEVICE,
                                .sector_bytes = 512 };
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(layout_plan_take_over(&spec, 1ull << 30, &err));
    assert_ok(volume_spec_check(&spec, &err));
    struct volume_spec bad[5];
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = spec;
    bad[0].taken_over = false;
    bad[1].backing = BACKING_FILE;
    bad[2].integrity = INTEGRITY_HMAC_SHA256;
    bad[3].sector_bytes = 1024;
    bad[4].device_bytes = bad[4].mapping_bytes + (4u << 20); /* where it is in other volumes */
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_INVALID_ARGUMENT, volume_spec_check(&bad[i], &err));
    spec.sector_bytes = 4096;
    assert_ok(volume_spec_check(&spec, &err));
}

static void an_unknown_layout_is_named_with_the_known_one(void **state)
{
    struct volume_spec spec = sample_record().spec;
    struct error err = ERROR_INIT;

    (void)state;
    spec.layout_version = 2;
    assert_refused(ERROR_FAILED_PRECONDITION, volume_spec_check(&spec, &err));
    assert_contains(err.text, "layout version 2 is not known here: this is version 1");
}

static void numbers_at_their_borders_are_sound(void **state)
{
    struct record r = sample_record();
    struct error err = ERROR_INIT;

    (void)state;
    r.open_counter = r.origin.counter_high = RECORD_COUNTER_MAX;
    r.format.remaining_ms = RECORD_FORMAT_MS_MAX;
    r.format.attempt = UINT32_MAX;
    r.format.deadline_ms = r.lease.opened_ms = r.created_ms = r.version = UINT64_MAX;
    r.key.generation = UINT32_MAX;
    r.n_header_digests = RECORD_DIGESTS_MAX;
    assert_ok(record_check(&r, &err));
    assert_ok(layout_plan(&r.spec, VOLUME_SIZE_MAX, &err));
    r.spec.device_bytes = INT64_MAX;
    assert_ok(record_check(&r, &err));
    assert_ok(layout_plan(&r.spec, VOLUME_SIZE_MIN, &err));
    assert_ok(record_check(&r, &err));
    r.spec.integrity = INTEGRITY_NONE;
    assert_ok(layout_plan(&r.spec, VOLUME_SIZE_MIN, &err));
    assert_ok(record_check(&r, &err));
}

static void a_record_in_use_changes_only_in_what_changes(void **state)
{
    const struct record first = sample_record();
    struct record later = first;
    struct error err = ERROR_INIT;
    static struct record bad[15];

    (void)state;
    later.version += 5;
    later.phase = RECORD_DELETING;
    later.open_counter++;
    later.n_header_digests = 1;
    later.is_closed = later.has_clean_hash = later.origin.is_set = false;
    later.lease.holder.node[0] = '\0';
    later.format.attempt++;
    later.published.epoch++;
    later.published.nodes[0] = '\0';
    assert_ok(record_continues(&first, &later, &err));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = first;
    bad[0].id[15] ^= 1;
    bad[1].tenant[0] = 'x';
    bad[2].driver[0] = 'x';
    bad[3].volume_id[0] = 'x';
    bad[4].kind = RECORD_SNAPSHOT;
    bad[5].key.id[15] ^= 1;
    bad[6].key.generation++;
    bad[7].spec.integrity = INTEGRITY_NONE;
    bad[8].spec.size_bytes += 4096;
    bad[9].spec.fs_type[0] = '\0';
    bad[10].spec.location[0] = 'x';
    bad[11].spec.no_journal = true;
    bad[12].spec.device_bytes++;
    bad[13].version--;
    bad[14].spec.needs_publication = true;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_INTERNAL, record_continues(&first, &bad[i], &err));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rotation_belongs_to_a_ready_volume),
        cmocka_unit_test(a_record_in_use_takes_its_next_key_and_no_other),
        cmocka_unit_test(a_sound_record_is_one_in_every_phase),
        cmocka_unit_test(what_a_lease_may_say),
        cmocka_unit_test(each_wrong_field_of_a_record_is_named),
        cmocka_unit_test(each_wrong_field_of_a_spec_is_refused),
        cmocka_unit_test(what_is_taken_over_has_no_integrity_and_is_a_device),
        cmocka_unit_test(an_unknown_layout_is_named_with_the_known_one),
        cmocka_unit_test(numbers_at_their_borders_are_sound),
        cmocka_unit_test(a_record_in_use_changes_only_in_what_changes),
    };

    return RUN_TESTS(tests);
}
