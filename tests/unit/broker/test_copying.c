/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/copying.h"
#include "record/encoding.h"
#include "tests/unit/broker/fixture.h"

#include <stdio.h>

#include "keybroker.pb-c.h"

/* A copy that is asked for again is judged by what the source was at the first time. */

#define M(name) Tdvol__Keybroker__V1__##name

static struct fixture f;
static struct arena arena;
static struct error err;
static char driver[] = "d", vol[] = "v", other[] = "v2", copy_id[] = "s-1", copy_name[] = "snap";

static const void *call(const char *client, const char *method, const ProtobufCMessage *request)
{
    return fixture_call(&f, &arena, client, method, request, &err);
}

static bool create(char *id)
{
    M(CreateRecordRequest) request = TDVOL__KEYBROKER__V1__CREATE_RECORD_REQUEST__INIT;
    struct volume_spec spec = fixture_spec();

    spec.backing = BACKING_DEVICE;
    spec.needs_publication = true;
    request.driver = driver;
    request.volume_id = id;
    request.spec = fixture_spec_bytes(&spec);
    return call("controller", "CreateRecord", &request.base);
}

/* Anything that gives the record another version. */
static void change(char *id, uint64_t epoch)
{
    static char node_id[] = "n1~i-1";
    M(PublishRecordRequest) request = TDVOL__KEYBROKER__V1__PUBLISH_RECORD_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = id;
    request.node_id = node_id;
    request.expected_epoch = epoch;
    assert_non_null(call("controller", "PublishRecord", &request.base));
}

static uint64_t begin(char *id, enum record_kind kind, char *name)
{
    M(BeginCopyRequest) request = TDVOL__KEYBROKER__V1__BEGIN_COPY_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = id;
    request.kind = (M(Kind))kind;
    request.name = name;
    const M(BeginCopyResponse) *answer = call("controller", "BeginCopy", &request.base);

    return answer ? answer->source_version : 0;
}

static bool end(const char *client, char *id, enum record_kind kind, char *name)
{
    M(EndCopyRequest) request = TDVOL__KEYBROKER__V1__END_COPY_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = id;
    request.kind = (M(Kind))kind;
    request.name = name;
    return call(client, "EndCopy", &request.base);
}

static bool copy(uint64_t source_version)
{
    M(CopyRecordRequest) request = TDVOL__KEYBROKER__V1__COPY_RECORD_REQUEST__INIT;

    request.driver = driver;
    request.source_volume_id = vol;
    request.source_version = source_version;
    request.volume_id = copy_id;
    request.kind = (M(Kind))RECORD_SNAPSHOT;
    request.name = copy_name;
    return call("controller", "CopyRecord", &request.base);
}

static bool delete (const char *method, char *id)
{
    M(DeleteRequest) request = TDVOL__KEYBROKER__V1__DELETE_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = id;
    return call("controller", method, &request.base);
}

static void the_first_request_counts_until_nothing_is_left(void **state UNUSED)
{
    assert_true(create(vol));
    assert_int_equal(begin(vol, RECORD_SNAPSHOT, copy_name), 1);
    change(vol, 0);
    assert_int_equal(begin(vol, RECORD_SNAPSHOT, copy_name), 1);
    assert_false(copy(1));
    assert_int_equal(err.code, ERROR_ABORTED);
    assert_int_equal(begin(vol, RECORD_SNAPSHOT, copy_name), 1);
    assert_true(end("controller", vol, RECORD_SNAPSHOT, copy_name));
    assert_int_equal(begin(vol, RECORD_SNAPSHOT, copy_name), 2);
    assert_true(copy(2));
}

static void a_record_ends_the_copy(void **state UNUSED)
{
    assert_true(create(vol));
    assert_int_equal(begin(vol, RECORD_SNAPSHOT, copy_name), 1);
    assert_true(copy(1));
    change(vol, 0);
    assert_int_equal(begin(vol, RECORD_SNAPSHOT, copy_name), 2);
}

static void copies_of_other_names_kinds_and_sources_are_others(void **state UNUSED)
{
    static char second[] = "snap2";

    assert_true(create(vol) && create(other));
    assert_int_equal(begin(vol, RECORD_SNAPSHOT, copy_name), 1);
    change(vol, 0);
    change(other, 0);
    assert_int_equal(begin(vol, RECORD_SNAPSHOT, second), 2);
    assert_int_equal(begin(vol, RECORD_VOLUME, copy_name), 2);
    assert_int_equal(begin(other, RECORD_SNAPSHOT, copy_name), 2);
    assert_true(end("controller", vol, RECORD_SNAPSHOT, second));
    assert_int_equal(begin(vol, RECORD_SNAPSHOT, copy_name), 1);
}

/* Whoever begins copies without end fills no store, and does no harm but that a copy is made twice. */
static void copies_without_end_take_a_bounded_number_of_places(void **state UNUSED)
{
    char name[16];
    unsigned n_kept = 0;

    arena.limit = 64u << 20; /* for all answers */
    assert_true(create(vol));
    for (unsigned i = 0; i < 2 * COPYING_MAX; i++) {
        (void)snprintf(name, sizeof(name), "n%u", i);
        assert_int_equal(begin(vol, RECORD_SNAPSHOT, name), 1);
    }
    change(vol, 0);
    for (unsigned i = 2 * COPYING_MAX; i-- > 0;) { /* the later ones first: they have the places */
        (void)snprintf(name, sizeof(name), "n%u", i);
        n_kept += begin(vol, RECORD_SNAPSHOT, name) == 1;
    }
    assert_in_range(n_kept, COPYING_MAX / 2, COPYING_MAX);
}

static void with_its_source_a_copy_ends(void **state UNUSED)
{
    assert_true(create(vol));
    assert_int_equal(begin(vol, RECORD_SNAPSHOT, copy_name), 1);
    assert_true(delete ("BeginDelete", vol) && delete ("FinishDelete", vol));
    assert_int_equal(begin(vol, RECORD_SNAPSHOT, copy_name), 0);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_true(end("controller", vol, RECORD_SNAPSHOT, copy_name));
    assert_true(create(vol));
    assert_true(begin(vol, RECORD_SNAPSHOT, copy_name) > 1);
}

static void what_names_no_copy_is_refused(void **state UNUSED)
{
    static char none[] = "", long_name[RECORD_NAME_MAX + 2];

    (void)snprintf(long_name, sizeof(long_name), "%0*d", (int)sizeof(long_name) - 1, 0);
    assert_true(create(vol));
    assert_int_equal(begin(vol, 0, copy_name) + begin(vol, 3, copy_name), 0);
    assert_int_equal(begin(vol, RECORD_SNAPSHOT, none), 0);
    assert_int_equal(begin(vol, RECORD_SNAPSHOT, long_name), 0);
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_false(end("controller", vol, RECORD_SNAPSHOT, none));
    assert_int_equal(begin(other, RECORD_SNAPSHOT, copy_name), 0);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_false(end("admin", vol, RECORD_SNAPSHOT, copy_name));
    assert_int_equal(err.code, ERROR_DENIED);
}

static int setup(void **state UNUSED)
{
    fixture_start(&f);
    arena = (struct arena){ .limit = 1 << 20 };
    return 0;
}

static int teardown(void **state UNUSED)
{
    arena_wipe(&arena);
    fixture_stop(&f);
    return 0;
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(the_first_request_counts_until_nothing_is_left),
        CASE(a_record_ends_the_copy),
        CASE(copies_of_other_names_kinds_and_sources_are_others),
        CASE(copies_without_end_take_a_bounded_number_of_places),
        CASE(with_its_source_a_copy_ends),
        CASE(what_names_no_copy_is_refused),
    };

    return RUN_TESTS(tests);
}
