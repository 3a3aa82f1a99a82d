/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_etcd_value.h"
#include "tests/unit/test.h"

#include <stdio.h>

static struct etcd_bytes bytes_of(const char *text)
{
    return (struct etcd_bytes){ (const uint8_t *)text, strlen(text) };
}

static void assert_key(const struct etcd_key *key, const char *wanted, size_t len)
{
    assert_int_equal(key->len, len);
    assert_memory_equal(key->bytes, wanted, len);
}

static void keys_have_these_names(void **state)
{
    const struct store_name name = { "t", "d", "v" };
    const struct record_key key = { .id = { 0xab }, .generation = 0x12 };
    const uint8_t id[RECORD_ID_LEN] = { 1 };
    struct etcd_key out;

    (void)state;
    assert_true(etcd_key_record(&name, &out));
    assert_key(&out, "tdvol/record/t\0d\0v", 18);
    etcd_key_of_key("key", &key, &out);
    assert_key(&out, "tdvol/key/ab000000000000000000000000000000/00000012", 51);
    assert_true(etcd_key_id("t", id, &out));
    assert_key(&out, "tdvol/id/t\00001000000000000000000000000000000", 43);
    assert_true(etcd_key_tenant("record", "t", "", &out));
    assert_key(&out, "tdvol/record/t\0", 15);
    assert_true(etcd_key_tenant("record", "t", "d", &out));
    assert_key(&out, "tdvol/record/t\0d\0", 17);
    assert_true(etcd_key_count("t", 63, &out));
    assert_key(&out, "tdvol/count/t\0003f", 16);
    etcd_key_sum(10, &out);
    assert_key(&out, "tdvol/sum/0a", 12);
    etcd_key_slot("r", 15, &out);
    assert_key(&out, "tdvol/slot/r/0f", 15);
    etcd_key_end(&out, &out);
    assert_key(&out, "tdvol/slot/r/0g", 15);
}

static void names_that_are_too_long_make_no_key(void **state)
{
    static char text[ETCD_KEY_MAX + 1];
    const struct store_name names[] = { { text, "d", "v" },
                                        { "t", text, "v" },
                                        { "t", "d", text } };
    const uint8_t id[RECORD_ID_LEN] = { 1 };
    struct etcd_key out;

    (void)state;
    for (size_t i = 0; i < ETCD_KEY_MAX; i++)
        text[i] = 'x';
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_false(etcd_key_record(&names[i], &out));
    assert_false(etcd_key_text("mark", text, &out));
    assert_false(etcd_key_tenant("record", text, "", &out));
    assert_false(etcd_key_tenant("record", "t", text, &out));
    assert_false(etcd_key_count(text, 0, &out));
    assert_false(etcd_key_id(text, id, &out));
}

static void the_longest_names_of_a_record_make_a_key(void **state)
{
    static struct record r;
    const struct store_name name = { r.tenant, r.driver, r.volume_id };
    struct etcd_key out;

    (void)state;
    (void)snprintf(r.tenant, sizeof(r.tenant), "%0*d", RECORD_TENANT_MAX, 0);
    (void)snprintf(r.driver, sizeof(r.driver), "%0*d", RECORD_DRIVER_MAX, 0);
    (void)snprintf(r.volume_id, sizeof(r.volume_id), "%0*d", VOLUME_ID_MAX, 0);
    assert_true(etcd_key_record(&name, &out));
    assert_int_equal(out.len, 13 + RECORD_TENANT_MAX + 1 + RECORD_DRIVER_MAX + 1 + VOLUME_ID_MAX);
}

static void only_keys_of_shards_and_slots_are_read_as_such(void **state)
{
    static const char *const no_shards[] = { "",
                                             "tdvol/sum/",
                                             "tdvol/sum/4",
                                             "tdvol/sum/40", /* there are 64 */
                                             "tdvol/sum/0A",
                                             "tdvol/sum/0g",
                                             "tdvol/sum/001",
                                             "tdvol/sun/00" };
    static const char *const no_slots[] = { "tdvol/slot/r",     "tdvol/slot/r/",
                                            "tdvol/slot/r/1",   "tdvol/slot/r/10",
                                            "tdvol/slot/r/0/0", "tdvol/slot/rx00",
                                            "tdvol/sloot/r/00" };
    char replica[ETCD_REPLICA_MAX + 1], text[128];
    size_t out = 99;
    struct etcd_bytes key;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(no_shards); i++) {
        key = bytes_of(no_shards[i]);
        assert_false(etcd_shard_read(&key, &out));
    }
    for (size_t i = 0; i < ARRAY_LEN(no_slots); i++) {
        key = bytes_of(no_slots[i]);
        assert_false(etcd_slot_read(&key, replica, &out));
    }
    (void)snprintf(text, sizeof(text), "tdvol/slot/%0*d/00", ETCD_REPLICA_MAX + 1, 0);
    key = bytes_of(text);
    assert_false(etcd_slot_read(&key, replica, &out));
    assert_int_equal(out, 99);
    key = bytes_of("tdvol/sum/3f");
    assert_true(etcd_shard_read(&key, &out));
    assert_int_equal(out, 63);
    key = bytes_of("tdvol/slot/a.b/0f");
    assert_true(etcd_slot_read(&key, replica, &out));
    assert_int_equal(out, 15);
    assert_string_equal(replica, "a.b");
}

static void numbers_have_eight_bytes_and_are_not_negative(void **state)
{
    uint8_t bytes[9] = { 0 };
    struct etcd_bytes value = { bytes, 8 };
    uint64_t out = 7;

    (void)state;
    etcd_number_write(INT64_MAX, bytes);
    assert_true(etcd_number_read(&value, &out));
    assert_int_equal(out, INT64_MAX);
    bytes[7] = 0x80;
    assert_false(etcd_number_read(&value, &out));
    bytes[7] = 0;
    value.len = 9;
    assert_false(etcd_number_read(&value, &out));
    value = (struct etcd_bytes){ NULL, 0 };
    assert_false(etcd_number_read(&value, &out));
}

static void names_are_read_as_they_were_written(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = { { "", 0 }, { "d", 1 }, { "d\0v\0", 4 }, { "\0\0", 2 } };
    static struct record r = { .driver = "driver", .volume_id = "volume" };
    uint8_t bytes[sizeof(struct etcd_names)];
    static uint8_t large[VOLUME_ID_MAX + 3] = { 'd', 0 };
    struct etcd_names out;
    struct etcd_bytes value = { bytes, 0 };

    (void)state;
    value.len = etcd_names_write(&r, bytes);
    assert_int_equal(value.len, 13);
    assert_true(etcd_names_read(&value, &out));
    assert_string_equal(out.driver, "driver");
    assert_string_equal(out.volume_id, "volume");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        value = (struct etcd_bytes){ (const uint8_t *)bad[i].bytes, bad[i].len };
        assert_false(etcd_names_read(&value, &out));
    }
    for (size_t i = 2; i < sizeof(large); i++)
        large[i] = 'v';
    value = (struct etcd_bytes){ large, sizeof(large) };
    assert_false(etcd_names_read(&value, &out)); /* one byte too long */
    value.len--;
    assert_true(etcd_names_read(&value, &out));
}

/* --- proven values --- */

static struct secret proof_key(void)
{
    struct secret key = SECRET_INIT;
    struct error err = ERROR_INIT;

    assert_ok(secret_alloc(&key, 32, &err));
    key.bytes[0] = 5;
    return key;
}

static void a_sum_is_good_under_its_own_key_alone(void **state)
{
    auto_secret struct secret key = proof_key();
    const struct etcd_sum sum = { .changes = 77, .sum = { { 1, 2, 3 } } };
    uint8_t bytes[ETCD_SUM_BYTES];
    struct etcd_bytes value = { bytes, sizeof(bytes) }, name;
    struct etcd_key own, other;
    struct etcd_sum out;
    bool is_good = false;
    struct error err = ERROR_INIT;

    (void)state;
    etcd_key_sum(1, &own);
    etcd_key_sum(2, &other);
    assert_ok(etcd_sum_write(&key, &own, &sum, bytes, &err));
    name = etcd_key_bytes(&own);
    assert_ok(etcd_sum_read(&key, &name, &value, &out, &is_good, &err));
    assert_true(is_good);
    assert_int_equal(out.changes, 77);
    assert_memory_equal(&out.sum, &sum.sum, sizeof(out.sum));
    name = etcd_key_bytes(&other);
    assert_ok(etcd_sum_read(&key, &name, &value, &out, &is_good, &err));
    assert_false(is_good);
    name = etcd_key_bytes(&own);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] ^= 0x40;
        assert_ok(etcd_sum_read(&key, &name, &value, &out, &is_good, &err));
        assert_false(is_good);
        bytes[i] ^= 0x40;
    }
    for (value.len = 0; value.len < sizeof(bytes); value.len++) {
        assert_ok(etcd_sum_read(&key, &name, &value, &out, &is_good, &err));
        assert_false(is_good);
    }
}

static void a_slot_is_good_under_its_own_key_alone(void **state)
{
    auto_secret struct secret key = proof_key();
    static struct etcd_slot_value slot = {
        .id = { 9 }, .head = { .seq = 5, .len = STORE_HEAD_MAX, .bytes = { 1 } }
    };
    static struct etcd_slot_value out;
    uint8_t bytes[ETCD_SLOT_BYTES];
    struct etcd_bytes value = { bytes, sizeof(bytes) }, name;
    struct etcd_key own, other;
    bool is_good = false;
    struct error err = ERROR_INIT;

    (void)state;
    slot.seen[63] = 12345;
    etcd_key_slot("a", 1, &own);
    etcd_key_slot("b", 1, &other);
    assert_ok(etcd_slot_value_write(&key, &own, &slot, bytes, &err));
    name = etcd_key_bytes(&own);
    assert_ok(etcd_slot_value_read(&key, &name, &value, &out, &is_good, &err));
    assert_true(is_good);
    assert_memory_equal(out.id, slot.id, sizeof(out.id));
    assert_int_equal(out.head.seq, 5);
    assert_int_equal(out.head.len, STORE_HEAD_MAX);
    assert_int_equal(out.seen[63], 12345);
    name = etcd_key_bytes(&other);
    assert_ok(etcd_slot_value_read(&key, &name, &value, &out, &is_good, &err));
    assert_false(is_good);
    name = etcd_key_bytes(&own);
    bytes[ETCD_ID_LEN + 8] = STORE_HEAD_MAX + 1;
    assert_ok(etcd_slot_value_read(&key, &name, &value, &out, &is_good, &err));
    assert_false(is_good);
    value.len--;
    assert_ok(etcd_slot_value_read(&key, &name, &value, &out, &is_good, &err));
    assert_false(is_good);
}

static void a_kept_key_is_found_by_what_a_broker_wrote_alone(void **state UNUSED)
{
    const struct record r = { .tenant = "t",
                              .driver = "d",
                              .volume_id = "v",
                              .retained = { .deleted_ms = 5, .due_ms = 1u << 20 } };
    const struct store_name names = { "t", "d", "v" };
    static const char *const bad[] = { "tdvol/retained/", "tdvol/retained/t", "tdvol/retained/t\0d",
                                       "tdvol/retainer/t\0d\0v", "tdvol/retained/t\0d\0v\0" };
    static const size_t bad_len[] = { 15, 16, 18, 20, 21 };
    uint8_t bytes[ETCD_RETAINED_BYTES];
    struct etcd_bytes value = { bytes, sizeof(bytes) };
    struct etcd_key record, key;
    struct store_retained out;

    assert_true(etcd_key_record(&names, &record) && etcd_key_retained(&record, &key));
    etcd_retained_write(&r, bytes);
    struct etcd_bytes name = etcd_key_bytes(&key);

    assert_true(etcd_retained_read(&name, &value, &out));
    assert_string_equal(out.tenant, "t");
    assert_string_equal(out.driver, "d");
    assert_string_equal(out.volume_id, "v");
    assert_true(out.deleted_ms == 5 && out.due_ms == 1u << 20);
    for (value.len = 0; value.len < sizeof(bytes); value.len++)
        assert_false(etcd_retained_read(&name, &value, &out));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        name = (struct etcd_bytes){ (const uint8_t *)bad[i], bad_len[i] };
        assert_false(etcd_retained_read(&name, &value, &out));
    }
    name = etcd_key_bytes(&key);
    bytes[8] = bytes[15] = 0xff; /* a time before 1970 */
    assert_false(etcd_retained_read(&name, &value, &out));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_have_these_names),
        cmocka_unit_test(names_that_are_too_long_make_no_key),
        cmocka_unit_test(the_longest_names_of_a_record_make_a_key),
        cmocka_unit_test(only_keys_of_shards_and_slots_are_read_as_such),
        cmocka_unit_test(numbers_have_eight_bytes_and_are_not_negative),
        cmocka_unit_test(names_are_read_as_they_were_written),
        cmocka_unit_test(a_sum_is_good_under_its_own_key_alone),
        cmocka_unit_test(a_slot_is_good_under_its_own_key_alone),
        cmocka_unit_test(a_kept_key_is_found_by_what_a_broker_wrote_alone),
    };

    return RUN_TESTS(tests);
}
