/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "crypt/device.h"
#include "crypt/state_block.h"
#include "tests/unit/test.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static struct secret key = SECRET_INIT;
static struct secret other_key = SECRET_INIT;

static struct state_block sample(void)
{
    return (struct state_block){
        .sequence = 7,
        .record_id = { 1, 2, 3 },
        .open_counter = 41,
        .filesystem_bytes = 1u << 30,
    };
}

static struct record record_of(const struct state_block *s, uint64_t counter)
{
    struct record record = { .open_counter = counter };

    memcpy(record.id, s->record_id, RECORD_ID_LEN);
    return record;
}

/* A mapping in memory: the reserved area of a volume. */
static int mapping(void)
{
    int fd = memfd_create("mapping", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, LAYOUT_RESERVED_BYTES), 0);
    return fd;
}

static void block_read_is_the_block_written(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    uint8_t block[LAYOUT_STATE_BYTES];
    struct state_block in = sample(), out;
    assert_ok(state_block_encode(&in, &key, block, &err));
    assert_ok(state_block_decode(block, &key, &out, &err));
    assert_int_equal(out.sequence, in.sequence);
    assert_int_equal(out.open_counter, in.open_counter);
    assert_int_equal(out.filesystem_bytes, 1u << 30);
    assert_memory_equal(out.record_id, in.record_id, RECORD_ID_LEN);
}

static void every_byte_changed_is_refused(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    uint8_t block[LAYOUT_STATE_BYTES];
    struct state_block in = sample(), out;
    assert_ok(state_block_encode(&in, &key, block, &err));
    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] ^= 1;
        assert_refused(ERROR_DATA_LOSS, state_block_decode(block, &key, &out, &err));
        assert_string_equal(err.reason, "StateDamaged");
        block[i] ^= 1;
    }
}

static void block_under_another_key_is_refused(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    uint8_t block[LAYOUT_STATE_BYTES];
    struct state_block in = sample(), out;
    assert_ok(state_block_encode(&in, &other_key, block, &err));
    assert_refused(ERROR_DATA_LOSS, state_block_decode(block, &key, &out, &err));
}

static void rewrite_mac(uint8_t *block)
{
    struct error err = ERROR_INIT;

    assert_ok(hmac_sha256(&key, block, LAYOUT_STATE_BYTES - SHA256_LEN,
                          block + LAYOUT_STATE_BYTES - SHA256_LEN, &err));
}

static void unknown_layout_version_names_itself(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    uint8_t block[LAYOUT_STATE_BYTES];
    struct state_block in = sample(), out;
    assert_ok(state_block_encode(&in, &key, block, &err));
    block[8] = 2;
    rewrite_mac(block);
    assert_refused(ERROR_FAILED_PRECONDITION, state_block_decode(block, &key, &out, &err));
    assert_contains(err.text, "layout version 2");
}

static void newer_copy_counts(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    auto_close int fd = mapping();
    struct state_block old = sample(), new = sample(), out;
    uint32_t slot = 9;
    new.sequence++;
    new.open_counter++;
    assert_ok(state_block_write(fd, &key, &new, 0, &err));
    assert_ok(state_block_write(fd, &key, &old, 1, &err));
    assert_ok(state_block_read(fd, &key, NULL, &out, &slot, &err));
    assert_int_equal(slot, 0);
    assert_int_equal(out.open_counter, 42);
    new.sequence = old.sequence - 1;
    assert_ok(state_block_write(fd, &key, &new, 0, &err));
    assert_ok(state_block_read(fd, &key, NULL, &out, &slot, &err));
    assert_int_equal(slot, 1);
    assert_int_equal(out.open_counter, 41);
}

static void while_the_secret_changes_either_key_is_good(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    auto_close int fd = mapping();
    struct state_block old = sample(), new = sample(), out;
    uint32_t slot = 9;

    new.sequence++;
    assert_ok(state_block_write(fd, &key, &old, 0, &err));
    assert_ok(state_block_write(fd, &other_key, &new, 1, &err));
    assert_ok(state_block_read(fd, &key, &other_key, &out, &slot, &err));
    assert_int_equal(slot, 1);
    assert_ok(state_block_read(fd, &key, NULL, &out, &slot, &err));
    assert_int_equal(slot, 0);
    assert_ok(state_block_write(fd, &other_key, &old, 0, &err));
    assert_ok(state_block_read(fd, &key, &other_key, &out, &slot, &err));
    assert_refused(ERROR_DATA_LOSS, state_block_read(fd, &key, NULL, &out, &slot, &err));
}

static void without_the_key_the_newest_claim_is_seen(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    auto_close int fd = mapping();
    struct state_block old = sample(), new = sample(), out = { .sequence = 0 };

    assert_false(state_block_peek(fd, &out)); /* zeros */
    assert_int_equal(out.sequence, 0);
    new.sequence++;
    new.open_counter++;
    assert_ok(state_block_write(fd, &key, &new, 0, &err));
    assert_ok(state_block_write(fd, &other_key, &old, 1, &err));
    assert_true(state_block_peek(fd, &out));
    assert_int_equal(out.open_counter, 42);
    assert_ok(fd_pwrite_all(fd, "torn", 4, LAYOUT_STATE_A_OFFSET, &err));
    assert_true(state_block_peek(fd, &out));
    assert_int_equal(out.open_counter, 41);
}

static void torn_copy_leaves_the_other(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    auto_close int fd = mapping();
    struct state_block old = sample(), new = sample(), out;
    uint32_t slot = 9;
    new.sequence++;
    assert_ok(state_block_write(fd, &key, &old, 0, &err));
    assert_ok(state_block_write(fd, &key, &new, 1, &err));
    assert_ok(fd_pwrite_all(fd, "torn", 4, LAYOUT_STATE_B_OFFSET + 512, &err));
    assert_ok(state_block_read(fd, &key, NULL, &out, &slot, &err));
    assert_int_equal(slot, 0);
    assert_ok(fd_pwrite_all(fd, "torn", 4, LAYOUT_STATE_A_OFFSET + 512, &err));
    assert_refused(ERROR_DATA_LOSS, state_block_read(fd, &key, NULL, &out, &slot, &err));
    assert_string_equal(err.reason, "StateDamaged");
}

static void disk_may_be_one_open_ahead_and_no_more(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct state_block s = sample();
    bool ahead = true;
    struct record record = record_of(&s, 41);
    assert_ok(state_block_check(&s, &record, &ahead, &err));
    assert_false(ahead);
    record.open_counter = 40;
    assert_ok(state_block_check(&s, &record, &ahead, &err));
    assert_true(ahead);
    record.open_counter = 39;
    assert_refused(ERROR_DATA_LOSS, state_block_check(&s, &record, &ahead, &err));
    assert_string_equal(err.reason, "RolledBack");
}

static void closed_volume_needs_a_disk_that_says_so(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct state_block s = sample();
    bool ahead = false;
    struct record record = record_of(&s, 41);
    record.is_closed = true;
    assert_refused(ERROR_DATA_LOSS, state_block_check(&s, &record, &ahead, &err));
    assert_string_equal(err.reason, "RolledBack");
    s.is_closed = true;
    assert_ok(state_block_check(&s, &record, &ahead, &err));
    record.is_closed = false; /* the broker did not hear of the close */
    assert_ok(state_block_check(&s, &record, &ahead, &err));
    record = record_of(&s, 40); /* the next opening was not recorded any more */
    record.is_closed = true;
    s.is_closed = false;
    assert_ok(state_block_check(&s, &record, &ahead, &err));
    assert_true(ahead);
}

static void copy_of_a_closed_volume_needs_a_disk_that_says_so(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct state_block s = sample();
    bool ahead = false;
    struct record record = record_of(&s, 41);
    record.id[0] ^= 1;
    record.is_closed = true;
    record.origin = (struct volume_origin){ .is_set = true, .counter_low = 41, .counter_high = 42 };
    memcpy(record.origin.record_id, s.record_id, RECORD_ID_LEN);
    assert_refused(ERROR_DATA_LOSS, state_block_check(&s, &record, &ahead, &err));
    assert_contains(err.text, "from before the close");
    s.is_closed = true;
    assert_ok(state_block_check(&s, &record, &ahead, &err));
    s.is_closed = false;
    s.open_counter = 42; /* the source's next opening was not recorded any more */
    assert_ok(state_block_check(&s, &record, &ahead, &err));
    memcpy(s.record_id, record.id, RECORD_ID_LEN); /* nor was the copy's first one */
    assert_ok(state_block_check(&s, &record, &ahead, &err));
    assert_true(ahead);
}

static void older_disk_is_rolled_back(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct state_block s = sample();
    bool ahead = false;
    struct record record = record_of(&s, 42);
    assert_refused(ERROR_DATA_LOSS, state_block_check(&s, &record, &ahead, &err));
    assert_string_equal(err.reason, "RolledBack");
    s.open_counter = 0;
    assert_refused(ERROR_DATA_LOSS, state_block_check(&s, &record, &ahead, &err));
    s.open_counter = UINT64_MAX;
    assert_refused(ERROR_DATA_LOSS, state_block_check(&s, &record, &ahead, &err));
}

static void disk_of_another_record_is_refused(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct state_block s = sample();
    bool ahead = false;
    struct record record = record_of(&s, 41);
    record.id[0] ^= 1;
    assert_refused(ERROR_DATA_LOSS, state_block_check(&s, &record, &ahead, &err));
    assert_string_equal(err.reason, "WrongVolume");
    record.origin.is_set = true;
    assert_refused(ERROR_DATA_LOSS, state_block_check(&s, &record, &ahead, &err));
    assert_string_equal(err.reason, "WrongVolume");
}

static void copy_opens_with_its_source_s_block_in_range(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct state_block s = sample();
    bool ahead = true;
    struct record record = record_of(&s, 0);
    record.id[0] ^= 1;
    record.origin = (struct volume_origin){ .is_set = true, .counter_low = 41, .counter_high = 43 };
    memcpy(record.origin.record_id, s.record_id, RECORD_ID_LEN);
    static const struct {
        uint64_t counter;
        bool fits;
    } cases[] = { { 40, false }, { 41, true }, { 43, true }, { 44, true }, { 45, false } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        s.open_counter = cases[i].counter;
        if (cases[i].fits)
            assert_ok(state_block_check(&s, &record, &ahead, &err));
        else
            assert_refused(ERROR_DATA_LOSS, state_block_check(&s, &record, &ahead, &err));
    }
    assert_false(ahead);
}

static void after_a_restore_each_state_since_the_backup_opens(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct state_block s = sample();
    bool ahead = true;
    struct record record = record_of(&s, 1000);
    record.restored = (struct record_restored){ .is_set = true, .counter_low = 41 };
    record.is_closed = true;
    static const struct {
        uint64_t counter;
        bool fits, ahead;
    } cases[] = { { 40, false, false },
                  { 42, true, false },
                  { 1000, true, false },
                  { 1001, true, true },
                  { 1002, false, false } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        s.open_counter = cases[i].counter;
        if (!cases[i].fits) {
            assert_refused(ERROR_DATA_LOSS, state_block_check(&s, &record, &ahead, &err));
            continue;
        }
        assert_ok(state_block_check(&s, &record, &ahead, &err));
        assert_int_equal(ahead, cases[i].ahead);
    }
    s.open_counter = 41; /* from before the close that is in the backup */
    assert_refused(ERROR_DATA_LOSS, state_block_check(&s, &record, &ahead, &err));
    s.is_closed = true;
    assert_ok(state_block_check(&s, &record, &ahead, &err));
    record.restored.is_set = false;
    assert_refused(ERROR_DATA_LOSS, state_block_check(&s, &record, &ahead, &err));
}

int main(void)
{
    struct error err = ERROR_INIT;

    if (!secret_random(&key, 32, &err) || !secret_random(&other_key, 32, &err))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(while_the_secret_changes_either_key_is_good),
        cmocka_unit_test(block_read_is_the_block_written),
        cmocka_unit_test(every_byte_changed_is_refused),
        cmocka_unit_test(block_under_another_key_is_refused),
        cmocka_unit_test(unknown_layout_version_names_itself),
        cmocka_unit_test(newer_copy_counts),
        cmocka_unit_test(without_the_key_the_newest_claim_is_seen),
        cmocka_unit_test(torn_copy_leaves_the_other),
        cmocka_unit_test(disk_may_be_one_open_ahead_and_no_more),
        cmocka_unit_test(closed_volume_needs_a_disk_that_says_so),
        cmocka_unit_test(copy_of_a_closed_volume_needs_a_disk_that_says_so),
        cmocka_unit_test(older_disk_is_rolled_back),
        cmocka_unit_test(disk_of_another_record_is_refused),
        cmocka_unit_test(copy_opens_with_its_source_s_block_in_range),
        cmocka_unit_test(after_a_restore_each_state_since_the_backup_opens),
    };
    int failed = RUN_TESTS(tests);
    secret_wipe(&key);
    secret_wipe(&other_key);
    return failed;
}
