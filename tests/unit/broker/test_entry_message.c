/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/entry_message.h"
#include "tests/unit/broker/fixture.h"

/* That every field survives the packed form is shown with the stores. */

static void pack(const struct record *r, struct arena *arena, uint8_t **out, size_t *len)
{
    struct error err = ERROR_INIT;

    assert_ok(record_pack(r, arena, out, len, &err));
}

static void a_damaged_record_is_refused_at_every_byte(void **state)
{
    auto_arena struct arena arena = { .limit = (size_t)64 * 1024 };
    struct record r = fixture_record(RECORD_READY), out;
    uint8_t *bytes = NULL;
    size_t len = 0, decoded = 0;

    (void)state;
    pack(&r, &arena, &bytes, &len);
    for (size_t cut = 0; cut < len; cut++) {
        struct error err = ERROR_INIT;

        if (record_unpack(bytes, cut, &out, &err))
            decoded++; /* fields with the default value are not sent */
        else
            assert_true(err.code == ERROR_INTERNAL || err.code == ERROR_FAILED_PRECONDITION);
    }
    assert_int_equal(decoded, 0);
    for (size_t i = 0; i < len; i++) {
        struct error err = ERROR_INIT;

        bytes[i] ^= 0x80;
        if (!record_unpack(bytes, len, &out, &err))
            assert_true(err.code == ERROR_INTERNAL || err.code == ERROR_FAILED_PRECONDITION);
        bytes[i] ^= 0x80;
    }
}

static void an_unknown_record_version_is_named(void **state)
{
    auto_arena struct arena arena = { .limit = (size_t)64 * 1024 };
    struct record r = fixture_record(RECORD_READY), out;
    Tdvol__Keybroker__V1__Record *m = record_to_message(&r, 0, &arena);
    struct error err = ERROR_INIT;

    (void)state;
    assert_non_null(m);
    m->record_version = 2;
    size_t len = tdvol__keybroker__v1__record__get_packed_size(m);
    uint8_t *bytes = arena_alloc(&arena, len);

    tdvol__keybroker__v1__record__pack(m, bytes);
    assert_refused(ERROR_FAILED_PRECONDITION, record_unpack(bytes, len, &out, &err));
    assert_contains(err.text, "has version 2");
    assert_contains(err.text, "knows version 1");
}

static void what_remains_of_a_format_attempt_is_a_duration(void **state)
{
    static const struct {
        uint64_t now_ms, remaining_ms;
    } rows[] = { { NOW, LIMIT }, { NOW + LIMIT - 1, 1 }, { NOW + LIMIT, 0 }, { UINT64_MAX, 0 } };
    struct record r = fixture_record(RECORD_FORMATTING);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_arena struct arena arena = { .limit = (size_t)64 * 1024 };
        const Tdvol__Keybroker__V1__Record *m = record_to_message(&r, rows[i].now_ms, &arena);

        assert_non_null(m);
        assert_int_equal(m->format->remaining_ms, rows[i].remaining_ms);
        assert_int_equal(m->format->deadline_ms, NOW + LIMIT);
        assert_int_equal(m->format->attempt, 1);
    }
}

static void every_arena_too_small_is_noticed(void **state)
{
    struct record r = fixture_record(RECORD_READY);
    size_t limit = 1;

    (void)state;
    r.lease = fixture_holder("n", "b");
    for (;; limit += 16) {
        auto_arena struct arena arena = { .limit = limit };

        if (record_to_message(&r, 0, &arena))
            break;
        assert_true(limit < (size_t)64 * 1024);
    }
    assert_true(limit > 256);
}

static void text_and_lists_beyond_their_limits_are_refused(void **state)
{
    Tdvol__Keybroker__V1__VolumeSpec spec = TDVOL__KEYBROKER__V1__VOLUME_SPEC__INIT;
    Tdvol__Keybroker__V1__Extent extent = TDVOL__KEYBROKER__V1__EXTENT__INIT;
    Tdvol__Keybroker__V1__Extent *extents[RECORD_EXTENTS_MAX + 1];
    Tdvol__Keybroker__V1__ChangeRecordRequest__Grown grown =
        TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__GROWN__INIT;
    Tdvol__Keybroker__V1__ChangeRecordRequest request =
        TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__INIT;
    static char long_text[RECORD_NODE_MAX + 2];
    static struct record_change change;
    struct record_spec out;
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(long_text) - 1; i++)
        long_text[i] = 'x';
    assert_refused(ERROR_INVALID_ARGUMENT, record_spec_from_message(NULL, &out, &err));
    assert_ok(record_spec_from_message(&spec, &out, &err));
    spec.fs_type = long_text;
    assert_refused(ERROR_INVALID_ARGUMENT, record_spec_from_message(&spec, &out, &err));
    assert_contains(err.text, "spec.fs_type is longer than 15 bytes");
    assert_refused(ERROR_INVALID_ARGUMENT, record_change_from_message(&request, &change, &err));
    for (size_t i = 0; i < ARRAY_LEN(extents); i++)
        extents[i] = &extent;
    grown.extents = extents;
    grown.n_extents = RECORD_EXTENTS_MAX;
    request.change_case = TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_GROWN;
    request.grown = &grown;
    assert_ok(record_change_from_message(&request, &change, &err));
    grown.n_extents++;
    assert_refused(ERROR_INVALID_ARGUMENT, record_change_from_message(&request, &change, &err));
    assert_contains(err.text, "more than 64 extents");
}

static void digests_of_another_length_are_refused(void **state)
{
    static uint8_t bytes[64];
    static struct record_change change;
    Tdvol__Keybroker__V1__ChangeRecordRequest__Ready ready =
        TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__READY__INIT;
    Tdvol__Keybroker__V1__ChangeRecordRequest__Closed closed =
        TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CLOSED__INIT;
    Tdvol__Keybroker__V1__ChangeRecordRequest request =
        TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__INIT;
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        request.change_case = TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_READY;
        request.ready = &ready;
        ready.header_digest = (ProtobufCBinaryData){ .len = len, .data = bytes };
        assert_int_equal(record_change_from_message(&request, &change, &err), len == 32);
        request.change_case = TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_CLOSED;
        request.closed = &closed;
        closed.clean_hash = (ProtobufCBinaryData){ .len = len, .data = bytes };
        assert_int_equal(record_change_from_message(&request, &change, &err),
                         len == 32 || len == 0);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_record_is_refused_at_every_byte),
        cmocka_unit_test(an_unknown_record_version_is_named),
        cmocka_unit_test(what_remains_of_a_format_attempt_is_a_duration),
        cmocka_unit_test(every_arena_too_small_is_noticed),
        cmocka_unit_test(text_and_lists_beyond_their_limits_are_refused),
        cmocka_unit_test(digests_of_another_length_are_refused),
    };

    return RUN_TESTS(tests);
}
