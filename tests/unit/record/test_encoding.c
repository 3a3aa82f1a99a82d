/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"
#include "record/encoding.h"
#include "tests/unit/record/sample.h"
#include "tests/unit/test.h"

/* Decoding gives back what was encoded, and accepts the canonical form only. That the bytes are
 * protobuf is shown in tests/integration: its clients read them with Google's library. */

static void a_record_comes_back_as_it_was(void **state)
{
    static struct record r, back;
    static struct encoded encoded, again;
    struct error err = ERROR_INIT;

    (void)state;
    r = sample_record();
    record_encode(&r, &encoded);
    assert_ok(record_decode(encoded.bytes, encoded.len, &back, &err));
    assert_memory_equal(&r, &back, sizeof(r));
    record_encode(&back, &again);
    assert_int_equal(encoded.len, again.len);
    assert_memory_equal(encoded.bytes, again.bytes, encoded.len);
}

static void an_empty_record_is_its_version_alone(void **state)
{
    static const struct record r;
    static struct record back;
    static struct encoded encoded;
    struct error err = ERROR_INIT;

    (void)state;
    record_encode(&r, &encoded);
    assert_int_equal(encoded.len, 2);
    assert_ok(record_decode(encoded.bytes, encoded.len, &back, &err));
    assert_memory_equal(&r, &back, sizeof(r));
}

static void the_largest_record_fits(void **state)
{
    static struct record r, back;
    static struct encoded encoded;
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(r); i++)
        ((uint8_t *)&r)[i] = 'x';
    r.spec.discard = r.spec.no_journal = r.spec.needs_publication = true;
    r.spec.taken_over = r.old_key.is_set = true;
    r.has_clean_hash = r.is_closed = r.origin.is_set = r.rotation.has_header = true;
    r.restored.is_set = r.restored.is_adopted = true;
    r.n_header_digests = RECORD_DIGESTS_MAX;
    for (size_t i = 0; i < DESTROYED_MAX; i++)
        r.destroyed[i].is_shared = r.destroyed[i].has_recovery = true;
    record_encode(&r, &encoded);
    assert_true(encoded.len < RECORD_ENCODED_MAX);
    assert_ok(record_decode(encoded.bytes, encoded.len, &back, &err));
    assert_int_equal(strlen(back.volume_id), VOLUME_ID_MAX); /* cut to the longest allowed length */
}

/* Bytes that the decoder accepts are encoded to the very same bytes again. */
static void check_canonical(const uint8_t *bytes, size_t len)
{
    static struct record r; /* large */
    static struct encoded again;
    struct error err = ERROR_INIT;

    if (!record_decode(bytes, len, &r, &err))
        return;
    record_encode(&r, &again);
    assert_int_equal(again.len, len);
    assert_memory_equal(again.bytes, bytes, len);
}

static void a_rotation_comes_back_as_it_was(void **state)
{
    static struct record r, back;
    static struct encoded encoded;
    struct error err = ERROR_INIT;

    (void)state;
    r = sample_record();
    r.rotation = (struct record_rotation){ .key = { .id = { 7 }, .generation = 2 },
                                           .has_header = true,
                                           .recovery_sha256 = { 3 },
                                           .secret_len = 60,
                                           .secret = { 9 } };
    record_encode(&r, &encoded);
    assert_ok(record_decode(encoded.bytes, encoded.len, &back, &err));
    assert_memory_equal(&r, &back, sizeof(r));
    check_canonical(encoded.bytes, encoded.len);
}

static void a_lease_that_can_be_over_comes_back(void **state UNUSED)
{
    static struct record r, back;
    static struct encoded encoded;
    struct error err = ERROR_INIT;

    r = sample_record();
    record_encode(&r, &encoded);
    const size_t without = encoded.len;
    r.spec.fencing = FENCING_SUSPEND;
    r.lease.lease_ms = 60000;
    r.lease.contested = r.version;
    record_encode(&r, &encoded);
    assert_true(encoded.len > without); /* and records without it stay as they are */
    assert_ok(record_decode(encoded.bytes, encoded.len, &back, &err));
    assert_memory_equal(&r, &back, sizeof(r));
    check_canonical(encoded.bytes, encoded.len);
}

static void destroyed_secrets_come_back(void **state UNUSED)
{
    static struct record r, back;
    static struct encoded encoded;
    struct error err = ERROR_INIT;

    r = sample_record();
    r.n_destroyed = DESTROYED_MAX;
    for (uint32_t i = 0; i < DESTROYED_MAX; i++)
        r.destroyed[i] = (struct record_destroyed){ .key = { .id = { 1 }, .generation = i + 1 },
                                                    .made_ms = 2,
                                                    .destroyed_ms = 3,
                                                    .audit_seq = 4,
                                                    .replica = "a",
                                                    .by = "admin",
                                                    .backup_ms = 5,
                                                    .wrapping = 6,
                                                    .is_shared = true,
                                                    .has_recovery = true };
    r.destroyed_before = 7;
    record_encode(&r, &encoded);
    assert_ok(record_decode(encoded.bytes, encoded.len, &back, &err));
    assert_memory_equal(&r, &back, sizeof(r));
    check_canonical(encoded.bytes, encoded.len);
}

static void a_certificate_of_any_length_comes_back(void **state)
{
    static const uint32_t lengths[] = { 1, 127, 128, 1000, RECOVERY_CERTIFICATE_MAX };
    static struct record r, back;
    static struct encoded encoded;
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        r = sample_record();
        r.recovery.certificate_len = lengths[i];
        r.recovery.certificate[lengths[i] - 1] = 0x30; /* zeros before it count, too */
        record_encode(&r, &encoded);
        assert_ok(record_decode(encoded.bytes, encoded.len, &back, &err));
        assert_memory_equal(&r, &back, sizeof(r));
        check_canonical(encoded.bytes, encoded.len);
    }
    r = (struct record){ .recovery.certificate_len = UINT32_MAX }; /* no more than there is */
    record_encode(&r, &encoded);
    assert_ok(record_decode(encoded.bytes, encoded.len, &back, &err));
    assert_int_equal(back.recovery.certificate_len, RECOVERY_CERTIFICATE_MAX);
}

static void a_certificate_that_is_empty_or_too_long_is_refused(void **state)
{
    static uint8_t bytes[5 + RECOVERY_CERTIFICATE_MAX + 2] = { 0x08, RECORD_VERSION, 0xca, 0x01 };
    const size_t len = RECOVERY_CERTIFICATE_MAX + 1;
    struct record r;
    struct error err = ERROR_INIT;

    (void)state;
    assert_refused(ERROR_INVALID_ARGUMENT, record_decode(bytes, 5, &r, &err));
    assert_contains(err.text, "default value");
    bytes[4] = (uint8_t)(len | 0x80);
    bytes[5] = (uint8_t)(len >> 7);
    assert_refused(ERROR_INVALID_ARGUMENT, record_decode(bytes, 6 + len, &r, &err));
    assert_contains(err.text, "recovery.certificate is longer than 2048");
    assert_refused(ERROR_INVALID_ARGUMENT, record_decode(bytes, 5 + len, &r, &err));
    assert_contains(err.text, "cut off");
}

static void specs_and_changes_come_back(void **state)
{
    const struct record r = sample_record();
    const struct record_change change = { .kind = RECORD_CHANGE_READY,
                                          .attempt = 1,
                                          .header_digest = { 2 },
                                          .open_counter = 3,
                                          .is_closed = true,
                                          .has_clean_hash = true, /* a hash of zeros */
                                          .size_bytes = 5,
                                          .device_bytes = 6,
                                          .mapping_bytes = 7,
                                          .recovery_sha256 = { 8 } };
    struct volume_spec spec;
    static struct record_change back;
    static struct encoded encoded;
    struct error err = ERROR_INIT;

    (void)state;
    volume_spec_encode(&r.spec, &encoded);
    assert_ok(volume_spec_decode(encoded.bytes, encoded.len, &spec, &err));
    assert_memory_equal(&spec, &r.spec, sizeof(spec));
    record_change_encode(&change, &encoded);
    assert_ok(record_change_decode(encoded.bytes, encoded.len, &back, &err));
    assert_memory_equal(&change, &back, sizeof(change));
}

static void every_prefix_and_every_changed_byte_is_refused_or_canonical(void **state)
{
    const struct record r = sample_record();
    static struct encoded encoded;

    (void)state;
    record_encode(&r, &encoded);
    for (size_t len = 0; len < encoded.len; len++)
        check_canonical(encoded.bytes, len);
    for (size_t at = 0; at < encoded.len; at++) {
        uint8_t was = encoded.bytes[at];

        for (unsigned value = 0; value < 256; value++) {
            encoded.bytes[at] = (uint8_t)value;
            check_canonical(encoded.bytes, encoded.len);
        }
        encoded.bytes[at] = was;
    }
}

#define BYTES(...)                          \
    {                                       \
        sizeof((uint8_t[]){ __VA_ARGS__ }), \
        {                                   \
            __VA_ARGS__                     \
        }                                   \
    }

static void other_spellings_are_refused(void **state)
{
    static const struct {
        size_t len;
        uint8_t bytes[24];
    } bad[] = {
        BYTES(0x22, 0x01, 'v'),                         /* no version */
        BYTES(0x08, 0x81, 0x00),                        /* a longer number than needed */
        BYTES(0x08, 0x01, 0x08, 0x01),                  /* a field twice */
        BYTES(0x08, 0x01, 0x38, 0x01, 0x22, 0x01, 'v'), /* out of order */
        BYTES(0x08, 0x01, 0x38, 0x00),                  /* a default value */
        BYTES(0x08, 0x01, 0x22, 0x00),                  /* an empty text */
        BYTES(0x08, 0x01, 0x22, 0x01, 0x00),            /* NUL in a text */
        BYTES(0x08, 0x01, 0x22, 0x01, 0x1b),            /* a control character */
        BYTES(0x08, 0x01, 0x22, 0x01, 0xff),            /* not UTF-8 */
        BYTES(0x08, 0x01, 0x22, 0x05, 'v'),             /* cut off */
        BYTES(0x08, 0x01, 0xb8, 0x01, 0x01),            /* an unknown field */
        BYTES(0x08, 0x01, 0x20, 0x01),                  /* a text as a number */
        BYTES(0x08, 0x01, 0x42, 0x00),                  /* an empty spec */
        BYTES(0x08, 0x01, 0x4a, 0x02, 1, 2),            /* a key id of two bytes */
        BYTES(0x08, 0x01, 0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01), /* a kind of 35 bits */
        BYTES(0x08, 0x01, 0x38, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02),
        BYTES(0x08, 0x01, 0x42, 0x02, 0x30, 0x02), /* a bool of 2 */
    };
    struct record r;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;

        assert_refused(ERROR_INVALID_ARGUMENT, record_decode(bad[i].bytes, bad[i].len, &r, &err));
    }
}

static void too_many_elements_are_refused(void **state)
{
    struct encoded encoded = { .len = 2, .bytes = { 0x08, RECORD_VERSION } };
    struct record r;
    struct error err = ERROR_INIT;

    (void)state;
    for (unsigned i = 0; i <= RECORD_DIGESTS_MAX; i++) {
        encoded.bytes[encoded.len++] = 11 << 3 | 2;
        encoded.bytes[encoded.len++] = SHA256_LEN;
        encoded.len += SHA256_LEN;
    }
    assert_refused(ERROR_INVALID_ARGUMENT, record_decode(encoded.bytes, encoded.len, &r, &err));
    assert_contains(err.text, "header_digests");
    assert_ok(record_decode(encoded.bytes, encoded.len - 2 - SHA256_LEN, &r, &err));
    assert_int_equal(r.n_header_digests, RECORD_DIGESTS_MAX);
}

static void another_version_is_named(void **state)
{
    static const uint8_t bytes[] = { 0x08, 0x02, 0xf8, 0x01, 0x01 };
    struct record r;
    struct error err = ERROR_INIT;

    (void)state;
    assert_refused(ERROR_FAILED_PRECONDITION, record_decode(bytes, sizeof(bytes), &r, &err));
    assert_contains(err.text, "version 2 is not known");
}

/* protobuf-c has NULL for a field of bytes that was not sent. UBSan sees what is wrong with NULL. */
static void no_bytes_at_all_are_a_spec_and_no_record(void **state)
{
    struct record r;
    struct volume_spec spec = { .size_bytes = 1 };
    struct error err = ERROR_INIT;

    (void)state;
    assert_refused(ERROR_INVALID_ARGUMENT, record_decode(NULL, 0, &r, &err));
    assert_ok(volume_spec_decode(NULL, 0, &spec, &err));
    assert_int_equal(spec.size_bytes, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rotation_comes_back_as_it_was),
        cmocka_unit_test(a_record_comes_back_as_it_was),
        cmocka_unit_test(an_empty_record_is_its_version_alone),
        cmocka_unit_test(the_largest_record_fits),
        cmocka_unit_test(a_lease_that_can_be_over_comes_back),
        cmocka_unit_test(destroyed_secrets_come_back),
        cmocka_unit_test(a_certificate_of_any_length_comes_back),
        cmocka_unit_test(a_certificate_that_is_empty_or_too_long_is_refused),
        cmocka_unit_test(specs_and_changes_come_back),
        cmocka_unit_test(every_prefix_and_every_changed_byte_is_refused_or_canonical),
        cmocka_unit_test(other_spellings_are_refused),
        cmocka_unit_test(too_many_elements_are_refused),
        cmocka_unit_test(another_version_is_named),
        cmocka_unit_test(no_bytes_at_all_are_a_spec_and_no_record),
    };

    return RUN_TESTS(tests);
}
