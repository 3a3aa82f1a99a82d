/* SPDX-License-Identifier: Apache-2.0 */
#include "store/ring.h"
#include "tests/unit/base/secret_equal.h"
#include "tests/unit/test.h"

static struct secret one, two, three;
static struct error err;

static int set_up(void **state UNUSED)
{
    err = (struct error)ERROR_INIT;
    assert_ok(secret_random(&one, SEAL_KEY_LEN, &err));
    assert_ok(secret_random(&two, SEAL_KEY_LEN, &err));
    assert_ok(secret_random(&three, SEAL_KEY_LEN, &err));
    return 0;
}

static int tear_down(void **state UNUSED)
{
    secret_wipe(&one);
    secret_wipe(&two);
    secret_wipe(&three);
    return 0;
}

/* Under two master keys, with two wrappings. */
static void make(struct ring *out)
{
    assert_ok(ring_of_master(&one, out, &err));
    out->version = 7;
    memcpy(out->marks[1], out->marks[0], STORE_MARK_LEN);
    assert_ok(seal_mark(&two, out->marks[0], &err));
    out->n_masters = 2;
    out->wrappings[1] = (struct ring_wrapping){ .number = 1 };
    out->wrappings[1].key = secret_take(&out->wrappings[0].key);
    assert_ok(secret_random(&out->wrappings[0].key, SEAL_KEY_LEN, &err));
    out->wrappings[0].number = 2;
    out->n_wrappings = 2;
}

static void encode(const struct ring *ring, struct store_ring *out)
{
    const struct secret *const masters[] = { &one, &two };

    assert_ok(ring_encode(ring, masters, ARRAY_LEN(masters), out, &err));
}

static void assert_equal(const struct ring *a, const struct ring *b)
{
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->n_masters, b->n_masters);
    assert_int_equal(a->n_wrappings, b->n_wrappings);
    assert_memory_equal(a->marks, b->marks, sizeof(a->marks));
    assert_true(secret_is_equal(&a->records, &b->records));
    assert_true(secret_is_equal(&a->audit_head, &b->audit_head));
    for (size_t i = 0; i < a->n_wrappings; i++) {
        assert_int_equal(a->wrappings[i].number, b->wrappings[i].number);
        assert_true(secret_is_equal(&a->wrappings[i].key, &b->wrappings[i].key));
    }
}

static void each_of_its_master_keys_opens_a_ring(void **state UNUSED)
{
    auto_ring struct ring ring = { .version = 0 }, by_one = { .version = 0 },
                          by_two = { .version = 0 };
    struct store_ring stored;

    make(&ring);
    encode(&ring, &stored);
    assert_int_equal(stored.version, 7);
    assert_ok(ring_decode(&stored, &one, &by_one, &err));
    assert_ok(ring_decode(&stored, &two, &by_two, &err));
    assert_equal(&ring, &by_one);
    assert_equal(&ring, &by_two);
    assert_refused(ERROR_FAILED_PRECONDITION, ring_decode(&stored, &three, &by_two, &err));
    assert_contains(err.text, "another master key");
}

static void a_copy_is_whole_and_its_own(void **state UNUSED)
{
    auto_ring struct ring ring = { .version = 0 }, copy = { .version = 0 };

    make(&ring);
    assert_ok(ring_copy(&ring, &copy, &err));
    assert_equal(&ring, &copy);
    assert_ptr_not_equal(ring.records.bytes, copy.records.bytes);
}

/* The key bytes of a dropped master, or of a dropped wrapping, are in no ring any more. */
static void what_was_dropped_opens_nothing(void **state UNUSED)
{
    auto_ring struct ring ring = { .version = 0 }, out = { .version = 0 };
    struct store_ring stored;

    make(&ring);
    ring.n_masters = 1;
    secret_wipe(&ring.wrappings[1].key);
    ring.n_wrappings = 1;
    encode(&ring, &stored);
    assert_refused(ERROR_FAILED_PRECONDITION, ring_decode(&stored, &one, &out, &err));
    assert_ok(ring_decode(&stored, &two, &out, &err));
    assert_int_equal(out.n_wrappings, 1);
    assert_int_equal(out.n_masters, 1);
}

static void a_ring_needs_all_its_master_keys_to_be_wrapped(void **state UNUSED)
{
    const struct secret empty = SECRET_INIT, *const masters[] = { &two, &empty };
    auto_ring struct ring ring = { .version = 0 };
    struct store_ring stored;

    make(&ring);
    assert_refused(ERROR_FAILED_PRECONDITION,
                   ring_encode(&ring, masters, ARRAY_LEN(masters), &stored, &err));
    assert_contains(err.text, "--old-master-key");
}

/* Each bit counts, also of the version and of the other master key's mark: no part of an old ring can be
 * put into a new one. */
static void a_changed_ring_is_refused(void **state UNUSED)
{
    auto_ring struct ring ring = { .version = 0 }, out = { .version = 0 };
    struct store_ring stored, bad;

    make(&ring);
    encode(&ring, &stored);
    size_t own_start = 10 + 2 * STORE_MARK_LEN, own_end = own_start + (stored.len - own_start) / 2;

    for (size_t i = 0; i < own_end; i++) {
        bad = stored;
        bad.bytes[i] ^= 0x80;
        err = (struct error)ERROR_INIT;
        assert_false(ring_decode(&bad, &two, &out, &err));
        assert_true(err.code == ERROR_DATA_LOSS || err.code == ERROR_FAILED_PRECONDITION);
    }
    bad = stored;
    bad.version++;
    assert_refused(ERROR_DATA_LOSS, ring_decode(&bad, &two, &out, &err));
    for (size_t len = 0; len < stored.len; len++) {
        bad = stored;
        bad.len = len;
        assert_refused(ERROR_DATA_LOSS, ring_decode(&bad, &two, &out, &err));
    }
    bad = stored;
    bad.bytes[0] = 2;
    assert_refused(ERROR_FAILED_PRECONDITION, ring_decode(&bad, &two, &out, &err));
    assert_contains(err.text, "newer version");
    assert_null(out.records.bytes);
}

/* Stores that have no ring go on as they were made. */
static void without_a_ring_all_comes_from_the_master_key(void **state UNUSED)
{
    auto_secret struct secret wrapping = SECRET_INIT, records = SECRET_INIT, head = SECRET_INIT;
    auto_ring struct ring ring = { .version = 9 };

    assert_ok(ring_of_master(&one, &ring, &err));
    assert_ok(seal_derive(&one, "tdvol v1 wrap", &wrapping, &err));
    assert_ok(seal_derive(&one, "tdvol v1 store records", &records, &err));
    assert_ok(seal_derive(&one, "tdvol v1 audit head", &head, &err));
    assert_int_equal(ring.version, 0);
    assert_true(secret_is_equal(&ring.wrappings[0].key, &wrapping));
    assert_true(secret_is_equal(&ring.records, &records));
    assert_true(secret_is_equal(&ring.audit_head, &head));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(each_of_its_master_keys_opens_a_ring),
        CASE(a_copy_is_whole_and_its_own),
        CASE(what_was_dropped_opens_nothing),
        CASE(a_ring_needs_all_its_master_keys_to_be_wrapped),
        CASE(a_changed_ring_is_refused),
        CASE(without_a_ring_all_comes_from_the_master_key),
    };

    return RUN_TESTS(tests);
}
