/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "base/file.h"
#include "record/encoding.h"
#include "tests/unit/broker/fixture.h"
#include "transfer/marks.h"

#include <stdio.h>
#include <stdlib.h>

#include "keybroker.pb-c.h"

/* Whole calls: what the broker remembers of a destroyed secret, and to whom it says so. */

#define M(name) Tdvol__Keybroker__V1__##name

static struct fixture f;
static struct arena arena;
static struct error err;
static char driver[] = "d", vol[] = "v", copy_id[] = "c";

static int setup(void **state UNUSED)
{
    fixture_start(&f);
    arena_init(&arena, 16 << 20);
    return 0;
}

static int teardown(void **state UNUSED)
{
    arena_wipe(&arena);
    fixture_stop(&f);
    return 0;
}

static const void *call(const char *client, const char *method, const ProtobufCMessage *request)
{
    return fixture_call(&f, &arena, client, method, request, &err);
}

static void must(const char *client, const char *method, const ProtobufCMessage *request)
{
    if (!call(client, method, request))
        fail_msg("%s: %s", method, err.text);
}

static void create(void)
{
    M(CreateRecordRequest) request = TDVOL__KEYBROKER__V1__CREATE_RECORD_REQUEST__INIT;
    const struct volume_spec spec = fixture_spec();

    request.driver = driver;
    request.volume_id = vol;
    request.spec = fixture_spec_bytes(&spec);
    must("node", "CreateRecord", &request.base);
}

static struct record stored(const char *id)
{
    const struct store_name names = { "one", driver, id };
    struct record r;

    assert_ok(f.broker.store->ops->get(f.broker.store, &names, &r, &err));
    return r;
}

static void erase(const char *client, char *id)
{
    M(DeleteRequest) request = TDVOL__KEYBROKER__V1__DELETE_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = id;
    must(client, "BeginDelete", &request.base);
    must(client, "FinishDelete", &request.base);
}

static const void *ask(const char *client, char *id)
{
    M(DescribeRecordRequest) request = TDVOL__KEYBROKER__V1__DESCRIBE_RECORD_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = id;
    return call(client, "DescribeRecord", &request.base);
}

static M(Record) describe(char *id)
{
    const M(DescribeRecordResponse) *response = ask("admin", id);

    if (!response || !response->record)
        fail_msg("%s", err.text);
    else
        return *response->record;
    return (M(Record))TDVOL__KEYBROKER__V1__RECORD__INIT;
}

/* The i-th secret that it has lost. */
static M(Destroyed) lost_by(char *id, size_t i)
{
    const M(Record) r = describe(id);

    if (i < r.n_destroyed && r.destroyed[i] && r.destroyed[i]->n_remains == 6)
        return *r.destroyed[i];
    fail_msg("%zu secrets", r.n_destroyed);
    return (M(Destroyed))TDVOL__KEYBROKER__V1__DESTROYED__INIT;
}

static size_t n_listed(bool gone, struct record *only)
{
    M(ListRecordsRequest) list = TDVOL__KEYBROKER__V1__LIST_RECORDS_REQUEST__INIT;
    const M(ListRecordsResponse) *page = NULL;

    list.gone = gone;
    page = call("admin", "ListRecords", &list.base);
    if (!page)
        fail_msg("%s", err.text);
    else if (page->n_records == 1 && only)
        assert_ok(record_decode(page->records[0].data, page->records[0].len, only, &err));
    return page ? page->n_records : 0;
}

/* The last line of the audit log, without its line end. */
static char *last_line(void)
{
    auto_free char *text = NULL;
    size_t len = 0;

    assert_ok(file_read(f.audit_path, 1 << 20, &text, &len, &err));
    text[len - 1] = '\0';
    return strdup(strrchr(text, '\n') + 1);
}

static void the_record_names_the_line_that_names_the_secret(void **state UNUSED)
{
    char id[2 * RECORD_ID_LEN + 1], part[96];
    struct record_key key;

    create();
    key = stored(vol).key;
    fixture_now_ms = NOW + 5;
    erase("controller", vol);
    const struct record r = stored(vol);
    const struct record_destroyed *lost = &r.destroyed[0];
    auto_free char *line = last_line();

    assert_int_equal(r.n_destroyed, 1);
    assert_memory_equal(&lost->key, &key, sizeof(key));
    assert_string_equal(lost->by, "controller");
    assert_int_equal(lost->made_ms, NOW);
    assert_int_equal(lost->destroyed_ms, NOW + 5);
    assert_int_equal(lost->audit_seq, fixture_audit_lines(&f));
    (void)snprintf(part, sizeof(part), "{\"seq\":%llu,", (unsigned long long)lost->audit_seq);
    assert_contains(line, part);
    hex_encode(key.id, RECORD_ID_LEN, id);
    (void)snprintf(part, sizeof(part), "\"destroyed\":\"%s/1\"", id);
    assert_contains(line, part);
    assert_contains(line, "\"method\":\"FinishDelete\"");
}

static void lines_of_other_changes_name_none(void **state UNUSED)
{
    create();
    erase("controller", vol);
    create(); /* under the same id: it remembers the former secret */
    auto_free char *line = last_line();

    assert_int_equal(stored(vol).n_destroyed, 1);
    assert_null(strstr(line, "destroyed"));
    erase("admin", vol);
    assert_int_equal(stored(vol).n_destroyed, 2);
    assert_string_equal(stored(vol).destroyed[1].by, "admin");
}

static void an_administrator_is_told_where_something_may_be(void **state UNUSED)
{
    uint64_t highest = 0;

    create();
    assert_ok(f.broker.store->ops->raise(f.broker.store, BACKUP_MARK, NOW + 1, &highest, &err));
    fixture_now_ms = NOW + 2;
    erase("admin", vol);
    const M(Record) r = describe(vol);
    const M(Destroyed) lost = lost_by(vol, 0);

    assert_int_equal(r.phase, TDVOL__KEYBROKER__V1__PHASE__PHASE_ERASED);
    assert_int_equal(r.n_destroyed, 1);
    assert_true(lost.destroyed_ms == NOW + 2 && lost.backup_ms == NOW + 1 && lost.users == 0);
    assert_int_equal(lost.remains[0]->state,
                     TDVOL__KEYBROKER__V1__REMAINS_STATE__REMAINS_STATE_NONE);
    assert_int_equal(lost.remains[2]->place,
                     TDVOL__KEYBROKER__V1__REMAINS_PLACE__REMAINS_PLACE_BACKUPS);
    assert_int_equal(lost.remains[2]->state,
                     TDVOL__KEYBROKER__V1__REMAINS_STATE__REMAINS_STATE_POSSIBLE);
    assert_contains(lost.remains[2]->text, "1970-01-01T00:16:40.001Z");
    assert_int_equal(f.broker.store->refused, 0);
}

static void a_secret_that_copies_have_is_not_called_destroyed(void **state UNUSED)
{
    struct record copy, source;
    struct store_change change = { .next = &copy };

    create();
    source = stored(vol);
    copy = source;
    memcpy(copy.volume_id, copy_id, sizeof(copy_id));
    memcpy(copy.source_volume_id, vol, sizeof(vol));
    copy.id[0]++;
    copy.version = 1;
    assert_ok(f.broker.store->ops->swap(f.broker.store, &change, &err));
    erase("admin", vol);
    M(Destroyed) lost = lost_by(vol, 0);

    assert_true(lost.is_shared && lost.users == 1);
    assert_contains(lost.remains[0]->text, "1 other volumes or snapshots");
    erase("admin", copy_id);
    lost = lost_by(vol, 0);
    assert_true(lost.is_shared && lost.users == 0); /* so it does not claim to know when */
    lost = lost_by(copy_id, 0);
    assert_true(!lost.is_shared && lost.made_ms == 0);
}

static void only_those_who_may_list_or_audit_are_told(void **state UNUSED)
{
    static const struct {
        const char *client;
        enum error_code code;
    } cases[] = { { "controller", ERROR_NONE }, { "rotator", ERROR_NONE },
                  { "admin", ERROR_NONE },      { "other", ERROR_NOT_FOUND }, /* of its tenant */
                  { "saver", ERROR_DENIED },    { "few", ERROR_DENIED },
                  { "stranger", ERROR_DENIED } };

    create();
    erase("admin", vol);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if ((ask(cases[i].client, vol) != NULL) != (cases[i].code == ERROR_NONE) ||
            err.code != cases[i].code)
            fail_msg("%s: %s", cases[i].client, err.text);
}

static void lists_have_either_the_deleted_ones_or_the_others(void **state UNUSED)
{
    struct record r = { .version = 0 };

    create();
    assert_int_equal(n_listed(true, NULL), 0);
    assert_int_equal(n_listed(false, NULL), 1);
    erase("admin", vol);
    assert_int_equal(n_listed(false, NULL), 0);
    assert_int_equal(n_listed(true, &r), 1);
    assert_int_equal(r.phase, RECORD_ERASED);
    assert_int_equal(r.n_destroyed, 0); /* DescribeRecord has them */
}

/* A worker's record is signed and read by root: it has nothing that the worker does not need. */
static void nodes_never_see_it(void **state UNUSED)
{
    M(GetRecordRequest) get = TDVOL__KEYBROKER__V1__GET_RECORD_REQUEST__INIT;
    const M(GetRecordResponse) *response = NULL;
    struct record r;

    create();
    erase("admin", vol);
    create();
    assert_int_equal(stored(vol).n_destroyed, 1);
    get.driver = driver;
    get.volume_id = vol;
    response = call("node", "GetRecord", &get.base);
    assert_true(response != NULL);
    assert_ok(record_decode(response->record.data, response->record.len, &r, &err));
    assert_int_equal(r.n_destroyed, 0);
}

static void a_description_has_no_wrapped_secret(void **state UNUSED)
{
    struct record r;
    struct store_change change = { .next = &r };

    create();
    r = stored(vol);
    change.expected_version = r.version++;
    r.phase = RECORD_READY;
    r.n_header_digests = 1;
    r.rotation = (struct record_rotation){ .key = { .id = { 7 }, .generation = 2 },
                                           .secret_len = STORE_WRAPPED_LEN,
                                           .secret = { 0x5a } };
    r.old_key.is_set = true;
    assert_ok(f.broker.store->ops->swap(f.broker.store, &change, &err));
    const M(Record) told = describe(vol);

    assert_int_equal(told.old_key.len, 0);
    assert_true(told.rotation && told.rotation->secret.len == 0);
    assert_int_equal(told.rotation->generation, 2);
}

static void a_description_has_the_time_that_a_format_has_left(void **state UNUSED)
{
    struct record r;
    struct store_change change = { .next = &r };

    create();
    r = stored(vol);
    change.expected_version = r.version++;
    r.phase = RECORD_FORMATTING;
    r.format.holder = fixture_holder("n1", "b1");
    r.format.attempt = 1;
    r.format.deadline_ms = fixture_now_ms + 5;
    assert_ok(f.broker.store->ops->swap(f.broker.store, &change, &err));
    const M(Record) told = describe(vol);

    assert_true(told.format && told.format->remaining_ms == 5);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(the_record_names_the_line_that_names_the_secret),
        CASE(lines_of_other_changes_name_none),
        CASE(an_administrator_is_told_where_something_may_be),
        CASE(a_secret_that_copies_have_is_not_called_destroyed),
        CASE(only_those_who_may_list_or_audit_are_told),
        CASE(lists_have_either_the_deleted_ones_or_the_others),
        CASE(nodes_never_see_it),
        CASE(a_description_has_no_wrapped_secret),
        CASE(a_description_has_the_time_that_a_format_has_left),
    };

    return RUN_TESTS(tests);
}
