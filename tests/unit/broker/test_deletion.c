/* SPDX-License-Identifier: Apache-2.0 */
#include "record/encoding.h"
#include "tests/unit/broker/fixture.h"

#include "keybroker.pb-c.h"

/* Whole calls where the policy keeps keys: who sees what of a deleted volume, and who brings it back. */

#define M(name) Tdvol__Keybroker__V1__##name

static struct fixture f;
static struct arena arena;
static struct error err;
static char driver[] = "d", vol[] = "v";

#define RULE(name, tenant, may)                                                               \
    "{\"name\":\"" name "\",\"match\":{\"certificate.cn\":\"" name "\"},\"tenant\":\"" tenant \
    "\",\"may\":[" may "],\"volumes\":[\"*\"]}"
#define TEXT_OF(retention)                                                     \
    "{\"version\":1," retention                                                \
    "\"rules\":[" RULE("controller", "one", "\"create\",\"delete\"") "," RULE( \
        "rescuer", "one",                                                      \
        "\"undelete\"") "," RULE("admin", "one",                               \
                                 "\"admin\"") "," RULE("stranger", "two",      \
                                                       "\"admin\",\"undelete\"") "]}"

static void set_policy(const char *text)
{
    auto_policy struct policy *policy = NULL;

    assert_ok(policy_parse(text, strlen(text), &policy, &err));
    broker_set_policy(&f.broker, &policy);
}

static int setup(void **state UNUSED)
{
    err = (struct error)ERROR_INIT;
    fixture_start(&f);
    arena_init(&arena, 16 << 20);
    set_policy(TEXT_OF("\"retention\":{\"seconds\":60},"));
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

static struct record stored(void)
{
    const struct store_name names = { "one", driver, vol };
    struct record r;

    assert_ok(f.broker.store->ops->get(f.broker.store, &names, &r, &err));
    return r;
}

/* A volume with data, whose disk is on a node. */
static void put_ready(void)
{
    struct record r = fixture_record(RECORD_READY);
    struct store_key key = { .key = r.key };
    const struct store_change change = { .next = &r, .new_key = &key };

    memcpy(r.tenant, "one", sizeof("one"));
    r.version = 1;
    assert_ok(f.broker.store->ops->swap(f.broker.store, &change, &err));
}

static bool step(const char *client, const char *method)
{
    M(DeleteRequest) request = TDVOL__KEYBROKER__V1__DELETE_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = vol;
    return call(client, method, &request.base) != NULL;
}

static void delete_it(void)
{
    put_ready();
    if (!step("controller", "BeginDelete") || !step("controller", "FinishDelete"))
        fail_msg("%s", err.text);
}

static bool create(void)
{
    M(CreateRecordRequest) request = TDVOL__KEYBROKER__V1__CREATE_RECORD_REQUEST__INIT;
    const struct volume_spec spec = fixture_spec();

    request.driver = driver;
    request.volume_id = vol;
    request.spec = fixture_spec_bytes(&spec);
    return call("controller", "CreateRecord", &request.base) != NULL;
}

static bool read_it(void)
{
    M(GetRecordRequest) get = TDVOL__KEYBROKER__V1__GET_RECORD_REQUEST__INIT;

    get.driver = driver;
    get.volume_id = vol;
    return call("controller", "GetRecord", &get.base) != NULL;
}

static bool has_key(void)
{
    const struct record_key key = fixture_record(RECORD_READY).key;
    struct store_key unused;

    return f.broker.store->ops->get_key(f.broker.store, &key, &unused, &err);
}

static void a_controller_sees_a_deleted_volume(void **state UNUSED)
{
    static char *ids[] = { vol };
    M(ListRecordsRequest) list = TDVOL__KEYBROKER__V1__LIST_RECORDS_REQUEST__INIT;
    uint64_t n = 1;

    delete_it();
    assert_int_equal(stored().phase, RECORD_RETAINED);
    assert_true(has_key());
    assert_false(read_it());
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_string_equal(err.reason, RECORD_ERASED_REASON);
    for (int i = 0; i < 2; i++) {
        static const char *const methods[] = { "BeginDelete", "FinishDelete" };

        assert_false(step("controller", methods[i]));
        assert_int_equal(err.code, ERROR_NOT_FOUND);
    }
    list.driver = driver;
    const M(ListRecordsResponse) *page = call("controller", "ListRecords", &list.base);

    assert_true(page && page->n_records == 0);
    list.n_volume_ids = 1;
    list.volume_ids = ids;
    page = call("controller", "ListRecords", &list.base);
    assert_true(page && page->n_records == 0);
    assert_ok(f.broker.store->ops->count(f.broker.store, "one", &n, &err));
    assert_int_equal(n, 0); /* it counts for no limit */
}

static void its_id_is_free_only_after_an_administrator_has_ended_it(void **state UNUSED)
{
    delete_it();
    assert_false(create());
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    assert_string_equal(err.reason, RETAINED_REASON);
    assert_true(has_key());
    assert_true(step("admin", "EraseRecord"));
    assert_false(has_key());
    assert_true(create());
}

static void who_may_undelete_brings_it_back(void **state UNUSED)
{
    uint64_t lines = 0;

    delete_it();
    lines = fixture_audit_lines(&f);
    assert_true(step("rescuer", "UndeleteRecord"));
    assert_int_equal(fixture_audit_lines(&f), lines + 1);
    assert_int_equal(stored().phase, RECORD_READY);
    assert_true(has_key() && read_it());
    assert_true(step("rescuer", "UndeleteRecord")); /* changes nothing */
    assert_int_equal(stored().phase, RECORD_READY);
}

static void nobody_else_brings_it_back_or_ends_it(void **state UNUSED)
{
    static const struct {
        const char *client, *method;
        enum error_code code;
    } cases[] = {
        { "controller", "UndeleteRecord", ERROR_DENIED },
        { "admin", "UndeleteRecord", ERROR_DENIED },
        { "controller", "EraseRecord", ERROR_DENIED },
        { "rescuer", "EraseRecord", ERROR_DENIED },
        { "stranger", "UndeleteRecord", ERROR_NOT_FOUND }, /* of its own tenant */
        { "stranger", "EraseRecord", ERROR_NOT_FOUND },
        { "nobody", "UndeleteRecord", ERROR_DENIED },
    };

    delete_it();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (step(cases[i].client, cases[i].method) || err.code != cases[i].code)
            fail_msg("%s %s: %s", cases[i].client, cases[i].method, err.text);
    assert_int_equal(stored().phase, RECORD_RETAINED);
}

static void a_volume_that_is_there_is_not_erased_by_that(void **state UNUSED)
{
    put_ready();
    assert_false(step("admin", "EraseRecord"));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    assert_true(step("admin", "BeginDelete"));
    assert_false(step("admin", "EraseRecord"));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
}

static void without_a_retention_the_key_is_gone_at_once(void **state UNUSED)
{
    set_policy(TEXT_OF("\"retention\":{\"seconds\":60,\"tenants\":{\"one\":false}},"));
    delete_it();
    assert_int_equal(stored().phase, RECORD_ERASED);
    assert_false(has_key());
    assert_false(step("rescuer", "UndeleteRecord"));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
}

/* A policy that is changed later makes it neither shorter nor longer. */
static void the_time_is_that_of_the_deletion(void **state UNUSED)
{
    delete_it();
    const uint64_t due_ms = stored().retained.due_ms;

    set_policy(TEXT_OF(""));
    assert_false(step("controller", "FinishDelete"));
    assert_int_equal(stored().retained.due_ms, due_ms);
    assert_in_range(due_ms, 60000, 60000 + 30000);
}

static void an_administrator_is_told_how_long_it_is_kept(void **state UNUSED)
{
    M(DescribeRecordRequest) request = TDVOL__KEYBROKER__V1__DESCRIBE_RECORD_REQUEST__INIT;

    delete_it();
    request.driver = driver;
    request.volume_id = vol;
    const M(DescribeRecordResponse) *response = call("admin", "DescribeRecord", &request.base);

    if (!response || !response->record || !response->record->retained) {
        fail_msg("%s", err.text);
        return;
    }
    assert_string_equal(response->record->retained->by, "controller");
    assert_int_equal(response->record->retained->remaining_ms, 60000);
    assert_int_equal(response->record->n_destroyed, 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(a_controller_sees_a_deleted_volume),
        CASE(its_id_is_free_only_after_an_administrator_has_ended_it),
        CASE(who_may_undelete_brings_it_back),
        CASE(nobody_else_brings_it_back_or_ends_it),
        CASE(a_volume_that_is_there_is_not_erased_by_that),
        CASE(without_a_retention_the_key_is_gone_at_once),
        CASE(the_time_is_that_of_the_deletion),
        CASE(an_administrator_is_told_how_long_it_is_kept),
    };

    return RUN_TESTS(tests);
}
